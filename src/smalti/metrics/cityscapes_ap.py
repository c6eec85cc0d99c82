"""Average precision of object masks as Cityscapes measures it; the rules are those of its public evaluation script."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int32, Integer, UInt8

from smalti.labels import IGNORED, LabelSet

OVERLAPS = np.arange(0.5, 1.0, 0.05)
SMALLEST = 100
"""True objects of fewer pixels need not be found."""


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """One object of the answer.

    `overlaps` are its IoU with the true objects that must be found, by their number in the picture, `other` is the best
    with any other (small ones, groups), and `excused` the share of it that lies in such ones or where there is no
    truth.
    """

    score: float
    overlaps: dict[int, float]
    other: float
    excused: float


@dataclass
class _Picture:
    """Objects of one class in one picture."""

    objects: int = 0
    answers: list[_Answer] = field(default_factory=list)


class CityscapesAP:
    """AP, mean over IoU above 0.50 to 0.95, and at 0.50, of the thing classes; all objects count, at any number.

    Pixels of a thing class without an object (groups) and true objects of fewer than 100 pixels are neither to be found
    nor wrong to find.
    """

    def __init__(self, labels: LabelSet) -> None:
        self.classes = [k for k, name in enumerate(labels.names) if name in labels.things]
        self.pictures: dict[int, list[_Picture]] = {k: [] for k in self.classes}

    def update(
        self,
        masks: Bool[np.ndarray, "objects height width"],
        classes: Integer[np.ndarray, " objects"],
        scores: Float[np.ndarray, " objects"],
        *,
        true_classes: UInt8[np.ndarray, "height width"],
        true_ids: Int32[np.ndarray, "height width"],
    ) -> None:
        """Adds a picture; in the truth 0 is no object, and a class of 255 is unknown."""
        # Segments of the truth: a number for each class with each object in it (0 = the class's group).
        keys, segment, areas = np.unique(
            true_classes.astype(np.int64) << 32 | true_ids, return_inverse=True, return_counts=True
        )
        segment = segment.reshape(true_ids.shape)
        owner, number = keys >> 32, keys & 0xFFFFFFFF
        counted = (number > 0) & (areas >= SMALLEST)
        for k in self.classes:
            picture = _Picture(objects=int(np.count_nonzero(counted & (owner == k))))
            for mask, score in zip(masks[classes == k], scores[classes == k], strict=True):
                shared = np.bincount(segment[mask], minlength=len(keys))
                area = int(shared.sum())
                if not area:
                    continue
                own = owner == k
                iou = np.where(own, shared / (areas + area - shared), 0.0)
                excused = shared[(owner == IGNORED) | (own & ~counted)].sum()
                picture.answers.append(
                    _Answer(
                        score=float(score),
                        overlaps={int(i): float(iou[i]) for i in np.flatnonzero(own & counted & (shared > 0))},
                        other=float(iou[own & ~counted].max(initial=0.0)),
                        excused=float(excused) / area,
                    )
                )
            self.pictures[k].append(picture)

    def metrics(self) -> dict[str, float | None]:
        """`instances.cityscapes_ap` and `.cityscapes_ap50`; None where there is no truth to find."""
        values = np.array([[_average_precision(self.pictures[k], float(t)) for t in OVERLAPS] for k in self.classes])
        known = values[~np.isnan(values).any(1)] if len(values) else values
        return {
            "instances.cityscapes_ap": float(known.mean()) if known.size else None,
            "instances.cityscapes_ap50": float(known[:, 0].mean()) if known.size else None,
        }


def _average_precision(pictures: list[_Picture], least: float) -> float:
    """Area under precision over recall by steps; NaN without true objects."""
    objects = sum(picture.objects for picture in pictures)
    if not objects:
        return np.nan
    outcomes = [outcome for picture in pictures for outcome in _outcomes(picture, least)]
    if not any(picture.answers for picture in pictures) or not outcomes:
        return 0.0
    scores, right = np.array([score for score, _ in outcomes]), np.array([hit for _, hit in outcomes], float)
    order = np.argsort(scores, kind="stable")
    first = np.unique(scores[order], return_index=True)[1]
    below = np.concatenate([[0.0], right[order].cumsum()])
    hits = below[-1] - below[first]
    precision = np.append(hits / (len(scores) - first), 1.0)
    recall = np.append(hits / objects, 0.0)
    steps = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ (steps[:-2] - steps[2:]) / 2)


def _outcomes(picture: _Picture, least: float) -> list[tuple[float, bool]]:
    """Score of each answer that counts, and whether it found an object; of several on one object, the surest did."""
    surest: dict[int, float] = {}
    found = []
    for answer in picture.answers:
        hits = [i for i, iou in answer.overlaps.items() if iou > least]
        for i in hits:
            if i in surest:
                found.append((min(surest[i], answer.score), False))
            surest[i] = max(surest.get(i, -np.inf), answer.score)
        if not hits and answer.other <= least and answer.excused <= least:
            found.append((answer.score, False))
    return found + [(score, True) for score in surest.values()]
