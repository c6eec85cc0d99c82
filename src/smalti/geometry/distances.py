"""Distance of each pixel of an object to the object's outside (spec 1.4)."""

from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Integer

from smalti.geometry.boxes import Boxes, object_boxes

Ids = Integer[np.ndarray, "height width"]
Map = Float[np.ndarray, "height width"]
Norm = Literal["instance", "truncate", "dwt"]
TRUNCATE = 32.0
"""Pixels at which `truncate` ends."""
LEVELS = np.array([0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96], np.float32)
"""Lower ends of the 16 levels of `dwt`, in pixels. UNCLEAR: the spec names 16 levels without their limits; finer where
objects touch."""
LEVEL_WEIGHTS = np.array([3, 3, 3, 2, *[1] * 12], np.float32)
DENSE = 1 << 20
"""Ids up to here are looked up in a table."""
SMALLEST = 100
"""Objects of fewer pixels are not learned with `dwt`."""


def instance_distances(ids: Ids, norm: Norm = "instance") -> Map:
    """For each pixel of an object (id > 0) its distance to the nearest pixel outside that object; 0 elsewhere.

    Exact Euclidean distances between centres of pixels, so 1 at the object's border. The edge of the picture is not
    outside: an object that is cut off grows to the edge. An object that fills the picture has no outside and is 1
    everywhere. What comes out lies in 0 to 1:

    * `instance`: divided by the object's maximum, whose peak is therefore 1 at any size;
    * `truncate`: min(d, 32) / 32;
    * `dwt`: 16 levels, 0 to 15, / 15 (Bai and Urtasun 2017 learn them as classes).

    Raises:
        ValueError: For negative ids.
    """
    found = _checked(ids)
    distances = np.zeros(ids.shape, np.float32)
    for number, (top, left, bottom, right) in zip(found.numbers.tolist(), found.boxes.tolist(), strict=True):
        # The nearest outside pixel is never farther away than one beyond the object's box.
        around = np.s_[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]
        # Objects never overlap, and each is 0 outside itself: adding puts them beside each other.
        whole = distances[around]
        np.add(whole, _of_object(_mask(ids[around], number), norm), out=whole)
    return distances


def distance_weights(ids: Ids, distances: Map, norm: Norm = "instance") -> Map:
    """How much each pixel of an object counts: 1 / sqrt(pixels of the object), so that small objects do; 0 elsewhere.

    With `dwt` also times 3 to 1 by its level in `distances`, and 0 for objects of fewer than 100 pixels.
    """
    found = _checked(ids)
    each = found.areas ** np.float32(-0.5) * (1 if norm != "dwt" else found.areas >= SMALLEST)
    if not found.numbers.size:
        return np.zeros(ids.shape, np.float32)
    weights: np.ndarray
    if found.numbers[-1] < DENSE:
        table = np.zeros(int(found.numbers[-1]) + 1, np.float32)
        table[found.numbers] = each
        weights = table[ids]
    else:
        places = np.searchsorted(found.numbers, ids)
        weights = np.where(ids > 0, np.append(each, 0).astype(np.float32)[places], np.float32(0))
    if norm == "dwt":
        weights *= LEVEL_WEIGHTS[np.rint(distances * (len(LEVELS) - 1)).astype(np.intp)]
    return weights


def _checked(ids: Ids) -> Boxes:
    found = object_boxes(ids)
    if found.numbers.size and found.numbers[0] < 0:
        raise ValueError(f"object ids must be 0 (none) or positive, got {found.numbers[0]}")
    return found


def _mask(ids: Ids, number: int) -> np.ndarray:
    """Other than 0 at one object."""
    if ids.dtype == np.int32:
        inside: np.ndarray = cv2.inRange(ids, number, number)  # several times faster than ==
        return inside
    return np.asarray(ids == number).view(np.uint8)


def _of_object(mask: np.ndarray, norm: Norm) -> Map:
    if mask.all():
        return np.ones(mask.shape, np.float32)
    distance: np.ndarray = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    match norm:
        case "instance":
            distance /= distance.max()
        case "truncate":
            distance = np.minimum(distance, TRUNCATE) / TRUNCATE
        case "dwt":
            levels = np.searchsorted(LEVELS, distance, side="right") - 1
            distance = levels.astype(np.float32) / (len(LEVELS) - 1)
    return distance
