"""Which of many answered boxes stand: the probable ones that no surer box of their class overlaps."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import nms

FIRST = 64
"""Boxes of a class that are looked at before the rest: mostly enough, and many times faster."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Which boxes are answered; PAPER is silent, these are BlitzNet's numbers."""

    confidence: float = 0.01
    """Least probability of a box."""
    candidates: int = 400
    """Of each class, the most probable, before overlapping ones are removed."""
    overlap: float = 0.45
    """IoU from which the less probable of two boxes of a class is removed."""
    each_class: int = 50
    total: int = 200

    def __post_init__(self) -> None:
        """Raises ValueError for shares outside 0 to 1 and counts below 1."""
        if not (0 <= self.confidence <= 1 and 0 <= self.overlap <= 1):
            raise ValueError(f"confidence and overlap are from 0 to 1, got {self.confidence} and {self.overlap}")
        if min(self.candidates, self.each_class, self.total) < 1:
            raise ValueError("candidates, each_class and total must be 1 or more")


STANDARD = Detection()


def select_boxes(
    boxes: Float[Tensor, "boxes 4"], probabilities: Float[Tensor, "classes boxes"], rules: Detection
) -> tuple[Int[Tensor, " found"], Int[Tensor, " found"]]:
    """Places and classes of the boxes that stand, the most probable first.

    Greedy suppression goes from the most probable box down, so what stands among the first few does not depend on the
    others: a class is looked at whole only where these do not suffice.
    """
    count = probabilities.shape[1]
    best, places = probabilities.topk(min(FIRST, rules.candidates, count), dim=1)
    found = []
    for kind in (best[:, 0] > rules.confidence).nonzero()[:, 0].tolist():
        standing = _standing(boxes, best[kind], places[kind], rules)
        if len(standing) < rules.each_class and float(best[kind, -1]) > rules.confidence:
            standing = _standing(boxes, *probabilities[kind].topk(min(rules.candidates, count)), rules)
        found.append((standing, torch.full_like(standing, kind)))
    if not found:
        none = places.new_zeros(0)
        return none, none
    where, kinds = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = probabilities[kinds, where].argsort(descending=True, stable=True)[: rules.total]
    return where[order], kinds[order]


def _standing(
    boxes: Float[Tensor, "boxes 4"], best: Float[Tensor, " some"], places: Int[Tensor, " some"], rules: Detection
) -> Int[Tensor, " found"]:
    """Of one class, the surest first."""
    places = places[best > rules.confidence]
    kept: Tensor = nms(boxes[places], best[: len(places)], rules.overlap)
    return places[kept[: rules.each_class]]
