import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, recall_score
from torchmetrics.functional.classification import multiclass_jaccard_index

from smalti.labels import LabelSet
from smalti.metrics.confusion import ConfusionMatrix
from smalti.metrics.semantic import semantic_metrics

NAMES = LabelSet(names=("a", "b", "c"))


def measured(predicted, true, labels=NAMES):
    matrix = ConfusionMatrix(len(labels))
    matrix.update(torch.tensor(predicted), torch.tensor(true))
    return semantic_metrics(matrix.counts, labels)


def test_a_case_worked_by_hand():
    found = measured([0, 0, 1, 1, 2, 0], [0, 0, 0, 1, 1, 255])
    # a: 2 right, 1 missed; b: 1 right, 1 missed, 1 false; c: nothing right, 1 false
    assert found["semantic.iou.a"] == pytest.approx(2 / 3)
    assert found["semantic.iou.b"] == pytest.approx(1 / 3)
    assert found["semantic.iou.c"] == 0
    assert found["semantic.miou"] == pytest.approx(1 / 3)
    assert found["semantic.pixel_accuracy"] == pytest.approx(3 / 5)
    assert found["semantic.class_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["semantic.frequency_weighted_iou"] == pytest.approx(2 / 3 * 3 / 5 + 1 / 3 * 2 / 5)
    assert found["semantic.accuracy.c"] is None
    assert found["semantic.absent_classes"] == []


def test_absent_classes_are_named_and_left_out():
    found = measured([0, 0, 1], [0, 0, 1])
    assert found["semantic.miou"] == 1
    assert found["semantic.iou.c"] is None
    assert found["semantic.absent_classes"] == ["c"]


def test_nothing_counted_is_no_number():
    found = measured([0, 1], [255, 255])
    assert found["semantic.miou"] is None
    assert found["semantic.pixel_accuracy"] is None
    assert found["semantic.absent_classes"] == ["a", "b", "c"]


def test_holes_in_a_prediction_are_errors():
    found = measured([0, 255, 255, 255], [0, 0, 1, 255])
    assert found["semantic.iou.a"] == 0.5
    assert found["semantic.iou.b"] == 0
    assert found["semantic.pixel_accuracy"] == pytest.approx(1 / 3)


def test_against_scikit_learn_and_torchmetrics():
    generator = np.random.default_rng(0)
    true = generator.integers(0, 6, (5, 40, 30))
    predicted = np.where(generator.random(true.shape) < 0.6, true, generator.integers(0, 6, true.shape))
    true[generator.random(true.shape) < 0.1] = 255
    matrix = ConfusionMatrix(6)
    for p, t in zip(predicted, true, strict=True):
        matrix.update(p.astype(np.uint8), t.astype(np.uint8))
    keep = true != 255
    p, t = predicted[keep], true[keep]
    np.testing.assert_array_equal(matrix.counts[:, :-1], confusion_matrix(t, p))
    found = semantic_metrics(matrix.counts, LabelSet.of(6))
    assert found["semantic.miou"] == pytest.approx(jaccard_score(t, p, average="macro"))
    assert found["semantic.frequency_weighted_iou"] == pytest.approx(jaccard_score(t, p, average="weighted"))
    assert found["semantic.pixel_accuracy"] == pytest.approx(accuracy_score(t, p))
    assert found["semantic.class_accuracy"] == pytest.approx(recall_score(t, p, average="macro"))
    other = multiclass_jaccard_index(torch.tensor(predicted), torch.tensor(true), num_classes=6, ignore_index=255)
    assert found["semantic.miou"] == pytest.approx(float(other), abs=1e-6)


def test_s7_frequency_weighting_changes_nothing_when_classes_are_equally_frequent():
    true = np.repeat(np.arange(3), 50)
    predicted = np.random.default_rng(1).integers(0, 3, true.shape)
    found = measured(predicted.tolist(), true.tolist())
    assert found["semantic.frequency_weighted_iou"] == pytest.approx(found["semantic.miou"])
    assert 0.1 < found["semantic.miou"] < 0.9


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [([3], [0], "prediction has the label 3"), ([0], [7], "truth has the label 7"), ([-1], [0], "label -1"),
     ([0, 0], [0], "one size")],
)  # fmt: skip
def test_labels_outside_the_table(predicted, true, message):
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(3).update(torch.tensor(predicted), torch.tensor(true))
