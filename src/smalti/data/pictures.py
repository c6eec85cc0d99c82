"""Decoding: picture files to RGB tensors, mask files to arrays of values."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Integer, Shaped, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from smalti.data.contract import DataError
from smalti.data.deep_images import (
    DeepKind,
    ValuesAndVisibility,
    decode_colours,
    decode_tiff,
    deep_kind_of,
    is_read_by_pillow,
    valid_pixels,
)
from smalti.data.opening import open_image
from smalti.data.value_range import ValueRange, ValueSample, to_8_bit

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"}
)
MAX_PIXELS = 2**29
"""Larger pictures are refused before they are decoded: 23,000 x 23,000 pixels are 1.6 GB."""
LOSSY_FORMATS = frozenset({"JPEG", "MPO", "AVIF", "JPEG2000"})
"""Pillow's names of file formats that may change the values of a mask; WebP does when it is not lossless."""
LOSSY_TIFF = frozenset({"jpeg", "tiff_jpeg", "old_jpeg", "webp", "lerc"})
"""Pillow's names of such compressions in TIFF."""
_ORIENTATION = 0x0112  # EXIF tag
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


def read_picture(path: Path, value_range: ValueRange | None = None) -> UInt8[Tensor, "3 height width"]:
    """A picture file as 8-bit RGB, turned upright by its EXIF note.

    Grey is repeated to three channels and an alpha channel dropped. Of an animation, the first picture counts. Values
    deeper than 8 bits become 0 to 255 by `value_range`; None = by the range that is measured on this picture alone.

    Raises:
        DataError: If it is missing, empty, cut off, too large or no picture; names the file.
    """
    return to_rgb(read_any(_content(path), str(path))[0], value_range)


def sample_picture(path: Path) -> ValueSample:
    """A sample of a picture's values, without those that GDAL's tag calls no data.

    Raises:
        DataError: As `read_picture`.
    """
    content = _content(path)
    values, _ = read_any(content, str(path))
    return ValueSample.of(values, valid_pixels(content, values))


