"""What every data set promises to the other rooms."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from smalti.containers import Sample
from smalti.data.settings_digest import SharedDigests, settings_digest
from smalti.labels import LabelSet
from smalti.settings import nearest

if TYPE_CHECKING:  # which imports this file
    from smalti.data.value_survey import ValueScaling

NAMED_IN_ERRORS = 5
DESCRIPTIVE = frozenset({"dataset", "name", "split", "edition", "notes", "scaling", "shared_digests"})
"""Attributes of a view that change nothing in its samples; the data set behind it has a key of its own."""


TRUTH = frozenset({"semantic", "instance_ids", "instances"})
"""The fields of `Sample` that annotations fill in."""


class DataError(ValueError):
    """The data on the disk is not as it must be; the message names files and says what to do."""


class Fingerprint(NamedTuple):
    """Tells an image and its truth from others by their content, wherever the files lie."""

    image: str
    truth: str


class Dataset(ABC):
    """A list of annotated pictures; picklable, so that loader workers can read from it.

    Problems of the whole set (missing files, pictures without masks) are raised when it is opened, problems of one
    file when that sample is read.
    """

    name: str
    split: str
    labels: LabelSet
    channels: int = 3
    edition: str = ""
    """Which of several versions of the set this is, where there are several."""
    notes: tuple[str, ...] = ()
    """What was decided for the user when the set was opened, a line each: said before anything is trained on it."""
    scaling: "ValueScaling | None" = None
    """How images deeper than 8 bits become 8 bits; None where there are none."""

    @cached_property
    def shared_digests(self) -> SharedDigests:
        """Of what the content keys of all samples have in common."""
        return SharedDigests()

    def image_files(self) -> Sequence[Path]:
        """The images that may be deeper than 8 bits; none where all are known to have 8."""
        return ()

    def scale_values(self, scaling: "ValueScaling") -> None:
        """Sets how `read` brings images deeper than 8 bits to 8; for sets with `image_files`."""
        raise NotImplementedError(f"{self.name} has no image files")

    @abstractmethod
    def __len__(self) -> int:
        """Number of pictures."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """One picture in its original size, its truth as label ids (0 to C-1, 255 = ignored).

        Raises:
            DataError: If a file cannot be used; says which and why.
        """

    @abstractmethod
    def sample_name(self, index: int) -> str:
        """A name that is unique within the split and can be the stem of a file."""

    def annotated(self, index: int) -> frozenset[str]:
        """The fields of `Sample` with truth that this sample may have, said without decoding it."""
        return TRUTH

    @abstractmethod
    def content_key(self, index: int) -> str | None:
        """Changes whenever what `read` answers may change; None = must not be cached."""

    def fingerprints(self) -> list[Fingerprint]:
        """The fingerprint of each sample; of sets that are drawn, and have no files, the name stands for the content.

        Raises:
            DataError: If a file cannot be read.
        """
        names = map(self.sample_name, range(len(self)))
        return [Fingerprint(image=f"{self.name} {self.edition} {name}", truth="") for name in names]


class View(Dataset):
    """Another data set, seen differently: a subclass changes what `read` returns, by attributes that it sets.

    Every attribute of an instance is part of its content keys, but those in `DESCRIPTIVE`.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.name, self.split, self.edition = dataset.name, dataset.split, dataset.edition
        self.labels, self.channels, self.notes = dataset.labels, dataset.channels, dataset.notes
        self.scaling = dataset.scaling

    def __len__(self) -> int:
        return len(self.dataset)

    def sample_name(self, index: int) -> str:
        """See `Dataset`."""
        return self.dataset.sample_name(index)

    def annotated(self, index: int) -> frozenset[str]:
        """See `Dataset`."""
        return self.dataset.annotated(index)

    def content_key(self, index: int) -> str | None:
        """See `Dataset`."""
        return self._view_key(self.dataset.content_key(index))

    def _view_key(self, key: str | None, *more: object) -> str | None:
        """The key of a sample that this view makes of the sample with that key, and of `more`."""
        if key is None:
            return None
        settings = sorted((name, value) for name, value in vars(self).items() if name not in DESCRIPTIVE)
        return settings_digest(type(self).__name__, key, settings, more, shared=self.shared_digests)

    def fingerprints(self) -> list[Fingerprint]:
        """See `Dataset`: those of the files, however a view changes what is read from them."""
        return self.dataset.fingerprints()


def unwrapped(dataset: Dataset) -> Dataset:
    """The data set below all views."""
    while isinstance(dataset, View):
        dataset = dataset.dataset
    return dataset


def check_split(split: str, known: Sequence[str], where: str) -> str:
    """The split, if there is such a one.

    Raises:
        DataError: If not; names the nearest.
    """
    if split not in known:
        raise DataError(f'{where} has no split "{split}": {nearest(split, list(known))}')
    return split


def refuse(where: object, problems: Sequence[str]) -> None:
    """Raises all problems of a file at once: the first few in words, and how many there are.

    Raises:
        DataError: If there is any.
    """
    if problems:
        count = f"{len(problems)} problems: " if len(problems) > 1 else ""
        rest = len(problems) - NAMED_IN_ERRORS
        raise DataError(f"{where}: {count}{'; '.join(problems[:NAMED_IN_ERRORS])}"
                        + (f"; and {rest} more" if rest > 0 else ""))  # fmt: skip


def first_few(names: Sequence[str], count: int = NAMED_IN_ERRORS) -> str:
    """The beginning of a list that may be long, for messages."""
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")


def percent(share: float) -> str:
    """A share for messages: 100 %, 4 %, 0.03 %."""
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"
