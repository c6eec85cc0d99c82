"""Class-balanced edge losses (Xie and Tu 2015, HED; Yu et al. 2017, CASENet)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from smalti.parts.losses.scored import IGNORED

SHARE_LIMITS = (0.5, 0.98)
"""Of the weight on edge pixels: a crop without edges still learns that there are none, one with few is not all edge."""


def balanced_edge_loss(
    logits: Float[Tensor, "batch maps height width"], edges: Int[Tensor, "batch maps height width"]
) -> Float[Tensor, ""]:
    """Cross-entropy in which few edge pixels weigh about as much as the many others; mean over the pictures.

    Of a picture's n counted pixels let b be the share that is no edge: edge pixels weigh b, the others 1 - b, and the
    sum is divided by n (HED, Eq. 2, which does not divide). Labels are 1 (edge), 0, and 255 (ignored). Several maps
    (one a class) are balanced each by itself and added.
    """
    counted, edge = edges != IGNORED, edges == 1
    pixels = counted.sum((2, 3), keepdim=True)
    share = 1 - edge.sum((2, 3), keepdim=True) / pixels.clamp_min(1)
    share = share.clamp(*SHARE_LIMITS)
    losses = F.binary_cross_entropy_with_logits(logits.float(), edge.float(), reduction="none")
    weights = torch.where(edge, share, 1 - share) * counted
    return ((losses * weights).sum((2, 3)) / pixels[..., 0, 0].clamp_min(1)).sum(1).mean()


def edges_by_class(
    edges: Int[Tensor, "batch height width"], labels: Int[Tensor, "batch height width"], classes: int
) -> Int[Tensor, "batch classes height width"]:
    """One edge map a class: the edge pixels of its own side.

    # UNCLEAR: CASENet marks a pixel for both classes that meet; edges here are two pixels wide, one on each side, so
    # that both classes have theirs without a pixel being of two.
    """
    own = labels[:, None] == torch.arange(classes, device=labels.device)[:, None, None]
    maps = ((edges[:, None] == 1) & own).to(edges.dtype)
    return torch.where(edges[:, None] == IGNORED, IGNORED, maps)
