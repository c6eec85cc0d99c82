"""Decoded samples on the disk, so that each picture is decoded once and not in every epoch.

One safetensors file for each sample, memory-mapped when read, named by the state of the files it was made of: when one
of them is changed or moved, it is decoded again under a new name. Several processes may share the folder: files appear
whole or not at all.
"""

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

from smalti.containers import Instances, Sample
from smalti.data.boxes import as_boxes
from smalti.data.contract import DataError, Dataset, View
from smalti.files import replacing, write_text

KEEP_FREE = 5 * 2**30
"""Bytes of the disk that caching leaves free: a share would be hundreds of gigabytes of a large disk."""
OBJECTS = "instances."
"""Before the names of a file's tensors that are of the annotated objects."""
_LAYOUT = f"2, smalti {version('smalti')}".encode()
"""How files are decoded and kept; between two releases a change of either needs a new number."""


def cache_folder() -> Path:
    """Where the package keeps what it can compute again: `SMALTI_CACHE`, else `smalti` in the user's cache folder."""
    if named := os.environ.get("SMALTI_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smalti"


def content_hash(files: Sequence[Path], *salt: bytes) -> str:
    """Names a state of the files (path, size, times of the last change) and of what else decides about the content.

    The time of the last change of the file's entry is among them: no tool can set it back.

    Raises:
        DataError: If a file is missing.
    """
    digest = hashlib.blake2b(_LAYOUT, digest_size=16)
    for path in files:
        try:
            state = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        times = f"{state.st_mtime_ns}\0{state.st_ctime_ns}"
        digest.update(f"{path.absolute()}\0{state.st_size}\0{times}\0".encode("utf-8", "surrogateescape"))
    for part in salt:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


class CachedDataset(View):
    """The same samples, decoded only the first time; a disk that is full or read-only means one warning, no more."""

    def __init__(self, dataset: Dataset, folder: Path | None = None) -> None:
        """`folder` is by default `decoded` in `cache_folder()`."""
        super().__init__(dataset)
        self.folder = folder or cache_folder() / "decoded"
        self._writing = True

    def content_key(self, index: int) -> str | None:
        """See `Dataset`; what is read does not change."""
        return self.dataset.content_key(index)

    def read(self, index: int) -> Sample:
        """See `Dataset`."""
        key = self.dataset.content_key(index)
        if key is None:
            return self.dataset.read(index)
        path = self.folder / key[:2] / f"{key}.safetensors"
        sample = _load(path, self.dataset.sample_name(index))
        if sample is None:
            sample = self.dataset.read(index)
            self._store(path, sample)
        return sample

    def _store(self, path: Path, sample: Sample) -> None:
        if not self._writing:
            return
        maps = {field.name: getattr(sample, field.name) for field in fields(Sample)}
        maps = {name: value for name, value in maps.items() if isinstance(value, Tensor)}
        if sample.instances is not None:
            maps |= {f"{OBJECTS}{field.name}": getattr(sample.instances, field.name) for field in fields(Instances)}
        tensors = {k: m.as_subclass(Tensor).contiguous() for k, m in maps.items() if m is not None}
        try:
            with replacing(path) as part:
                if shutil.disk_usage(path.parent).free < KEEP_FREE:
                    raise OSError(f"less than {KEEP_FREE / 2**30:.0f} GiB of the disk are free")
                save_file(tensors, part)
        except (OSError, SafetensorError) as error:
            self._writing = False
            warnings.warn(
                f"{self.folder}: decoded pictures cannot be kept there ({error}); they are decoded again in each "
                "epoch. Free some space or set SMALTI_CACHE to another folder",
                stacklevel=2,
            )


def _load(path: Path, name: str) -> Sample | None:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError, RuntimeError):  # not there yet, just deleted, or damaged: decoded again
        return None
    image = Image(tensors.pop("image"))
    objects = {key.removeprefix(OBJECTS): tensors.pop(key) for key in list(tensors) if key.startswith(OBJECTS)}
    if objects:
        boxes = as_boxes(objects.pop("boxes"), (int(image.shape[-2]), int(image.shape[-1])))
    instances = Instances(boxes=boxes, **objects) if objects else None
    maps: dict[str, Any] = {key: Mask(value) for key, value in tensors.items()}
    return Sample(image=image, instances=instances, name=name, **maps)


def remembered(kind: str, key: str | None, compute: Callable[[], Any]) -> Any:
    """A JSON value that takes long to compute, kept in the cache folder under its content key (None = not kept)."""
    if key is None:
        return compute()
    path = cache_folder() / kind / f"{key}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        value = compute()
    with contextlib.suppress(OSError):  # then it is computed again next time
        write_text(path, json.dumps(value))
    return value
