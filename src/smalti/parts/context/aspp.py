"""Atrous spatial pyramid pooling: one 3x3 filter for each rate (Chen et al. 2017, "Rethinking Atrous Convolution")."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smalti.parts.convolution import BatchNorm, check_rates, conv_norm_relu


class AtrousSpatialPyramid(nn.Module):
    """The atrous branches of ASPP: each rate has its own filter, normalisation and ReLU.

    Their answers are concatenated, as published, or summed: then it is `PyramidAtrousConvolution` with nothing shared.
    The 1x1 and the image-pooling branch of the published module stand in `models/pac_deeplab.py`, which both share.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: Sequence[int] = (6, 12, 18),
        merge: Literal["sum", "concat"] = "concat",
        *,
        batch_norm: BatchNorm = (0.1, 1e-5),
    ) -> None:
        """`out_channels` of each branch; `self.out_channels` says those of the answer.

        Raises:
            ValueError: If there are no rates, one is not a positive whole number, or there is no such merge.
        """
        super().__init__()
        if merge not in ("sum", "concat"):
            raise ValueError(f'merge must be "sum" or "concat", got "{merge}"')
        self.rates = check_rates(rates)
        self.merge = merge
        self.out_channels = out_channels * (len(self.rates) if merge == "concat" else 1)
        self.branches = nn.ModuleList(
            conv_norm_relu(in_channels, out_channels, 3, rate, batch_norm) for rate in self.rates
        )

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height width"]:  # noqa: D102
        answers = [branch(x) for branch in self.branches]
        return torch.cat(answers, 1) if self.merge == "concat" else torch.stack(answers).sum(0)
