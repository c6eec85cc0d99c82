"""Which pictures went best and worst."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from smalti.metrics.confusion import ConfusionMatrix


@dataclass(frozen=True, kw_only=True)
class PictureScore:
    """One picture's own numbers: mean IoU over the classes in its truth, share of right pixels; None = no truth."""

    name: str
    miou: float | None
    pixel_accuracy: float | None


def score_picture(
    name: str, prediction: UInt8[np.ndarray, "height width"], truth: UInt8[np.ndarray, "height width"], classes: int
) -> PictureScore:
    """The score of a picture by itself."""
    matrix = ConfusionMatrix(classes)
    matrix.update(prediction, truth)
    counts = matrix.counts.double()
    right, true, answered = counts[:, :-1].diagonal(), counts.sum(1), counts[:, :-1].sum(0)
    present = true > 0
    if not bool(present.any()):
        return PictureScore(name=name, miou=None, pixel_accuracy=None)
    iou = right[present] / (true + answered - right)[present]
    return PictureScore(name=name, miou=float(iou.mean()), pixel_accuracy=float(right.sum() / true.sum()))


def best_and_worst(
    scores: Sequence[PictureScore], count: int
) -> tuple[tuple[PictureScore, ...], tuple[PictureScore, ...]]:
    """The `count` pictures with the highest mean IoU, best first, and with the lowest, worst first; none in both."""
    ranked = sorted((s for s in scores if s.miou is not None), key=lambda s: (-(s.miou or 0.0), s.name))
    best = min(count, (len(ranked) + 1) // 2)
    worst = min(count, len(ranked) - best)
    return tuple(ranked[:best]), tuple(reversed(ranked[len(ranked) - worst :]))
