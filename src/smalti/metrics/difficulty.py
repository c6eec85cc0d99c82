"""How well a map of doubts finds the errors, and what a cascade of two answers gains."""

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from smalti.labels import LabelSet
from smalti.metrics.confusion import ConfusionMatrix
from smalti.metrics.semantic import semantic_metrics

BINS = 4096
LIMIT = 16.0
"""Doubts are counted by their log-odds from -16 to 16, in steps of 1/128: as finely near 0 and 1 as in the middle."""
COVERAGE = 0.9
Map = UInt8[np.ndarray, "height width"]


class ErrorRanking:
    """Counts of right and wrong pixels by a score that is to be high where the answer is wrong.

    Needs the same little memory for any number of pixels. Scores that differ by less than 1/128 in their log-odds count
    as equal.
    """

    def __init__(self) -> None:
        self.right, self.wrong = (torch.zeros(BINS, dtype=torch.int64) for _ in range(2))

    def update(self, scores: Float[Tensor, "*pixels"], wrong: Bool[Tensor, "*pixels"]) -> None:
        """Adds pixels; scores are probabilities, 0 to 1."""
        odds = torch.logit(scores.detach().float(), eps=1e-7)
        place = ((odds + LIMIT) * (BINS / (2 * LIMIT))).long().clamp(0, BINS - 1)
        counts = torch.bincount((2 * place + wrong).flatten(), minlength=2 * BINS).cpu().view(BINS, 2)
        self.right += counts[:, 0]
        self.wrong += counts[:, 1]

    def auc(self) -> float | None:
        """Probability that a wrong pixel has a higher score than a right one (ties count half).

        The area under the ROC curve; None if all pixels are right, or all wrong.
        """
        right, wrong = self.right.double(), self.wrong.double()
        if not (right.sum() and wrong.sum()):
            return None
        below = right.cumsum(0) - right / 2
        return float((wrong * below).sum() / (right.sum() * wrong.sum()))

    def curve(self) -> tuple[list[float], list[float]]:
        """Risk and coverage: shares of pixels kept, the lowest scores first, and the share of right ones among them."""
        kept = (self.right + self.wrong).cumsum(0)
        used = (self.right + self.wrong) > 0
        coverage = kept[used].double() / max(int(kept[-1]), 1)
        accuracy = self.right.cumsum(0)[used].double() / kept[used].double()
        return coverage.tolist(), accuracy.tolist()

    def accuracy_at(self, coverage: float) -> float | None:
        """Share of right pixels when the `1 - coverage` with the highest scores are left out; None without pixels.

        Within one bin, right and wrong pixels are left out in proportion.
        """
        kept = (self.right + self.wrong).cumsum(0).double()
        if not kept[-1]:
            return None
        wanted = coverage * float(kept[-1])
        right = np.interp(wanted, [0.0, *kept.tolist()], [0.0, *self.right.cumsum(0).tolist()])
        return float(right / wanted)


class Cascade:
    """The coarse answer, the fine one, and that of a perfect gate, which takes whichever is right."""

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self.matrices = {name: ConfusionMatrix(len(labels)) for name in ("coarse", "fine", "oracle_gate")}
        self.whole = True

    def update(self, coarse: Map, fine: Map | None, truth: Map) -> None:
        """Adds a picture; without a fine answer (refined in part) only the coarse one can be judged."""
        self.matrices["coarse"].update(coarse, truth)
        if fine is None:
            self.whole = False
            return
        self.matrices["fine"].update(fine, truth)
        self.matrices["oracle_gate"].update(np.where(coarse == truth, coarse, fine), truth)

    def metrics(self) -> dict[str, float]:
        """`coarse.pixel_accuracy`, `coarse.miou`, `fine.…` and `oracle_gate.…`; what was not seen is left out."""
        found = {}
        for name, matrix in self.matrices.items() if self.whole else [("coarse", self.matrices["coarse"])]:
            values = semantic_metrics(matrix.counts, self.labels)
            for key in ("pixel_accuracy", "miou"):
                value = values[f"semantic.{key}"]
                if isinstance(value, float):
                    found[f"{name}.{key}"] = value
        return found
