"""What every semantic loss starts from, computed once however many losses are added up."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

IGNORED = 255


@dataclass(frozen=True, kw_only=True)
class ScoredPixels:
    """Log-probabilities and labels of a batch, at least in float32.

    `labels` holds 0 at ignored pixels, so that it can be used as an index; `counted` is False there.
    """

    log_probabilities: Float[Tensor, "batch classes height width"]
    labels: Int[Tensor, "batch height width"]
    counted: Bool[Tensor, "batch height width"]
    true_log_probabilities: Float[Tensor, "batch height width"]
    """Of each pixel's own class; 0 (certain, no gradient) at ignored pixels."""

    @property
    def classes(self) -> int:
        """How many classes the logits have."""
        return self.log_probabilities.shape[1]


def score_pixels(
    logits: Float[Tensor, "batch classes height width"], labels: Int[Tensor, "batch height width"]
) -> ScoredPixels:
    """The log-softmax of the logits, and its value at each pixel's label.

    Half precision becomes float32; float64 stays. Pixels labelled 255 are ignored.

    Raises:
        ValueError: If logits and labels are of different size, or a label is no class of the logits (looked for on the
            CPU only: an accelerator would have to wait).
    """
    if logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} must agree in batch, height and width: "
            "resize the logits to the size of the labels"
        )
    # Plain order before float32: a softmax over channels-last float32 takes three times as long on CPUs.
    scores = logits.contiguous().to(torch.promote_types(logits.dtype, torch.float32))
    counted = labels != IGNORED
    safe_labels = torch.where(counted, labels, 0)
    if labels.device.type == "cpu":
        _check_classes(safe_labels, logits.shape[1])
    log_probabilities = F.log_softmax(scores, dim=1)
    picked = log_probabilities.gather(1, safe_labels[:, None])[:, 0]
    return ScoredPixels(
        log_probabilities=log_probabilities,
        labels=safe_labels,
        counted=counted,
        true_log_probabilities=torch.where(counted, picked, 0),
    )


def _check_classes(labels: Int[Tensor, "batch height width"], classes: int) -> None:
    if not labels.numel():
        return
    for label in map(int, labels.aminmax()):
        if not 0 <= label < classes:
            raise ValueError(f"label {label} is no class of the logits, which have {classes} (0 to {classes - 1}); "
                             f"ignored pixels are labelled {IGNORED}")  # fmt: skip
