"""Convolutions with what usually follows them, and 1x1 convolutions of a concatenation that is never built."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BatchNorm = tuple[float, float]
"""(momentum, eps) of a normalisation."""


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel: int = 1, dilation: int = 1, batch_norm: BatchNorm = (0.1, 1e-5)
) -> nn.Sequential:
    """A bias-free convolution that keeps the map's size, batch normalisation, ReLU."""
    momentum, eps = batch_norm
    padding = kernel // 2 * dilation
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(out_channels, eps, momentum),
        nn.ReLU(inplace=True),
    )


def convolve_concatenation(
    conv: nn.Conv2d, maps: Sequence[Float[Tensor, "batch _ _ _"]]
) -> Float[Tensor, "batch out height width"]:
    """`conv` (1x1) of all maps, resized to the first one's size and concatenated.

    Each map meets its own share of the weights at its own size, and the answers are resized and added: a 1x1
    convolution and a bilinear resize commute, so this equals the convolution of the concatenation at a fraction of its
    operations and memory.
    """
    assert conv.kernel_size == (1, 1)
    shares = torch.split(conv.weight, [m.shape[1] for m in maps], dim=1)
    size = maps[0].shape[-2:]
    total = F.conv2d(maps[0], shares[0], conv.bias)
    for one, share in zip(maps[1:], shares[1:], strict=True):
        part = F.conv2d(one, share)
        if part.shape[-2:] != size and part.shape[-2:] != (1, 1):  # a single pixel spreads by broadcasting
            part = F.interpolate(part, size, mode="bilinear", align_corners=False)
        total = total + part
    return total


def check_rates(rates: Sequence[int]) -> tuple[int, ...]:
    """The rates, if they are positive whole numbers and there is one at least.

    Raises:
        ValueError: If not.
    """
    if not rates or not all(isinstance(rate, int) and rate >= 1 for rate in rates):
        raise ValueError(f"rates must be positive whole numbers, at least one, got {tuple(rates)}")
    return tuple(rates)
