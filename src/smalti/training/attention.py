"""How an attention map fares while it is trained: what is known to go wrong with it (spec 4.3)."""

import math

import torch

from smalti.containers import Outputs, Targets
from smalti.labels import IGNORED
from smalti.metrics.difficulty import ErrorRanking

SATURATED = 0.95
"""Mean attention on the wrong pixels above which these are hardly refined any more."""
EVERY = 2
"""Of each row and each column, one pixel in so many is looked at: enough for means, and a quarter of the time."""


class AttentionWatch:
    """Means over an epoch's training pictures; empty where a network has no attention."""

    def __init__(self) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64)  # pixels and attention where coarse is right, and where wrong
        self.ranking = ErrorRanking()

    @torch.no_grad()
    def update(self, outputs: Outputs, targets: Targets) -> None:
        """Adds a batch."""
        if outputs.attention is None or outputs.coarse is None or targets.semantic is None:
            return
        coarse, attention, labels = (
            m[..., ::EVERY, ::EVERY] for m in (outputs.coarse, outputs.attention[:, 0], targets.semantic)
        )
        counted = labels != IGNORED
        trust = attention.float().sigmoid()[counted]
        wrong = (coarse.argmax(1) != labels)[counted]
        parts = ((~wrong).sum(), (trust * ~wrong).sum(), wrong.sum(), (trust * wrong).sum())
        self.sums += torch.stack([part.double() for part in parts]).cpu()
        self.ranking.update(1 - trust, wrong)

    def means(self) -> dict[str, float]:
        """`coarse_right` (share of pixels), `attention_mean`, `attention_where_wrong`, `attention_auc`; NaN = no such.

        The AUC is that of the attention as a finder of the coarse answer's errors.
        """
        right, trust_right, wrong, trust_wrong = self.sums.tolist()
        pixels = right + wrong
        if not pixels:
            return {}
        auc = self.ranking.auc()
        return {
            "coarse_right": right / pixels,
            "attention_mean": (trust_right + trust_wrong) / pixels,
            "attention_where_wrong": trust_wrong / wrong if wrong else math.nan,
            "attention_auc": math.nan if auc is None else auc,
        }

    def remark(self) -> str | None:
        """What a person should know, if there is anything."""
        where_wrong = self.means().get("attention_where_wrong", math.nan)
        if not where_wrong > SATURATED:
            return None
        return (
            f"the attention is saturated: where the coarse answer is wrong, it is trusted to {100 * where_wrong:.0f} % "
            "on average, so the fine branch hardly learns (see config.balance_difficulty and config.fine_loss)"
        )
