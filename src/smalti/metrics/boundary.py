"""Numbers near the borders of the truth: where coarse networks fail, and where losses for boundaries must show."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from smalti.geometry.edges import label_edges
from smalti.labels import IGNORED, LabelSet
from smalti.metrics.confusion import ConfusionMatrix
from smalti.metrics.semantic import semantic_metrics

WIDTHS = (1, 2, 3, 5, 10, 20, 40)
"""Of the bands, in pixels on either side of a border."""
TOLERANCE = 0.0075
"""Of the picture's diagonal: how far a border may lie from its place (Csurka et al. 2013)."""
THICKNESS = 0.02
"""Of the picture's diagonal: the rim of a region (Cheng et al. 2021)."""
Labels = UInt8[np.ndarray, "height width"]


class BoundaryBands:
    """The trimap curve: counts of the pixels within 1 to 40 pixels of a border, from which their mIoU comes.

    A border runs between any two neighbours (of four) whose labels differ, ignored pixels (255) included, as VOC's
    rings are its borders; ignored pixels themselves are never counted. The pixels right at a border are within 1 of it.
    """

    def __init__(self, classes: int) -> None:
        self.rings = [ConfusionMatrix(classes) for _ in WIDTHS]

    def update(self, predicted: Labels, true: Labels) -> None:
        """Adds one picture."""
        ring = np.searchsorted(WIDTHS, border_distance(true), side="right")
        for k, matrix in enumerate(self.rings):
            inside = ring == k
            matrix.update(predicted[inside], true[inside])

    def metrics(self, labels: LabelSet) -> dict[str, float | None]:
        """`boundary.miou_1` to `_40`: mIoU over the pixels of each band; None where there is no such pixel."""
        found, counts = {}, torch.zeros_like(self.rings[0].counts)
        for width, matrix in zip(WIDTHS, self.rings, strict=True):
            counts = counts + matrix.counts
            miou = semantic_metrics(counts, labels)["semantic.miou"]
            assert miou is None or isinstance(miou, float)
            found[f"boundary.miou_{width}"] = miou
        return found


class BoundaryMatches:
    """How well borders are found: boundary F1 and Boundary IoU, each from counts over the whole split.

    * `boundary.f1`: per class, the harmonic mean of the share of the answer's border pixels that lie within 0.75 % of
      the diagonal of a true one, and of the true ones that lie so near to one of the answer's; mean over classes.
      # DIFFERS: Csurka et al. (BMVC 2013) average the pictures' own F1; one count over the split, as everywhere here,
      does not let small pictures of a class weigh as much as large ones.
    * `boundary.iou`: IoU of the rims of the regions, 2 % of the diagonal thick, the picture's edge included; mean over
      classes (Cheng, Girshick, Dollár, Berg, Kirillov, CVPR 2021).

    Ignored pixels are taken out of answer and truth alike.
    """

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self.borders = np.zeros((len(labels), 4), np.int64)
        """Border pixels of the answer, those near the truth's, of the truth, those near the answer's."""
        self.rims = np.zeros((len(labels), 3), np.int64)
        """Pixels of the answer's rims, of the truth's, of both."""

    def update(self, predicted: Labels, true: Labels) -> None:
        """Adds one picture."""
        predicted = np.where(true == IGNORED, np.uint8(IGNORED), predicted)
        diagonal = float(np.hypot(*true.shape))
        self._match_borders(predicted, true, TOLERANCE * diagonal)
        ours, theirs = (_rims(labels, max(1, round(THICKNESS * diagonal))) for labels in (predicted, true))
        both = ours[ours == theirs]
        for column, rims in enumerate((ours, theirs, both)):
            self.rims[:, column] += np.bincount(rims.ravel(), minlength=IGNORED + 1)[: len(self.labels)]

    def _match_borders(self, predicted: Labels, true: Labels, tolerance: float) -> None:
        ours, theirs = (np.where(label_edges(labels) == 1, labels, IGNORED) for labels in (predicted, true))
        for k in np.intersect1d(np.unique(ours), np.unique(theirs)):
            if k != IGNORED:
                a, b = ours == k, theirs == k
                self.borders[k, 1] += np.count_nonzero(_distance_to(b)[a] <= tolerance)
                self.borders[k, 3] += np.count_nonzero(_distance_to(a)[b] <= tolerance)
        for column, borders in ((0, ours), (2, theirs)):
            self.borders[:, column] += np.bincount(borders.ravel(), minlength=IGNORED + 1)[: len(self.labels)]

    def metrics(self) -> dict[str, float | None]:
        """`boundary.f1` and `boundary.iou`: means over the classes that have a border, or a rim; None without any."""
        ours, right, theirs, found = self.borders.T
        f1 = [
            2 * r / a * f / b / (r / a + f / b) if r and f else 0.0
            for a, r, b, f in zip(ours, right, theirs, found, strict=True)
            if a or b
        ]
        a, b, both = self.rims.T
        union = a + b - both
        iou = both[union > 0] / union[union > 0]
        return {
            "boundary.f1": float(np.mean(f1)) if f1 else None,
            "boundary.iou": float(iou.mean()) if iou.size else None,
        }


def border_distance(labels: Labels) -> Float[np.ndarray, "height width"]:
    """Euclidean distance of each pixel to the nearest one at a border, whose own is 0; inf where there is no border."""
    border = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    return _distance_to(border)


def _distance_to(pixels: np.ndarray) -> Float[np.ndarray, "height width"]:
    """Inf everywhere if there is none."""
    if not pixels.any():
        return np.full(pixels.shape, np.inf, np.float32)
    distance: np.ndarray = cv2.distanceTransform((~pixels).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance


def _rims(labels: Labels, thickness: int) -> Labels:
    """The labels of pixels that have another label, or the picture's edge, within so many steps (8 neighbours)."""
    window = np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8)
    # All labels at once: inside a region, the smallest and the largest label around are the same.
    least = cv2.erode(labels, window)
    most = cv2.dilate(labels, window, borderType=cv2.BORDER_CONSTANT, borderValue=IGNORED)
    return np.where((least == most) & (labels != IGNORED), np.uint8(IGNORED), labels)
