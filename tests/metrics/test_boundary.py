import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import KDTree

from smalti.labels import LabelSet
from smalti.metrics.boundary import BoundaryBands, BoundaryMatches, border_distance

CROSS = ndimage.generate_binary_structure(2, 1)


def by_definition(labels):
    """SciPy's distance to the pixels that have a neighbour of another label."""
    padded = np.pad(labels.astype(int), 1, mode="edge")
    at_border = np.zeros(labels.shape, bool)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        neighbour = padded[rows : rows + labels.shape[0], columns : columns + labels.shape[1]]
        at_border |= neighbour != labels
    return ndimage.distance_transform_edt(~at_border)


def test_distances_are_scipys():
    labels = np.kron(np.random.default_rng(0).choice([0, 1, 255], (6, 7)), np.ones((9, 11))).astype(np.uint8)
    np.testing.assert_allclose(border_distance(labels), by_definition(labels), atol=1e-5)


def test_without_borders_nothing_is_near():
    assert np.isinf(border_distance(np.zeros((5, 6), np.uint8))).all()
    bands = BoundaryBands(2)
    bands.update(np.zeros((5, 6), np.uint8), np.zeros((5, 6), np.uint8))
    assert set(bands.metrics(LabelSet.of(2)).values()) == {None}
    matches = BoundaryMatches(LabelSet.of(2))
    assert matches.metrics() == {"boundary.f1": None, "boundary.iou": None}
    matches.update(np.full((5, 6), 1, np.uint8), np.full((5, 6), 255, np.uint8))
    assert matches.metrics() == {"boundary.f1": None, "boundary.iou": None}


def test_bands_worked_out_by_hand():
    truth = np.zeros((8, 40), np.uint8)
    truth[:, 20:] = 1
    answer = np.zeros((8, 40), np.uint8)
    answer[:, 24:] = 1  # four columns too late
    bands = BoundaryBands(2)
    bands.update(answer, truth)
    found = bands.metrics(LabelSet.of(2))
    # 3 columns a side: all of class 1 is missed. 5: of 5 columns one is found. 10: 6 of 10.
    assert found["boundary.miou_3"] == pytest.approx((3 / 6 + 0) / 2)
    assert found["boundary.miou_5"] == pytest.approx((5 / 9 + 1 / 5) / 2)
    assert found["boundary.miou_10"] == pytest.approx((10 / 14 + 6 / 10) / 2)


def test_ignored_pixels_make_borders_and_are_not_counted():
    truth = np.zeros((6, 30), np.uint8)
    truth[:, 14:16] = 255
    truth[:, 16:] = 1
    bands = BoundaryBands(2)
    bands.update(truth.clip(0, 1), truth)
    assert bands.metrics(LabelSet.of(2))["boundary.miou_3"] == 1.0
    # The pixels at both sides of each border are within 1: of the ring's two columns none is counted.
    assert sum(int(ring.counts.sum()) for ring in bands.rings[:3]) == 6 * (3 + 3)


def busy(seed, size=(60, 80)):
    rng = np.random.default_rng(seed)
    return ndimage.zoom(rng.choice([0, 1, 2], (6, 8)), size[0] // 6, order=0).astype(np.uint8)


def test_boundary_iou_is_that_of_rims_eroded_by_scipy():
    """Cheng et al. erode each class's mask with a 3x3 window, the picture's edge being outside."""
    labels = LabelSet.of(3)
    matches, counts = BoundaryMatches(labels), np.zeros((3, 2))
    for seed in range(3):
        truth, answer = busy(seed), np.roll(busy(seed), (1, seed), (0, 1))
        answer[:5] = 2
        truth[50:, :9] = 255
        matches.update(answer, truth)
        steps = round(0.02 * np.hypot(60, 80))
        for k in range(3):
            masks = [(m == k) & (truth != 255) for m in (answer, truth)]
            window = np.ones((3, 3))
            rims = [m & ~ndimage.binary_erosion(m, window, iterations=steps, border_value=0) for m in masks]
            counts[k] += (rims[0] & rims[1]).sum(), (rims[0] | rims[1]).sum()
    assert matches.metrics()["boundary.iou"] == pytest.approx((counts[:, 0] / counts[:, 1]).mean())


def test_boundary_f1_is_that_of_nearest_neighbours():
    """SciPy's KD-tree finds for each border pixel the nearest of the other map."""
    matches, found = BoundaryMatches(LabelSet.of(3)), np.zeros((3, 4))
    for seed in range(3):
        truth, answer = busy(seed, (120, 160)), np.roll(busy(seed, (120, 160)), (0, seed), (0, 1))
        matches.update(answer, truth)
        for k in range(3):
            borders = []
            for labels in (answer, truth):
                changed = ndimage.maximum_filter(labels, footprint=CROSS) != ndimage.minimum_filter(
                    labels, footprint=CROSS
                )
                borders.append(np.argwhere(changed & (labels == k)))
            a, b = borders
            near = 0.0075 * np.hypot(120, 160)
            found[k] += (len(a), (KDTree(b).query(a)[0] <= near).sum(), len(b), (KDTree(a).query(b)[0] <= near).sum())
    precision, recall = found[:, 1] / found[:, 0], found[:, 3] / found[:, 2]
    f1 = 2 * precision * recall / (precision + recall)
    assert 0.5 < f1.mean() < 1
    assert matches.metrics()["boundary.f1"] == pytest.approx(f1.mean())


def test_equal_maps_have_equal_borders():
    matches = BoundaryMatches(LabelSet.of(3))
    matches.update(busy(5), busy(5))
    assert matches.metrics() == {"boundary.f1": 1.0, "boundary.iou": 1.0}
