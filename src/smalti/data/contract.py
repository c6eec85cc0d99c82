"""What every data set promises to the other rooms."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smalti.containers import Sample
from smalti.labels import LabelSet
from smalti.settings import nearest

if TYPE_CHECKING:  # which imports this file
    from smalti.data.value_survey import ValueScaling

NAMED_IN_ERRORS = 5


class DataError(ValueError):
    """The data on the disk is not as it must be; the message names files and says what to do."""


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
    scaling: "ValueScaling | None" = None
    """How images deeper than 8 bits become 8 bits; None where there are none."""

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

    @abstractmethod
    def content_key(self, index: int) -> str | None:
        """Changes whenever what `read` answers may change; None = must not be cached."""


class View(Dataset):
    """Another data set, seen differently: a subclass changes what `read` answers, and says so in its `key`."""

    key: str

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.name, self.split, self.edition = dataset.name, dataset.split, dataset.edition
        self.labels, self.channels, self.scaling = dataset.labels, dataset.channels, dataset.scaling

    def __len__(self) -> int:
        return len(self.dataset)

    def sample_name(self, index: int) -> str:
        """See `Dataset`."""
        return self.dataset.sample_name(index)

    def content_key(self, index: int) -> str | None:
        """See `Dataset`."""
        key = self.dataset.content_key(index)
        return None if key is None else f"{key}-{self.key}"


def check_split(split: str, known: Sequence[str], where: str) -> str:
    """The split, if there is such a one.

    Raises:
        DataError: If not; names the nearest.
    """
    if split not in known:
        raise DataError(f'{where} has no split "{split}": {nearest(split, list(known))}')
    return split


def first_few(names: Sequence[str]) -> str:
    """The beginning of a list that may be long, for messages."""
    rest = len(names) - NAMED_IN_ERRORS
    return ", ".join(names[:NAMED_IN_ERRORS]) + (f" and {rest} more" if rest > 0 else "")
