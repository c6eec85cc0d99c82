"""Default boxes of SSD-like detectors, in shares of the picture: (centre x, centre y, width, height)."""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Layout = Literal["blitz", "ssd", "ssd_coco"]
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Level:
    """The default boxes of one map: `scale` of the squares and of the larger square, aspect ratios beside 1.

    `step` is the distance of two centres as a share of a picture of the published size; None = what the map's size
    makes it.
    """

    scale: float
    larger: float
    ratios: tuple[int, ...]
    step: float | None = None

    @property
    def count(self) -> int:
        """Boxes in each cell: two squares, and two for each ratio (wide and high)."""
        return 2 + 2 * len(self.ratios)

    def distance(self, cells: int) -> float:
        """Of two centres along an axis with so many cells, as a share of the picture."""
        if self.step is None:
            return 1 / cells
        published = math.ceil(1 / self.step - 1e-9)  # cells of the picture that the step was given for
        return self.step * published / cells


def levels(layout: Layout, size: Literal[300, 512]) -> tuple[Level, ...]:
    """The published layouts: `blitz` has six boxes in every cell (Dvornik et al. 2017); `ssd` is Liu et al. 2016.

    Raises:
        ValueError: For `ssd_coco`, whose boxes are smaller, at 512.
    """
    if layout == "blitz":
        scales = BLITZ[size]
        return tuple(Level(scale=a, larger=b, ratios=(2, 3)) for a, b in itertools.pairwise(scales))
    sizes, steps, ratios = SSD[size]
    if layout == "ssd_coco":
        if size != 300:
            raise ValueError('anchors="ssd_coco" is for size=300')
        sizes = SSD_COCO
    return tuple(
        Level(scale=low / size, larger=high / size, ratios=ratio, step=step / size)
        for low, high, step, ratio in zip(sizes, sizes[1:], steps, ratios, strict=False)
    )


SSD_COCO = (21, 45, 99, 153, 207, 261, 315)
BLITZ = {
    300: (0.1, 0.2, 0.3875, 0.575, 0.7625, 0.95, 1.1375),
    512: (0.04, 0.1, 0.27, 0.44, 0.61, 0.78, 0.95, 1.12),
}
SSD = {
    300: (
        (30, 60, 111, 162, 213, 264, 315),
        (8, 16, 32, 64, 100, 300),
        ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    ),
    512: (
        (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6),
        (8, 16, 32, 64, 128, 256, 512),
        ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    ),
}
"""Sizes of the squares, steps in pixels and ratios, for VOC."""


@lru_cache(maxsize=8)
def default_boxes(of: tuple[Level, ...], sizes: tuple[Size, ...]) -> Float[Tensor, "boxes 4"]:
    """All default boxes of the maps, level by level, row by row, cell by cell; not clipped, and not to be changed.

    In a cell come the square, the larger square of side sqrt(scale x larger), then for each ratio the wide box and the
    high one. `sizes` are the maps' (height, width).
    """
    found = []
    for level, (height, width) in zip(of, sizes, strict=True):
        shapes = [(level.scale, level.scale), (math.sqrt(level.scale * level.larger),) * 2]
        for ratio in level.ratios:
            root = math.sqrt(ratio)
            shapes += [(level.scale * root, level.scale / root), (level.scale / root, level.scale * root)]
        rows, columns = ((torch.arange(n, dtype=torch.float64) + 0.5) * level.distance(n) for n in (height, width))
        cells = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1).view(-1, 1, 2)
        own = torch.tensor(shapes, dtype=torch.float64).view(1, -1, 2)
        parts = (cells.expand(-1, own.shape[1], 2), own.expand(len(cells), -1, 2))
        found.append(torch.cat(parts, -1).view(-1, 4))
    return torch.cat(found).float()
