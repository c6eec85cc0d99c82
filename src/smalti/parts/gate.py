"""A gate between two answers: their mixture, what the gate is to learn, and where it leaves something to do.

`attention` is the log-odds that the first answer, `coarse`, is right; A is its sigmoid.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smalti.parts.losses.scored import IGNORED


def mix(
    coarse: Float[Tensor, "batch classes height width"],
    fine: Float[Tensor, "batch classes height width"],
    attention: Float[Tensor, "batch 1 height width"],
    what: Literal["logits", "probabilities"] = "logits",
) -> Float[Tensor, "batch classes height width"]:
    """A * coarse + (1 - A) * fine, with A = sigmoid(attention); of logits, or of probabilities (answered as their log).

    Exactly coarse where A is 1, exactly fine where it is 0. In float32, whatever comes in.
    """
    coarse, fine, attention = coarse.float(), fine.float(), attention.float()
    if what == "logits":
        share = attention.sigmoid()
        return share * coarse + (1 - share) * fine
    return torch.logaddexp(
        F.logsigmoid(attention) + coarse.log_softmax(1), F.logsigmoid(-attention) + fine.log_softmax(1)
    )


def coarse_is_right(
    coarse: Float[Tensor, "batch classes height width"], labels: Int[Tensor, "batch height width"]
) -> Int[Tensor, "batch height width"]:
    """The attention's label: 1 where the coarse answer is right, 0 where it is wrong, 255 where there is no truth."""
    right = (coarse.detach().argmax(1) == labels).long()
    return torch.where(labels == IGNORED, IGNORED, right)


def attention_loss(
    attention: Float[Tensor, "batch 1 height width"], right: Int[Tensor, "batch height width"], *, balanced: bool
) -> Float[Tensor, ""]:
    """Cross-entropy of the two categories right and wrong, mean over the counted pixels; 0 if there are none.

    `balanced`: each category weighs 1 / (2 * its share).
    """
    counted = right != IGNORED
    losses = F.binary_cross_entropy_with_logits(attention[:, 0].float(), right.float().clamp(0, 1), reduction="none")
    weights = counted.float()
    if balanced:
        share = (right == 1).sum() / counted.sum().clamp_min(1)
        weights = weights * torch.where(right == 1, 0.5 / share, 0.5 / (1 - share)).nan_to_num(0, 0, 0)
    return (losses * weights).sum() / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)


def chosen_tiles(
    trust: Float[Tensor, "batch 1 height width"], tile: int, *, budget: float | None = None, below: float | None = None
) -> Bool[Tensor, "batch height width"]:
    """Where to refine: whole tiles (`tile` x `tile`) by the mean of their trust (0 to 1), for each picture by itself.

    `budget`: this share of the tiles, the least trusted first; otherwise those whose mean is under `below`.
    """
    height, width = trust.shape[-2:]
    tile = min(tile, height, width)
    means = F.avg_pool2d(trust, tile, ceil_mode=True, count_include_pad=False)[:, 0]
    if budget is None:
        assert below is not None
        chosen = means < below
    else:
        rank = means.flatten(1).argsort(dim=1, stable=True).argsort(dim=1)
        chosen = (rank < math.ceil(budget * rank.shape[1] - 1e-9)).view(means.shape)
    spread = chosen.repeat_interleave(tile, 1).repeat_interleave(tile, 2)
    return spread[:, :height, :width]
