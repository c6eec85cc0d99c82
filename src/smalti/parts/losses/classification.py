"""Losses that judge each pixel by itself: cross-entropy, focal loss, online hard example mining.

The public functions take logits and labels; their `_of` twins take pixels that were scored before, so that several
losses share one log-softmax. All are 0 with zero gradient where every pixel is ignored.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smalti.parts.losses.scored import ScoredPixels, score_pixels


def cross_entropy(
    logits: Float[Tensor, "batch classes height width"],
    labels: Int[Tensor, "batch height width"],
    class_weights: Float[Tensor, " classes"] | None = None,
    pixel_weights: Float[Tensor, "batch height width"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the counted pixels, as torch defines it.

    With class weights it is the weighted mean, sum(w l) / sum(w). Pixel weights multiply the losses but not the
    denominator: without class weights, sum(v l) / number of counted pixels. The smoothed share of a label is spread
    evenly over all classes, its own included.
    """
    return cross_entropy_of(score_pixels(logits, labels), class_weights, pixel_weights, label_smoothing)


def cross_entropy_of(
    scored: ScoredPixels,
    class_weights: Float[Tensor, " classes"] | None = None,
    pixel_weights: Float[Tensor, "batch height width"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """`cross_entropy` of pixels that were scored before."""
    weights = _weights(scored, class_weights)
    losses = -weights * scored.true_log_probabilities
    if label_smoothing:
        losses = (1 - label_smoothing) * losses + label_smoothing * _uniform_losses(scored, class_weights)
    if pixel_weights is not None:
        losses = losses * torch.where(scored.counted, pixel_weights, 0)
    return losses.sum() / _positive(weights.sum())


def focal(
    logits: Float[Tensor, "batch classes height width"],
    labels: Int[Tensor, "batch height width"],
    gamma: float = 2.0,
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over the counted pixels of -(1 - p)^gamma log p, p being the softmax probability of the true class.

    With class weights sum(w l) / sum(w), so that gamma 0 is the cross-entropy. Lin et al. 2017, "Focal Loss for Dense
    Object Detection", Eq. 4 and 5.
    """
    # DIFFERS: the paper has one sigmoid a class and divides by the number of anchors that are objects, because
    # nearly all its anchors are background; pixels have exactly one class each.
    return focal_of(score_pixels(logits, labels), gamma, class_weights)


def focal_of(
    scored: ScoredPixels, gamma: float = 2.0, class_weights: Float[Tensor, " classes"] | None = None
) -> Float[Tensor, ""]:
    """`focal` of pixels that were scored before."""
    weights = _weights(scored, class_weights)
    # The power of an exact zero has an infinite slope for gamma below 1.
    doubt = (-torch.expm1(scored.true_log_probabilities)).clamp_min(torch.finfo(torch.float32).eps)
    losses = -weights * doubt**gamma * scored.true_log_probabilities
    return losses.sum() / _positive(weights.sum())


def online_hard_example_mining(
    logits: Float[Tensor, "batch classes height width"],
    labels: Int[Tensor, "batch height width"],
    keep: float = 0.25,
    threshold: float = 0.7,
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the hard pixels of the batch.

    A counted pixel is hard if the probability of its true class is below `threshold`, or if it is among the share
    `keep` of all counted pixels (rounded up) with the highest cross-entropy; pixels that tie with the last of these
    are kept, too. Class weights do not change the choice; the mean of the kept pixels is then sum(w l) / sum(w).
    Shrivastava et al. 2016, in the form with a threshold that segmentation uses.
    """
    return online_hard_example_mining_of(score_pixels(logits, labels), keep, threshold, class_weights)


def online_hard_example_mining_of(
    scored: ScoredPixels,
    keep: float = 0.25,
    threshold: float = 0.7,
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """`online_hard_example_mining` of pixels that were scored before."""
    with torch.no_grad():
        hardness = -scored.true_log_probabilities
        least = torch.ceil(keep * scored.counted.sum()).long()
        hard = (hardness > -math.log(threshold)) | (hardness.float() >= _nth_largest(hardness, scored.counted, least))
        weights = _weights(scored, class_weights) * (hard & scored.counted)
    return -(weights * scored.true_log_probabilities).sum() / _positive(weights.sum())


def _nth_largest(values: Float[Tensor, "batch height width"], counted: Tensor, n: Int[Tensor, ""]) -> Float[Tensor, ""]:
    """The n-th largest of the counted values, which are >= 0; infinity for n = 0.

    Two rounds of counting, by the upper and by the lower half of the float32 bits (whose order is that of the values):
    exact, ten times as fast as sorting on a CPU, and `n` need not leave the device.
    """
    bits = values.float().abs().view(torch.int32).flatten()  # -0.0 would have its own, negative bits
    bits = torch.where(counted.flatten(), bits, -1)
    upper, above = _rank_bucket(bits >> 16, n)
    lower, _ = _rank_bucket(torch.where(bits >> 16 == upper, bits & 0xFFFF, -1), n - above)
    found = ((upper << 16) | lower).to(torch.int32).view(torch.float32)
    return torch.where(n > 0, found, torch.inf)


def _rank_bucket(buckets: Int[Tensor, " pixels"], n: Int[Tensor, ""]) -> tuple[Tensor, Tensor]:
    """The bucket (below 2^16, -1 = not counted) that holds the n-th largest entry, and how many lie in higher ones."""
    counts = torch.zeros(2**16 + 1, dtype=torch.int64, device=buckets.device)
    counts.index_add_(0, buckets + 1, torch.ones_like(buckets, dtype=torch.int64))
    at_least = counts[1:].flip(0).cumsum(0).flip(0)
    bucket = ((at_least >= n).sum() - 1).clamp_min(0)
    return bucket, at_least[bucket] - counts[bucket + 1]


def _weights(scored: ScoredPixels, class_weights: Tensor | None) -> Float[Tensor, "batch height width"]:
    """The weight of each pixel by its class; 0 where it is ignored."""
    counted = scored.counted.to(scored.log_probabilities.dtype)
    return counted if class_weights is None else counted * class_weights.to(counted)[scored.labels]


def _uniform_losses(scored: ScoredPixels, class_weights: Tensor | None) -> Float[Tensor, "batch height width"]:
    """Cross-entropy with the uniform distribution, each class by its weight; 0 at ignored pixels."""
    each = scored.log_probabilities
    if class_weights is not None:
        each = each * class_weights.to(each)[:, None, None]
    return torch.where(scored.counted, -each.mean(dim=1), 0)


def _positive(total: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """A denominator that is 1 where nothing counts: the numerator is 0 then, and keeps its graph."""
    return torch.where(total > 0, total, 1)
