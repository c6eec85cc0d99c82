"""What is measured of a split: each number from its own errors."""

import numpy as np
import pytest
import torch
from torchvision.tv_tensors import Image, Mask

from smalti.containers import ClassScores, Predictions, Sample
from smalti.draw.heat import heat_map, with_scale
from smalti.evaluation.errors import PictureScore, doubt_correlation, most_doubtful
from smalti.evaluation.measures import Measures
from smalti.labels import LabelSet

LABELS = LabelSet(names=("a", "b"))
SAMPLE = Sample(
    image=Image(torch.zeros(3, 1, 5, dtype=torch.uint8)),
    semantic=Mask(torch.tensor([[0, 0, 1, 1, 255]], dtype=torch.uint8)),
    name="p",
)


def answer(**maps):
    return Predictions(labels=LABELS, **{k: torch.tensor([v]) for k, v in maps.items()})


def bytes_(*values):
    return torch.tensor([values], dtype=torch.uint8)


def confidence_of(*values):
    return ClassScores.of(torch.tensor([[values]]))


def test_each_number_is_of_its_own_errors():
    """The final answer is wrong at pixel 0, coarse at pixel 3; the difficulty knows of the latter only."""
    measures = Measures(LABELS)
    measures.update(Predictions(
        labels=LABELS, semantic=bytes_(1, 0, 1, 1, 0), coarse=bytes_(0, 0, 1, 0, 0), fine=bytes_(1, 0, 1, 1, 0),
        scores=confidence_of(0.5, 0.9, 0.9, 0.9, 0.1), difficulty=torch.tensor([[0.1, 0.2, 0.2, 0.9, 0.5]]),
    ), SAMPLE)  # fmt: skip
    found = measures.metrics()
    assert found["difficulty.auc"] == 1
    assert found["difficulty.answer_auc"] == 0
    assert found["confidence.auc"] == 1
    assert found["semantic.pixel_accuracy"] == found["coarse.pixel_accuracy"] == 0.75
    assert found["oracle_gate.pixel_accuracy"] == 1
    assert measures.scores[0].doubt == pytest.approx((0.1 + 0.2 + 0.2 + 0.9 + 0.5) / 5)
    assert found["difficulty.picture_correlation"] is None  # of one picture


def test_without_a_gate_doubt_is_a_lack_of_confidence():
    measures = Measures(LABELS)
    scores = confidence_of(0.5, 0.9, 0.9, 0.9, 0.8)
    measures.update(Predictions(labels=LABELS, semantic=bytes_(0, 0, 1, 1, 0), scores=scores), SAMPLE)
    found = measures.metrics()
    assert "difficulty.auc" not in found
    assert found["confidence.auc"] is None  # nothing is wrong
    assert measures.scores[0].doubt == pytest.approx(0.2)


def test_the_order_in_which_to_look_at_pictures():
    scores = [PictureScore(name=str(k), miou=0.5, pixel_accuracy=1 - 0.1 * k, doubt=0.05 * k) for k in range(4)]
    unknown = PictureScore(name="x", miou=None, pixel_accuracy=None)
    assert [s.name for s in most_doubtful([*scores, unknown], 2)] == ["3", "2"]
    assert doubt_correlation([*scores, unknown]) == pytest.approx(1)
    assert doubt_correlation(scores[:2]) is None
    same = [PictureScore(name="a", miou=0.5, pixel_accuracy=0.5, doubt=k / 10) for k in range(4)]
    assert doubt_correlation(same) is None


def test_heat_goes_from_dark_to_bright():
    picture = np.full((20, 30, 3), 128, np.uint8)
    drawn = [heat_map(picture, np.full((20, 30), value, np.float32)).mean() for value in (0.0, 0.5, 1.0)]
    assert drawn[0] < drawn[1] < drawn[2]
    scaled = with_scale(
        heat_map(picture, np.zeros((20, 30), np.float32)), "a title that is much too long for the picture " * 2
    )
    assert scaled.shape[1] == 240
    assert 20 < scaled.shape[0] < 120
