"""Edge F against nearest neighbours by SciPy, at every threshold."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from smalti.metrics.distances import DistanceError
from smalti.metrics.edges import EdgeF


def by_definition(pairs, threshold):
    answered = right = true = found = 0
    for probabilities, edges in pairs:
        ours, theirs = np.argwhere((probabilities >= threshold) & (edges != 255)), np.argwhere(edges == 1)
        answered, true = answered + len(ours), true + len(theirs)
        if len(ours) and len(theirs):
            right += (KDTree(theirs).query(ours)[0] <= 2).sum()
            found += (KDTree(ours).query(theirs)[0] <= 2).sum()
    precision, recall = right / max(answered, 1), found / true
    return 2 * precision * recall / max(precision + recall, 1e-12), precision, recall


def test_ods_is_the_best_of_all_thresholds():
    rng = np.random.default_rng(0)
    edge_f, pairs = EdgeF(), []
    for _ in range(3):
        edges = np.zeros((40, 50), np.uint8)
        edges[20:22], edges[:, 30:32] = 1, 1
        # Values between the thresholds, so that rounding cannot matter.
        probabilities = ((0.5 * rng.random((40, 50)) ** 2 + 0.45 * np.roll(edges, 2, 1)) * 99).round() / 100 + 0.005
        edges[:6, :20] = 255
        edge_f.update(probabilities.astype(np.float32), edges)
        pairs.append((probabilities, edges))
    all_of_them = {t: by_definition(pairs, t / 100) for t in range(100)}
    best = max(all_of_them, key=lambda t: all_of_them[t][0])
    found = edge_f.metrics()
    assert 0.3 < all_of_them[best][0] < 1
    assert found["edges.ods_f"] == pytest.approx(all_of_them[best][0])
    assert (found["edges.precision"], found["edges.recall"]) == pytest.approx(all_of_them[best][1:])
    assert found["edges.threshold"] == best / 100


def test_without_edges_there_is_no_f():
    edge_f = EdgeF()
    edge_f.update(np.ones((4, 5), np.float32), np.zeros((4, 5), np.uint8))
    assert set(edge_f.metrics().values()) == {None}


def test_an_edge_two_pixels_off_is_found_and_three_are_too_many():
    edges = np.zeros((20, 20), np.uint8)
    edges[:, 8:10] = 1
    # At threshold 0 all 20 columns are answered: 6 of them are near, and every true edge is found.
    least = 2 * (6 / 20) / (6 / 20 + 1)
    for shift, f in ((2, 1.0), (3, 0.5), (5, least)):
        edge_f = EdgeF()
        edge_f.update(np.roll(edges, shift, 1).astype(np.float32), edges)
        assert edge_f.metrics()["edges.ods_f"] == pytest.approx(f)


def test_distances():
    error = DistanceError()
    assert error.metrics() == {"distances.mae": None}
    error.update(np.full((2, 2), 0.5), np.array([[1.0, 0.5], [0.0, 0.0]]), np.array([[True, True], [True, False]]))
    error.update(np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1), bool))
    assert error.metrics()["distances.mae"] == pytest.approx((0.5 + 0 + 0.5 + 1) / 4)
