"""Whether a mask was smoothed or saved with compression losses, which turns borders into classes that nobody drew."""

from collections.abc import Mapping, Set
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

SMOOTHED = 0.05
"""Share of the borders that blend from one value into another, from which on a mask may be smoothed. Measured: at most
0.014 for each mask of CamVid, VOC, KITTI and COCO-Stuff, and at least 0.2 when these are resized bilinearly."""
SURELY_SMOOTHED = 0.15
"""The same, from which on it is smoothed even if all values between are classes that were drawn in the mask, too."""
FEWEST_BETWEEN = 3
"""Different values between others that smoothing makes at least; contours that people draw have one or two."""
COMPRESSED_SET = 0.015
"""Share of blended borders of a whole set, from which on it was compressed; 0.005 in the sets above, at least 0.03 in
most of them after JPEG of quality 95."""
SMOOTHED_IN_LOSSY_FILE = 0.005
"""The same share for files of a lossy format; JPEG of the highest quality has at least 0.008 on these masks."""
SMALLEST_STEP = 3
"""Difference of the two values between which a border blends: smaller ones may be classes that are neighbours."""
FEWEST_BLENDED = 5
"""Fewer blended pixels in a mask prove nothing."""
NOISE_AMONG_IDS = 3
"""Times as many values at borders as drawn ones that are noise, where all values might be ids of classes in a row."""
SOLID = 0.02
"""Least share of a value's pixels whose eight neighbours have it, too, if it is a class that somebody drew."""


Counts = Mapping[int, tuple[int, int]]
"""By value: its pixels, and those among them whose eight neighbours have the value, too."""


class Blending(NamedTuple):
    """How many borders of a mask, or of many, blend."""

    blended: int
    borders: int
    between: frozenset[int]
    """The values that stand between two others."""

    @property
    def share(self) -> float:
        """Of all borders: 0 for most drawn masks, about 0.2 to 0.7 for smoothed ones."""
        return self.blended / self.borders if self.blended >= FEWEST_BLENDED else 0.0

    def __or__(self, other: "Blending") -> "Blending":
        return Blending(self.blended + other.blended, self.borders + other.borders, self.between | other.between)


def find_blending(values: Integer[np.ndarray, "height width"]) -> Blending:
    """Which borders blend from one value into another.

    A border is a change from one pixel to the next, along rows and columns. It blends where a single pixel between two
    settled values lies strictly between them, or where three changes in the same direction lead to or from a settled
    value; settled means that two neighbours have it.
    """
    blended = changes = 0
    between: set[int] = set()
    for lines in (values, values.T):
        flat = lines[:, 1:] == lines[:, :-1]
        changes += int(np.count_nonzero(~flat))
        for step in (lines[:, 1:] > lines[:, :-1], lines[:, 1:] < lines[:, :-1]):
            twice = step[:, :-1] & step[:, 1:]
            if not twice.any():
                continue
            three = twice[:, :-1] & twice[:, 1:]
            low, high = np.minimum(lines[:, 1:-3], lines[:, 3:-1]), np.maximum(lines[:, 1:-3], lines[:, 3:-1])
            single = flat[:, :-3] & twice[:, 1:-1] & flat[:, 3:] & (high - low >= SMALLEST_STEP)
            for place, inner in ((flat[:, :-3] & three[:, 1:], 2), (three[:, :-1] & flat[:, 3:], 2), (single, 2)):
                blended += int(np.count_nonzero(place))
                between.update(np.unique(lines[:, inner : inner + place.shape[1]][place]).tolist())
    return Blending(blended, changes, frozenset(between))


def sign_of_smoothing(values: Integer[np.ndarray, "height width"], is_lossy: bool) -> str | None:
    """What shows that a mask was smoothed or compressed, in words; None if nothing does.

    `is_lossy`: its file format changes values, so that a smaller sign is enough. In other files a class that is drawn
    one pixel wide between two others (a contour, a wire) is no sign: smoothing makes many different values.
    """
    blending = find_blending(values)
    if blending.share <= (SMOOTHED_IN_LOSSY_FILE if is_lossy else SMOOTHED):
        return sign_of_noise(count_solid(values), "values") if is_lossy else None
    if not is_lossy and len(blending.between) < FEWEST_BETWEEN:
        return None
    if not is_lossy and blending.share <= SURELY_SMOOTHED and not _are_thin(blending.between, count_solid(values)):
        return None
    return f"{100 * blending.share:.2g} % of the borders blend from one value into another"


def sign_in_set(blending: Blending, counts: Counts) -> str | None:
    """What shows that the masks of a whole set were compressed, though none of them does by itself; else None.

    `blending` and `counts` are the sums over all masks.
    """
    if blending.share > COMPRESSED_SET and _are_thin(blending.between, counts):
        return f"{100 * blending.share:.2g} % of the borders blend from one value into another"
    return sign_of_noise(counts, "values")


def _are_thin(between: Set[int], counts: Counts) -> bool:
    """Whether several of the values that stand between others stand nowhere else."""
    return sum(counts[value][1] < SOLID * counts[value][0] for value in between) >= FEWEST_BETWEEN


def add_counts(counts: dict[int, tuple[int, int]], more: Counts) -> None:
    """Adds the counts of another mask."""
    for value, (pixels, solid) in more.items():
        before = counts.get(value, (0, 0))
        counts[value] = before[0] + pixels, before[1] + solid


def count_solid(values: Integer[np.ndarray, "height width"]) -> dict[int, tuple[int, int]]:
    """Of each value its pixels, and those among them whose eight neighbours have the value, too."""
    inner = values[1:-1, 1:-1]
    solid = np.ones(inner.shape, bool)
    height, width = values.shape
    for down in range(3):
        for right in range(3):
            solid &= values[down : height - 2 + down, right : width - 2 + right] == inner
    present, pixels = np.unique(values, return_counts=True)
    filled, filled_pixels = np.unique(inner[solid], return_counts=True)
    solid_pixels = dict(zip(filled.tolist(), filled_pixels.tolist(), strict=True))
    return {v: (n, solid_pixels.get(v, 0)) for v, n in zip(present.tolist(), pixels.tolist(), strict=True)}


def sign_of_noise(counts: Counts, what: str) -> str | None:
    """In words, that as many values stand only at borders as were drawn; None if they do not.

    Args:
        counts: Sums of `count_solid` over one or many masks.
        what: What the values are called ("values", "colours").
    """
    thin = {value for value, (pixels, solid) in counts.items() if solid < SOLID * pixels}
    drawn = len(counts) - len(thin)
    # Neighbouring small ids may well be thin classes (cracks, wires).
    fewest = NOISE_AMONG_IDS * drawn if max(counts, default=0) < 2 * len(counts) else drawn
    if not drawn or len(thin) < max(2, fewest):
        return None
    share = sum(counts[value][0] for value in thin) / sum(pixels for pixels, _ in counts.values())
    return f"{len(thin)} of {len(counts)} {what} stand only at borders ({100 * share:.2g} % of the pixels)"
