"""Numbers of edge maps."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from smalti.labels import IGNORED

TOLERANCE = 2
"""Pixels by which an edge may miss its place (spec 1.7)."""
THRESHOLDS = 100


class EdgeF:
    """F of edges at the one threshold that suits the whole split best (ODS: optimal data set scale).

    Precision is the share of the answer's edge pixels with a true one within 2 pixels; recall the share of the true
    ones with one of the answer's so near. Ignored pixels have no edge and are not asked for one. Counts for all
    thresholds, 0.00 to 0.99, come from one pass: a true edge is found at every threshold up to the highest
    probability near it.

    # DIFFERS: the Berkeley benchmark thins the answer and lets each pixel match one other only. The truth is two pixels
    # wide here, and so are answers that were trained with it.
    """

    def __init__(self) -> None:
        self.true = 0
        self.answered, self.right, self.found = np.zeros((3, THRESHOLDS), np.int64)
        """The answer's edge pixels, those near a true one, and the true ones near one of the answer's, by bin."""

    def update(self, probabilities: Float[np.ndarray, "height width"], true: UInt8[np.ndarray, "height width"]) -> None:
        """Adds a picture; `true` is 1 at edges and 255 where ignored."""
        known = true != IGNORED
        edges = (true == 1).astype(np.uint8)
        disk = _disk(TOLERANCE)
        near = cv2.dilate(edges, disk) > 0
        reach = cv2.dilate(np.where(known, probabilities, 0).astype(np.float32), disk)
        place = _bin(probabilities)
        self.true += int(edges.sum())
        self.answered += np.bincount(place[known], minlength=THRESHOLDS)
        self.right += np.bincount(place[known & near], minlength=THRESHOLDS)
        self.found += np.bincount(_bin(reach)[edges > 0], minlength=THRESHOLDS)

    def metrics(self) -> dict[str, float | None]:
        """`edges.ods_f`, and at its threshold `.precision`, `.recall`, `.threshold`; None without a true edge."""
        keys = ("edges.ods_f", "edges.precision", "edges.recall", "edges.threshold")
        if not self.true:
            return dict.fromkeys(keys)
        answered, right, found = (bins[::-1].cumsum()[::-1] for bins in (self.answered, self.right, self.found))
        precision, recall = right / np.maximum(answered, 1), found / self.true
        f = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(f.argmax())
        return dict(zip(keys, map(float, (f[best], precision[best], recall[best], best / THRESHOLDS)), strict=True))


def _bin(values: Float[np.ndarray, "..."]) -> np.ndarray:
    return np.clip((values * THRESHOLDS).astype(np.int64), 0, THRESHOLDS - 1)


def _disk(radius: int) -> np.ndarray:
    steps = np.arange(-radius, radius + 1)
    disk: np.ndarray = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    return disk
