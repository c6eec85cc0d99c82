"""Edges and distances: by hand, against scipy, and their invariances (spec 1.9, H5 and H7)."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, find_objects

from smalti.geometry.boxes import object_boxes
from smalti.geometry.distances import LEVEL_WEIGHTS, distance_weights, instance_distances
from smalti.geometry.edges import label_edges


def square(size=7, inner=5):
    ids = np.zeros((size, size), np.int32)
    ids[1 : 1 + inner, 1 : 1 + inner] = 1
    return ids


def scene(seed=0, size=(60, 80), objects=9):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    ids = np.zeros(size, np.int32)
    for k in range(1, objects + 1):
        cy, cx, a, b = rng.uniform(0, size[0]), rng.uniform(0, size[1]), *rng.uniform(3, 20, 2)
        ids[((y - cy) / a) ** 2 + ((x - cx) / b) ** 2 < 1] = k
    return ids


def by_search(ids):
    """Every pixel of an object beside every pixel outside."""
    found = np.zeros(ids.shape)
    for k in np.unique(ids[ids > 0]):
        mask = ids == k
        inside, outside = np.argwhere(mask), np.argwhere(~mask)
        exact = np.sqrt(((inside[:, None] - outside[None]) ** 2).sum(-1).min(1))
        found[mask] = exact / exact.max()
    return found


def test_h5_a_square():
    distances = instance_distances(square())
    weights = distance_weights(square(), distances)
    values, counts = np.unique(distances[distances > 0].round(6), return_counts=True)
    assert values.tolist() == pytest.approx([1 / 3, 2 / 3, 1], abs=1e-6)
    assert counts.tolist() == [16, 8, 1]
    assert weights[square() == 1] == pytest.approx(1 / 5)
    assert weights[square() == 0].max() == 0
    assert (label_edges(square().astype(np.uint8), square()) == 1).sum() == 36


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_exact_also_where_objects_touch_and_at_the_edge(seed):
    ids = scene(seed, size=(30, 40), objects=6)
    distances = instance_distances(ids)
    assert distances == pytest.approx(by_search(ids), abs=1e-5)


def test_against_scipy_inside_the_picture():
    mask = np.pad(scene(3) == 5, 4)
    expected = distance_transform_edt(mask)
    distances = instance_distances(mask.astype(np.int32))
    assert distances == pytest.approx(expected / max(expected.max(), 1e-9), abs=1e-6)


def test_h7_translation_touching_objects_and_flips():
    ids = square(21, 9)
    alone = instance_distances(ids)
    moved = instance_distances(np.roll(ids, (5, 7), (0, 1)))
    assert np.array_equal(moved, np.roll(alone, (5, 7), (0, 1)))
    both = ids.copy()
    both[1:10, 10:15] = 2  # touches
    assert np.array_equal(instance_distances(both)[ids == 1], alone[ids == 1])
    busy = scene()
    for axis in (0, 1):
        flipped = instance_distances(np.flip(busy, axis))
        np.testing.assert_allclose(flipped, np.flip(instance_distances(busy), axis), atol=1e-6)


def test_an_object_that_fills_the_picture_is_1_everywhere():
    for size in ((1, 1), (5, 3)):
        distances = instance_distances(np.full(size, 7, np.int32))
        assert (distances == 1).all()


def test_no_objects_one_pixel_and_large_numbers():
    assert instance_distances(np.zeros((3, 4), np.int32)).max() == 0
    ids = np.zeros((5, 5), np.int64)
    ids[2, 2], ids[0, 0] = 2**31 + 5, 3_000_000
    distances = instance_distances(ids)
    weights = distance_weights(ids, distances)
    assert (distances[2, 2], distances[0, 0], weights[2, 2]) == (1, 1, 1)
    assert distances.sum() == 2
    with pytest.raises(ValueError, match="must be 0 .none. or positive"):
        instance_distances(np.full((2, 2), -1))


def test_other_norms():
    ids = square(100, 90)
    truncated = instance_distances(ids, "truncate")
    assert truncated[2, 50] == pytest.approx(2 / 32)
    assert truncated[50, 50] == 1
    levels = instance_distances(ids, "dwt")
    weights = distance_weights(ids, levels, "dwt")
    assert (levels[1, 50], levels[3, 50], levels[46, 46]) == pytest.approx((1 / 15, 3 / 15, 12 / 15))
    assert weights[1, 50] == pytest.approx(LEVEL_WEIGHTS[1] / 90)
    assert weights[46, 46] == pytest.approx(1 / 90)
    small = square(20, 9)
    assert distance_weights(small, instance_distances(small, "dwt"), "dwt").max() == 0  # below 100 pixels


def test_boxes_are_scipys():
    for seed in range(4):
        ids = scene(seed)
        found = object_boxes(ids)
        expected = {k: box for k, box in enumerate(find_objects(ids), start=1) if box is not None}
        assert found.numbers.tolist() == list(expected)
        assert found.boxes.tolist() == [[a.start, b.start, a.stop, b.stop] for a, b in expected.values()]
        assert found.areas.tolist() == [int((ids == k).sum()) for k in expected]
    assert object_boxes(np.zeros((3, 4), np.int32)).boxes.shape == (0, 4)
    assert object_boxes(np.full((2, 3), 9)).boxes.tolist() == [[0, 0, 2, 3]]


def test_edges_of_classes_objects_and_unknown_pixels(unchecked):
    labels = np.array([[0, 0, 1, 1, 255, 2]], np.uint8)
    assert label_edges(labels).tolist() == [[0, 1, 1, 0, 255, 0]]
    ids = np.array([[1, 2, 2, 2, 2, 2]])
    assert label_edges(labels, ids).tolist() == [[1, 1, 1, 0, 255, 0]]
    with pytest.raises(ValueError, match="of one size"):
        label_edges(labels, ids.T)
