"""Objects of a picture, told apart by their colours and outlines."""

import colorsys
from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Int32

from smalti.draw.overlay import Picture
from smalti.labels import Color, LabelSet

Ids = Int32[np.ndarray, "height width"]
GOLDEN = 0.618034
"""Steps of this share of a circle never come back to where they were."""
TINT = 0.55
OUTLINE = 400
"""Pixels of the picture's shorter side for each pixel of the outline's width."""


def draw_objects(picture: Picture, ids: Ids, classes: Sequence[int], labels: LabelSet) -> Picture:
    """The picture with each object tinted in a shade of its class's colour and outlined in white.

    `ids` numbers the objects from 1 (0 = none), `classes` are their label ids. What is no object becomes paler.
    """
    table = np.zeros((len(classes) + 1, 3))
    table[1:] = [_shade(labels.colors[k], number) for number, k in enumerate(classes)] if classes else 0
    grey = picture.mean(-1, keepdims=True)
    drawn = np.where((ids > 0)[..., None], picture * (1 - TINT) + table[ids] * TINT, 0.5 * picture + 0.5 * grey)
    width = max(1, round(min(ids.shape) / OUTLINE))
    inside = cv2.erode(ids.astype(np.float32), np.ones((2 * width + 1, 2 * width + 1)))
    around = cv2.dilate(ids.astype(np.float32), np.ones((2 * width + 1, 2 * width + 1)))
    drawn[(ids > 0) & (inside != around)] = 255
    finished: Picture = drawn.round().astype(np.uint8)
    return finished


def _shade(color: Color, number: int) -> tuple[float, float, float]:
    """The class's hue with a lightness and saturation of the object's own."""
    hue, _, saturation = colorsys.rgb_to_hls(*(part / 255 for part in color))
    turn = number * GOLDEN % 1
    red, green, blue = colorsys.hls_to_rgb((hue + 0.16 * (turn - 0.5)) % 1, 0.35 + 0.4 * turn, max(saturation, 0.6))
    return 255 * red, 255 * green, 255 * blue


def object_entries(classes: Sequence[int], labels: LabelSet) -> list[tuple[str, Color]]:
    """For a legend: each class with its number of objects, the most frequent first."""
    return [(f"{labels.names[k]}: {count}", labels.colors[k]) for k, count in Counter(classes).most_common()] or [
        ("no objects", (255, 255, 255))
    ]
