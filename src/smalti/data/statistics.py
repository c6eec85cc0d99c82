"""Numbers about a whole data set."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from smalti.data.cache import remembered
from smalti.data.contract import Dataset
from smalti.data.settings_digest import settings_digest


class PixelCounts(NamedTuple):
    """Of each class its pixels, and all annotated pixels of the pictures that have it."""

    own: tuple[int, ...]
    of_pictures: tuple[int, ...]


def pixel_counts(dataset: Dataset) -> PixelCounts:
    """Counts over a data set, ignored pixels not counted; remembered until a file of the set changes."""
    own, of_pictures = remembered("class-counts", key_of(dataset), lambda: _count(dataset))
    return PixelCounts(tuple(map(int, own)), tuple(map(int, of_pictures)))


def _count(dataset: Dataset) -> list[list[int]]:
    counts = np.zeros((2, len(dataset.labels)), np.int64)
    for index in range(len(dataset)):
        semantic = dataset.read(index).semantic
        if semantic is not None:
            here = np.bincount(semantic.as_subclass(Tensor).numpy().ravel(), minlength=256)[: len(dataset.labels)]
            counts += here, here.sum() * (here > 0)
    found: list[list[int]] = counts.tolist()
    return found


def key_of(dataset: Dataset) -> str | None:
    """Changes whenever something may that the data set answers; None = must not be remembered."""
    keys = [dataset.content_key(index) for index in range(len(dataset))]
    return None if None in keys else settings_digest(dataset.labels, keys)
