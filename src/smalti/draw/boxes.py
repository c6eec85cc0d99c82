"""Boxes with their names and scores over a picture."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from smalti.draw.fonts import text_line
from smalti.draw.overlay import Picture
from smalti.labels import LabelSet

SURE = 0.5
"""Least score of a box that is drawn."""


def draw_boxes(
    picture: Picture,
    boxes: Float[np.ndarray, "objects 4"],
    classes: Sequence[int],
    labels: LabelSet,
    scores: Sequence[float] | None = None,
) -> Picture:
    """The picture with the boxes (left, top, right, bottom) in their classes' colours; the surest lie on top.

    With `scores`, boxes below 0.5 are left out and the others say theirs.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    line = max(2, round(min(picture.shape[:2]) / 200))
    size = max(9, round(min(picture.shape[:2]) / 30))
    sure = np.ones(len(boxes)) if scores is None else np.asarray(scores, float)
    for k in np.argsort(sure, kind="stable"):
        if sure[k] < SURE:
            continue
        color = labels.colors[classes[k]]
        left, top, right, bottom = (float(v) for v in boxes[k])
        draw.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=color, width=line)
        text = text_line(labels.names[classes[k]] + ("" if scores is None else f" {100 * sure[k]:.0f} %"), size)
        x0, y0, x1, y1 = text.box()
        place = min(max(left, 0), max(picture.shape[1] - (x1 - x0) - 4, 0)), max(top - (y1 - y0) - 4, 0)
        draw.rectangle((place[0], place[1], place[0] + x1 - x0 + 4, place[1] + y1 - y0 + 4), fill=color)
        ink = (0, 0, 0) if sum(color) > 380 else (255, 255, 255)
        text.draw(draw, (place[0] + 2 - x0, place[1] + 2 - y0), ink)
    return np.asarray(image)
