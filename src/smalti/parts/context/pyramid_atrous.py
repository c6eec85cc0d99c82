"""Pyramid atrous convolution (PAC): one 3x3 filter at several rates (D. Yu, pac-bal, section 3.3 and Fig. 6)."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from smalti.parts.convolution import BatchNorm, check_rates, convolve_concatenation

OFFSETS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))
"""Where the nine taps of a 3x3 filter look, in the order of its weights."""


class PyramidAtrousConvolution(nn.Module):
    """One filter at every rate, padded with zeros, and the answers merged into one map of `out_channels`.

    * `merge="sum"` adds the answers; `"concat"` sends them through a 1x1 convolution.
    * `norm="per_rate"`: each answer has a normalisation of its own and a ReLU before the merge; `"shared"`: they
      share one; `"post"`: there is one after the merge only.

    All rates cost one matrix product (spec 5.2): the nine taps, side by side, are one 1x1 convolution, and the answer
    at rate r is the sum of its nine maps, each shifted by r times its tap's place.
    """

    # UNCLEAR: where normalisation and ReLU stand; we chose one a rate, because without any between them the sum would
    # be a single linear filter whose centre counts once a rate.

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: Sequence[int] = (1, 3, 5, 7, 9),
        merge: Literal["sum", "concat"] = "sum",
        norm: Literal["per_rate", "post", "shared"] = "per_rate",
        *,
        batch_norm: BatchNorm = (0.1, 1e-5),
    ) -> None:
        """`batch_norm` is (momentum, eps) of every normalisation in the block.

        Raises:
            ValueError: If there are no rates, one is not a positive whole number, or there is no such merge or norm.
        """
        super().__init__()
        if merge not in ("sum", "concat") or norm not in ("per_rate", "post", "shared"):
            raise ValueError(
                f'merge must be "sum" or "concat", norm "per_rate", "post" or "shared", got "{merge}", "{norm}"'
            )
        momentum, eps = batch_norm
        self.rates, self.merge, self.norm = check_rates(rates), merge, norm
        self.out_channels = out_channels
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as torch's own convolutions, so as ASPP's filters
        norms = {"per_rate": len(self.rates), "shared": 1, "post": 0}[norm]
        self.norms = nn.ModuleList(nn.BatchNorm2d(out_channels, eps, momentum) for _ in range(norms))
        if merge == "concat":
            self.fuse = nn.Conv2d(out_channels * len(self.rates), out_channels, 1, bias=False)
        if merge == "concat" or norm == "post":
            self.out_norm = nn.BatchNorm2d(out_channels, eps, momentum)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height width"]:  # noqa: D102
        if self.norm == "post" and self.merge == "sum":
            (total,) = atrous_convolutions(x, self.weight, (self.rates,))
            return F.relu(self.out_norm(total))
        answers = atrous_convolutions(x, self.weight, tuple((rate,) for rate in self.rates))
        if self.norm != "post":
            answers = [F.relu(self.norms[k % len(self.norms)](answer)) for k, answer in enumerate(answers)]
        if self.merge == "concat":
            return F.relu(self.out_norm(convolve_concatenation(self.fuse, answers)))
        total = answers[0]
        for answer in answers[1:]:
            total = total + answer
        return total


def atrous_convolutions(
    x: Float[Tensor, "batch channels height width"],
    weight: Float[Tensor, "out channels 3 3"],
    groups: tuple[tuple[int, ...], ...],
) -> list[Float[Tensor, "batch out height width"]]:
    """For each group of rates, the sum of `F.conv2d(x, weight, dilation=rate, padding=rate)` over its rates.

    One matrix product whatever the number of rates; equal to the literal form but for rounding.
    """
    taps = F.conv2d(x, weight.permute(2, 3, 0, 1).reshape(9 * weight.shape[0], weight.shape[1], 1, 1))
    return _shifted_copies(taps, groups) if torch.compiler.is_exporting() else list(_ShiftAndAdd.apply(taps, groups))


def _shifted_copies(
    taps: Float[Tensor, "batch taps height width"], groups: tuple[tuple[int, ...], ...]
) -> list[Float[Tensor, "batch out height width"]]:
    """The same without writing in place, which other runtimes do slowly, and without asking how large the map is."""
    height, width = taps.shape[-2:]
    margin = max(rate for rates in groups for rate in rates)
    maps = F.pad(taps, [margin] * 4).chunk(9, dim=1)
    answers = []
    for rates in groups:
        places = [
            one[..., margin + row * rate :, margin + column * rate :][..., :height, :width]
            for rate in rates
            for (row, column), one in zip(OFFSETS, maps, strict=True)
        ]
        answers.append(sum(places[1:], places[0]))
    return answers


class _ShiftAndAdd(torch.autograd.Function):
    """For each group of rates: the nine maps of the taps, each shifted by rate x place, added up."""

    @staticmethod
    def forward(ctx: Any, taps: Tensor, groups: tuple[tuple[int, ...], ...]) -> tuple[Tensor, ...]:
        ctx.groups = groups
        maps = taps.chunk(9, dim=1)
        answers = []
        for rates in groups:
            answer = len(rates) * maps[4] if len(rates) > 1 else maps[4].clone(memory_format=_order(taps))
            for rate in rates:
                for (row, column), one in zip(OFFSETS, maps, strict=True):
                    if (row, column) != (0, 0):
                        here, there = _overlap(taps, row * rate, column * rate)
                        answer[here] += one[there]
            answers.append(answer)
        return tuple(answers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        first = gradients[0]
        batch, channels, height, width = first.shape
        result = torch.empty(
            (batch, 9 * channels, height, width), dtype=first.dtype, device=first.device, memory_format=_order(first)
        )
        for (row, column), one in zip(OFFSETS, result.chunk(9, dim=1), strict=True):
            one.zero_()
            for rates, gradient in zip(ctx.groups, gradients, strict=True):
                for rate in rates:
                    here, there = _overlap(gradient, row * rate, column * rate)
                    one[there] += gradient[here]
        return result, None


def _order(maps: Tensor) -> torch.memory_format:
    channels_last = maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format


def _overlap(maps: Tensor, down: int, right: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The places p of a map for which p + (down, right) lies inside it, and those other places; empty if none does."""
    here, there = [], []
    for length, shift in zip(maps.shape[-2:], (down, right), strict=True):
        reach = max(length - abs(shift), 0)
        start = max(-shift, 0) if reach else 0
        here.append(slice(start, start + reach))
        there.append(slice(start + shift if reach else 0, start + shift + reach if reach else 0))
    return (..., *here), (..., *there)
