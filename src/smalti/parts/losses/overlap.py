"""Losses that judge each class as a region: Dice, Jaccard and Lovász-Softmax.

Regions are those of the whole batch, not of each picture. Classes that no counted pixel has are left out of the mean.
All are 0 with zero gradient where every pixel is ignored. No probabilities of the whole batch are ever stored: they are
computed class by class, where they fit into the cache, and once more for the gradient.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from smalti.parts.losses.scored import ScoredPixels, score_pixels


def dice(
    logits: Float[Tensor, "batch classes height width"], labels: Int[Tensor, "batch height width"], smooth: float = 0.0
) -> Float[Tensor, ""]:
    """One minus the soft Dice coefficient (2 I + smooth) / (P + T + smooth), mean over the classes present.

    I is the sum of a class's probability over its own pixels, P over all counted pixels, T its number of pixels;
    `smooth` is in pixels. In [0, 1].
    """
    # DIFFERS: Milletari et al. 2016 (V-Net) square the terms of the denominator; the plain sums are what is used now.
    return dice_of(score_pixels(logits, labels), smooth)


def dice_of(scored: ScoredPixels, smooth: float = 0.0) -> Float[Tensor, ""]:
    """`dice` of pixels that were scored before."""
    shared, predicted, true = _regions(scored)
    return _mean_of_present(2 * shared + smooth, predicted + true + smooth, true)


def jaccard(
    logits: Float[Tensor, "batch classes height width"], labels: Int[Tensor, "batch height width"], smooth: float = 0.0
) -> Float[Tensor, ""]:
    """One minus the soft intersection over union (I + smooth) / (P + T - I + smooth), mean over the classes present.

    The terms are those of `dice`. In [0, 1]. Rahman and Wang 2016.
    """
    return jaccard_of(score_pixels(logits, labels), smooth)


def jaccard_of(scored: ScoredPixels, smooth: float = 0.0) -> Float[Tensor, ""]:
    """`jaccard` of pixels that were scored before."""
    shared, predicted, true = _regions(scored)
    return _mean_of_present(shared + smooth, predicted + true - shared + smooth, true)


def lovasz_softmax(
    logits: Float[Tensor, "batch classes height width"], labels: Int[Tensor, "batch height width"], buckets: int = 1024
) -> Float[Tensor, ""]:
    """The Lovász extension of one minus intersection over union, mean over the classes present.

    Berman et al. 2018, Eq. 8 and 9, with the errors of a class put in order by counting them in `buckets` equal
    intervals of [0, 1] instead of by sorting. The weights of the errors in one interval sum up to exactly what sorting
    gives them, and are shared out as the mean over the orders "all pixels of the class first" and "all others first".
    So the answer differs from the sorted one by at most 1 / buckets (by far less in practice), and
    the time is linear in the number of pixels. As with sorting, the gradient takes the weights as constants.
    """
    # DIFFERS: the paper sorts, which takes more than a second for 8 pictures of 360 x 480 and 11 classes on a CPU.
    return lovasz_softmax_of(score_pixels(logits, labels), buckets)


def lovasz_softmax_of(scored: ScoredPixels, buckets: int = 1024) -> Float[Tensor, ""]:
    """`lovasz_softmax` of pixels that were scored before."""
    loss: Tensor = _LovaszSoftmax.apply(scored.log_probabilities, scored.labels, scored.counted, buckets)
    return loss


def _regions(scored: ScoredPixels) -> tuple[Tensor, Tensor, Tensor]:
    """For each class: its probability over its own pixels, its probability over all counted pixels, its pixels."""
    by_row = torch.zeros(
        *scored.labels.shape[:2], scored.classes, dtype=scored.log_probabilities.dtype, device=scored.labels.device
    )
    counted = scored.counted.to(by_row)
    # Row by row first: float32 would lose digits in one running sum over a million pixels.
    shared = by_row.scatter_add(2, scored.labels, scored.true_log_probabilities.exp() * counted).sum((0, 1))
    true = by_row.scatter_add(2, scored.labels, counted).sum((0, 1))
    predicted: Tensor = _PredictedPixels.apply(scored.log_probabilities, counted)
    return shared, predicted, true


def _mean_of_present(
    numerator: Float[Tensor, " classes"], denominator: Float[Tensor, " classes"], true: Float[Tensor, " classes"]
) -> Float[Tensor, ""]:
    present = true > 0
    losses = 1 - numerator / torch.where(present, denominator, 1)
    return torch.where(present, losses, 0).sum() / present.sum().clamp_min(1)


class _PredictedPixels(torch.autograd.Function):
    """The sum of each class's probability over the counted pixels."""

    @staticmethod
    def forward(ctx: Any, log_probabilities: Tensor, counted: Tensor) -> Tensor:
        ctx.save_for_backward(log_probabilities, counted)
        sums = [(log_probabilities[:, c].exp() * counted).sum() for c in range(log_probabilities.shape[1])]
        return torch.stack(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        log_probabilities, counted = ctx.saved_tensors
        result = torch.empty_like(log_probabilities)
        for c in range(log_probabilities.shape[1]):
            torch.mul(log_probabilities[:, c].exp().mul_(counted), gradient[c], out=result[:, c])
        return result, None


class _LovaszSoftmax(torch.autograd.Function):
    """The loss is linear in the probabilities once their order is known: forward already finds its gradient."""

    @staticmethod
    def forward(ctx: Any, log_probabilities: Tensor, labels: Tensor, counted: Tensor, buckets: int) -> Tensor:
        classes = log_probabilities.shape[1]
        picked = log_probabilities.gather(1, labels[:, None])
        # Ignored pixels fall into a bucket of their own behind the last, a probability of 1 stays just inside the last.
        inside = counted.to(picked)
        scale, offset = inside * (buckets * (1 - 4 * torch.finfo(torch.float32).eps)), (1 - inside) * buckets
        true = picked[:, 0].exp()
        error_cells = labels * (buckets + 1) + torch.addcmul(offset, 1 - true, scale).long()
        own_counts = _counts(error_cells, classes * (buckets + 1)).view(classes, -1)[:, :-1]
        cells = labels * (buckets + 1) + torch.addcmul(offset, true, scale).long()
        own_as_others = _counts(cells, classes * (buckets + 1)).view(classes, -1)[:, :-1]

        gradient = torch.empty_like(log_probabilities)
        own_tables = []
        for c in range(classes):
            probabilities = log_probabilities[:, c].exp()
            cells = torch.addcmul(offset, probabilities, scale).to(torch.int32)
            # Not below 0, should a device round the same probability in two ways.
            other_counts = (_counts(cells, buckets + 1)[:-1] - own_as_others[c]).clamp_min_(0)
            own_table, other_table = _lovasz_weights(own_counts[c].to(true), other_counts.to(true))
            own_tables.append(own_table)
            weights = other_table.index_select(0, cells.flatten()).view_as(cells)
            torch.mul(weights, probabilities, out=gradient[:, c])
        own_weights = torch.cat(own_tables).index_select(0, error_cells.flatten()).view_as(true)
        gradient.scatter_(1, labels[:, None], (-own_weights * true)[:, None])
        present = own_counts.sum(1).count_nonzero().clamp_min(1)
        ctx.save_for_backward(gradient, present)
        return (gradient.sum() + own_weights.sum()) / present

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        gradient, present = ctx.saved_tensors
        return gradient * (upstream / present), None, None, None


def _counts(cells: Int[Tensor, "batch height width"], size: int) -> Int[Tensor, " size"]:
    """How often each of the numbers below `size` occurs (torch.bincount would wait for a GPU to find the maximum)."""
    counts = torch.zeros(size, dtype=torch.int32, device=cells.device)
    return counts.index_add_(0, cells.flatten(), torch.ones_like(cells, dtype=torch.int32).flatten())


def _lovasz_weights(own: Float[Tensor, " buckets"], others: Float[Tensor, " buckets"]) -> tuple[Tensor, Tensor]:
    """What an error in each bucket weighs in the Lovász extension of one class's Jaccard loss: own pixels, others.

    With n own pixels in all, of which m, and k other pixels, are wrong by more, the Jaccard loss of the wrong ones is
    (m + k) / (n + k): one more own pixel adds 1 / (n + k), one more other pixel (n - m) / ((n + k)(n + k + 1)). Both
    answers end with a 0 for ignored pixels, and are 0 where the class has no pixel.
    """
    own_from_here, others_from_here = (counts.flip(0).cumsum(0).flip(0) for counts in (own, others))
    total = own_from_here[0]
    union = (total + others_from_here - others).clamp_min(1)
    union_after = union + others
    own_weights = (1 / union + 1 / union_after) / 2
    # Half the bucket's own pixels are before its others: the mean of the two orders.
    other_weights = (total - own_from_here + own / 2) / (union * union_after)
    present = total > 0
    return F.pad(own_weights * present, (0, 1)), F.pad(other_weights * present, (0, 1))
