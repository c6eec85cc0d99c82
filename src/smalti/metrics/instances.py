"""Average precision of object masks, as COCO measures it: by a maintained evaluator."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Bool, Float, Integer

from smalti.geometry.masks import encode_mask
from smalti.labels import LabelSet

COCO_LIMIT = 100
"""Predictions of an image and class that count in COCO's own evaluation."""
Masks = Bool[np.ndarray, "objects height width"]


class MaskAP:
    """AP over IoU 0.50 to 0.95, and at 0.50, of the thing classes; keeps masks run-length encoded.

    Truth that is a crowd (things not told apart) is neither to be found nor wrong to find. Of each picture and class at
    most `object_limit` predictions count, those with the highest scores.
    """

    def __init__(self, labels: LabelSet, max_objects: int | None = None) -> None:
        """`max_objects`: see `object_limit`; None = as many as the truth needs."""
        self.labels, self.max_objects = labels, max_objects
        self.pictures: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []

    def update(
        self,
        masks: Masks,
        classes: Integer[np.ndarray, " objects"],
        scores: Float[np.ndarray, " objects"],
        *,
        true_masks: Bool[np.ndarray, "true height width"],
        true_classes: Integer[np.ndarray, " true"],
        crowd: Bool[np.ndarray, " true"] | None = None,
    ) -> None:
        """Adds a picture."""
        picture = len(self.pictures) + 1
        height, width = true_masks.shape[-2:]
        self.pictures.append({"id": picture, "height": height, "width": width})
        crowds = np.zeros(len(true_classes), bool) if crowd is None else crowd
        for mask, label, is_crowd in zip(true_masks, true_classes, crowds, strict=True):
            entry = _entry(mask, int(label), picture)
            self.truth.append({**entry, "id": len(self.truth) + 1, "iscrowd": int(is_crowd)})
        for mask, label, score in zip(masks, classes, scores, strict=True):
            self.found.append({**_entry(mask, int(label), picture), "score": float(score)})

    def metrics(self) -> dict[str, float | None]:
        """`instances.ap`, `.ap50`, and `.ap.<class>`; None where there is no truth to find."""
        names = {k: name for k, name in enumerate(self.labels.names) if name in self.labels.things}
        keys = ["instances.ap", "instances.ap50", *(f"instances.ap.{name}" for name in names.values())]
        limit = object_limit(self.truth, self.max_objects)
        evaluated = coco_evaluation(names, self.pictures, self.truth, self.found, ("segm", limit))
        if not isinstance(evaluated, COCOeval_faster):
            return dict.fromkeys(keys, evaluated)
        precision = evaluated.eval["precision"][:, :, :, 0, evaluated.params.maxDets.index(limit)]  # all sizes
        found = [known_mean(precision), known_mean(precision[0]),
                 *(known_mean(precision[:, :, k]) for k in range(len(names)))]  # fmt: skip
        return dict(zip(keys, found, strict=True))


def object_limit(truth: Sequence[Mapping[str, Any]], max_objects: int | None) -> int:
    """Predictions of an image and class that count in COCO's AP: `max_objects`, else 100, or more where the data needs.

    COCO's own limit of 100 suits COCO. Where an image has more true objects, crowds not counted, their number is the
    limit: a network that finds all of them could not have an AP of 1 otherwise.
    """
    counts = Counter(entry["image_id"] for entry in truth if not entry["iscrowd"])
    return max_objects or max([COCO_LIMIT, *counts.values()])


def coco_evaluation(
    names: Mapping[int, str],
    pictures: list[dict[str, Any]],
    truth: list[dict[str, Any]],
    found: list[dict[str, Any]],
    rules: tuple[Literal["segm", "bbox"], int],
) -> COCOeval_faster | float | None:
    """The maintained evaluator, done; None if there is nothing to find, 0 if nothing was found.

    `rules`: what is compared, and the objects that count; `params.maxDets` of the evaluator holds these and COCO's 1,
    10 and 100.
    """
    if not any(not entry["iscrowd"] for entry in truth):
        return None
    if not found:
        return 0.0
    categories = [{"id": k + 1, "name": name} for k, name in names.items()]
    known = COCO({"images": pictures, "annotations": truth, "categories": categories})
    kind, limit = rules
    evaluation = COCOeval_faster(known, known.loadRes(found), kind)
    evaluation.params.maxDets = sorted({1, 10, COCO_LIMIT, limit})
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _entry(mask: Bool[np.ndarray, "height width"], label: int, picture: int) -> dict[str, Any]:
    return {"image_id": picture, "category_id": label + 1, "segmentation": encode_mask(mask), "area": int(mask.sum())}


def known_mean(precision: np.ndarray) -> float | None:
    """The evaluator marks with -1 what no truth could tell."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None
