"""A picture however a caller holds it, as the tensor that the networks take, and which of its pixels count."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Shaped, UInt
from PIL import Image
from torch import Tensor

from smalti.containers import Predictions
from smalti.data.contract import DataError
from smalti.data.pictures import (
    MAX_PIXELS,
    decode_transparent_picture,
    read_transparent_picture,
    to_rgb_with_transparency,
)
from smalti.labels import IGNORED
from smalti.predict.gdal import has_rasterio
from smalti.predict.georeference import unread_georeference
from smalti.predict.geotiff import count_pixels, is_raster, open_raster
from smalti.predict.windows import Window

log = logging.getLogger("smalti")
Picture = str | Path | bytes | Image.Image | np.ndarray | Tensor


def as_tensor(picture: Picture) -> UInt[Tensor, "channels height width"]:
    """The picture as unsigned integers, channels first, with alpha as the last channel if any pixel is transparent.

    Files, bytes and PIL images become RGB, turned upright by their EXIF note, with alpha where a pixel is wholly
    transparent; files that are rasters are read as `predict.geotiff` reads them, with alpha 0 where they are not valid.
    Arrays are height x width x channels (or height x width, grey), tensors channels x height x width; both grey or RGB,
    with or without alpha, and unsigned integers.

    Raises:
        ValueError: For anything else; says what was expected.
    """
    if isinstance(picture, str | Path):
        return _read(Path(picture))
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode_transparent_picture(bytes(picture))
    if isinstance(picture, Image.Image):
        return to_rgb_with_transparency(picture)
    if isinstance(picture, np.ndarray):
        return _channels_first(picture)
    if isinstance(picture, Tensor):
        return _checked(picture)
    raise ValueError(
        "a picture is a path, encoded bytes, a PIL image, a NumPy array (height x width x channels) or a tensor "
        f"(channels x height x width), got {type(picture).__name__}"
    )


def _read(path: Path) -> UInt[Tensor, "channels height width"]:
    if not is_raster(path):
        return read_transparent_picture(path)
    if not has_rasterio():
        log.warning("%s", unread_georeference([path]))
        return read_transparent_picture(path)
    if count_pixels(path) > MAX_PIXELS:
        raise DataError(f"{path}: more than {MAX_PIXELS} pixels: use `smalti predict`, which reads it in parts")
    with open_raster(path) as raster:
        image, valid = raster.read(Window(0, 0, *raster.size))
    for note in raster.notes:
        log.warning("%s: %s", path, note)
    return image if valid is None or bool(valid.all()) else torch.cat([image, valid[None].to(torch.uint8) * 255])


def without_alpha(
    image: UInt[Tensor, "channels height width"], channels: int
) -> tuple[UInt[Tensor, "_ height width"], Bool[Tensor, "height width"] | None]:
    """The channels that a network of so many takes, and where alpha is above 0 (None = everywhere).

    RGB networks take RGBA and grey with alpha, too. An image of which the network takes all channels has no alpha.
    """
    if channels != 3 or image.shape[0] not in (2, 4):
        return image, None
    visible = image[-1] > 0 if image.dtype == torch.uint8 else image[-1].int() > 0  # torch compares no uint16
    colors = image[:3] if image.shape[0] == 4 else image[:1].expand(3, -1, -1)
    return colors, None if bool(visible.all()) else visible


def without_class(answer: Predictions, where: Bool[Tensor, "height width"]) -> Predictions:
    """The answer with no class (255) in some pixels; probabilities, other maps and objects stay."""
    names = [name for name in ("semantic", "coarse", "fine") if getattr(answer, name) is not None]
    maps: dict[str, Any] = {
        name: getattr(answer, name).masked_fill(where.to(getattr(answer, name).device), IGNORED) for name in names
    }
    return replace(answer, **maps)


def _channels_first(array: Shaped[np.ndarray, "..."]) -> Tensor:
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3:
        raise ValueError(f"a NumPy picture is height x width x channels, got an array of shape {array.shape}")
    return _checked(torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))))


def _checked(tensor: Tensor) -> Tensor:
    if tensor.ndim == 2:
        tensor = tensor[None].expand(3, -1, -1)
    if tensor.ndim != 3 or 0 in tensor.shape:
        raise ValueError(f"a picture is a tensor of channels x height x width, got shape {tuple(tensor.shape)}")
    if tensor.dtype not in (torch.uint8, torch.uint16):
        raise ValueError(f"a picture has unsigned integers (uint8 or uint16) from 0 on, got {tensor.dtype}: "
                         "multiply floats by 255 and round them")  # fmt: skip
    return tensor
