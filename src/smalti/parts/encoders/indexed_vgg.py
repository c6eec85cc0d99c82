"""VGG with batch normalisation whose pools remember where each maximum was: the encoder of SegNet-like networks."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from smalti.parts.convolution import conv_norm_relu
from smalti.parts.encoders.timm_encoder import TimmEncoder

CONVOLUTIONS = {
    "vgg11_bn": (1, 1, 2, 2, 2),
    "vgg13_bn": (2, 2, 2, 2, 2),
    "vgg16_bn": (2, 2, 3, 3, 3),
    "vgg19_bn": (2, 2, 4, 4, 4),
}
"""In each of the five stages."""
CHANNELS = (64, 128, 256, 512, 512)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of pictures scaled to 0..1; what torchvision's VGG weights were made with."""


class IndexedVGG(nn.Module):
    """Five stages of 3x3 convolutions, each followed by a 2x2 pool that rounds sizes up and keeps its indices.

    Rounding up means that no row or column is lost at any size, and unpooling to the remembered size is exact.
    """

    channels = CHANNELS

    def __init__(self, name: str, in_channels: int = 3, weights: str | Path | None = None) -> None:
        """`name` is timm's; `weights` as for `TimmEncoder`.

        Raises:
            ValueError: If it is no VGG with batch normalisation, or the weights do not fit.
        """
        super().__init__()
        if name not in CONVOLUTIONS:
            known = ", ".join(CONVOLUTIONS)
            raise ValueError(f'unpooling needs one of the encoders {known}, got "{name}": set upsample to bilinear')
        counts = CONVOLUTIONS[name]
        inputs = (in_channels, *CHANNELS[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(*(conv_norm_relu(into if k == 0 else out, out, 3) for k in range(count)))
            for into, out, count in zip(inputs, CHANNELS, counts, strict=True)
        )
        plain = TimmEncoder(name, in_channels=in_channels, weights=weights) if weights is not None else None
        self.mean: tuple[float, ...] = tuple(IMAGENET_MEAN[k % 3] for k in range(in_channels))
        self.std: tuple[float, ...] = tuple(IMAGENET_STD[k % 3] for k in range(in_channels))
        if plain is not None:
            self._take(plain)

    def _take(self, plain: TimmEncoder) -> None:
        """The convolutions' biases move into the normalisations' means, where they do the same."""
        convs = [m for m in plain.modules() if isinstance(m, nn.Conv2d)]
        norms = [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
        units = [unit for stage in self.stages for unit in stage]  # type: ignore[attr-defined]
        with torch.no_grad():
            for (conv, norm, _), from_conv, from_norm in zip(units, convs, norms, strict=True):
                conv.weight.copy_(from_conv.weight)
                norm.load_state_dict(from_norm.state_dict())
                norm.running_mean -= from_conv.bias

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch 512 _ _"], list[Float[Tensor, "batch _ _ _"]], list[Int[Tensor, "batch _ _ _"]]]:
        """The last pooled map; each stage's map before its pool, from fine to coarse; and the pools' indices."""
        maps, indices = [], []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
            x, where = _pool(x)
            indices.append(where)
        return x, maps, indices


def _pool(
    x: Float[Tensor, "batch channels height width"],
) -> tuple[Float[Tensor, "batch channels _ _"], Int[Tensor, "batch channels _ _"]]:
    """The largest of each 2x2 pixels (fewer at odd borders), and the first place in its map where it stands."""
    if not torch.compiler.is_exporting():
        pooled, places = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
        return pooled, places
    # The same for all other runtimes, in slices and comparisons: OpenVINO takes longer for pooling with places than for
    # the convolutions, and pools no map of a single row or column, so odd ones are made even first.
    width = x.shape[-1]
    rows, columns = (x.shape[-2] + 1) // 2, (width + 1) // 2
    even = F.pad(x, (0, 2 * columns - width, 0, 2 * rows - x.shape[-2]), value=-torch.inf)
    pooled = F.max_pool2d(even, 2, 2)
    first, right, below = (even[..., row::2, column::2] == pooled for row, column in ((0, 0), (0, 1), (1, 0)))
    lower = (~(first | right)).long()
    beside = (~(first | (below & ~right))).long()
    corners = 2 * width * torch.arange(rows, device=x.device)[:, None] + 2 * torch.arange(columns, device=x.device)
    return pooled, corners + lower * width + beside
