"""The loss of SSD-like detectors (Liu et al. 2016)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

NEGATIVES = 3
"""Background boxes that count, for each that stands for an object: the hardest."""


def box_loss(
    logits: Float[Tensor, "batch boxes classes"],
    offsets: Float[Tensor, "batch boxes 4"],
    classes: Int[Tensor, "batch boxes"],
    true_offsets: Float[Tensor, "positives 4"],
    counted: Bool[Tensor, "batch boxes"],
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the classes, and smooth L1 of the offsets, both divided by the batch's boxes with an object.

    The cross-entropy counts those boxes and, picture by picture, three times as many background boxes, the hardest.
    Both are 0 (with gradient 0) if no picture has an object.

    Args:
        logits: Class 0 is the background.
        offsets: As answered.
        classes: True class of each box, 0 = background.
        true_offsets: Of the boxes that stand for an object, in their order.
        counted: Boxes that are background unless they stand for an object; the others, those of pictures without
            annotations among them, cost nothing.
    """
    # UNCLEAR: normalised over the batch, as the sum in the paper's equation says; SSD's code does, BlitzNet's does not.
    logits = logits.float()
    positive = classes > 0
    count = positive.sum(1)
    total = count.sum().clamp(min=1)
    # The order is that of the losses of the background, -log p; a softmax is cheaper than its logarithm.
    hardness = 1 - F.softmax(logits.detach(), -1)[..., 0]
    negative = _hardest(hardness.masked_fill_(positive | ~counted, -torch.inf), NEGATIVES * count)
    chosen = positive | negative
    class_loss = F.cross_entropy(logits[chosen], classes[chosen], reduction="sum")
    offset_loss = F.smooth_l1_loss(offsets.float()[positive], true_offsets, reduction="sum")
    return class_loss / total, offset_loss / total


def _hardest(hardness: Float[Tensor, "batch boxes"], count: Int[Tensor, " batch"]) -> Bool[Tensor, "batch boxes"]:
    """The `count` boxes of each picture with the highest values; never those of -inf."""
    most = min(int(count.max()), hardness.shape[1])
    values, places = hardness.topk(most, dim=1)
    wanted = (torch.arange(most, device=count.device) < count[:, None]) & (values > -torch.inf)
    return torch.zeros_like(hardness, dtype=torch.bool).scatter_(1, places, wanted)
