"""Annotated boxes of a sample: made, moved with its picture, and checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from smalti.containers import Instances, Size

OVERHANG_PIXELS, OVERHANG_SHARE = 1.0, 0.05
"""How far an annotation may reach out of its image, in pixels or as a share of the image's side, whichever is more: it
was rounded, scaled or drawn a little too far, and is clipped at the edges. Farther out it belongs to another image, or
is in other units."""
OVERHANG_NOTED = 0.01
"""Pixels from which on clipping is said; less is how decimal numbers are rounded."""


@dataclass
class OverhangCount:
    """The annotations that reach a little out of their image, counted while a file is read."""

    count: int = 0
    farthest: float = 0.0

    def add(self, pixels: float) -> None:
        """Counts an annotation that reaches out by so many pixels."""
        if pixels > OVERHANG_NOTED:
            self.count, self.farthest = self.count + 1, max(self.farthest, pixels)

    def notes(self, where: str, what: str = "annotations") -> tuple[str, ...]:
        """A line if any was counted."""
        if not self.count:
            return ()
        return (f"{where}: {self.count} {what} reach up to {self.farthest:.3g} pixels out of their images and are "
                "clipped at the edges",)  # fmt: skip


def overhang(corners: Sequence[float], size: Size) -> float:
    """Pixels by which left, top, right, bottom reach out of an image of that size."""
    left, top, right, bottom = corners
    return max(0.0, -left, -top, right - size[1], bottom - size[0])


def is_far_outside(corners: Sequence[float], size: Size) -> bool:
    """Whether left, top, right, bottom reach farther out of an image of that size than rounding and scaling explain."""
    left, top, right, bottom = corners
    rows, columns = (max(OVERHANG_PIXELS, OVERHANG_SHARE * side) for side in size)
    return left < -columns or top < -rows or right > size[1] + columns or bottom > size[0] + rows


def annotated_boxes(
    corners: Sequence[Sequence[float]],
    labels: Sequence[int],
    size: Size,
    *,
    difficult: Sequence[bool] | None = None,
    crowd: Sequence[bool] | None = None,
    areas: Sequence[float] | None = None,
) -> Instances:
    """Objects of a picture of that size from (left, top, right, bottom), cut at its edges."""
    boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    return Instances(
        boxes=as_boxes(cut(boxes, size), size),
        labels=torch.tensor(labels, dtype=torch.int64),
        difficult=None if difficult is None else torch.tensor(difficult, dtype=torch.bool),
        crowd=None if crowd is None else torch.tensor(crowd, dtype=torch.bool),
        areas=None if areas is None else torch.tensor(areas, dtype=torch.float32),
    )


def what_is_wrong(corners: Sequence[float], size: Size) -> str | None:
    """Why four numbers (left, top, right, bottom) are no box in a picture of that size; None if they are one."""
    left, top, right, bottom = corners
    said = f"left {left:g}, top {top:g}, right {right:g}, bottom {bottom:g}"
    if not all(math.isfinite(value) for value in corners):
        return f"its box has a number that is none ({said})"
    if right < left or bottom < top:
        return f"its box is inverted ({said})"
    if right == left or bottom == top:
        return f"its box has no area ({said})"
    if is_far_outside(corners, size) or left >= size[1] or top >= size[0] or right <= 0 or bottom <= 0:
        return f"its box lies outside the picture ({said}; the picture has {size[0]} x {size[1]}, height x width)"
    return None


def as_boxes(corners: Float[Tensor, "objects 4"], size: Size) -> BoundingBoxes:
    """Corners as what torchvision's transforms move with a picture of that size."""
    made: Any = BoundingBoxes  # the types of its constructor's arguments are not told
    boxes: BoundingBoxes = made(corners.as_subclass(Tensor), format=BoundingBoxFormat.XYXY, canvas_size=size)
    return boxes


def cut(corners: Float[Tensor, "objects 4"], size: Size) -> Float[Tensor, "objects 4"]:
    """At the edges of a picture."""
    most = corners.new_tensor([size[1], size[0], size[1], size[0]])
    inside: Tensor = corners.as_subclass(Tensor).clamp(min=0).minimum(most)
    return inside


def window_boxes(
    corners: Float[Tensor, "objects 4"], window: tuple[int, int, int, int], to: Size
) -> Float[Tensor, "objects 4"]:
    """Boxes in a window (top, left, rows, columns) that is resized; those whose middle is not in it get no area.

    SSD keeps an object by its middle: what is left of the others is too little to be learned.
    """
    top, left, rows, columns = window
    plain = corners.as_subclass(Tensor)
    moved = plain - plain.new_tensor([left, top, left, top])
    middle = (moved[:, :2] + moved[:, 2:]) / 2
    inside = ((middle >= 0) & (middle < middle.new_tensor([columns, rows]))).all(1)
    factors = plain.new_tensor([to[1] / columns, to[0] / rows] * 2)
    return cut(moved, (rows, columns)) * factors * inside[:, None]


def objects_in(instances: Instances | None, window: tuple[int, int, int, int], to: Size) -> Instances | None:
    """The objects of a window (top, left, rows, columns) that is resized; the window may reach out of the picture."""
    if instances is None:
        return None
    return without_small(replace(instances, boxes=as_boxes(window_boxes(instances.boxes, window, to), to)), 0.0)


def without_small(instances: Instances, side: float) -> Instances:
    """The objects with boxes whose sides are both longer, as a picture that was cut or resized has them."""
    corners = instances.boxes.as_subclass(Tensor)
    kept = replace(instances, areas=None).select((corners[:, 2:] - corners[:, :2] > side).all(1))
    size = instances.boxes.canvas_size if isinstance(instances.boxes, BoundingBoxes) else None
    return kept if size is None else replace(kept, boxes=as_boxes(kept.boxes, size))
