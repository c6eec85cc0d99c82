"""Convolutions with what usually follows them, and 1x1 convolutions of a concatenation that is never built."""

from collections.abc import Sequence
from typing import Any

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


def convolve_resized(
    weight: Float[Tensor, "out joint 3 3"], maps: Sequence[Float[Tensor, "batch _ _ _"]], size: tuple[int, int]
) -> Float[Tensor, "batch out height width"]:
    """3x3 convolution, padded with zeros, of all maps, resized bilinearly to `size` and concatenated.

    The concatenation is never built. Resizing and shifting are fixed linear maps, so a smaller map meets its share of
    the weights at its own size, and one matrix of resizing weights brings all nine taps of all of them to `size`.
    """
    shares = torch.split(weight, [m.shape[1] for m in maps], dim=1)
    pairs = list(zip(maps, shares, strict=True))
    sharp = [F.conv2d(m, share, padding=1) for m, share in pairs if tuple(m.shape[-2:]) == tuple(size)]
    smaller = [(m, share) for m, share in pairs if tuple(m.shape[-2:]) != tuple(size)]
    total = sum(sharp[1:], sharp[0]) if sharp else None
    if not smaller:
        assert total is not None, "a convolution of no maps"
        return total
    height, width = size
    # Along the rows of the map, for each small map by itself, then along its columns, for all of them at once.
    rows = [
        torch.einsum("qwj,bpqijo->bpiwo", shifted_resize(width, m.shape[-1], m), taps_of(m, share)).flatten(1, 2)
        for m, share in smaller
    ]
    columns = [shifted_resize(height, m.shape[-2], m).transpose(0, 1).flatten(1) for m, _ in smaller]
    smooth = torch.cat(columns, 1) @ torch.cat(rows, 1).flatten(2)  # [batch, height, width * out]
    smooth = torch.unflatten(smooth, 2, (-1, weight.shape[0])).permute(0, 3, 1, 2)
    return smooth if total is None else total + smooth


def taps_of(
    x: Float[Tensor, "batch channels rows columns"], weight: Float[Tensor, "out channels 3 3"]
) -> Float[Tensor, "batch 3 3 rows columns out"]:
    """The map under each tap of a 3x3 convolution, at the map's own size."""
    taps = F.conv2d(x, weight.permute(2, 3, 0, 1).reshape(-1, x.shape[1], 1, 1))
    return torch.unflatten(taps, 1, (3, 3, weight.shape[0])).permute(0, 1, 2, 4, 5, 3)


def shifted_resize(size: int, old: int, like: Tensor) -> Float[Tensor, "3 size old"]:
    """Along one axis, the bilinear resize of `old` pixels to `size`, shifted to each of a convolution's three taps.

    Entry (p, i, j) is the weight of old pixel j in the resized map at i + p - 1; 0 where that lies outside, as the
    zeros around a padded convolution.
    """
    exact = torch.promote_types(like.dtype, torch.float32)
    spread = F.interpolate(
        torch.eye(old, dtype=exact, device=like.device)[None], size, mode="linear", align_corners=False
    )[0].T
    padded = F.pad(spread, (0, 0, 1, 1)).to(like.dtype)
    return torch.stack([padded[tap : tap + size] for tap in range(3)])


def check_rates(rates: Sequence[int], name: str = "rates") -> tuple[int, ...]:
    """The rates, if they are positive whole numbers and there is one at least.

    Raises:
        ValueError: If not; calls them `name`.
    """
    whole = isinstance(rates, Sequence) and all(type(rate) is int and rate >= 1 for rate in rates)
    if not (whole and rates):
        raise ValueError(f"{name} must be positive whole numbers, at least one, got {rates}")
    return tuple(rates)


def check_channels(config: Any, *names: str) -> None:
    """Raises ValueError if one of these fields of a network's config is below 1; None is none of its business."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{name} is a number of channels, 1 or more, got {value}")


def check_batch_norm(batch_norm: tuple[float, float]) -> None:
    """Raises ValueError for a momentum or an eps that no normalisation can have."""
    momentum, eps = batch_norm
    if not (0 < momentum <= 1 and eps > 0):
        raise ValueError(f"batch_norm is (momentum in (0, 1], eps above 0), got {batch_norm}")
