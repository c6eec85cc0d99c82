"""Boxes of objects."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer, UInt8

Ids = Integer[np.ndarray, "height width"]


class Boxes(NamedTuple):
    """Numbers of the objects in rising order, their boxes (top, left, bottom, right; ends excluded), their pixels."""

    numbers: Integer[np.ndarray, " objects"]
    boxes: Int[np.ndarray, "objects 4"]
    areas: Int[np.ndarray, " objects"]


def object_boxes(ids: Ids) -> Boxes:
    """Boxes of all objects in a map of their numbers (0 = none).

    Only the runs of equal pixels in each row are looked at, which are thousands where pixels are millions.
    """
    width = max(ids.shape[1], 1)
    flat = ids.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.union1d(changes, np.arange(0, flat.size, width))
    lengths = np.diff(starts, append=flat.size)
    own = flat[starts] != 0
    starts, lengths = starts[own], lengths[own]
    numbers = flat[starts]
    order = np.argsort(numbers, kind="stable")
    starts, lengths, numbers = starts[order], lengths[order], numbers[order]
    if not numbers.size:
        return Boxes(numbers, np.zeros((0, 4), int), np.zeros(0, int))
    first = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
    rows, columns = np.divmod(starts, width)
    sides = (
        np.minimum.reduceat(rows, first),
        np.minimum.reduceat(columns, first),
        np.maximum.reduceat(rows, first) + 1,
        np.maximum.reduceat(columns + lengths, first),
    )
    return Boxes(numbers[first], np.stack(sides, 1), np.add.reduceat(lengths, first))


def object_classes(
    ids: Ids, labels: UInt8[np.ndarray, "height width"], *, ignored: int = 255
) -> Int[np.ndarray, " objects"]:
    """The most frequent label of each object, in the order of `object_boxes`; ignored pixels do not speak.

    An object of which all pixels are ignored has the ignored label.
    """
    inside = ids != 0
    keys, pixels = np.unique(ids[inside].astype(np.int64) << 8 | labels[inside], return_counts=True)
    owner, label = keys >> 8, keys & 0xFF
    # The last of an object's labels by (known, pixels) is its class.
    order = np.lexsort((pixels, label != ignored, owner))
    last = np.append(owner[1:] != owner[:-1], True) if owner.size else np.zeros(0, bool)
    found: np.ndarray = label[order][last]
    return found
