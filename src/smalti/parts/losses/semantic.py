"""The semantic loss of a recipe: a weighted sum of the shelf's losses, and class weights from pixel counts."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smalti.parts.losses.boundary import BoundaryWeights
from smalti.parts.losses.classification import cross_entropy_of, focal_of, online_hard_example_mining_of
from smalti.parts.losses.overlap import dice_of, jaccard_of, lovasz_softmax_of
from smalti.parts.losses.scored import ScoredPixels, score_pixels

TERMS = ("cross_entropy", "focal", "dice", "jaccard", "lovasz", "ohem")


@dataclass(frozen=True, kw_only=True)
class SemanticLoss:
    """The weight of each loss in the sum (0 leaves it out), and what the losses themselves need.

    `class_weights` act in the losses that judge single pixels (cross-entropy, focal, OHEM), not in those that judge
    regions. They are numbers, one a class, or the name of a rule that `resolved` turns into numbers.
    """

    cross_entropy: float = 1.0
    focal: float = 0.0
    dice: float = 0.0
    jaccard: float = 0.0
    lovasz: float = 0.0
    ohem: float = 0.0
    class_weights: Literal["median_frequency", "log"] | tuple[float, ...] | None = None
    focal_gamma: float = 2.0
    ohem_keep: float = 0.25
    """Least share of the counted pixels that OHEM keeps."""
    ohem_threshold: float = 0.7
    """OHEM keeps every pixel whose true class is less probable than this."""
    label_smoothing: float = 0.0
    """Share of a label that the cross-entropy spreads over all classes; focal loss and OHEM do without."""
    boundary: BoundaryWeights | None = None
    """Weights of the cross-entropy's pixels by their distance to borders: then it is the boundary-aware loss."""

    def __post_init__(self) -> None:
        """Raises ValueError for weights or settings that make no loss."""
        weights = {term: getattr(self, term) for term in TERMS}
        for term, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight of {term} must be a number >= 0, got {weight}")
        if not any(weights.values()):
            raise ValueError(f"all losses have weight 0: give at least one of {', '.join(TERMS)} a weight above 0")
        for setting, fits, range_ in (
            ("focal_gamma", 0 <= self.focal_gamma < math.inf, ">= 0"),
            ("ohem_keep", 0 <= self.ohem_keep <= 1, "in [0, 1]"),
            ("ohem_threshold", 0 < self.ohem_threshold <= 1, "in (0, 1]"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
        ):
            if not fits:
                raise ValueError(f"{setting} must be {range_}, got {getattr(self, setting)}")
        if self.boundary is not None and not self.cross_entropy:
            raise ValueError("boundary weights act on the cross-entropy: give it a weight above 0")
        _check_class_weights(self.class_weights)

    def __str__(self) -> str:
        """The sum in words, for reports."""
        terms = [f"{getattr(self, term):g} {term.replace('_', ' ')}" for term in TERMS if getattr(self, term)]
        text = " + ".join(terms)
        if self.class_weights is not None:
            text += f", class weights {self.class_weights if isinstance(self.class_weights, str) else 'given'}"
        return text if self.boundary is None else f"{text}, boundary-aware ({self.boundary})"

    def __call__(
        self,
        logits: Float[Tensor, "batch classes height width"],
        labels: Int[Tensor, "batch height width"],
        padding: Bool[Tensor, "batch height width"] | None = None,
    ) -> Float[Tensor, ""]:
        """The weighted sum of the losses, in float32 whatever the logits' type; 255 is ignored.

        `padding` is True where there is no picture; boundary weights see no borders there.

        Raises:
            ValueError: If logits and labels differ in size, a label is no class of the logits, or the class weights do
                not fit the logits' classes.
        """
        scored = score_pixels(logits, labels)
        class_weights = self._class_weights(scored)
        pixel_weights = None if self.boundary is None else self.boundary(labels, padding)
        losses: dict[str, Callable[[], Tensor]] = {
            "cross_entropy": lambda: cross_entropy_of(scored, class_weights, pixel_weights, self.label_smoothing),
            "focal": lambda: focal_of(scored, self.focal_gamma, class_weights),
            "dice": lambda: dice_of(scored),
            "jaccard": lambda: jaccard_of(scored),
            "lovasz": lambda: lovasz_softmax_of(scored),
            "ohem": lambda: online_hard_example_mining_of(scored, self.ohem_keep, self.ohem_threshold, class_weights),
        }
        terms = [getattr(self, term) * loss() for term, loss in losses.items() if getattr(self, term)]
        return torch.stack(terms).sum()

    def _class_weights(self, scored: ScoredPixels) -> Tensor | None:
        if self.class_weights is None:
            return None
        if isinstance(self.class_weights, str):
            raise ValueError(
                f'class_weights="{self.class_weights}" is still a rule: call resolved() with the pixels of each class'
            )
        if len(self.class_weights) != scored.classes:
            raise ValueError(f"{len(self.class_weights)} class weights for logits of {scored.classes} classes")
        return scored.log_probabilities.new_tensor(self.class_weights)

    def resolved(self, pixel_counts: Sequence[int], of_pictures: Sequence[int] | None = None) -> "SemanticLoss":
        """The same loss with a named rule for the class weights turned into numbers; otherwise itself.

        `pixel_counts` are the counted pixels of each class in the training set, `of_pictures` all counted pixels of the
        pictures that have the class (None = every picture has every class). Classes without any get weight 0 by
        both rules (no pixel can ask for it) and take no part in the median or the mean.

        * `median_frequency`: the median of the classes' frequencies, divided by the class's own; a frequency is the
          share of the pixels of those pictures that have the class. Eigen and Fergus 2015, and SegNet.
        * `log`: 1 / ln(1.02 + share), as in ENet, then divided by its mean over the classes that occur.

        Raises:
            ValueError: If there is no pixel at all, a count is negative, or numbers are given already, but not one a
                class.
        """
        if isinstance(self.class_weights, tuple) and len(self.class_weights) != len(pixel_counts):
            raise ValueError(f"{len(self.class_weights)} class weights for {len(pixel_counts)} classes")
        if not isinstance(self.class_weights, str):
            return self
        if not pixel_counts or min(pixel_counts) < 0 or not any(pixel_counts):
            raise ValueError(
                f'class_weights="{self.class_weights}" needs the pixels of each class, none negative and not all 0, '
                f"got {list(pixel_counts)}"
            )
        if self.class_weights == "log":
            return replace(self, class_weights=_log_weights([count / sum(pixel_counts) for count in pixel_counts]))
        wholes = of_pictures or [sum(pixel_counts)] * len(pixel_counts)
        frequencies = [count / max(whole, 1) for count, whole in zip(pixel_counts, wholes, strict=True)]
        return replace(self, class_weights=_median_frequency_weights(frequencies))


def _check_class_weights(weights: str | tuple[float, ...] | None) -> None:
    if weights is None or weights in ("median_frequency", "log"):
        return
    if not isinstance(weights, tuple):
        raise ValueError(
            f'class_weights must be "median_frequency", "log", a tuple of numbers or None, got {weights!r}'
        )
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ValueError(f"class_weights must be numbers >= 0, not all of them 0, got {weights}")


def _median_frequency_weights(shares: Sequence[float]) -> tuple[float, ...]:
    median = statistics.median(share for share in shares if share)
    return tuple(median / share if share else 0.0 for share in shares)


def _log_weights(shares: Sequence[float]) -> tuple[float, ...]:
    # DIFFERS: ENet does not divide by the mean; with it, the learning rate means the same with and without weights.
    weights = [1 / math.log(1.02 + share) if share else 0.0 for share in shares]
    mean = sum(weights) / sum(share > 0 for share in shares)
    return tuple(weight / mean for weight in weights)
