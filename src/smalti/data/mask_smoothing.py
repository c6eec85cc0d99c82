"""Whether a mask was smoothed or saved with compression losses, which turns borders into classes that nobody drew."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Integer

SMOOTHED = 0.05
"""Share of the borders that blend from one value into another, from which on a mask is smoothed. Measured: at most
0.014 for each mask of CamVid, VOC, KITTI and COCO-Stuff, and at least 0.2 when these are resized bilinearly."""
SMOOTHED_IN_LOSSY_FILE = 0.005
"""The same for files of a lossy format; JPEG of the highest quality has at least 0.008 on these masks."""
SMALLEST_STEP = 3
"""Difference of the two values between which a border blends: smaller ones may be classes that are neighbours."""
FEWEST_BLENDED = 5
"""Fewer blended pixels in a mask prove nothing."""
NOISE_AMONG_IDS = 3
"""Times as many values at borders as drawn ones that are noise, where all values might be ids of classes in a row."""
SOLID = 0.02
"""Least share of a value's pixels whose eight neighbours have it, too, if it is a class that somebody drew."""


def blended_share(values: Integer[np.ndarray, "height width"]) -> float:
    """Blended borders as a share of all borders: 0 for a drawn mask, about 0.2 to 0.7 for a smoothed one.

    A border is a change from one pixel to the next, along rows and columns. It blends where a single pixel between two
    settled values lies strictly between them, or where three changes in the same direction lead to or from a settled
    value; settled means that two neighbours have it.
    """
    blended = changes = 0
    for lines in (values, values.T):
        flat = lines[:, 1:] == lines[:, :-1]
        changes += int(np.count_nonzero(~flat))
        for step in (lines[:, 1:] > lines[:, :-1], lines[:, 1:] < lines[:, :-1]):
            twice = step[:, :-1] & step[:, 1:]
            if twice.any():
                three = twice[:, :-1] & twice[:, 1:]
                blended += int(
                    np.count_nonzero(flat[:, :-3] & three[:, 1:]) + np.count_nonzero(three[:, :-1] & flat[:, 3:])
                )
                low, high = np.minimum(lines[:, 1:-3], lines[:, 3:-1]), np.maximum(lines[:, 1:-3], lines[:, 3:-1])
                single = flat[:, :-3] & twice[:, 1:-1] & flat[:, 3:] & (high - low >= SMALLEST_STEP)
                blended += int(np.count_nonzero(single))
    return blended / changes if blended >= FEWEST_BLENDED else 0.0


def sign_of_smoothing(values: Integer[np.ndarray, "height width"], is_lossy: bool) -> str | None:
    """What shows that a mask was smoothed or compressed, in words; None if nothing does.

    `is_lossy`: its file format changes values, so that a smaller sign is enough.
    """
    share = blended_share(values)
    if share > (SMOOTHED_IN_LOSSY_FILE if is_lossy else SMOOTHED):
        return f"{100 * share:.2g} % of the borders blend from one value into another"
    return sign_of_noise(count_solid(values), "values") if is_lossy else None


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


def sign_of_noise(counts: Mapping[int, tuple[int, int]], what: str) -> str | None:
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
