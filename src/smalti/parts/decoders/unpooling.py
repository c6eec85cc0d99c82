"""One stage of a SegNet-like decoder: bring the map up, merge it with the encoder's, convolve."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from smalti.parts.convolution import BatchNorm, conv_norm_relu

Merge = Literal["concat", "sum", "none"]


class UnpoolingStage(nn.Module):
    """Unpools (or resizes) a map to the size of the encoder's map, merges both and convolves 3x3.

    Unpooling puts each value back to where the encoder's pool found its maximum, and 0 elsewhere.
    """

    def __init__(
        self, below: int, skip: int, widths: Sequence[int], merge: Merge, batch_norm: BatchNorm = (0.1, 1e-5)
    ) -> None:
        """`below` and `skip` are the channels of the map and of the encoder's (0 = there is none)."""
        super().__init__()
        self.merge = merge if skip else "none"
        fits = self.merge != "sum" or below == skip
        self.match = None if fits else nn.Conv2d(below, skip, 1, bias=False)
        into = {"concat": below + skip, "sum": skip, "none": below}[self.merge]
        inputs = (into, *widths[:-1])
        self.convs = nn.Sequential(
            *(conv_norm_relu(a, b, 3, batch_norm=batch_norm) for a, b in zip(inputs, widths, strict=True))
        )
        self.out_channels = widths[-1]

    def join(
        self,
        x: Float[Tensor, "batch below _ _"],
        skip: Float[Tensor, "batch skip height width"] | None,
        size: tuple[int, int],
        indices: Int[Tensor, "batch below _ _"] | None = None,
    ) -> Float[Tensor, "batch joint height width"]:
        """What the convolutions get; `indices` None = bilinear.

        Where `match` is None no weight is in it: stages on the same maps can share it.
        """
        if indices is not None:
            x = _unpool(x, indices, size)
        elif x.shape[-2:] != size:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        if self.match is not None:
            x = self.match(x)
        if self.merge == "concat":
            assert skip is not None
            x = torch.cat([x, skip], 1)
        elif self.merge == "sum":
            assert skip is not None
            x = x + skip
        return x

    def forward(self, joint: Float[Tensor, "batch joint height width"]) -> Float[Tensor, "batch out height width"]:
        """Convolves what `join` answers."""
        found: Tensor = self.convs(joint)
        return found


def _unpool(
    x: Float[Tensor, "batch channels _ _"], places: Int[Tensor, "batch channels _ _"], size: tuple[int, int]
) -> Float[Tensor, "batch channels height width"]:
    """Zeros, and each value at its place in its map."""
    if not torch.compiler.is_exporting():
        return F.max_unpool2d(x, places, (2, 2), (2, 2), output_size=size)
    # The same for other runtimes: OpenVINO counts places through all maps together, and wrongly from 8 million on.
    height, width = size
    zeros = x.new_zeros((*x.shape[:2], height * width))
    return torch.unflatten(zeros.scatter(2, places.flatten(2), x.flatten(2)), 2, (height, width))
