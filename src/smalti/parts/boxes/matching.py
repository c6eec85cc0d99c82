"""Which default box stands for which object, and boxes as offsets from the default ones (Liu et al. 2016)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

VARIANCES = (0.1, 0.2)
"""Of centres and of sizes: offsets are divided by these, so that both have a spread near 1."""
OVERLAP = 0.5


def match_boxes(
    defaults: Float[Tensor, "boxes 4"],
    objects: Float[Tensor, "batch objects 4"],
    there: Bool[Tensor, "batch objects"],
) -> Int[Tensor, "batch boxes"]:
    """For each default box the object that it stands for, -1 = none; for all pictures at once.

    Each object takes the default box that overlaps it most, whatever the overlap; of two objects with the same one the
    earlier has it, the other takes its next best. Every other box with an IoU of 0.5 or more stands for the object that
    it overlaps most.

    Args:
        defaults: (centre x, centre y, width, height).
        objects: Corners (left, top, right, bottom), in the same unit; padded to one number a picture.
        there: Which objects are no padding.
    """
    batch, count = objects.shape[:2]
    boxes = len(defaults)
    best = torch.zeros(batch, boxes, device=defaults.device)
    owner = torch.full((batch, boxes), -1, dtype=torch.int64, device=defaults.device)
    taken = torch.zeros(batch, boxes, dtype=torch.bool, device=defaults.device)
    left, top, right, bottom = corners(defaults).T.contiguous()
    areas = (right - left) * (bottom - top)
    forced = []
    # Object by object: maps of one overlap a box stay in the processor's caches, those of all objects do not.
    for k in range(count):
        x0, y0, x1, y1 = objects[:, k, :, None].unbind(1)
        shared = (torch.minimum(right, x1) - torch.maximum(left, x0)).clamp_(min=0)
        shared *= (torch.minimum(bottom, y1) - torch.maximum(top, y0)).clamp_(min=0)
        iou = shared / (areas + ((x1 - x0) * (y1 - y0)) - shared)
        iou.masked_fill_(~there[:, k, None], -1)
        better = iou > best
        owner.masked_fill_(better & (iou >= OVERLAP), k)
        torch.maximum(best, iou, out=best)
        first = iou.masked_fill_(taken, -1).argmax(1, keepdim=True)
        forced.append(first)
        taken.scatter_(1, first, taken.gather(1, first) | there[:, k, None])
    for k, first in enumerate(forced):
        owner.scatter_(1, first, torch.where(there[:, k, None], k, owner.gather(1, first)))
    return owner


def corners(boxes: Float[Tensor, "*leading 4"]) -> Float[Tensor, "*leading 4"]:
    """(centre x, centre y, width, height) as (left, top, right, bottom)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def encode_boxes(
    objects: Float[Tensor, "*#leading 4"], defaults: Float[Tensor, "*#leading 4"]
) -> Float[Tensor, "*#leading 4"]:
    """Corners as offsets from default boxes: of the centre in default sizes, of the size in logarithms."""
    size = objects[..., 2:] - objects[..., :2]
    centre = objects[..., :2] + size / 2
    shift = (centre - defaults[..., :2]) / defaults[..., 2:] / VARIANCES[0]
    return torch.cat([shift, (size / defaults[..., 2:]).log() / VARIANCES[1]], -1)


def decode_boxes(
    offsets: Float[Tensor, "*#leading 4"], defaults: Float[Tensor, "*#leading 4"]
) -> Float[Tensor, "*#leading 4"]:
    """The inverse of `encode_boxes`."""
    centre = offsets[..., :2] * VARIANCES[0] * defaults[..., 2:] + defaults[..., :2]
    size = (offsets[..., 2:] * VARIANCES[1]).exp() * defaults[..., 2:]
    return corners(torch.cat([centre, size], -1))
