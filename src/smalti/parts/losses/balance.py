"""Weights between tasks, learned with the network (Kendall, Gal, Cipolla 2018)."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class UncertaintyWeights(nn.Module):
    """Each task's loss becomes exp(-s) f L + s / 2 with a learned s, the logarithm of the task's noise variance.

    f is 1/2 for regressions and 1 for classifications. A task whose loss stays high gets a lower weight; s / 2 keeps
    weights from falling to 0.
    """

    def __init__(self, tasks: Sequence[str], regressions: Sequence[str] = ()) -> None:
        """Starts at s = 0, which is equal weights."""
        super().__init__()
        self.log_variance = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in tasks})
        self.factor = {task: 0.5 if task in regressions else 1.0 for task in tasks}

    def forward(self, losses: Mapping[str, Float[Tensor, ""]]) -> dict[str, Float[Tensor, ""]]:
        """The weighted losses by task; their sum is minimised, and may be negative."""
        # A loss of exactly 0 is one without any truth in the batch: from that no weight may learn, or it would grow.
        return {
            task: torch.exp(-self.log_variance[task]) * self.factor[task] * loss
            + self.log_variance[task] / 2 * (loss.detach() != 0)
            for task, loss in losses.items()
        }
