"""Maps of probabilities in colour, from dark (0) to bright (1), with their scale."""

import cv2
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from smalti.draw.fonts import text_line
from smalti.draw.legend import SMALLEST_WIDTH, TEXT
from smalti.draw.overlay import Drawing, Picture

Map = Float[np.ndarray, "height width"]
PALE = 0.15
"""Share of the picture that shines through."""


def heat_map(picture: Picture, values: Map) -> Picture:
    """The values (0 to 1) in colour, with the picture faintly below to know one's way."""
    grey = np.broadcast_to(picture.mean(-1, keepdims=True), picture.shape)
    mixed: Picture = (PALE * grey + (1 - PALE) * _colors(values)).round().astype(np.uint8)
    return mixed


def _colors(values: Map) -> Picture:
    levels = (255 * np.clip(values, 0, 1)).round().astype(np.uint8)
    colors: Picture = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    return colors


def with_scale(drawing: Picture, title: str) -> Drawing:
    """The drawing with its colour scale below."""
    width = max(drawing.shape[1], SMALLEST_WIDTH)
    size = max(11, min(28, width // 40))
    while text_line(title, size).length > width - size and size > 6:
        size -= 1
    font = ImageFont.load_default(size=size)
    bar = np.broadcast_to(np.linspace(0, 1, width - size)[None].astype(np.float32), (size, width - size))
    scale = Image.new("RGB", (width, round(5 * size)), (255, 255, 255))
    scale.paste(Image.fromarray(np.ascontiguousarray(_colors(bar))), (size // 2, round(1.9 * size)))
    draw = ImageDraw.Draw(scale)
    text_line(title, size).draw(draw, (size // 2, size * 0.4), TEXT)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = {0.0: "lt", 1.0: "rt"}.get(share, "mt")
        place = (size / 2 + share * (width - size), 3.2 * size)
        draw.text(place, f"{100 * share:.0f} %", fill=TEXT, font=font, anchor=anchor)
    canvas = np.full((drawing.shape[0] + scale.height, width, 3), 255, np.uint8)
    canvas[: drawing.shape[0], : drawing.shape[1]] = drawing
    canvas[drawing.shape[0] :] = np.asarray(scale)
    return canvas
