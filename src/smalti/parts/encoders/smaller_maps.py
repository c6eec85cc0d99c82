"""Maps behind those of an encoder, each half as long, and one of a single pixel, as SSD has them (Liu et al. 2016)."""

from jaxtyping import Float
from torch import Tensor, nn

from smalti.parts.convolution import conv_norm_relu


class SmallerMaps(nn.ModuleList):
    """Each from the one before, by a 1x1 and a 3x3 convolution of step 2; the last is the mean of the smallest."""

    def __init__(self, in_channels: int, channels: int, count: int) -> None:
        """`count` maps beside the last."""
        super().__init__(_half(into, channels) for into in (in_channels, *[channels] * (count - 1)))

    def forward(self, last: Float[Tensor, "batch _ _ _"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """`last` is the encoder's coarsest map; sizes round up."""
        maps = []
        for half in self:
            last = half(last)
            maps.append(last)
        return [*maps, last.mean((2, 3), keepdim=True)]


def _half(into: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm_relu(into, channels // 2),
        nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
