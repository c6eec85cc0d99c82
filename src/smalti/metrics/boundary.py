"""Numbers near the borders of the truth: where coarse networks fail, and where losses for boundaries must show."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from smalti.labels import LabelSet
from smalti.metrics.confusion import ConfusionMatrix
from smalti.metrics.semantic import semantic_metrics

WIDTHS = (3, 5, 10)
"""Of the bands, in pixels on either side of a border."""


class BoundaryBands:
    """Counts of the pixels within 3, 5 and 10 pixels of a border, from which their mIoU comes.

    A border runs between any two neighbours (of four) whose labels differ, ignored pixels (255) included, as VOC's
    rings are its borders; ignored pixels themselves are never counted. The pixels right at a border are within 1 of it.
    """

    def __init__(self, classes: int) -> None:
        self.matrices = {width: ConfusionMatrix(classes) for width in WIDTHS}

    def update(self, predicted: UInt8[np.ndarray, "height width"], true: UInt8[np.ndarray, "height width"]) -> None:
        """Adds one picture."""
        distance = border_distance(true)
        for width, matrix in self.matrices.items():
            band = distance < width
            matrix.update(predicted[band], true[band])

    def metrics(self, labels: LabelSet) -> dict[str, float | None]:
        """`boundary.miou_3`, `_5`, `_10`: mIoU over the pixels of each band; None where there is no such pixel."""
        found = {}
        for width, matrix in self.matrices.items():
            miou = semantic_metrics(matrix.counts, labels)["semantic.miou"]
            assert miou is None or isinstance(miou, float)
            found[f"boundary.miou_{width}"] = miou
        return found


def border_distance(labels: UInt8[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Euclidean distance of each pixel to the nearest one at a border, whose own is 0; inf where there is no border."""
    inside = np.ones(labels.shape, np.uint8)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    inside[1:][down] = inside[:-1][down] = 0
    inside[:, 1:][right] = inside[:, :-1][right] = 0
    if inside.all():
        return np.full(labels.shape, np.inf, np.float32)
    distance: np.ndarray = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance
