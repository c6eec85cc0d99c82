"""Which default box stands for which object, and boxes as offsets from the default ones (Liu et al. 2016)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

VARIANCES = (0.1, 0.2)
"""Of centres and of sizes: offsets are divided by these, so that both have a spread near 1."""
OVERLAP = 0.5
ALMOST = OVERLAP - 2**-25
"""The largest float32 below it: an overlap of exactly 0.5 is more."""
BLOCKS = 16
"""In which the boxes are searched."""


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
    boxes, device = len(defaults), defaults.device
    padded = -(-boxes // BLOCKS) * BLOCKS
    left, top, right, bottom = F.pad(corners(defaults).T, (0, padded - boxes)).contiguous()
    areas = (right - left) * (bottom - top)
    areas[boxes:] = 1.0  # of nothing, so that no overlap is 0 / 0
    objects = objects * there[..., None]  # what is no object overlaps nothing
    # One set of maps for all objects, worked on in place: they stay in the processor's caches, fresh ones would not.
    iou, other = torch.empty(2, batch, padded, device=device)
    better = torch.empty(batch, padded, dtype=torch.bool, device=device)
    best = torch.full((batch, padded), ALMOST, device=device)
    taken = torch.zeros(batch, padded, device=device)
    taken[:, boxes:] = 2.0
    owner = torch.full((batch, padded), -1, dtype=torch.int32, device=device)
    forced = []
    for k in range(count):
        x0, y0, x1, y1 = objects[:, k, :, None].unbind(1)
        torch.minimum(right, x1, out=iou).sub_(torch.maximum(left, x0, out=other)).clamp_(min=0)
        iou.mul_(torch.minimum(bottom, y1, out=other).sub_(torch.maximum(top, y0)).clamp_(min=0))
        torch.add(areas, (x1 - x0) * (y1 - y0), out=other)
        iou.div_(other.sub_(iou))
        owner.masked_fill_(torch.gt(iou, best, out=better), k)
        torch.maximum(best, iou, out=best)
        first = _argmax(iou.sub_(taken))
        forced.append(first)
        taken.scatter_add_(1, first, 2.0 * there[:, k, None])
    for k, first in enumerate(forced):
        owner.scatter_(1, first, torch.where(there[:, k, None], k, owner.gather(1, first)))
    return owner[:, :boxes].long()


def _argmax(values: Float[Tensor, "batch boxes"]) -> Int[Tensor, "batch 1"]:
    """Place of the first largest value in each row: the block that has it, then the place in it.

    `amax` is vectorised on CPUs, `argmax` is not.
    """
    blocks = values.view(len(values), BLOCKS, -1)
    block = blocks.amax(2).argmax(1, keepdim=True)
    within = blocks.gather(1, block[..., None].expand(-1, 1, blocks.shape[2]))[:, 0].argmax(1, keepdim=True)
    return block * blocks.shape[2] + within


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


def inside_any(
    boxes: Float[Tensor, "boxes 4"], regions: Float[Tensor, "regions 4"], share: float = 0.5
) -> Bool[Tensor, " boxes"]:
    """Boxes (corners) of which such a share or more lies in some region."""
    low, high = torch.maximum(boxes[:, None, :2], regions[:, :2]), torch.minimum(boxes[:, None, 2:], regions[:, 2:])
    inside = (high - low).clamp(min=0).prod(-1)
    found: Tensor = (inside >= share * (boxes[:, 2:] - boxes[:, :2]).prod(-1)[:, None]).any(1)
    return found
