"""Pyramid pooling: means over 1x1, 2x2, 3x3 and 6x6 regions of a map, brought back to its size (Zhao et al. 2017)."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smalti.parts.convolution import convolve_concatenation, convolve_resized, shifted_resize, taps_of


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


AT_ONCE = 4096
"""Places that `at` gathers the windows of in one go: large pictures must not need the memory of all of them."""


class PyramidPooling(nn.Module):
    """Concatenation of a map with its pooled, projected and resized averages, followed by a 1x1 or 3x3 convolution.

    The concatenation is never built: the pooled half of the convolution is evaluated at the size of the pools, where it
    is exact and next to free, see `convolve_concatenation` and `convolve_resized`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        branch_channels: int,
        bins: tuple[int, ...] = (1, 2, 3, 6),
        batch_norm: tuple[float, float] = (0.1, 1e-5),
        *,
        kernel: Literal[1, 3] = 1,
    ) -> None:
        """`batch_norm` is (momentum, eps) of every normalisation in the block; `kernel` that of the last convolution.

        Raises:
            ValueError: If there are no bins, or one is not positive.
        """
        super().__init__()
        if not bins or min(bins) < 1:
            raise ValueError(f"bins must be positive whole numbers, at least one, got {bins}")
        momentum, eps = batch_norm
        self.bins = bins
        self.project = nn.ModuleList(nn.Conv2d(in_channels, branch_channels, 1, bias=False) for _ in bins)
        self.norms = nn.ModuleList(nn.BatchNorm2d(branch_channels, eps, momentum) for _ in bins)
        joined = in_channels + len(bins) * branch_channels
        self.fuse = nn.Conv2d(joined, out_channels, kernel, padding=kernel // 2, bias=False)
        self.fuse_norm = nn.BatchNorm2d(out_channels, eps, momentum)

    def branches(self, x: Float[Tensor, "batch channels height width"]) -> list[Float[Tensor, "batch branch _ _"]]:
        """The pooled and projected maps, each at its own size (bins, bins)."""
        return [
            F.relu(norm(project(adaptive_mean(x, bins))))
            for bins, project, norm in zip(self.bins, self.project, self.norms, strict=True)
        ]

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height width"]:  # noqa: D102
        pooled = self.branches(x)
        if self.fuse.kernel_size == (1, 1):
            return F.relu(self.fuse_norm(convolve_concatenation(self.fuse, [x, *pooled])))
        convolved = convolve_resized(self.fuse.weight, [x, *pooled], (x.shape[-2], x.shape[-1]))
        return F.relu(self.fuse_norm(convolved))

    def at(
        self, x: Float[Tensor, "batch channels height width"], cells: Bool[Tensor, "batch height width"]
    ) -> Float[Tensor, "1 out cells 1"]:
        """`forward` at some places only, in the order of `cells.nonzero()`: the cost is that of those places.

        Only for 3x3, and only in evaluation: normalisation in training needs the whole map.
        """
        assert self.fuse.kernel_size == (3, 3)
        assert not self.training
        height, width = x.shape[-2:]
        channels = x.shape[1]
        sharp = self.fuse.weight[:, :channels].permute(2, 3, 1, 0).reshape(9 * channels, -1).to(x.dtype)
        padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1).flatten(0, 2)
        window = (torch.arange(3, device=x.device)[:, None] * (width + 2) + torch.arange(3, device=x.device)).flatten()
        pooled = self.branches(x)
        shares = torch.split(self.fuse.weight[:, channels:], [m.shape[1] for m in pooled], dim=1)
        taps = [taps_of(m, share).flatten(1, 4) for m, share in zip(pooled, shares, strict=True)]
        found = []
        for picture, chosen in enumerate(cells):
            for row, column in zip(*(part.split(AT_ONCE) for part in chosen.nonzero(as_tuple=True)), strict=True):
                corner = (picture * (height + 2) + row) * (width + 2) + column  # of the 3x3 window, in the padded map
                total = padded[corner[:, None] + window].flatten(1) @ sharp
                for bins, part in zip(self.bins, taps, strict=True):
                    down, along = shifted_resize(height, bins, x)[:, row], shifted_resize(width, bins, x)[:, column]
                    total = total + torch.einsum("pni,qnj->npqij", down, along).flatten(1) @ part[picture]
                found.append(total)
        return F.relu(self.fuse_norm(torch.cat(found).T[None, :, :, None]))
