"""Numbers about a whole data set."""

import hashlib

import numpy as np
from torch import Tensor

from smalti.data.cache import remembered
from smalti.data.contract import Dataset


def pixel_counts(dataset: Dataset) -> tuple[int, ...]:
    """Annotated pixels of each class, ignored ones not counted; remembered until a file of the set changes."""
    return tuple(int(n) for n in remembered("counts", _key(dataset), lambda: _count(dataset)))


def _count(dataset: Dataset) -> list[int]:
    counts = np.zeros(256, np.int64)
    for index in range(len(dataset)):
        semantic = dataset.read(index).semantic
        if semantic is not None:
            counts += np.bincount(semantic.as_subclass(Tensor).numpy().ravel(), minlength=256)
    found: list[int] = counts[: len(dataset.labels)].tolist()
    return found


def _key(dataset: Dataset) -> str | None:
    digest = hashlib.blake2b(digest_size=16)
    for index in range(len(dataset)):
        key = dataset.content_key(index)
        if key is None:
            return None
        digest.update(key.encode())
    return digest.hexdigest()
