"""Distance of each pixel of an object to the object's outside (spec 1.4)."""

from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Integer
from scipy.ndimage import find_objects

Ids = Integer[np.ndarray, "height width"]
Map = Float[np.ndarray, "height width"]
Norm = Literal["instance", "truncate", "dwt"]
TRUNCATE = 32.0
"""Pixels at which `truncate` ends."""
LEVELS = np.array([0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96], np.float32)
"""Lower ends of the 16 levels of `dwt`, in pixels. UNCLEAR: the spec names 16 levels without their limits; finer where
objects touch."""
LEVEL_WEIGHTS = np.array([3, 3, 3, 2, *[1] * 12], np.float32)
SMALLEST = 100
"""Objects of fewer pixels are not learned with `dwt`."""
DENSE = 1 << 20
"""Ids up to here are looked up in a table; larger ones are numbered through first."""


def instance_distances(ids: Ids, norm: Norm = "instance") -> tuple[Map, Map]:
    """For each pixel of an object (id > 0) its distance to the nearest pixel outside that object, and its weight.

    Both are 0 where no object is. Exact Euclidean distances between centres of pixels, so 1 at the object's border. The
    edge of the picture is not outside: an object that is cut off grows to the edge. An object that fills the picture
    has no outside and is 1 everywhere. What comes out lies in 0 to 1:

    * `instance`: divided by the object's maximum, whose peak is therefore 1 at any size;
    * `truncate`: min(d, 32) / 32;
    * `dwt`: 16 levels, 0 to 15, / 15 (Bai and Urtasun 2017 learn them as classes).

    The weight is 1 / sqrt(pixels of the object), so that small objects count; with `dwt` also 3 to 1 by level, and 0
    for objects of fewer than 100 pixels.

    Raises:
        ValueError: For negative ids.
    """
    if ids.min(initial=0) < 0:
        raise ValueError(f"object ids must be 0 (none) or positive, got {ids.min()}")
    distances, weights = np.zeros(ids.shape, np.float32), np.zeros(ids.shape, np.float32)
    if ids.max(initial=0) > DENSE:
        ids = np.unique(ids, return_inverse=True)[1].reshape(ids.shape) + int(ids.min() > 0)
    small = ids.astype(np.int32, copy=False)
    for number, box in enumerate(find_objects(small), start=1):
        if box is None:
            continue
        # The nearest outside pixel is never farther away than one beyond the object's box.
        around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        mask = (small[around] == number).view(np.uint8)
        distance, weight = _of_object(mask, norm)
        # Objects never overlap, and each is 0 outside itself: adding puts them beside each other.
        distances[around] += distance
        weights[around] += weight
    return distances, weights


def _of_object(mask: np.ndarray, norm: Norm) -> tuple[Map, Map]:
    area = cv2.countNonZero(mask)
    weight = mask * np.float32(area**-0.5)
    if area == mask.size:
        return mask.astype(np.float32), weight
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    match norm:
        case "instance":
            distance *= 1 / distance.max()
        case "truncate":
            distance = np.minimum(distance, TRUNCATE) / TRUNCATE
        case "dwt":
            levels = np.searchsorted(LEVELS, distance, side="right") - 1
            distance = levels.astype(np.float32) / (len(LEVELS) - 1)
            weight *= LEVEL_WEIGHTS[levels] * (area >= SMALLEST)
    return distance, weight
