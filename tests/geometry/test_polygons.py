"""Polygons of masks, filled again by rasterio."""

import numpy as np
import pytest
from rasterio.features import rasterize, shapes

from smalti.geometry.polygons import region_polygons


def closed(ring):
    return [tuple(point) for point in [*ring.tolist(), ring[0].tolist()]]


def geometry(polygon):
    return {"type": "Polygon", "coordinates": [closed(ring) for ring in (polygon.outside, *polygon.holes)]}


def filled(polygons, size):
    drawn = [(geometry(polygon), 1) for polygon in polygons]
    return rasterize(drawn, out_shape=size, fill=0).astype(bool) if drawn else np.zeros(size, bool)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.7, 0.95, 1.0])
def test_filled_polygons_are_the_mask(share):
    """Oracle: GDAL fills them again, and finds as many regions with the same outlines."""
    random = np.random.default_rng(0)
    for _ in range(20):
        mask = random.random(random.integers(1, 24, 2)) < share
        polygons = region_polygons(mask)
        assert np.array_equal(filled(polygons, mask.shape), mask)
        theirs = [s["coordinates"][0] for s, value in shapes(mask.astype(np.uint8), connectivity=4) if value]
        ours = [closed(polygon.outside) for polygon in polygons]
        assert sorted(sorted(set(ring)) for ring in theirs) == sorted(sorted(set(ring)) for ring in ours)


def test_no_ring_touches_itself():
    """A region around pixels that meet at their corners: two holes, not one that crosses itself."""
    mask = np.ones((4, 4), bool)
    mask[1, 1] = mask[2, 2] = False
    (polygon,) = region_polygons(mask)
    assert len(polygon.holes) == 2
    random = np.random.default_rng(1)
    for _ in range(50):
        for polygon in region_polygons(random.random((9, 9)) < 0.7):
            for ring in (polygon.outside, *polygon.holes):
                assert len({tuple(point) for point in ring.tolist()}) == len(ring)


def test_points_are_corners_of_pixels():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    (polygon,) = region_polygons(mask)
    assert {tuple(point) for point in polygon.outside.tolist()} == {(2, 1), (5, 1), (5, 3), (2, 3)}
    assert polygon.holes == ()


def test_simplified_lines_stray_no_further_than_allowed():
    y, x = np.mgrid[:60, :60]
    mask = (x - 30) ** 2 + (y - 30) ** 2 < 400
    exact, simple = region_polygons(mask)[0], region_polygons(mask, tolerance=1.0)[0]
    assert len(simple.outside) < len(exact.outside) / 2
    wrong = filled([type(simple)(simple.outside)], mask.shape) ^ mask
    radius = np.hypot(x + 0.5 - 30, y + 0.5 - 30)
    assert np.abs(radius[wrong] - 20).max() < 2.5  # a pixel of tolerance, and half a diagonal on either side
    speck = np.zeros((3, 3), bool)
    speck[1, 1] = True
    assert region_polygons(speck, tolerance=3.0) == []
