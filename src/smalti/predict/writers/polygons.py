"""Regions and objects as polygons, for maps and for programs that draw."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from smalti.containers import Predictions
from smalti.files import write_text
from smalti.geometry.polygons import Polygon, region_polygons
from smalti.predict.writers.contract import Picture, Writer, as_array, known, scores_of
from smalti.predict.writers.panoptic import segments_of

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x = a column + b row + c, y = d column + e row + f, as rasterio has it."""


def feature_collection(
    answer: Predictions, tolerance: float = 0.0, transform: Affine | None = None, crs: str | None = None
) -> dict[str, Any]:
    """GeoJSON: a feature for each class that occurs, or for each object where the network tells objects apart.

    Properties: `class`, `category_id` (the class table's file id), `object` (its number; null of a class), `area`
    (pixels), `score` (the object's, else the mean confidence of the pixels; null if the network gives none).

    Args:
        answer: With classes.
        tolerance: How far a line may stray from the pixels' borders, in pixels; 0 = exact. Neighbours are simplified
            by themselves: with a tolerance they may part or overlap by so much.
        transform: From pixels to map coordinates; None = pixels.
        crs: What the map coordinates are, such as "EPSG:32633".

    Raises:
        NoSuchAnswerError: If the network does not know classes.
    """
    place = transform or (1, 0, 0, 0, 1, 0)
    features = []
    for mask, properties in _regions(answer):
        polygons = region_polygons(mask, tolerance)
        coordinates = [_coordinates(polygon, place) for polygon in polygons]
        if len(coordinates) == 1:
            geometry = {"type": "Polygon", "coordinates": coordinates[0]}
        else:
            geometry = {"type": "MultiPolygon", "coordinates": coordinates}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    height, width = known(answer, "semantic").shape
    said = "pixels: x to the right, y down, (0, 0) is the upper left corner of the picture"
    described = {"coordinates": said if transform is None else crs or "map", "height": height, "width": width}
    return {"type": "FeatureCollection", "properties": described, "features": features}


class Polygons(Writer):
    """`NAME.geojson`: regions and objects as exact polygons in pixels."""

    endings, needs = (".geojson",), ("semantic",)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        write_text(self.out / f"{name}.geojson", json.dumps(feature_collection(answer), ensure_ascii=False) + "\n")


def _regions(answer: Predictions) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Masks with their properties."""
    labels = as_array(known(answer, "semantic"))
    confidence = None if answer.confidence is None else as_array(answer.confidence)
    if answer.instances is None or answer.instances.masks is None:
        present = [k for k in np.unique(labels).tolist() if k < len(answer.labels)]
        kinds = [(labels == k, k, 0) for k in present]
        scores: list[float] = []
    else:
        found = segments_of(answer)
        kinds = [(found.map == n, k, number)
                 for n, (k, number) in enumerate(zip(found.classes, found.objects, strict=True), 1)]  # fmt: skip
        scores = scores_of(answer.instances)
    return [
        (
            mask,
            {
                "class": answer.labels.names[k],
                "category_id": answer.labels.ids[k],
                "object": number or None,
                "area": int(mask.sum()),
                "score": _rounded(scores[number - 1] if number else _mean(confidence, mask)),
            },
        )
        for mask, k, number in kinds
    ]


def _mean(confidence: np.ndarray | None, mask: np.ndarray) -> float | None:
    return None if confidence is None else float(confidence[mask].mean())


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 6)


def _coordinates(polygon: Polygon, place: Affine) -> list[list[list[float]]]:
    """Closed rings, the outer one counterclockwise in its own coordinates, holes clockwise (RFC 7946)."""
    return [_closed(polygon.outside, place, 1), *(_closed(hole, place, -1) for hole in polygon.holes)]


def _closed(ring: np.ndarray, place: Affine, turn: int) -> list[list[float]]:
    a, b, c, d, e, f = place
    exact = place == (1, 0, 0, 0, 1, 0)
    points = ring if exact else ring @ np.array([[a, d], [b, e]]) + np.array([c, f])
    x, y = points.T
    doubled = float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
    points = points if doubled * turn > 0 else points[::-1]
    closed: list[list[float]] = np.concatenate([points, points[:1]]).tolist()
    return closed
