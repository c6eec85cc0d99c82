"""PSPNet decoder: pyramid pooling of the coarsest map, then one 3x3 classifier (Zhao et al. 2017)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from smalti.parts.context.pyramid_pooling import PyramidPooling


class PSPDecoder(nn.Module):
    """Pyramid pooling on the last of the encoder's maps; answers logits at that map's size."""

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        width: int = 512,
        bins: tuple[int, ...] = (1, 2, 3, 6),
        batch_norm: tuple[float, float] = (0.1, 1e-5),
    ) -> None:
        """`channels` are the encoder's, from fine to coarse; `batch_norm` is (momentum, eps)."""
        super().__init__()
        self.pool = PyramidPooling(channels[-1], width, width, bins, batch_norm)
        self.classify = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, maps: list[Float[Tensor, "batch _ _ _"]]) -> Float[Tensor, "batch classes height width"]:  # noqa: D102
        logits: Tensor = self.classify(self.pool(maps[-1]))
        return logits
