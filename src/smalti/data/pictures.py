"""Decoding: picture files to RGB tensors, mask files to arrays of values."""

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from smalti.data.contract import DataError
from smalti.data.webp import check_canvas
from smalti.labels import Color

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})
MAX_PIXELS = 2**29
"""Larger pictures are refused before they are decoded: 23,000 x 23,000 pixels are 1.6 GB."""
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How such files begin, the last two with 64-bit places."""
FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "TGA")
"""What Pillow decodes by itself, whatever a file is called. Of others some start programs (PostScript: Ghostscript)."""
_ORIENTATION = 0x0112  # EXIF tag
_opening = threading.Lock()
T = TypeVar("T")
Mask = Integer[np.ndarray, "height width"] | UInt8[np.ndarray, "height width rgb"]


def find_pictures(folder: Path) -> list[Path]:
    """Every picture file below a folder, in order; hidden ones (macOS' ._ twins) are passed over, links followed."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(place) / name for name in names if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    return sorted(found)


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> UInt8[Tensor, "3 height width"]:
    """A picture file as 8-bit RGB, turned upright by its EXIF note.

    Grey is repeated to three channels and an alpha channel dropped. 16-bit grey is divided by 257 and rounded; of
    16-bit colour the decoder keeps the high byte. Of an animation, the first picture counts.

    Raises:
        DataError: If it is missing, empty, cut off, too large or no picture; names the file.
    """
    return _decoded(_content(path), str(path), max_pixels, to_rgb)


def decode_picture(content: bytes, max_pixels: int = MAX_PIXELS) -> UInt8[Tensor, "3 height width"]:
    """The same from the bytes of a file.

    Raises:
        DataError: If they are empty, cut off, too large or no picture.
    """
    return _decoded(content, "the picture", max_pixels, to_rgb)


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) as stored, of which only the file's header is read.

    Raises:
        DataError: If it is missing or no picture; names the file.
    """
    try:
        with path.open("rb") as file:
            image = _open(file)
            return image.height, image.width
    except Exception as error:  # as in `_decoded`
        raise DataError(f"{path}: not a picture that can be decoded: {_short(error)}") from error


def read_mask(path: Path) -> Mask:
    """The values of an index mask (8-bit, 16-bit, 1-bit or palette indices), or the colours of a colour mask.

    An alpha channel is dropped. Values are as in the file: nothing is remapped here.

    Raises:
        DataError: If it cannot be decoded or is no mask (say, floats); names the file.
    """
    return _decoded(_content(path), str(path), MAX_PIXELS, _to_values)


def read_palette(path: Path) -> dict[int, Color]:
    """Colour by index of a palette file; empty for any other.

    Raises:
        DataError: If it cannot be decoded; names the file.
    """
    return _decoded(_content(path), str(path), MAX_PIXELS, _to_palette)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _decoded(content: bytes, what: str, max_pixels: int, convert: Callable[[Image.Image], T]) -> T:
    if not content:
        raise DataError(f"{what}: the file is empty (0 bytes): copy it again")
    try:
        image = _open(io.BytesIO(content))
    except Exception as error:  # decoders raise whatever they like on broken headers
        raise DataError(f"{what}: not a picture that can be decoded ({len(content)} bytes): {_short(error)}") from error
    if image.width * image.height > max_pixels:
        raise DataError(f"{what}: {image.height} x {image.width} pixels are more than {max_pixels}: cut it into tiles")
    try:
        image.load()
        return convert(image)
    except DataError as error:
        raise DataError(f"{what}: {error}") from None
    except Exception as error:  # as above: OSError, SyntaxError, struct.error, EOFError, …
        raise DataError(f"{what}: broken or cut off: {_short(error)}: copy it again") from error


def _open(file: io.BytesIO | io.BufferedReader) -> Image.Image:
    """Reads the header without Pillow's own limit, which large but honest pictures exceed; ours is checked next.

    Formats that Pillow was built without are left out.
    """
    check_canvas(file)
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        except UnidentifiedImageError:
            file.seek(0)
            tiff = file.read(4) in TIFF_MAGIC
            reason = "a TIFF, but cut off or not grey or RGB of 8 or 16 bits" if tiff else "no known picture format"
            raise UnidentifiedImageError(reason) from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _short(error: Exception) -> str:
    return str(error) or type(error).__name__


def to_rgb(image: Image.Image) -> UInt8[Tensor, "3 height width"]:
    """An opened picture as `read_picture` answers it.

    Raises:
        DataError: If it has floating-point values, or more than 16 bits.
    """
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("pictures with floating-point values are not supported: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _grey16(np.asarray(image))
    image.info.pop("transparency", None)  # Pillow warns about it, and it is dropped anyway
    array = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def _grey16(values: Integer[np.ndarray, "height width"]) -> UInt8[Tensor, "3 height width"]:
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise DataError(f"grey values from {wide.min()} to {wide.max()}: save it with 8 or 16 bits")
    return torch.from_numpy(((wide + 128) // 257).astype(np.uint8))[None].repeat(3, 1, 1)


def _to_values(image: Image.Image) -> Mask:
    match image.mode:
        case "1":
            return np.asarray(image).astype(np.uint8)
        case "L" | "P":
            return np.array(image)
        case "LA" | "PA":
            return np.ascontiguousarray(np.asarray(image)[..., 0])
        case "RGB" | "RGBA" | "RGBX":
            return np.ascontiguousarray(np.asarray(image)[..., :3])
        case mode if mode.startswith("I"):
            return np.asarray(image).astype(np.int32)
    raise DataError(f"a mask has whole numbers or RGB colours, not Pillow's mode {image.mode}: save it as 8-bit PNG")


def _to_palette(image: Image.Image) -> dict[int, Color]:
    if image.mode != "P":
        return {}
    flat = image.getpalette("RGB") or []
    return {k: (flat[3 * k], flat[3 * k + 1], flat[3 * k + 2]) for k in range(len(flat) // 3)}
