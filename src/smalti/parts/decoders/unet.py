"""U-Net decoder: from the coarsest map upwards, each level is resized, joined with the encoder's map, and convolved."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

ConvOrder = Literal["conv_relu_bn", "conv_bn_relu"]


class ConvBlock(nn.Sequential):
    """`count` 3x3 convolutions with ReLU and batch normalisation, in the order named."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        count: int = 1,
        order: ConvOrder = "conv_bn_relu",
        batch_norm: tuple[float, float] = (0.1, 1e-5),
    ) -> None:
        """`batch_norm` is (momentum, eps). A convolution right before its normalisation has no bias."""
        layers: list[nn.Module] = []
        momentum, eps = batch_norm
        for k in range(count):
            conv = nn.Conv2d(
                in_channels if k == 0 else out_channels, out_channels, 3, padding=1, bias=order == "conv_relu_bn"
            )
            norm, relu = nn.BatchNorm2d(out_channels, eps, momentum), nn.ReLU(inplace=True)
            layers += [conv, relu, norm] if order == "conv_relu_bn" else [conv, norm, relu]
        super().__init__(*layers)


class UNetDecoder(nn.Module):
    """Joins the encoder's maps from coarse to fine; answers a map of the finest one's size.

    `first` turns the coarsest map into `widths[0]` channels; then one level a finer map follows, of `widths[1:]`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        widths: Sequence[int],
        first: nn.Module,
        upsample: Literal["nearest", "bilinear"] = "nearest",
        **block: object,
    ) -> None:
        """`channels` are the encoder's, from fine to coarse; `block` are options of `ConvBlock`.

        Raises:
            ValueError: If there is not one width a map.
        """
        super().__init__()
        if len(widths) != len(channels):
            raise ValueError(f"the U-Net decoder needs one width a map: {len(channels)} maps, {len(widths)} widths")
        self.upsample = upsample
        self.first = first
        self.levels = nn.ModuleList(
            ConvBlock(below + skip, width, **block)  # type: ignore[arg-type]
            for below, skip, width in zip(widths, reversed(channels[:-1]), widths[1:], strict=False)
        )

    def forward(self, maps: list[Float[Tensor, "batch _ _ _"]]) -> Float[Tensor, "batch channels height width"]:  # noqa: D102
        x: Tensor = self.first(maps[-1])
        align = None if self.upsample == "nearest" else False
        for level, skip in zip(self.levels, reversed(maps[:-1]), strict=True):
            x = F.interpolate(x, skip.shape[-2:], mode=self.upsample, align_corners=align)
            x = level(torch.cat([x, skip], dim=1))
        return x
