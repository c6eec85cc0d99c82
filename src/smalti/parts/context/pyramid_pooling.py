"""Pyramid pooling: means over 1x1, 2x2, 3x3 and 6x6 regions of a map, brought back to its size (Zhao et al. 2017)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from smalti.parts.convolution import convolve_concatenation


def adaptive_mean(
    x: Float[Tensor, "batch channels height width"], bins: int
) -> Float[Tensor, "batch channels bins bins"]:
    """`F.adaptive_avg_pool2d(x, bins)` as two matrix products, which export with dynamic sizes.

    Bin k of n pixels averages pixels floor(k n / bins) to ceil((k + 1) n / bins); bins overlap where n is no multiple.
    """
    rows, columns = _averages(x.shape[-2], bins, x), _averages(x.shape[-1], bins, x)
    return rows @ x @ columns.transpose(0, 1)


def _averages(size: int, bins: int, like: Tensor) -> Float[Tensor, "bins size"]:
    k = torch.arange(bins, device=like.device)[:, None]
    pixel = torch.arange(size, device=like.device)[None]
    inside = (pixel >= torch.div(k * size, bins, rounding_mode="floor")) & (pixel * bins < (k + 1) * size)
    weights = inside.to(torch.float32)
    return (weights / weights.sum(1, keepdim=True)).to(like.dtype)


class PyramidPooling(nn.Module):
    """Concatenation of a map with its pooled, projected and resized averages, followed by a 1x1 convolution.

    The concatenation is never built, see `convolve_concatenation`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        branch_channels: int,
        bins: tuple[int, ...] = (1, 2, 3, 6),
        batch_norm: tuple[float, float] = (0.1, 1e-5),
    ) -> None:
        """`batch_norm` is (momentum, eps) of every normalisation in the block."""
        super().__init__()
        momentum, eps = batch_norm
        self.bins = bins
        self.project = nn.ModuleList(nn.Conv2d(in_channels, branch_channels, 1, bias=False) for _ in bins)
        self.norms = nn.ModuleList(nn.BatchNorm2d(branch_channels, eps, momentum) for _ in bins)
        self.fuse = nn.Conv2d(in_channels + len(bins) * branch_channels, out_channels, 1, bias=False)
        self.fuse_norm = nn.BatchNorm2d(out_channels, eps, momentum)

    def branches(self, x: Float[Tensor, "batch channels height width"]) -> list[Float[Tensor, "batch branch _ _"]]:
        """The pooled and projected maps, each at its own size (bins, bins)."""
        return [
            F.relu(norm(project(adaptive_mean(x, bins))))
            for bins, project, norm in zip(self.bins, self.project, self.norms, strict=True)
        ]

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height width"]:  # noqa: D102
        return F.relu(self.fuse_norm(convolve_concatenation(self.fuse, [x, *self.branches(x)])))
