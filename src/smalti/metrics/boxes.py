"""Average precision of boxes, as PASCAL VOC and as COCO measure it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster
from jaxtyping import Float

from smalti.containers import Instances
from smalti.labels import LabelSet
from smalti.metrics.instances import COCO_LIMIT, coco_evaluation, known_mean, object_limit

Boxes = Float[np.ndarray, "objects 4"]
OVERLAP = 0.5
COCO_KEYS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100", "ar_small",
             "ar_medium", "ar_large")  # fmt: skip
"""The twelve numbers of COCO's evaluation, in its order."""
SIZES = ("", "_small", "_medium", "_large")
"""Behind `ap` and `ar`: the evaluator's ranges of areas, in its order."""


@dataclass
class _Class:
    """Of one class: answers as (score, right), and how many true boxes are to be found."""

    outcomes: list[tuple[float, bool]] = field(default_factory=list)
    objects: int = 0


class BoxAP:
    """Average precision of the boxes of the thing classes, corners (left, top, right, bottom) in pixels.

    * `boxes.map50` is VOC's since 2010, the area under the curve; `boxes.map50_11` that of 2007, the mean over eleven
      recalls. A true box is found by the surest answer that overlaps it most, with an IoU of 0.5 or more. Difficult
      ones are neither to be found nor wrong to find, nor is what lies in a crowd of its class for half or more.
    * `boxes.ap`, `.ap50`, `.ap75`, `.ap_small|medium|large`, `.ar1|10|100`, `.ar_small|medium|large`: COCO's.
      Difficult and crowd boxes count as crowds there. `.ar1|10|100` count so many predictions of an image and class,
      all others `object_limit`, which is COCO's 100 unless an image has more objects or `max_objects` is given.
    """

    def __init__(self, labels: LabelSet, max_objects: int | None = None) -> None:
        """`max_objects`: see `object_limit`; None = as many as the truth needs."""
        self.max_objects = max_objects
        self.names = {k: name for k, name in enumerate(labels.names) if name in labels.things}
        self.classes = {k: _Class() for k in self.names}
        self.pictures: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []

    def update(self, found: Instances, true: Instances) -> None:
        """Adds a picture: answers with scores, and what is to be found; `areas` of these are what COCO sorts by."""
        assert found.scores is not None
        boxes, scores = found.boxes.cpu().numpy(), found.scores.cpu().numpy()
        true_boxes, excused = true.boxes.cpu().numpy(), true.excused().cpu().numpy()
        classes, true_classes = found.labels.cpu().numpy(), true.labels.cpu().numpy()
        crowd = np.zeros(len(true), bool) if true.crowd is None else true.crowd.cpu().numpy()
        for k, own in self.classes.items():
            mine, theirs = classes == k, (true_classes == k) & ~crowd
            own.objects += int(np.count_nonzero(theirs & ~excused))
            outcomes = _outcomes(boxes[mine], scores[mine], true_boxes[theirs], excused[theirs])
            crowds = true_boxes[(true_classes == k) & crowd]
            own.outcomes += [(score, right) for score, right, box in outcomes if right or not _lies_in(box, crowds)]
        picture = len(self.pictures) + 1
        far = np.concatenate([boxes, true_boxes, np.ones((1, 4))]).max(0)
        self.pictures.append({"id": picture, "width": int(far[2]), "height": int(far[3])})
        for k, (box, label) in enumerate(zip(true_boxes, true_classes, strict=True)):
            entry = {**_entry(box, int(label), picture), "id": len(self.truth) + 1, "iscrowd": int(excused[k])}
            self.truth.append(entry if true.areas is None else {**entry, "area": float(true.areas[k])})
        for box, label, score in zip(boxes, classes, scores, strict=True):
            self.found.append({**_entry(box, int(label), picture), "score": float(score)})

    def metrics(self) -> dict[str, float | None]:
        """All keys named above, and `boxes.map50.<class>`; None where there is nothing to find."""
        area = {k: average_precision(own.outcomes, own.objects) for k, own in self.classes.items()}
        eleven = [average_precision(own.outcomes, own.objects, eleven=True) for own in self.classes.values()]
        found: dict[str, float | None] = {"boxes.map50": _mean(list(area.values())), "boxes.map50_11": _mean(eleven)}
        found |= {f"boxes.map50.{self.names[k]}": value for k, value in area.items()}
        # With no answer at all the evaluator cannot tell what there is to find: one that finds nothing changes nothing.
        answers = self.found or [{**_entry(np.zeros(4), min(self.names, default=0), 1), "score": 0.0}]
        limit = object_limit(self.truth, self.max_objects)
        evaluated = coco_evaluation(self.names, self.pictures, self.truth, answers, ("bbox", limit))
        if not isinstance(evaluated, COCOeval_faster):
            return found | {f"boxes.{key}": evaluated for key in COCO_KEYS}
        numbers = _coco_numbers(evaluated, limit)
        return found | {f"boxes.{key}": numbers[key] for key in COCO_KEYS}


