"""Depthwise convolution whose backward pass is fast on CPUs."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from smalti.parts.same_padding import pad_same, pads_same

Pair = tuple[int, int]


class _Geometry(NamedTuple):
    """Of a convolution, (rows, columns) each."""

    stride: Pair
    padding: Pair
    dilation: Pair

    def is_fast(self, kernel: Pair) -> bool:
        """Whether the gradients below are made for it: squares of 3x3 or more taps, as in every published network."""
        square = kernel[0] == kernel[1] and kernel[0] % 2 == 1 and kernel[0] >= 3
        plain = self.stride == (1, 1) or self.dilation == (1, 1)
        sides = zip(self.padding, self.dilation, kernel, strict=True)
        return square and plain and all(padding <= step * (taps - 1) for padding, step, taps in sides)


class _FastBackward(torch.autograd.Function):
    """Depthwise convolution whose gradients are put together from the few kernels that oneDNN has in bfloat16.

    Fast are the forward pass of any depthwise convolution and the weights' gradient of 3x3 ones without dilation;
    other gradients take up to twenty times as long in bfloat16, and some up to three times as long in float32. So the
    gradient of the input is a forward pass with the filter turned around, between zeros for a stride; and that of the
    weights is taken in blocks of 3x3 taps, for a dilation on pictures cut into their phases. Both are exact but for
    rounding. benchmarks/depthwise.py measures them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return F.conv2d(x, weight, None, *geometry, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        kernel = (weight.shape[2], weight.shape[3])
        if not ctx.geometry.is_fast(kernel):
            # In bfloat16 torch's own take so much longer that float32 pays.
            wide = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
            found = _gradients(gradient.to(wide), x.to(wide), weight.to(wide), ctx.geometry, ctx.needs_input_grad[:2])
            of_input, of_weight = (None if part is None else part.to(x.dtype) for part in found)
            return of_input, of_weight, None
        return (
            _of_input(gradient, x, weight, ctx.geometry) if ctx.needs_input_grad[0] else None,
            _of_weight(gradient, x, kernel[0], ctx.geometry) if ctx.needs_input_grad[1] else None,
            None,
        )


def _of_input(gradient: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
    """The transposed convolution as a plain one."""
    (stride, padding, dilation), taps = geometry, weight.shape[2]
    reach = [step * (taps - 1) for step in dilation]
    if stride != (1, 1):
        batch, channels, height, width = x.shape
        size = (height + 2 * padding[0] - reach[0], width + 2 * padding[1] - reach[1])
        apart = _zeros(gradient, (batch, channels, *size))
        apart[:, :, :: stride[0], :: stride[1]] = gradient
        gradient = apart
    around = (reach[0] - padding[0], reach[1] - padding[1])
    return F.conv2d(gradient, weight.flip(2, 3), None, 1, around, dilation, x.shape[1])


def _of_weight(gradient: Tensor, x: Tensor, taps: int, geometry: _Geometry) -> Tensor:
    stride, (rows, columns), dilation = geometry
    height, width = gradient.shape[2:]
    if dilation == (1, 1):
        x = _padded(x, (rows, columns), ((height - 1) * stride[0] + taps, (width - 1) * stride[1] + taps))
    else:
        height, width = -(-height // dilation[0]) * dilation[0], -(-width // dilation[1]) * dilation[1]
        sides = (height + dilation[0] * (taps - 1), width + dilation[1] * (taps - 1))
        x = _phases(_padded(x, (rows, columns), sides), dilation)
        gradient = _phases(_padded(gradient, (0, 0), (height, width)), dilation)
    found = x.new_empty(x.shape[1], 1, taps, taps)
    least = [x.shape[2] - taps + 3, x.shape[3] - taps + 3]
    starts = sorted({*range(0, taps - 2, 3), taps - 3})
    for top, left in itertools.product(starts, starts):
        block = x[:, :, top : top + least[0], left : left + least[1]]
        like = found[:, :, top : top + 3, left : left + 3]
        plain = _Geometry(stride, (0, 0), (1, 1))
        of_block = _gradients(gradient, block, like, plain, (False, True))[1]
        assert of_block is not None
        like.copy_(of_block)
    return found


def _phases(maps: Tensor, step: Pair) -> Tensor:
    """Every `step`-th row and column, from each of the first ones on, side by side in the batch."""
    return torch.cat([maps[:, :, top :: step[0], left :: step[1]] for top in range(step[0]) for left in range(step[1])])


def _padded(maps: Tensor, before: Pair, size: Sequence[int]) -> Tensor:
    """`maps` between zeros, cut where they reach over `size`."""
    if before == (0, 0) and tuple(maps.shape[2:]) == tuple(size):
        return maps
    padded = _zeros(maps, (*maps.shape[:2], *size))
    (top, left), (height, width) = before, size
    part = maps[:, :, : height - top, : width - left]
    padded[:, :, top : top + part.shape[2], left : left + part.shape[3]] = part
    return padded


def _zeros(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last).zero_()


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry, wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Torch's own, of the input and of the weights."""
    stride, padding, dilation = map(list, geometry)
    mask = [*wanted, False]
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, dilation, False, [0, 0], x.shape[1], mask
    )
    return found[0], found[1]


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with one filter a channel; takes the fast backward pass where it applies.

    `same_padding` pads as TensorFlow does (the `tf_` encoders): bottom and right get the odd pixel.
    """

    same_padding: bool = False

    @classmethod
    def taking_over(cls, conv: nn.Conv2d, same_padding: bool) -> "DepthwiseConv2d":
        """A module that holds the parameters of `conv` itself."""
        twin = cls(
            conv.in_channels, conv.out_channels, 1, groups=conv.groups, bias=conv.bias is not None, device="meta"
        )
        for name in ("kernel_size", "stride", "padding", "dilation"):
            setattr(twin, name, getattr(conv, name))
        twin.weight, twin.bias, twin.same_padding = conv.weight, conv.bias, same_padding
        return twin

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels out_h out_w"]:  # noqa: D102
        if self.same_padding:
            x = pad_same(x, self)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if not (self._is_slow_in(dtype) and x.requires_grad and x.device.type == "cpu"):
            plain: Tensor = self._conv_forward(x, self.weight, self.bias)
            return plain
        padding = (0, 0) if isinstance(self.padding, str) else _pair(self.padding)
        geometry = _Geometry(_pair(self.stride), padding, _pair(self.dilation))
        y: Tensor = _FastBackward.apply(x.to(dtype), self.weight.to(dtype), geometry)
        return y if self.bias is None else y + self.bias.to(dtype)[:, None, None]

    def _is_slow_in(self, dtype: torch.dtype) -> bool:
        """Whether torch's own gradients are slower than ours: in float32, not for strides nor for plain 3x3 taps."""
        plain = self.kernel_size == (3, 3) and self.dilation == (1, 1)
        return dtype == torch.bfloat16 or (self.stride == (1, 1) and not plain)


def _pair(sides: tuple[int, ...]) -> Pair:
    rows, columns = sides
    return rows, columns


def speed_up_depthwise(module: nn.Module) -> None:
    """Replaces the depthwise convolutions below `module`, in place; parameters and their names stay as they are."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and _is_plain_depthwise(child):
                parent.register_module(name, DepthwiseConv2d.taking_over(child, pads_same(child)))


def _is_plain_depthwise(conv: nn.Conv2d) -> bool:
    plain = type(conv) is nn.Conv2d or pads_same(conv)
    depthwise = 1 < conv.groups == conv.in_channels == conv.out_channels
    numbers = isinstance(conv.padding, tuple) or type(conv) is not nn.Conv2d
    return plain and depthwise and numbers and conv.padding_mode == "zeros"
