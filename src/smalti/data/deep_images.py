"""Decoding images deeper than 8 bits: 16-bit colour, floats, signed integers."""

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Shaped
from PIL import Image

from smalti.data.contract import DataError
from smalti.data.opening import TIFF_MAGIC, OpenedFile, open_image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_BANDS = {0: (1, False), 2: (3, False), 4: (1, True), 6: (3, True)}
"""By PNG's colour type: bands without alpha, and whether there is alpha."""
NO_DATA = 42113
"""GDAL's TIFF tag with the value of pixels without data."""
RGB = 2
"""TIFF's photometric interpretation."""
ALPHA = (1, 2)
"""TIFF's kinds of extra samples that are alpha."""
_ORIENTATION = 0x0112
ValuesAndVisibility = tuple[Shaped[np.ndarray, "bands height width"], Bool[np.ndarray, "height width"] | None]
"""One or three bands of numbers, and where an image is visible (None = everywhere)."""


@dataclass(frozen=True, kw_only=True)
class DeepKind:
    """What the header of an image deeper than 8 bits says."""

    values: str
    """In words: "16 bits", "32-bit floats"."""
    format: str
    bands: int
    """Without alpha."""
    has_alpha: bool = False
    size: tuple[int, int]
    """(height, width) as stored."""

    def __str__(self) -> str:
        return f"{self.values}, {self.format}, {self.bands} band{'s' if self.bands > 1 else ''}"


