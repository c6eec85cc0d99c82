"""What every kind of answer on disk promises to the pipeline."""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from smalti.containers import Instances, Predictions

Picture = UInt8[np.ndarray, "height width 3"]
MAX_CLASS_STEM_BYTES = 200
"""File systems take names of 255 bytes; the rest is for prefix, number and ending."""
Entry = dict[str, Any]
"""What a picture adds to the files of all pictures, as JSON values."""
WHO_KNOWS = {
    "semantic": "the classes of pixels: take another one",
    "probabilities": "the probabilities of the classes: take another one",
    "difficulty": "how difficult a pixel is: train ccfnet with its attention gate",
    "edges": "edges: train hourglass with this task",
    "distances": "distances: train hourglass with this task",
    "instances": "objects: train hourglass with distances, or ivanet, on data whose class table names things",
}


class NoSuchAnswerError(ValueError):
    """Said once and not for each picture: the network does not know the task, or a package is missing."""


class Writer(ABC):
    """Writes the answers of many pictures into one folder.

    A writer keeps nothing between pictures, so that several threads may add pictures at once, and so that a continued
    run can finish what another one began.
    """

    endings: tuple[str, ...]
    """Of the files and folders of one picture, after its name."""
    summaries: tuple[str, ...] = ()
    """Names, or patterns of names, of the files that `finish` writes."""
    needs: tuple[str, ...]
    """What it writes of an answer: fields of `Predictions`, or "masks" for the objects with theirs."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def stem(self, name: str) -> str:
        """What stands before the endings in the files' names."""
        return name

    def check(self, answer: Predictions) -> None:
        """Asked of all kinds before one of them writes, so that a wrong wish replaces no earlier answer.

        Raises:
            NoSuchAnswerError: If the network does not know the task, or a package is missing.
        """
        for need in self.needs:
            if need == "masks":
                masked(answer)
            else:
                known(answer, need)

    @abstractmethod
    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> Entry | None:
        """Writes one picture's answer, and gives what `finish` needs of it.

        `file` is where it came from, `name` the stem of its answers.

        Raises:
            NoSuchAnswerError: If the network does not know the task.
        """

    def finish(self, entries: Sequence[Entry]) -> None:  # noqa: B027  # most kinds say nothing of all
        """Writes what is said of all pictures together, from the entries of all (at least one), in their order."""


def known(answer: Predictions, task: str) -> Any:
    """The answer to a task.

    Raises:
        NoSuchAnswerError: If the network does not know it.
    """
    found = getattr(answer, task)
    if found is None:
        raise NoSuchAnswerError(f"this network does not know {WHO_KNOWS[task]}, or choose another --show")
    return found


def masked(answer: Predictions) -> Instances:
    """The objects, which have masks.

    Raises:
        NoSuchAnswerError: If the network knows no objects, or as boxes only.
    """
    found: Instances = known(answer, "instances")
    if found.masks is None:
        raise NoSuchAnswerError("this network knows objects as boxes only: choose --show boxes")
    return found


def as_array(values: Any) -> np.ndarray:
    """A tensor of any device as an array."""
    found: np.ndarray = values.cpu().numpy()
    return found


def scores_of(found: Instances) -> list[float]:
    """1 where the network gives none."""
    return [1.0] * len(found) if found.scores is None else found.scores.tolist()


def without_blanks(name: str) -> str:
    """The name for files whose readers separate by blanks and lines."""
    return re.sub(r"\s", "_", name)


def class_file_stems(names: Iterable[str]) -> dict[str, str]:
    """For each class name a part of a file name that every file system takes; no two are equal, whatever the case."""
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "_", name).rstrip(". ")
        plain = plain.encode("utf-8", "replace")[:MAX_CLASS_STEM_BYTES].decode("utf-8", "ignore") or "_"
        stem, number = plain, 2
        while unicodedata.normalize("NFC", stem).casefold() in taken:
            stem, number = f"{plain}_{number}", number + 1
        taken.add(unicodedata.normalize("NFC", stem).casefold())
        stems[name] = stem
    return stems