def _coco_numbers(evaluated: COCOeval_faster, limit: int) -> dict[str, float | None]:
    """COCO's numbers by their keys, from precision [IoU, recall, class, size, limit] and recall [IoU, class, …]."""
    precision, recall, limits = evaluated.eval["precision"], evaluated.eval["recall"], evaluated.params.maxDets
    place = limits.index(limit)
    numbers = {f"ap{size}": known_mean(precision[:, :, :, k, place]) for k, size in enumerate(SIZES)}
    numbers |= {f"ar{size}": known_mean(recall[:, :, k, place]) for k, size in enumerate(SIZES) if size}
    numbers |= {f"ar{count}": known_mean(recall[:, :, 0, limits.index(count)]) for count in (1, 10, COCO_LIMIT)}
    for name, threshold in (("ap50", 0.5), ("ap75", 0.75)):
        where = int(np.abs(evaluated.params.iouThrs - threshold).argmin())
        numbers[name] = known_mean(precision[where, :, :, 0, place])
    return numbers


def _outcomes(
    boxes: Boxes, scores: np.ndarray, true_boxes: np.ndarray, excused: np.ndarray
) -> list[tuple[float, bool, Float[np.ndarray, " 4"]]]:
    """Of one picture and class: each answer that counts, the surest first: score, whether it found a box, its box."""
    taken = np.zeros(len(true_boxes), bool)
    found = []
    for k in np.argsort(-scores, kind="stable"):
        overlaps = box_iou(boxes[k], true_boxes)
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best < 0 or overlaps[best] < OVERLAP:
            found.append((float(scores[k]), False, boxes[k]))
        elif not excused[best]:
            found.append((float(scores[k]), not taken[best], boxes[k]))
            taken[best] = True
    return found


def _lies_in(box: Float[np.ndarray, " 4"], crowds: Boxes) -> bool:
    """Whether half of the box or more lies in one of the crowds."""
    low, high = np.maximum(box[:2], crowds[:, :2]), np.minimum(box[2:], crowds[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    return bool((shared >= OVERLAP * (box[2:] - box[:2]).prod()).any())


def box_iou(box: Float[np.ndarray, " 4"], others: Float[np.ndarray, "others 4"]) -> Float[np.ndarray, " others"]:
    """Intersection over union of a box with others; edges are lines between pixels, so a side is right - left.

    # DIFFERS: VOC's own code adds 1 to each side, because its corners are whole pixels that belong to the box; ours
    are read as edges (`data/`), which makes both the same.
    """
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared
    iou: np.ndarray = shared / np.maximum(union, 1e-12)
    return iou


def average_precision(outcomes: Sequence[tuple[float, bool]], objects: int, *, eleven: bool = False) -> float | None:
    """Of answers (score, right), where so many are to be found; None if none is.

    The area under precision over recall, where precision is made to fall only; or (`eleven`) the mean of the best
    precision at a recall of at least 0, 0.1, …, 1.
    """
    if not objects:
        return None
    if not outcomes:
        return 0.0
    order = np.argsort([-score for score, _ in outcomes], kind="stable")
    right = np.array([hit for _, hit in outcomes], float)[order].cumsum()
    precision, recall = right / np.arange(1, len(right) + 1), right / objects
    if eleven:
        return float(np.mean([precision[recall >= k / 10 - 1e-12].max(initial=0.0) for k in range(11)]))
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * falling).sum())


def _entry(box: np.ndarray, label: int, picture: int) -> dict[str, Any]:
    left, top, right, bottom = (float(v) for v in box)
    return {"image_id": picture, "category_id": label + 1, "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top)}  # fmt: skip


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
