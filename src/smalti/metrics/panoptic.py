"""Panoptic quality (Kirillov, He, Girshick, Rother, Dollár, CVPR 2019)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8

from smalti.geometry.panoptic import STRIDE, panoptic_segments
from smalti.labels import LabelSet

Labels = UInt8[np.ndarray, "height width"]
Ids = Int32[np.ndarray, "height width"]


@dataclass
class _Counts:
    """Of one class over all pictures: the sum of the matches' IoU, matches, and segments without a match."""

    iou: float = 0.0
    matched: int = 0
    predicted: int = 0
    missed: int = 0


class PanopticQuality:
    """PQ = sum of IoU over matches / (matches + half the unmatched), as the mean over the classes that occur.

    A segment is an object of a thing class, or all pixels of another class in a picture; two segments match if they
    share more than half of their union. Truth without a class (255), and things that were not told apart (id 0), are
    void: they count in no union, and an answer that lies in them for more than half is neither right nor wrong.

    # DIFFERS: COCO's script excuses an answer in a crowd of its own class only, and leaves crowds in the unions.
    """

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self.is_thing = labels.is_thing()
        self.classes = [_Counts() for _ in labels.names]

    def update(self, answer: tuple[Labels, Ids], truth: tuple[Labels, Ids]) -> None:
        """Adds a picture: classes and object ids of the answer, and of the truth."""
        predicted, true = (panoptic_segments(*maps, self.is_thing) for maps in (answer, truth))
        ours, our_areas, theirs, their_areas, shared = _overlaps(predicted, true)
        void = dict(zip(ours[theirs < 0].tolist(), shared[theirs < 0].tolist(), strict=True))
        matched_ours, matched_theirs = set(), set()
        for a, b, both in zip(ours.tolist(), theirs.tolist(), shared.tolist(), strict=True):
            if a < 0 or b < 0 or a // STRIDE != b // STRIDE:
                continue
            union = our_areas[a] - void.get(a, 0) + their_areas[b] - both
            if both / union > 0.5:
                counts = self.classes[a // STRIDE]
                counts.iou += both / union
                counts.matched += 1
                matched_ours.add(a)
                matched_theirs.add(b)
        for a, area in our_areas.items():
            if a >= 0 and a not in matched_ours and void.get(a, 0) <= area / 2:
                self.classes[a // STRIDE].predicted += 1
        for b in their_areas:
            if b >= 0 and b not in matched_theirs:
                self.classes[b // STRIDE].missed += 1

    def metrics(self) -> dict[str, float | None]:
        """`panoptic.pq`, `.sq` (mean IoU of matches), `.rq` (F1 of finding them), and `.pq_things`, `.pq_stuff`."""
        of_class = [(k, *_quality(counts)) for k, counts in enumerate(self.classes) if _occurs(counts)]
        things = [values for values in of_class if self.is_thing[values[0]]]
        stuff = [values for values in of_class if not self.is_thing[values[0]]]
        return {
            "panoptic.pq": _mean([pq for _, pq, _, _ in of_class]),
            "panoptic.sq": _mean([sq for _, _, sq, _ in of_class]),
            "panoptic.rq": _mean([rq for _, _, _, rq in of_class]),
            "panoptic.pq_things": _mean([pq for _, pq, _, _ in things]),
            "panoptic.pq_stuff": _mean([pq for _, pq, _, _ in stuff]),
        }


def _overlaps(
    predicted: np.ndarray, true: np.ndarray
) -> tuple[np.ndarray, dict[int, int], np.ndarray, dict[int, int], np.ndarray]:
    """Pairs of segments that share pixels, how many, and the area of each segment."""
    ours, our_places, our_areas = np.unique(predicted, return_inverse=True, return_counts=True)
    theirs, their_places, their_areas = np.unique(true, return_inverse=True, return_counts=True)
    pairs, shared = np.unique(our_places.ravel() * len(theirs) + their_places.ravel(), return_counts=True)
    a, b = np.divmod(pairs, len(theirs))
    areas = [dict(zip(keys.tolist(), values.tolist(), strict=True))
             for keys, values in ((ours, our_areas), (theirs, their_areas))]  # fmt: skip
    return ours[a], areas[0], theirs[b], areas[1], shared


def _occurs(counts: _Counts) -> bool:
    return bool(counts.matched or counts.predicted or counts.missed)


def _quality(counts: _Counts) -> tuple[float, float, float]:
    recognition = counts.matched / (counts.matched + (counts.predicted + counts.missed) / 2)
    segmentation = counts.iou / counts.matched if counts.matched else 0.0
    return segmentation * recognition, segmentation, recognition


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
