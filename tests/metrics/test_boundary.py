import numpy as np
import pytest
from scipy import ndimage

from smalti.labels import LabelSet
from smalti.metrics.boundary import BoundaryBands, border_distance


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
    assert bands.metrics(LabelSet.of(2)) == {"boundary.miou_3": None, "boundary.miou_5": None, "boundary.miou_10": None}


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
    assert int(bands.matrices[3].counts.sum()) == 6 * (3 + 3)
