"""The semantic numbers, from one confusion matrix over the whole set (spec 0)."""

import torch
from jaxtyping import Int64
from torch import Tensor

from smalti.labels import LabelSet

Value = float | None | list[str]


def semantic_metrics(counts: Int64[Tensor, "classes answers"], labels: LabelSet) -> dict[str, Value]:
    """Flat metrics by key; a number that does not exist is None, never 0 or 1.

    * `semantic.miou`: mean over classes of TP / (TP + FP + FN); a class that neither truth nor answers have is left out
      and named in `semantic.absent_classes`.
    * `semantic.pixel_accuracy`: right pixels / counted pixels.
    * `semantic.class_accuracy`: mean over the classes in the truth of TP / (TP + FN).
    * `semantic.frequency_weighted_iou`: IoU weighted with each class's share of the true pixels (spec 2.4).
    * `semantic.iou.<class>`, `semantic.accuracy.<class>`.
    """
    exact = counts.double()
    right, true, answered = exact[:, :-1].diagonal(), exact.sum(1), exact[:, :-1].sum(0)
    iou = right / (true + answered - right)  # 0 / 0 = NaN where a class is absent
    accuracy = right / true
    present = ~iou.isnan()
    found: dict[str, Value] = {
        "semantic.miou": _number(iou[present].mean()),
        "semantic.pixel_accuracy": _number(right.sum() / true.sum()),
        "semantic.class_accuracy": _number(accuracy[true > 0].mean()),
        "semantic.frequency_weighted_iou": _number((iou * true)[present].sum() / true.sum()),
    }
    for key, values in (("iou", iou), ("accuracy", accuracy)):
        found |= {f"semantic.{key}.{name}": _number(value) for name, value in zip(labels.names, values, strict=True)}
    found["semantic.absent_classes"] = [n for n, here in zip(labels.names, present.tolist(), strict=True) if not here]
    return found


def _number(value: Tensor) -> float | None:
    return None if torch.isnan(value) else float(value)
