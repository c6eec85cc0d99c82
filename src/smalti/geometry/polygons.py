"""Regions as polygons along the borders of their pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Int32

Corners = Int[np.ndarray, "corners 2"]
Places = Int[np.ndarray, "corners"]
Ring = Float[np.ndarray, "_ 2"] | Int[np.ndarray, "_ 2"]


@dataclass(frozen=True)
class Polygon:
    """Points (x, y) around a region, and around each of its holes; the last is not the first again."""

    outside: Ring
    holes: tuple[Ring, ...] = ()


def region_polygons(mask: Bool[np.ndarray, "height width"], tolerance: float = 0.0) -> list[Polygon]:
    """The polygons of a mask, one a region whose pixels are neighbours by their sides.

    Points lie on the corners of pixels, (0, 0) being the picture's upper left one, y pointing down. Filled, polygons
    without tolerance cover the mask's pixels and no others. Rings touch themselves nowhere and each other in single
    points only. `tolerance` (pixels) is how far a simplified line may stray; rings of fewer than three points are lost.
    """
    regions = np.pad(cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1], 1)
    corners, below, beside = _corners(regions)
    outsides: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    seen = np.zeros(len(corners), bool)
    for start in range(len(corners)):
        if seen[start]:
            continue
        ring = _simplified(corners[_ring(start, below, beside, seen)], tolerance)
        # Corners come by rows: this one is the upper left of its ring, which goes on to the right and down.
        x, y = corners[start]
        if inside := int(regions[y + 1, x + 1]):
            outsides[inside] = ring
        elif len(ring) >= 3:
            holes.setdefault(int(regions[y, x + 1]), []).append(ring)
    return [Polygon(ring, tuple(holes.get(region, ()))) for region, ring in outsides.items() if len(ring) >= 3]


def _corners(regions: Int32[np.ndarray, "_ _"]) -> tuple[Corners, Places, Places]:
    """All corners (x, y) by rows, and for each the one at the other end of its vertical and of its horizontal side.

    `regions` has a border of 0. Where two pixels of regions meet that lie across, there are two corners. If the pixels
    are of one region, it closes a ring there, and each corner belongs to a ring around what is no region; else each
    belongs to the ring around its pixel.
    """
    upper_left, upper_right, lower_left, lower_right = (
        regions[:-1, :-1],
        regions[:-1, 1:],
        regions[1:, :-1],
        regions[1:, 1:],
    )
    a, b, c, d = upper_left > 0, upper_right > 0, lower_left > 0, lower_right > 0
    across = (a == d) & (b == c) & (a != b)
    y, x = np.nonzero(a ^ b ^ c ^ d | across)
    joined = np.where(a, upper_left == lower_right, upper_right == lower_left)
    first_is_down = (a == joined)[y, x]
    corners = np.repeat(np.stack([x, y], 1), np.where(across[y, x], 2, 1), axis=0)
    # The first of two in one place has the horizontal side on the left.
    second = np.append(False, (corners[1:] == corners[:-1]).all(1)) if len(corners) else np.zeros(0, bool)
    down = np.repeat(first_is_down, np.where(across[y, x], 2, 1)) ^ second
    x, y = corners.T
    return corners, _partners(np.lexsort((down, y, x))), _partners(np.lexsort((second, x, y)))


def _partners(order: Places) -> Places:
    """Along a line, sides lie between the first and the second corner, the third and the fourth, and so on."""
    partners = np.empty_like(order)
    partners[order[::2]], partners[order[1::2]] = order[1::2], order[::2]
    return partners


def _ring(start: int, below: Places, beside: Places, seen: Bool[np.ndarray, "corners"]) -> list[int]:
    places, place = [], start
    while not seen[place]:
        other = int(beside[place])
        seen[[place, other]] = True
        places += [place, other]
        place = int(below[other])
    return places


def _simplified(ring: Corners, tolerance: float) -> Ring:
    if tolerance == 0:
        return ring
    simple: Ring = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, True)[:, 0]
    return simple
