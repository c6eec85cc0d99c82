"""Panoptic quality: worked by hand, and against torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.detection import PanopticQuality as Oracle

from smalti.labels import LabelSet
from smalti.metrics.panoptic import PanopticQuality

LABELS = LabelSet(names=("ground", "sky", "car", "person"), things=frozenset({"car", "person"}))


def maps(labels, ids):
    return np.array(labels, np.uint8), np.array(ids, np.int32)


def test_worked_by_hand():
    truth = maps([[0, 0, 0, 2, 2, 2, 2, 255]], [[0, 0, 0, 1, 1, 1, 2, 0]])
    answer = maps([[0, 0, 2, 2, 2, 2, 2, 2]], [[0, 0, 1, 1, 1, 1, 2, 2]])
    # ground: 2 / 3 shared; car 1: 3 / 4; car 2: its second pixel is void, so 1 / 1.
    quality = PanopticQuality(LABELS)
    quality.update(answer, truth)
    found = quality.metrics()
    assert found["panoptic.pq_stuff"] == pytest.approx(2 / 3)
    assert found["panoptic.pq_things"] == pytest.approx((3 / 4 + 1) / 2)
    assert found["panoptic.pq"] == pytest.approx((2 / 3 + 7 / 8) / 2)
    assert found["panoptic.rq"] == 1


def test_missed_invented_and_void():
    truth = maps([[0, 0, 2, 2, 3, 3, 255, 255]], [[0, 0, 1, 1, 0, 0, 0, 0]])  # persons not told apart: void
    answer = maps([[0, 0, 0, 0, 3, 3, 2, 2]], [[0, 0, 0, 0, 1, 1, 1, 1]])
    quality = PanopticQuality(LABELS)
    quality.update(answer, truth)
    found = quality.metrics()
    # ground 2 / 4 is no match: one invented, one missed; the car is missed; what lies in void counts nowhere.
    assert found["panoptic.pq"] == 0
    assert [(c.matched, c.predicted, c.missed) for c in quality.classes] == [(0, 1, 1), (0, 0, 0), (0, 0, 1), (0, 0, 0)]
    assert PanopticQuality(LABELS).metrics()["panoptic.pq"] is None


def test_against_torchmetrics():
    rng = np.random.default_rng(0)
    quality, oracle = PanopticQuality(LABELS), Oracle(things={2, 3}, stuffs={0, 1})
    for _ in range(4):
        coarse = rng.integers(0, 4, (6, 8))
        truth = np.kron(coarse, np.ones((5, 5), int))
        ids = np.kron(rng.integers(1, 4, (6, 8)), np.ones((5, 5), int))
        answer = np.where(rng.random(truth.shape) < 0.1, rng.integers(0, 4, truth.shape), truth)
        other = np.where(rng.random(truth.shape) < 0.1, 1, ids)
        pairs = [(labels, np.where(labels >= 2, numbers, 0)) for labels, numbers in ((answer, other), (truth, ids))]
        quality.update(*(maps(*pair) for pair in pairs))
        oracle.update(*(torch.from_numpy(np.stack(pair, -1))[None] for pair in pairs))
    assert quality.metrics()["panoptic.pq"] == pytest.approx(float(oracle.compute()), abs=1e-6)


def test_numbers_of_32_bits():
    ids = np.array([[2_000_000_000, 2_000_000_000, 5, 5]], np.int32)
    classes = np.full((1, 4), 2, np.uint8)
    quality = PanopticQuality(LABELS)
    quality.update((classes, ids), (classes, ids))
    assert quality.metrics()["panoptic.pq_things"] == 1
