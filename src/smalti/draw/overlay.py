"""Label maps in colour, over their picture, and as files."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from smalti.draw.image_files import save_png
from smalti.labels import IGNORED, LabelSet

Labels = UInt8[np.ndarray, "height width"]
Picture = UInt8[np.ndarray, "height width 3"]
Drawing = UInt8[np.ndarray, "_ _ 3"]
"""A picture of a size of its own."""

WRONG = (230, 40, 40)


def colorize(labels: Labels, label_set: LabelSet) -> Picture:
    """Each label in its class's colour; ignored pixels are black, or another free colour where a class is black."""
    colored: Picture = label_set.palette()[labels]
    return colored


def overlay(picture: Picture, labels: Labels, label_set: LabelSet, opacity: float = 0.5) -> Picture:
    """The picture, tinted by class, with a dark line where two classes meet; ignored pixels stay as they are."""
    levels = np.arange(256)
    # Rounding one part down and the other to the nearest never exceeds 255 in sum.
    paler = np.floor(levels * (1 - opacity) + 1e-6).astype(np.uint8)
    tints = np.round(label_set.palette() * opacity).astype(np.uint8)
    drawn: Picture = cv2.LUT(picture, paler) + cv2.applyColorMap(labels, tints[:, None])
    ignored = labels == IGNORED
    if ignored.any():
        drawn[ignored] = picture[ignored]
    dark: Picture = cv2.copyTo(drawn >> 1, _borders(labels).view(np.uint8), drawn)
    return dark


def _borders(labels: Labels) -> np.ndarray:
    """Pixels whose right or lower neighbour has another label; none in pictures too small to see them."""
    border = np.zeros(labels.shape, bool)
    if min(labels.shape) >= 32:
        border[:-1] |= labels[:-1] != labels[1:]
        border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return border


def error_map(picture: Picture, truth: Labels, prediction: Labels) -> Picture:
    """The picture in pale grey; wrong pixels red; pixels that do not count are black."""
    grey = picture.mean(-1, keepdims=True) * 0.5 + 120
    drawn = np.broadcast_to(grey, picture.shape).copy()
    drawn[truth != prediction] = WRONG
    drawn[truth == IGNORED] = 0
    return drawn.round().astype(np.uint8)


def file_values(label_set: LabelSet) -> UInt8[np.ndarray, "256"] | UInt16[np.ndarray, "256"]:
    """For each label id the value that stands for it in files, and `LabelSet.no_class_value` for all other ids.

    16 bits where a value is above 255, else 8.
    """
    no_class = label_set.no_class_value
    values = np.full(256, no_class, np.uint16 if max(*label_set.ids, no_class) > 255 else np.uint8)
    values[: len(label_set)] = label_set.ids
    return values


def save_index_png(labels: Labels, label_set: LabelSet, path: Path) -> None:
    """Writes a palette PNG whose values are the label set's file ids, so that it can be read as a mask again.

    Pixels without a class get `LabelSet.no_class_value`. Where a value is above 255 it is a 16-bit PNG without colours.
    """
    values = file_values(label_set)
    wide = values.dtype != np.uint8
    image = Image.fromarray(values[labels] if wide else cv2.LUT(labels, values))
    if not wide:
        colors = np.zeros((256, 3), np.uint8)
        colors[label_set.no_class_value] = label_set.no_class_color
        colors[list(label_set.ids)] = label_set.colors
        image.putpalette(colors.tobytes())
    save_png(image, path)
