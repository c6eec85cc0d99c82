"""Feature pyramid: all maps of an encoder brought to one size, from coarse to fine (Lin et al. 2017)."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from smalti.parts.convolution import conv_norm_relu


class FeaturePyramid(nn.Module):
    """One map of `width` channels at the finest map's size: each map projected by 1x1, and the coarser ones added.

    The other way to features that are both fine and far-sighted, beside dilating the encoder: the encoder stays at its
    own strides, which is several times cheaper.
    """

    def __init__(
        self, channels: Sequence[int], width: int = 128, batch_norm: tuple[float, float] = (0.1, 1e-5)
    ) -> None:
        """`channels` are those of the maps, from fine to coarse; `batch_norm` is (momentum, eps)."""
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.smooth = nn.ModuleList(conv_norm_relu(width, width, 3, batch_norm=batch_norm) for _ in channels[:-1])

    def forward(self, maps: Sequence[Float[Tensor, "batch _ _ _"]]) -> Float[Tensor, "batch width height_ width_"]:  # noqa: D102
        # DIFFERS: the paper smooths each level's sum once more on its way out; here the smoothed sum goes on to the
        # next finer level, because only the finest one is read.
        merged: Tensor = self.project[-1](maps[-1])
        for one, project, smooth in reversed(list(zip(maps[:-1], self.project, self.smooth, strict=False))):
            resized = F.interpolate(merged, one.shape[-2:], mode="bilinear", align_corners=False)
            merged = smooth(project(one) + resized)
        return merged
