"""Legends: which colour is which class, and how much of the picture it covers."""

import functools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from smalti.draw.fonts import text_line
from smalti.draw.overlay import Drawing, Labels, Picture
from smalti.labels import IGNORED, Color, LabelSet

SMALLEST_WIDTH = 240
"""Narrower pictures get a legend this wide, so that its text can be read."""
TEXT = (30, 30, 30)


def with_legend(picture: Picture, entries: Sequence[tuple[str, Color]]) -> Drawing:
    """The picture with a legend below, of texts and their colours."""
    width = max(picture.shape[1], SMALLEST_WIDTH)
    legend = _legend(entries, width)
    canvas = np.full((picture.shape[0] + legend.shape[0], width, 3), 255, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    canvas[picture.shape[0] :] = legend
    return canvas


def legend_entries(labels: Labels, label_set: LabelSet) -> list[tuple[str, Color]]:
    """Name, share of the pixels and colour of each class that occurs, the largest first; "no class" last, if any."""
    counts = np.bincount(labels.ravel(), minlength=256)
    present = sorted((k for k in range(len(label_set)) if counts[k]), key=lambda k: -counts[k])
    entries = [(f"{label_set.names[k]}  {_share(counts[k] / labels.size)}", label_set.colors[k]) for k in present]
    if counts[IGNORED]:
        entries.append((f"no class  {_share(counts[IGNORED] / labels.size)}", label_set.no_class_color))
    return entries


def _share(part: float) -> str:
    return f"{100 * part:.0f} %" if part >= 0.01 else "< 1 %"


def _legend(entries: Sequence[tuple[str, Color]], width: int) -> Drawing:
    """As many columns of equal width as fit without cutting a text; a text wider than the picture shrinks."""
    size = max(11, min(28, width // 40))
    longest = max((text_line(text, size).length for text, _ in entries), default=1.0)
    if longest + 3 * size > width:
        size = max(6, int(size * (width - 2) / (longest + 3 * size)))
        longest = max(text_line(text, size).length for text, _ in entries)
    columns = max(1, int(width // (longest + 3 * size)))
    rows = -(-len(entries) // columns)
    line = round(size * 1.6)
    drawn = np.full((rows * line + size, width, 3), 255, np.uint8)
    for k, (text, color) in enumerate(entries):
        row, column = divmod(k, columns)
        left, top = column * width // columns + size // 2, row * line + size // 2
        entry = _entry(text, color, size)[:, : width - left]
        drawn[top : top + entry.shape[0], left : left + entry.shape[1]] = entry
    return drawn


@functools.lru_cache(maxsize=1024)
def _entry(text: str, color: Color, size: int) -> Drawing:
    """A coloured square and its text, kept because drawing text costs more than all else of a legend."""
    line = text_line(text, size)
    image = Image.new("RGB", (math.ceil(1.5 * size + line.length) + 1, round(1.6 * size)), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, size, size), fill=color, outline=(120, 120, 120))
    line.draw(draw, (size * 1.5, size / 2), TEXT, anchor="lm")
    return np.asarray(image)
