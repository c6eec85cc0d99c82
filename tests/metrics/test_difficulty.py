"""Ranking errors by doubt: worked by hand, and against torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from smalti.labels import LabelSet
from smalti.metrics.difficulty import Cascade, ErrorRanking

LABELS = LabelSet(names=("a", "b"))


def ranking(scores, wrong):
    found = ErrorRanking()
    found.update(torch.tensor(scores), torch.tensor(wrong, dtype=torch.bool))
    return found


def test_worked_by_hand():
    """Of the 2 x 3 pairs of a wrong and a right pixel, 4 are in order and one is a tie: 4.5 / 6."""
    found = ranking([0.9, 0.3, 0.1, 0.3, 0.6], [1, 1, 0, 0, 0])
    assert found.auc() == pytest.approx(4.5 / 6)
    coverage, accuracy = found.curve()
    assert coverage == pytest.approx([0.2, 0.6, 0.8, 1.0])
    assert accuracy == pytest.approx([1.0, 2 / 3, 3 / 4, 3 / 5])
    assert found.accuracy_at(0.8) == pytest.approx(3 / 4)
    assert found.accuracy_at(0.4) == pytest.approx(0.75)  # half of the two tied pixels, of which one is right


def test_against_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(5000, generator=generator)
    wrong = torch.rand(5000, generator=generator) < scores * 0.4
    found = ErrorRanking()
    for part in range(5):
        found.update(scores[part::5].view(20, 50), wrong[part::5].view(20, 50))
    assert found.auc() == pytest.approx(float(binary_auroc(scores, wrong.long())), abs=1e-4)
    assert found.accuracy_at(1.0) == pytest.approx(1 - float(wrong.float().mean()))
    easy = wrong[scores.argsort()][:4500]
    assert found.accuracy_at(0.9) == pytest.approx(1 - float(easy.float().mean()), abs=1e-3)


def test_scores_near_one_and_zero_keep_their_order():
    found = ranking([1 - 1e-5, 1 - 1e-4, 1e-4, 1e-5], [1, 0, 1, 0])
    assert found.auc() == pytest.approx(3 / 4)
    assert ranking([1.0, 0.0], [1, 0]).auc() == 1


@pytest.mark.parametrize("wrong", [[0, 0], [1, 1]])
def test_without_errors_or_without_right_pixels_there_is_no_order(wrong):
    found = ranking([0.2, 0.9], wrong)
    assert found.auc() is None
    assert found.accuracy_at(0.5) == pytest.approx(1 - wrong[0])


def test_nothing_counted_is_no_number():
    found = ErrorRanking()
    assert found.auc() is None
    assert found.accuracy_at(0.9) is None
    assert found.curve() == ([], [])
    assert Cascade(LABELS).metrics() == {}


def test_a_cascade_worked_by_hand():
    truth = np.array([[0, 0, 1, 1, 255]], np.uint8)
    coarse, fine = np.array([[0, 1, 1, 0, 0]], np.uint8), np.array([[0, 0, 0, 0, 0]], np.uint8)
    cascade = Cascade(LABELS)
    cascade.update(coarse, fine, truth)
    found = cascade.metrics()
    accuracies = [found[f"{name}.pixel_accuracy"] for name in ("coarse", "fine", "oracle_gate")]
    assert accuracies == [0.5, 0.5, 0.75]
    assert found["oracle_gate.miou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    cascade.update(coarse, None, truth)  # a picture that was refined in part only: nobody knows the rest
    assert cascade.metrics() == {"coarse.pixel_accuracy": 0.5, "coarse.miou": pytest.approx(1 / 3)}
