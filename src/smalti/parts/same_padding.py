"""TensorFlow's padding ("SAME"), for the encoders whose weights were made there; exports with dynamic sizes."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def pad_same(
    x: Float[Tensor, "batch channels height width"], conv: nn.Conv2d
) -> Float[Tensor, "batch channels padded_height padded_width"]:
    """Zeros around the map, so that `conv` without padding answers ceil(size / stride); the odd one right and below.

    The padded size is `outputs * stride` and a constant, without the map's own size: so the expressions that
    torch.export reasons about grow by one term with each stride. With a remainder of the size they double. A kernel
    of one pixel needs none at all; another one smaller than its stride, which no encoder known here has, a `max`.
    """
    pads: list[Any] = []  # numbers; in torch.export, expressions of the size
    for size, kernel, stride, dilation in zip(x.shape[-2:], conv.kernel_size, conv.stride, conv.dilation, strict=True):
        span = (kernel - 1) * dilation + 1
        outputs = (size + stride - 1) // stride
        total: int | torch.SymInt = 0 if span == 1 else outputs * stride - size + span - stride
        if 1 < span < stride:
            total = torch.sym_max(total, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads)


class SameConv2d(nn.Conv2d):
    """`nn.Conv2d` padded as TensorFlow does."""

    @classmethod
    def taking_over(cls, conv: nn.Conv2d) -> "SameConv2d":
        """A module that holds the parameters of `conv` itself."""
        twin = cls(
            conv.in_channels, conv.out_channels, 1, groups=conv.groups, bias=conv.bias is not None, device="meta"
        )
        for name in ("kernel_size", "stride", "dilation"):
            setattr(twin, name, getattr(conv, name))
        twin.weight, twin.bias = conv.weight, conv.bias
        return twin

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out out_h out_w"]:  # noqa: D102
        answer: Tensor = self._conv_forward(pad_same(x, self), self.weight, self.bias)
        return answer


def pads_same(conv: nn.Module) -> bool:
    """Whether this is timm's convolution with TensorFlow's padding."""
    return type(conv).__name__ == "Conv2dSame"


def own_same_padding(module: nn.Module) -> None:
    """Replaces timm's convolutions with this padding below `module`, in place; parameters and names stay."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and pads_same(child):
                parent.register_module(name, SameConv2d.taking_over(child))
