"""Images as files: encoded in memory first, so that whatever cannot be written raises an error.

Pillow writes into open files by itself and overlooks a write of which a full disk took only a part.
"""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from smalti.files import write_bytes

LONGEST_JPEG = 65_500
"""Pixels of a side that libjpeg writes at most."""


def save_png(image: Image.Image | np.ndarray, path: Path, *, made_by: str | None = None) -> None:
    """Writes a PNG of little compression, whole or not at all: a Pillow image, or an array that Pillow knows.

    `made_by` is its text "Software".

    Raises:
        OSError: If it cannot be written.
    """
    encoded = io.BytesIO()
    opened = image if isinstance(image, Image.Image) else Image.fromarray(image)
    info = PngInfo()
    if made_by is not None:
        info.add_text("Software", made_by)
    opened.save(encoded, format="PNG", compress_level=1, pnginfo=info)
    write_bytes(path, encoded.getbuffer())


def save_drawing(drawing: UInt8[np.ndarray, "_ _ 3"], path: Path) -> None:
    """Writes a JPEG, without subsampled colours: a quarter of a PNG's size in a seventh of its time.

    A drawing that is too long for the format is made smaller.

    Raises:
        OSError: If it cannot be encoded or written.
    """
    longest = max(drawing.shape[:2])
    if longest > LONGEST_JPEG:
        height, width = (max(1, side * LONGEST_JPEG // longest) for side in drawing.shape[:2])
        drawing = cv2.resize(drawing, (width, height), interpolation=cv2.INTER_AREA)
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        92,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    write_bytes(path, _encoded_jpeg(cv2.cvtColor(drawing, cv2.COLOR_RGB2BGR), options))


def _encoded_jpeg(pixels: np.ndarray, options: list[Any]) -> bytes:
    try:
        is_encoded, encoded = cv2.imencode(".jpg", pixels, options)
    except cv2.error as error:
        raise OSError(f"a drawing of {pixels.shape[0]} x {pixels.shape[1]} pixels is no JPEG: {error}") from error
    if not is_encoded:
        raise OSError(f"a drawing of {pixels.shape[0]} x {pixels.shape[1]} pixels cannot be encoded as JPEG")
    content: bytes = encoded.tobytes()
    return content
