"""Which images a run uses, so that a continued run and an evaluation can tell them from others."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smalti.data.contract import DataError, Dataset, Fingerprint, first_few

IMAGES = "used_images.json"
SAMPLED_BYTES = 64 * 1024
"""Bytes at each end of a file that stand for its content where it is not read whole."""
READERS = 8
"""Files that are read at the same time."""
SPLITS = ("training", "validation")
Images = Mapping[str, Fingerprint]


def file_fingerprint(files: Sequence[Path], *annotations: bytes, whole: bool) -> str:
    """16 hex digits that depend on each file's content, and on annotations; not on names or times.

    `whole=False` reads no more of a file than its size and both its ends.

    Raises:
        DataError: If a file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                digest.update(size.to_bytes(8, "little"))
                if whole:
                    hashlib.file_digest(file, lambda: digest)
                else:
                    start = file.read(SAMPLED_BYTES)
                    file.seek(max(len(start), size - SAMPLED_BYTES))
                    digest.update(start + file.read(SAMPLED_BYTES))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    for part in annotations:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def sample_fingerprints(samples: Sequence[tuple[Sequence[Path], bytes]], *, whole: bool) -> list[Fingerprint]:
    """The fingerprints of samples, each given by its files, the image first, and its annotations; see above.

    Raises:
        DataError: If a file cannot be read.
    """

    def fingerprint(sample: tuple[Sequence[Path], bytes]) -> Fingerprint:
        (image, *truth), annotations = sample
        return Fingerprint(
            image=file_fingerprint([image], whole=whole), truth=file_fingerprint(truth, annotations, whole=whole)
        )

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(fingerprint, samples))


def fingerprints(dataset: Dataset) -> dict[str, Fingerprint]:
    """The fingerprints of all images, by their names."""
    return {dataset.sample_name(index): value for index, value in enumerate(dataset.fingerprints())}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Names of the images of a split that are gone, new, or of other content."""

    missing: tuple[str, ...]
    new: tuple[str, ...]
    changed: tuple[str, ...]

    @classmethod
    def between(cls, before: Images, now: Images) -> "Difference":
        """What became of the images."""
        return cls(
            missing=tuple(name for name in before if name not in now),
            new=tuple(name for name in now if name not in before),
            changed=tuple(name for name in now if name in before and tuple(now[name]) != tuple(before[name])),
        )

    def __bool__(self) -> bool:
        return bool(self.missing or self.new or self.changed)

    def counts(self) -> str:
        """In words, without names."""
        kinds = dataclasses.asdict(self)
        return ", ".join(f"{len(names)} {kind}" for kind, names in kinds.items() if names)

    def __str__(self) -> str:
        kinds = dataclasses.asdict(self)
        return ", ".join(f"{len(names)} {kind} ({first_few(names)})" for kind, names in kinds.items() if names)


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """The images of a run by split, and how they changed when it was continued; `used_images.json` in its folder."""

    train: Images
    validation: Images
    changes: tuple[dict[str, Any], ...] = field(default=())
    """The `epoch` after which other images came, and by split the images that were used before and how they differ."""

    @classmethod
    def of(cls, train: Dataset, validation: Dataset) -> "ImageRecord":
        """That of two open data sets."""
        return cls(train=fingerprints(train), validation=fingerprints(validation))

    @classmethod
    def read(cls, folder: Path) -> "ImageRecord | None":
        """That of a run folder; None if it has none, or one that is damaged or not written by this package."""
        try:
            content = json.loads((folder / IMAGES).read_text(encoding="utf-8", errors="surrogateescape"))
            splits = {key: {k: Fingerprint(*v) for k, v in content[key].items()} for key in ("train", "validation")}
            return cls(**splits, changes=tuple(content["changes"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def to_text(self) -> str:
        """The content of `used_images.json`."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=0) + "\n"

    def differences(self, now: "ImageRecord") -> dict[str, Difference]:
        """By split, where there are any."""
        found = {split: Difference.between(self.images(split), now.images(split)) for split in SPLITS}
        return {split: difference for split, difference in found.items() if difference}

    def images(self, split: str) -> Images:
        """Those of one of the `SPLITS`."""
        return self.train if split == "training" else self.validation

    def continued_with(self, now: "ImageRecord", epoch: int) -> "ImageRecord":
        """The record of a run that goes on with other images after an epoch."""
        change: dict[str, Any] = {"epoch": epoch}
        for split, difference in self.differences(now).items():
            before = self.images(split)
            gone = {name: before[name] for name in (*difference.missing, *difference.changed)}
            change[split] = {"summary": difference.counts(), "new": difference.new, "before": gone}
        return dataclasses.replace(now, changes=(*self.changes, change))

    @property
    def is_complete(self) -> bool:
        """Whether the images of all epochs are known, and not only those since a run without a record was continued."""
        return not any(change.get("unrecorded") for change in self.changes)

    def used_images(self, split: str) -> set[str]:
        """The fingerprints of all images, without their truth, that one of the `SPLITS` ever had."""
        now = self.images(split).values()
        before = [Fingerprint(*f) for c in self.changes for f in c.get(split, {}).get("before", {}).values()]
        return {fingerprint.image for fingerprint in (*now, *before)}

    def changes_in_words(self) -> str:
        """How the images changed while the run was continued; empty if they did not."""
        return "; ".join(
            f"images not recorded before epoch {change['epoch'] + 1}"
            if change.get("unrecorded")
            else f"other images after epoch {change['epoch']} ("
            + ", ".join(f"{split}: {change[split]['summary']}" for split in SPLITS if split in change)
            + ")"
            for change in self.changes
        )
