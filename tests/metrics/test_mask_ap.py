"""Mask AP: worked by hand, and against torchmetrics with the reference evaluator."""

import numpy as np
import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from smalti.labels import LabelSet
from smalti.metrics.instances import MaskAP

LABELS = LabelSet(names=("ground", "car", "person"), things=frozenset({"car", "person"}))


def boxes(*corners, size=(40, 60)):
    masks = np.zeros((len(corners), *size), bool)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def tensors(**arrays):
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_worked_by_hand():
    """One car found exactly, one missed, one invented with a lower score: precision 1 up to recall 0.5."""
    ap = MaskAP(LABELS)
    truth = boxes((0, 0, 10, 10), (20, 20, 30, 30))
    ap.update(boxes((0, 0, 10, 10), (0, 40, 10, 50)), np.array([1, 1]), np.array([0.9, 0.3]),
              true_masks=truth, true_classes=np.array([1, 1]))  # fmt: skip
    found = ap.metrics()
    assert found["instances.ap"] == pytest.approx(51 / 101, abs=1e-6)  # of 101 recalls, 0 to 0.50
    assert found["instances.ap50"] == pytest.approx(51 / 101, abs=1e-6)
    assert found["instances.ap.person"] is None


def test_crowds_are_neither_to_be_found_nor_wrong_to_find():
    ap = MaskAP(LABELS)
    truth = boxes((0, 0, 10, 10), (20, 0, 40, 60))
    ap.update(boxes((25, 5, 35, 20), (0, 0, 10, 10)), np.array([1, 1]), np.array([0.9, 0.3]),
              true_masks=truth, true_classes=np.array([1, 1]), crowd=np.array([False, True]))  # fmt: skip
    assert ap.metrics()["instances.ap"] == pytest.approx(1)


def test_without_truth_or_answers():
    none = np.zeros((0, 4, 4), bool), np.zeros(0, int)
    ap = MaskAP(LABELS)
    assert ap.metrics()["instances.ap"] is None
    ap.update(*none, np.zeros(0), true_masks=none[0], true_classes=none[1])
    assert ap.metrics()["instances.ap50"] is None
    ap.update(*none, np.zeros(0), true_masks=boxes((0, 0, 2, 2), size=(4, 4)), true_classes=np.array([1]))
    assert ap.metrics()["instances.ap"] == 0


@pytest.mark.parametrize(("max_objects", "expected"), [(None, 1), (100, 100 / 240), (240, 1), (500, 1)])
def test_all_of_many_objects_count(max_objects, expected):
    """240 objects of a class, all found perfectly: COCO's limit of 100 would say 0.42."""
    places = [(12 * (k // 20), 12 * (k % 20)) for k in range(240)]
    masks = boxes(*((top, left, top + 9, left + 9) for top, left in places), size=(150, 250))
    ap, classes = MaskAP(LABELS, max_objects), np.ones(240, int)
    ap.update(masks, classes, np.linspace(0.5, 1, 240), true_masks=masks, true_classes=classes)
    assert ap.metrics()["instances.ap"] == pytest.approx(expected, abs=0.01)


def test_against_torchmetrics():
    rng = np.random.default_rng(0)
    # Its own thresholds are float32, so that an IoU or a recall of exactly 0.6 is below 0.6.
    oracle = MeanAveragePrecision(
        iou_type="segm",
        backend="faster_coco_eval",
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
    )
    ours = MaskAP(LABELS)
    for _ in range(6):
        corners = np.stack([rng.integers(0, 25, 5), rng.integers(0, 40, 5)], 1)
        sizes = rng.integers(6, 15, (5, 2))
        truth = boxes(*np.concatenate([corners, corners + sizes], 1))
        moved = corners + rng.integers(-2, 3, (5, 2)).clip(-2, 2)
        moved = moved.clip(0)
        answer = boxes(*np.concatenate([moved, moved + sizes], 1))
        classes = rng.integers(1, 3, 5)
        guessed = np.where(rng.random(5) < 0.2, 3 - classes, classes)
        scores = rng.random(5).astype(np.float32)
        ours.update(answer, guessed, scores, true_masks=truth, true_classes=classes)
        oracle.update(
            [
                {
                    "masks": torch.from_numpy(answer),
                    "labels": torch.from_numpy(guessed),
                    "scores": torch.from_numpy(scores),
                }
            ],
            [{"masks": torch.from_numpy(truth), "labels": torch.from_numpy(classes)}],
        )
    expected = oracle.compute()
    found = ours.metrics()
    assert found["instances.ap"] == pytest.approx(float(expected["map"]), abs=1e-5)
    assert found["instances.ap50"] == pytest.approx(float(expected["map_50"]), abs=1e-5)
    assert 0.1 < found["instances.ap"] < found["instances.ap50"] < 0.9
