"""Loss of a distance map: weighted absolute error on objects, and a little on the rest (spec 1.5)."""

from jaxtyping import Bool, Float
from torch import Tensor

ELSEWHERE = 0.25
"""Weight of the pixels of no object, which are to be 0."""


def distance_loss(
    predicted: Float[Tensor, "batch height width"],
    distances: Float[Tensor, "batch height width"],
    weights: Float[Tensor, "batch height width"],
    valid: Bool[Tensor, "batch height width"],
) -> Float[Tensor, ""]:
    """Mean over the objects' pixels of w |error|, with w divided by its mean, plus 0.25 of that over the others.

    `weights` are above 0 on the pixels of objects (1 / sqrt(area) makes small objects count) and 0 elsewhere; only
    `valid` pixels count. 0 where nothing does.
    """
    errors = (predicted.float() - distances).abs()
    weights = weights * valid
    other = valid & (weights == 0)
    on_objects = (errors * weights).sum() / weights.sum().clamp_min(1e-12)
    elsewhere = (errors * other).sum() / other.sum().clamp_min(1)
    return on_objects + ELSEWHERE * elsewhere
