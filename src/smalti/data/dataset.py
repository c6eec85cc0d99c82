"""Opening data sets by name, and views of a data set that change what `read` answers."""

import hashlib
import inspect
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.v2 import functional as transforms
from torchvision.tv_tensors import Mask

from smalti.containers import Sample
from smalti.data.augment import Augmentation
from smalti.data.contract import DataError, Dataset, Fingerprint, View
from smalti.data.fit import fit_sample
from smalti.data.sets import DATASETS
from smalti.data.value_range import ValueRange
from smalti.data.value_survey import survey_values
from smalti.labels import IGNORED
from smalti.recipe import InputPolicy
from smalti.settings import nearest, parse

__all__ = [
    "AtInputScale",
    "CountIgnored",
    "DataError",
    "Dataset",
    "TrainingSet",
    "WithMirrorImages",
    "list_dataset",
    "open_dataset",
    "parse_data_argument",
    "sample_seed",
]


def open_dataset(
    name: str,
    *,
    root: Path | None,
    split: str,
    options: Mapping[str, Any],
    value_range: tuple[float, float] | None = None,
) -> Dataset:
    """A split of a data set in `DATASETS`.

    Images deeper than 8 bits become 8 bits by one range of values: `value_range` (that of the model), else the one
    measured on the split; `Dataset.scaling` says which. See `list_dataset` for the rest.

    Raises:
        DataError: As `list_dataset`, or if deep images have values of different types and no range is given.
    """
    dataset = list_dataset(name, root=root, split=split, options=options)
    given = None if value_range is None else ValueRange(*value_range)
    scaling = survey_values(dataset.image_files(), given, "the model's range")
    if scaling is not None:
        dataset.scale_values(scaling)
    return dataset


def list_dataset(name: str, *, root: Path | None, split: str, options: Mapping[str, Any]) -> Dataset:
    """The same without a look into the images, whose range of values stays open: for names, files and counts.

    `root` is the set's folder; without it the folder is searched in `SMALTI_DATA`. `options` are the set's own, as
    values or as text.

    Raises:
        DataError: If the set, the split or an option is unknown (names the nearest), or the files are not there (says
            how to get them).
    """
    opener = _opener(name)
    hints = {key: p.annotation for key, p in inspect.signature(opener).parameters.items()}
    known = [key for key in hints if key not in ("root", "split")]
    read: dict[str, Any] = {}
    for key, value in options.items():
        if key not in known:
            raise DataError(f'the data set {name} has no option "{key}": {nearest(key, known)}')
        try:
            read[key] = parse(value, hints[key])
        except (ValueError, TypeError) as error:
            raise DataError(f"option {key}={value} of the data set {name}: {error}") from error
    return opener(root=root, split=split, **read)


def parse_data_argument(data: str | Path | None, default_set: str) -> tuple[str, Path | None]:
    """The set and its folder meant by `--data`: PATH (of the default set), NAME=PATH or NAME; None = the default set.

    Raises:
        DataError: If NAME is no data set; names the nearest.
    """
    if data is None:
        return default_set, None
    if isinstance(data, Path) or Path(data).expanduser().exists():
        return default_set, Path(data).expanduser()
    name, separator, path = data.partition("=")
    if separator:
        _opener(name)
        return name, Path(path).expanduser() if path else None
    return (data, None) if data in DATASETS else (default_set, Path(data).expanduser())


def _opener(name: str) -> Callable[..., Dataset]:
    if name not in DATASETS:
        raise DataError(f'unknown data set "{name}": {nearest(name, sorted(DATASETS))}')
    return DATASETS[name]


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of everything random about one sample in one epoch: 0 to 2**63 - 1, the same on every machine."""
    digest = hashlib.blake2b(struct.pack("<qqq", seed, epoch, index), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class TrainingSet(TorchDataset[Sample]):
    """Augmented samples; an item is asked for by (epoch, index), so that no state decides how it is varied."""

    def __init__(self, dataset: Dataset, augmentation: Augmentation, seed: int) -> None:
        self.dataset, self.augmentation, self.seed = dataset, augmentation, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        return self.augmentation(self.dataset.read(index), sample_seed(self.seed, epoch, index))


class CountIgnored(View):
    """The same pictures with the ignored pixels as one more class, the last one."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.labels = dataset.labels.with_ignored_as_class()

    def read(self, index: int) -> Sample:
        """See `Dataset`."""
        sample = self.dataset.read(index)
        if sample.semantic is None:
            return sample
        counted = sample.semantic.as_subclass(torch.Tensor).clone()
        counted[counted == IGNORED] = len(self.labels) - 1
        return replace(sample, semantic=Mask(counted))


class AtInputScale(View):
    """Picture and truth scaled as the network will get them, where its input policy scales without distorting."""

    def __init__(self, dataset: Dataset, policy: InputPolicy) -> None:
        """`policy` has `fit="pad"` and a size."""
        super().__init__(dataset)
        assert policy.fit == "pad"
        assert policy.size is not None
        self.policy = policy

    def read(self, index: int) -> Sample:
        """See `Dataset`."""
        return fit_sample(self.dataset.read(index), self.policy, stride=1)[0]


class WithMirrorImages(View):
    """Each picture, its horizontal and its vertical mirror image: three samples (SIS-CNN's set, spec 2.4).

    # PAPER: SIS-CNN makes 1,101 training samples of CamVid's 367 in this way.
    """

    def __len__(self) -> int:
        return 3 * len(self.dataset)

    def sample_name(self, index: int) -> str:
        """See `Dataset`."""
        original, view = divmod(index, 3)
        return self.dataset.sample_name(original) + ("", "_horizontal", "_vertical")[view]

    def annotated(self, index: int) -> frozenset[str]:
        """See `Dataset`."""
        return self.dataset.annotated(index // 3)

    def content_key(self, index: int) -> str | None:
        """See `Dataset`."""
        original, view = divmod(index, 3)
        return self._view_key(self.dataset.content_key(original), view)

    def fingerprints(self) -> list[Fingerprint]:
        """See `Dataset`; mirror images are of the same files."""
        return [fingerprint for fingerprint in self.dataset.fingerprints() for _ in range(3)]

    def read(self, index: int) -> Sample:
        """See `Dataset`."""
        original, view = divmod(index, 3)
        sample = self.dataset.read(original)
        if view == 0:
            return sample
        flip = (transforms.horizontal_flip, transforms.vertical_flip)[view - 1]
        truth = {key: getattr(sample, key) for key in ("semantic", "instance_ids")}
        turned = {key: None if value is None else flip(value) for key, value in truth.items()}
        if sample.instances is not None:
            turned["instances"] = replace(sample.instances, boxes=flip(sample.instances.boxes))
        return replace(sample, image=flip(sample.image), name=self.sample_name(index), **turned)