def deep_kind(path: Path) -> DeepKind | None:
    """The kind of an image file by its header; None for images of 8 bits and for files that cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return _kind_of(file)
    return None


def deep_kind_of(content: bytes) -> DeepKind | None:
    """The same for the bytes of a file."""
    return _kind_of(io.BytesIO(content))


def _kind_of(file: OpenedFile) -> DeepKind | None:
    start = file.read(26)
    file.seek(0)
    if start.startswith(PNG_MAGIC):
        if len(start) < 26 or start[24] != 16:
            return None
        width, height = (int.from_bytes(start[k : k + 4], "big") for k in (16, 20))
        bands, has_alpha = PNG_BANDS.get(start[25], (3, False))
        return DeepKind(values="16 bits", format="PNG", bands=bands, has_alpha=has_alpha, size=(height, width))
    if start[:4] in TIFF_MAGIC:
        return _tiff_kind(file)
    if start[:2] in (b"P2", b"P3", b"P5", b"P6"):
        return _pnm_kind(file)
    return None


def _tiff_kind(file: OpenedFile) -> DeepKind | None:
    try:
        with _first_page(file) as page:
            bits, dtype = page.bitspersample, page.dtype
            if (bits <= 8 and page.sampleformat != 2) or dtype is None or dtype.kind not in "iuf":
                return None
            size, (colours, alpha) = (page.imagelength, page.imagewidth), _samples(page)
    except Exception:  # whatever a broken header makes tifffile raise
        return None
    words = {"f": f"{bits}-bit floats", "i": f"signed {bits} bits", "u": f"{bits} bits"}
    return DeepKind(values=words[dtype.kind], format="TIFF", bands=len(colours), has_alpha=alpha is not None, size=size)


def _pnm_kind(file: OpenedFile) -> DeepKind | None:
    try:
        image: Any = open_image(file)  # `tile` is an attribute of files only
        arguments = image.tile[0].args
        most = arguments[-1] if image.mode == "RGB" else 65535 * image.mode.startswith("I")
    except Exception:  # as above
        return None
    if not isinstance(most, int) or most <= 255:
        return None
    bands = 3 if image.mode == "RGB" else 1
    return DeepKind(values="16 bits", format="PNM", bands=bands, size=(image.height, image.width))


@contextlib.contextmanager
def _first_page(file: OpenedFile) -> Iterator[Any]:
    import tifffile  # noqa: PLC0415  # slow to import, and few images need it

    tifffile.logger().setLevel(logging.CRITICAL)  # a broken file is named by the error that follows
    with tifffile.TiffFile(file) as opened:
        yield opened.pages[0]


def _samples(page: Any) -> tuple[list[int], int | None]:
    """Which numbers of a pixel are its colours, and which one is alpha (None = none is called so)."""
    count = int(page.samplesperpixel)
    first_extra = count - len(page.extrasamples)
    alpha = [first_extra + k for k, kind in enumerate(page.extrasamples) if kind in ALPHA]
    colours = range(3) if page.photometric == RGB else (k for k in range(count) if k not in alpha)
    return list(colours), alpha[0] if alpha else None


def is_read_by_pillow(kind: DeepKind) -> bool:
    """Whether Pillow keeps all its bits: it does for one band without alpha, except in some kinds of TIFF."""
    return (
        kind.bands == 1
        and not kind.has_alpha
        and (kind.format != "TIFF" or kind.values in ("16 bits", "12 bits", "32-bit floats"))
    )


def decode_colours(content: bytes, image: Image.Image) -> ValuesAndVisibility:
    """A PNG or PNM of 16-bit colour with all its bits, upright; `image` is the same file as Pillow opened it.

    Of alpha all bits count, too; a transparent colour of the file is alpha 0.
    """
    decoded = _decode_with_opencv(content)
    if decoded is None:
        raise DataError("16-bit colours that cannot be decoded: copy it again, or save it as TIFF")
    values = _channels_first(_upright(decoded, image.getexif().get(_ORIENTATION, 1)))
    return values[:3], _visible(values[3]) if len(values) > 3 else None


def decode_tiff(content: bytes) -> ValuesAndVisibility:
    """A TIFF of any numbers with one or three bands, upright; other extra samples than alpha are dropped.

    Raises:
        DataError: If it has another number of bands, or is compressed in a way that cannot be read.
    """
    with _first_page(io.BytesIO(content)) as page:
        tag = page.tags.get(_ORIENTATION)
        orientation = int(tag.value) if tag else 1
        colours, alpha = _samples(page)
        if len(colours) not in (1, 3):
            raise DataError(f"{len(colours)} bands, expected one (grey) or three (red, green, blue): save it with "
                            "these alone")  # fmt: skip
        try:
            values = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            values, orientation = _decode_compressed_tiff(content, page), 1
        else:
            if page.planarconfig == 2 and values.ndim == 3:
                values = values.transpose(1, 2, 0)
    values = _channels_first(_upright(values, orientation))
    first = len(colours)
    bands = values[:first] if colours == list(range(first)) else values[colours]
    return bands, None if alpha is None else _visible(values[alpha])


def _visible(alpha: Shaped[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"] | None:
    """Where alpha is not 0; None = everywhere."""
    return None if alpha.all() else alpha != 0


def _decode_compressed_tiff(content: bytes, page: Any) -> Shaped[np.ndarray, "height width *samples"]:
    """LZW and others, which tifffile leaves to another package; OpenCV turns the image upright itself.

    Raises:
        DataError: If OpenCV cannot decode it, or not with all samples and bits of the file.
    """
    decoded = None
    if (page.planarconfig == 1 or page.samplesperpixel == 1) and page.bitspersample in (8, 16, 32, 64):
        decoded = _decode_with_opencv(content)
    if decoded is None or decoded.dtype != page.dtype or decoded[0, 0].size != page.samplesperpixel:
        raise DataError(f"{page.bitspersample}-bit values compressed by {page.compression.name} cannot be read, or the "
                        "file is broken: save it without compression")  # fmt: skip
    return decoded


def _decode_with_opencv(content: bytes) -> Shaped[np.ndarray, "height width *samples"] | None:
    """Grey, RGB or RGBA; None if it cannot be decoded."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it prints every tag of GeoTIFF
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(before)
    if decoded is None or decoded.ndim == 2:
        return decoded
    return decoded[..., ::-1] if decoded.shape[2] == 3 else decoded[..., [2, 1, 0, 3]]


def _upright(values: Shaped[np.ndarray, "height width *bands"], orientation: int) -> np.ndarray:
    """Stored rows and columns turned as the orientation tag of EXIF and TIFF says."""
    if orientation in (5, 7):
        values = values.swapaxes(0, 1)
    turned = {2: values[:, ::-1], 3: values[::-1, ::-1], 4: values[::-1], 6: np.rot90(values, -1),
              7: values[::-1, ::-1], 8: np.rot90(values)}  # fmt: skip
    return turned.get(orientation, values)


def _channels_first(values: Shaped[np.ndarray, "height width *bands"]) -> Shaped[np.ndarray, "bands height width"]:
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def valid_pixels(content: bytes, values: Shaped[np.ndarray, "bands height width"]) -> np.ndarray | None:
    """Where a TIFF has data by GDAL's tag, for measuring; None = everywhere."""
    if content[:4] not in TIFF_MAGIC:
        return None
    with _first_page(io.BytesIO(content)) as page:
        tag = page.tags.get(NO_DATA)
    try:
        no_data = float(str(tag.value).strip("\0 ")) if tag else float("nan")
    except ValueError:
        return None
    return None if np.isnan(no_data) else ~(values == no_data).all(0)
