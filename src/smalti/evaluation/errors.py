"""Which pictures went best and worst, and whether the doubts about a picture tell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from scipy.stats import spearmanr

from smalti.metrics.confusion import ConfusionMatrix


@dataclass(frozen=True, kw_only=True)
class PictureScore:
    """One picture's own numbers: mean IoU over the classes in its truth, share of right pixels; None = no truth.

    `doubt` is the mean over all its pixels of the probability that they are wrong, as the network sees it.
    """

    name: str
    miou: float | None
    pixel_accuracy: float | None
    doubt: float | None = None


def score_picture(
    name: str,
    prediction: UInt8[np.ndarray, "height width"],
    truth: UInt8[np.ndarray, "height width"],
    classes: int,
    doubt: float | None = None,
) -> PictureScore:
    """The score of a picture by itself."""
    matrix = ConfusionMatrix(classes)
    matrix.update(prediction, truth)
    counts = matrix.counts.double()
    right, true, answered = counts[:, :-1].diagonal(), counts.sum(1), counts[:, :-1].sum(0)
    present = true > 0
    if not bool(present.any()):
        return PictureScore(name=name, miou=None, pixel_accuracy=None, doubt=doubt)
    iou = right[present] / (true + answered - right)[present]
    accuracy = float(right.sum() / true.sum())
    return PictureScore(name=name, miou=float(iou.mean()), pixel_accuracy=accuracy, doubt=doubt)


def best_and_worst(
    scores: Sequence[PictureScore], count: int
) -> tuple[tuple[PictureScore, ...], tuple[PictureScore, ...]]:
    """The `count` pictures with the highest mean IoU, best first, and with the lowest, worst first; none in both."""
    ranked = sorted((s for s in scores if s.miou is not None), key=lambda s: (-(s.miou or 0.0), s.name))
    best = min(count, (len(ranked) + 1) // 2)
    worst = min(count, len(ranked) - best)
    return tuple(ranked[:best]), tuple(reversed(ranked[len(ranked) - worst :]))


def most_doubtful(scores: Sequence[PictureScore], count: int) -> tuple[PictureScore, ...]:
    """The `count` pictures that a person should look at first."""
    known = [score for score in scores if score.doubt is not None]
    return tuple(sorted(known, key=lambda s: (-(s.doubt or 0.0), s.name))[:count])


def doubt_correlation(scores: Sequence[PictureScore]) -> float | None:
    """Spearman's rank correlation of the pictures' doubt with their share of wrong pixels.

    1 = the order in which to look at them is perfect, 0 = it is no better than any other; None where there is no order.
    """
    known = [(s.doubt, 1 - s.pixel_accuracy) for s in scores if s.doubt is not None and s.pixel_accuracy is not None]
    doubts, errors = [doubt for doubt, _ in known], [error for _, error in known]
    if len(known) < 3 or len(set(doubts)) == 1 or len(set(errors)) == 1:
        return None
    return float(spearmanr(doubts, errors).statistic)
