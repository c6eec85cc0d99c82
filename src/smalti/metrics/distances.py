"""Numbers of distance maps."""

import numpy as np
from jaxtyping import Bool, Float

Map = Float[np.ndarray, "height width"]


class DistanceError:
    """Mean absolute error over the pixels of objects; both maps go from 0 to 1."""

    def __init__(self) -> None:
        self.total, self.pixels = 0.0, 0

    def update(self, answer: Map, true: Map, counted: Bool[np.ndarray, "height width"]) -> None:
        """Adds a picture."""
        self.total += float(np.abs(answer[counted] - true[counted]).sum(dtype=np.float64))
        self.pixels += int(np.count_nonzero(counted))

    def metrics(self) -> dict[str, float | None]:
        """`distances.mae`; None without objects."""
        return {"distances.mae": self.total / self.pixels if self.pixels else None}
