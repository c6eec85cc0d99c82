"""IvaNet's pyramid context: the levels of a pyramid, joined at one size, instead of pooled regions (spec 3.5)."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from smalti.parts.convolution import conv_norm_relu, convolve_resized


class PyramidContext(nn.Module):
    """All maps at the size of the first, a 3x3 convolution of them, normalised.

    The concatenation is never built, see `convolve_resized`.
    """

    def __init__(self, width: int, count: int, out_channels: int, *, reduce: int | None = None, finer: int = 1) -> None:
        """The first `count` maps, of `width` channels each, are joined.

        Args:
            width: Channels of each map.
            count: How many maps, from the finest.
            out_channels: Channels of the answer.
            reduce: 1x1 convolutions to so many channels first, as in BlitzNet's head (Dvornik et al. 2017).
            finer: The answer is that many times as long as the first map.
        """
        super().__init__()
        self.reduce = nn.ModuleList()
        if reduce is not None:
            self.reduce.extend(conv_norm_relu(width, reduce) for _ in range(count))
        self.count, self.finer = count, finer
        self.join = nn.Conv2d(count * (reduce or width), out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, pyramid: Sequence[Float[Tensor, "batch _ _ _"]]) -> Float[Tensor, "batch out _ _"]:
        """The maps, the finest first; more than `count` are passed over."""
        maps = list(pyramid[: self.count])
        if self.reduce:
            maps = [reduce(m) for reduce, m in zip(self.reduce, maps, strict=True)]
        size = (self.finer * maps[0].shape[-2], self.finer * maps[0].shape[-1])
        joined: Tensor = F.relu(self.norm(convolve_resized(self.join.weight, maps, size)))
        return joined