def read_transparent_picture(
    path: Path, value_range: ValueRange | None = None
) -> UInt8[Tensor, "channels height width"]:
    """`read_picture`, with a fourth channel where a pixel is transparent: 0 there, 255 elsewhere.

    Only what is wholly transparent (alpha 0) counts. An image without such a pixel has three channels.

    Raises:
        DataError: As `read_picture`.
    """
    values, visible = read_any(_content(path), str(path))
    rgb = to_rgb(values, value_range)
    return rgb if visible is None else torch.cat([rgb, torch.from_numpy(visible.astype(np.uint8) * 255)[None]])


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) as stored, of which only the file's header is read.

    Raises:
        DataError: If it is missing or no picture; names the file.
    """
    try:
        with path.open("rb") as file:
            image = open_image(file)
            return image.height, image.width
    except Exception as error:  # as in `_decoded`
        raise DataError(f"{path}: not a picture that can be decoded: {_short(error)}") from error


@dataclass(frozen=True, kw_only=True)
class MaskImage:
    """What a mask file holds, before anybody says what it means."""

    values: Mask
    """Index values (8-bit, 16-bit, 1-bit), entries of the palette, or RGB colours; as in the file."""
    palette: UInt8[np.ndarray, "256 rgb"] | None = None
    """The colours of a palette file."""
    is_one_bit: bool = False
    """Whether a pixel has one bit: 0, or 1 for white."""
    is_lossy: bool = False
    """Whether the file format changes values when it is written (JPEG, lossy WebP, AVIF)."""


def read_mask(path: Path) -> MaskImage:
    """A mask file, turned upright by its EXIF orientation as images are; an alpha channel is dropped.

    Raises:
        DataError: If it cannot be decoded or is no mask (say, floats); names the file.
    """
    content = _content(path)
    mask = _decoded(content, str(path), MAX_PIXELS, _to_mask)
    return replace(mask, is_lossy=True) if _is_lossy_webp(content) else mask


def is_turned(path: Path) -> bool:
    """Whether an image or mask is stored lying on its side or head, by its EXIF orientation; reads the header only.

    Raises:
        DataError: If it is missing or no image; names the file.
    """
    try:
        with path.open("rb") as file:
            return _is_turned(open_image(file))
    except Exception as error:  # as in `_decoded`
        raise DataError(f"{path}: not a picture that can be decoded: {_short(error)}") from error


def read_palette(path: Path) -> bytes | None:
    """What tells whether two files have the same palette, of which only the header is read; None = it has none.

    Raises:
        DataError: If it is missing or no image; names the file.
    """
    try:
        with path.open("rb") as file:
            palette = open_image(file).palette
            return None if palette is None else (palette.rawmode or palette.mode).encode() + bytes(palette.palette)
    except Exception as error:  # as in `_decoded`
        raise DataError(f"{path}: not a picture that can be decoded: {_short(error)}") from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _decoded(content: bytes, what: str, max_pixels: int, convert: Callable[[Image.Image], T]) -> T:
    if not content:
        raise DataError(f"{what}: the file is empty (0 bytes): copy it again")
    try:
        image = open_image(io.BytesIO(content))
    except Exception as error:  # decoders raise whatever they like on broken headers
        raise DataError(f"{what}: not a picture that can be decoded ({len(content)} bytes): {_short(error)}") from error
    _check_size(what, image.height, image.width, max_pixels)
    try:
        image.load()
        return convert(image)
    except DataError as error:
        raise DataError(f"{what}: {error}") from None
    except Exception as error:  # as above: OSError, SyntaxError, struct.error, EOFError, …
        raise DataError(f"{what}: broken or cut off: {_short(error)}: copy it again") from error


def _is_turned(image: Image.Image) -> bool:
    """Whether its EXIF orientation says that the pixels are not stored upright; the one rule for images and masks."""
    return int(image.getexif().get(_ORIENTATION, 1)) != 1


def _short(error: Exception) -> str:
    return str(error) or type(error).__name__


def to_rgb(
    values: Shaped[np.ndarray, "bands height width"], value_range: ValueRange | None = None
) -> UInt8[Tensor, "3 height width"]:
    """Values of a picture as 8-bit RGB; see `read_picture`."""
    picture = torch.from_numpy(np.ascontiguousarray(to_8_bit(values, value_range)))
    return picture if len(picture) == 3 else picture.repeat(3, 1, 1)


def read_any(content: bytes, what: str, max_pixels: int = MAX_PIXELS) -> ValuesAndVisibility:
    """The values of an encoded picture, and where it is visible (alpha above 0; None = everywhere).

    One or three bands, turned upright as in `read_picture`, with the values of the file where it is deeper than 8 bits.

    Raises:
        DataError: As `read_picture`; `what` names the picture.
    """
    kind = deep_kind_of(content)
    if kind is None or is_read_by_pillow(kind):
        return _decoded(content, what, max_pixels, image_values)
    if kind.format == "TIFF":
        return _decoded_tiff(content, what, max_pixels, kind)
    # Pillow notices files that are cut off.
    return _decoded(content, what, max_pixels, partial(decode_colours, content))


def _decoded_tiff(content: bytes, what: str, max_pixels: int, kind: DeepKind) -> ValuesAndVisibility:
    height, width = kind.size
    _check_size(what, height, width, max_pixels)
    try:
        return decode_tiff(content)
    except DataError as error:
        raise DataError(f"{what}: {error}") from None
    except Exception as error:  # as in `_decoded`
        raise DataError(f"{what}: broken or cut off: {_short(error)}: copy it again") from error


def _check_size(what: str, height: int, width: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise DataError(f"{what}: {height} x {width} pixels are more than {max_pixels}: cut it into tiles")


def image_values(image: Image.Image) -> ValuesAndVisibility:
    """An opened picture as `read_any` returns it; of 16-bit colour, Pillow has kept the high bytes only."""
    visible = visible_pixels(image)
    if _is_turned(image):
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        return np.array(image)[None], visible
    if image.mode.startswith("I"):
        values = np.array(image)
        is_16_bit = values.dtype.kind == "i" and values.min() >= 0 and values.max() <= 65535
        return (values.astype(np.uint16) if is_16_bit else values.astype(values.dtype.newbyteorder("=")))[None], visible
    image.info.pop("transparency", None)  # Pillow warns about it, and it is dropped anyway
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB")).transpose(2, 0, 1).copy(), visible


def visible_pixels(image: Image.Image) -> Bool[np.ndarray, "height width"] | None:
    """Where alpha is above 0 in the upright image; None if it is everywhere.

    Alpha is a channel, a transparent colour, or transparent entries of a palette.
    """
    if not image.has_transparency_data:
        return None
    upright = ImageOps.exif_transpose(image) if _is_turned(image) else image
    if image.mode.startswith("I"):  # 16-bit grey with one value that is transparent
        visible: np.ndarray = np.asarray(upright) != image.info["transparency"]
    else:
        alpha = upright.getchannel("A") if "A" in image.getbands() else upright.convert("RGBA").getchannel("A")
        visible = np.asarray(alpha) > 0
    return None if visible.all() else visible


def _to_mask(image: Image.Image) -> MaskImage:
    upright = ImageOps.exif_transpose(image) if _is_turned(image) else image
    palette = None
    if image.mode in ("P", "PA"):
        entries = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        palette = np.concatenate([entries, np.zeros((256 - len(entries), 3), np.uint8)])
    is_lossy = image.format in LOSSY_FORMATS or image.info.get("compression") in LOSSY_TIFF
    return MaskImage(
        values=_to_values(upright), palette=palette, is_one_bit=image.mode == "1", is_lossy=is_lossy
    )  # fmt: skip


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


def _is_lossy_webp(content: bytes) -> bool:
    """Whether a WebP file has a lossy chunk ("VP8 "; lossless ones are "VP8L")."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return False
    place = 12
    while place + 8 <= len(content):
        kind, length = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        if kind == b"VP8 ":
            return True
        place += 8 + length + length % 2
    return False
