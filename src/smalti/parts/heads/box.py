"""Classes and offsets of default boxes from a pyramid of maps."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class BoxHead(nn.Module):
    """For each map of the pyramid a 3x3 convolution to classes and one to offsets; weights are not shared."""

    def __init__(self, channels: int, classes: int, counts: Sequence[int]) -> None:
        """`classes` with the background; `counts` are the default boxes in a cell of each map."""
        super().__init__()
        self.classes = classes
        self.classify = nn.ModuleList(nn.Conv2d(channels, count * classes, 3, padding=1) for count in counts)
        self.locate = nn.ModuleList(nn.Conv2d(channels, count * 4, 3, padding=1) for count in counts)

    def forward(
        self, maps: Sequence[Float[Tensor, "batch channels _ _"]]
    ) -> tuple[Float[Tensor, "batch boxes classes"], Float[Tensor, "batch boxes 4"]]:
        """Logits and offsets, in the order of `default_boxes`."""
        logits, offsets = (
            torch.cat([_by_box(conv(m), last) for conv, m in zip(convs, maps, strict=True)], 1)
            for convs, last in ((self.classify, self.classes), (self.locate, 4))
        )
        return logits, offsets


def _by_box(answer: Float[Tensor, "batch _ height width"], last: int) -> Float[Tensor, "batch boxes last"]:
    # Without a length to be worked out: of symbolic sizes that takes torch.export many minutes.
    by_box: Tensor = torch.unflatten(answer, 1, (-1, last))
    return by_box.permute(0, 3, 4, 1, 2).flatten(1, 3)
