"""A picture however a caller holds it, as an array of values, and which of its pixels count."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from PIL import Image
from torch import Tensor

from smalti.containers import Predictions
from smalti.data.contract import DataError
from smalti.data.deep_images import ValuesAndVisibility
from smalti.data.pictures import MAX_PIXELS, image_values, read_any
from smalti.data.value_range import ValueRange
from smalti.labels import IGNORED
from smalti.predict.gdal import has_rasterio
from smalti.predict.georeference import unread_georeference
from smalti.predict.geotiff import count_pixels, is_raster, open_raster
from smalti.predict.windows import Window

log = logging.getLogger("smalti")
Picture = str | Path | bytes | Image.Image | np.ndarray | Tensor
ChannelsAndVisibility = tuple[Shaped[np.ndarray, "channels height width"], Bool[np.ndarray, "height width"] | None]
"""`ValuesAndVisibility` of an image as a network takes it: grey is repeated, alpha is no channel."""


def picture_values(picture: Picture, channels: int, value_range: ValueRange | None = None) -> ChannelsAndVisibility:
    """The picture's values as a network of so many channels takes them, and where they count (None = everywhere).

    Files, bytes and PIL images become RGB, turned upright by their EXIF note; files that are rasters are read as
    `predict.geotiff` reads them, in 8 bits by `value_range`. Arrays are height x width x channels (or height x width,
    grey), tensors channels x height x width; both grey or RGB, with or without alpha, of whole numbers or floats. Grey
    is repeated to three channels. Values deeper than 8 bits are left as they are: `ValueRange.to_8_bit` brings them to
    8. What is wholly transparent (alpha 0), or not valid in a raster, does not count.

    Raises:
        ValueError: For anything else; says what was expected.
    """
    if isinstance(picture, str | Path):
        return _in_colour(*_read(Path(picture), value_range))
    if isinstance(picture, bytes | bytearray | memoryview):
        return _in_colour(*read_any(bytes(picture), "the picture"))
    if isinstance(picture, Image.Image):
        return _in_colour(*image_values(picture))
    if isinstance(picture, np.ndarray):
        return _without_alpha(_checked(_channels_first(picture)), channels)
    if isinstance(picture, Tensor):
        values = picture.detach().cpu()
        return _without_alpha(
            _checked((values.float() if values.dtype == torch.bfloat16 else values).numpy()), channels
        )  # fmt: skip
    raise ValueError(
        "a picture is a path, encoded bytes, a PIL image, a NumPy array (height x width x channels) or a tensor "
        f"(channels x height x width), got {type(picture).__name__}"
    )


def _read(path: Path, value_range: ValueRange | None) -> ValuesAndVisibility:
    if not is_raster(path):
        return read_any(_content(path), str(path))
    if not has_rasterio():
        log.warning("%s", unread_georeference([path]))
        return read_any(_content(path), str(path))
    if count_pixels(path) > MAX_PIXELS:
        raise DataError(f"{path}: more than {MAX_PIXELS} pixels: use `smalti predict`, which reads it in parts")
    with open_raster(path, value_range=value_range) as raster:
        image, valid = raster.read(Window(0, 0, *raster.size))
    for note in raster.notes:
        log.warning("%s: %s", path, note)
    return image.numpy(), None if valid is None or bool(valid.all()) else valid.numpy()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _without_alpha(values: Shaped[np.ndarray, "bands height width"], channels: int) -> ChannelsAndVisibility:
    """RGB networks take RGBA and grey with alpha, too; where the network takes all channels, none is alpha."""
    if channels != 3 or len(values) not in (2, 4):
        return values, None
    visible = values[-1] > 0
    return _in_colour(values[:-1], None if visible.all() else visible)


def without_class(answer: Predictions, where: Bool[Tensor, "height width"]) -> Predictions:
    """The answer with no class (255) in some pixels; probabilities, other maps and objects stay."""
    names = [name for name in ("semantic", "coarse", "fine") if getattr(answer, name) is not None]
    maps: dict[str, Any] = {
        name: getattr(answer, name).masked_fill(where.to(getattr(answer, name).device), IGNORED) for name in names
    }
    return replace(answer, **maps)


def _channels_first(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    if array.ndim == 2:
        return array
    if array.ndim != 3:
        raise ValueError(f"a NumPy picture is height x width x channels, got an array of shape {array.shape}")
    return array.transpose(2, 0, 1)


def _checked(values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "channels height width"]:
    if values.ndim == 2:
        values = np.repeat(values[None], 3, axis=0)
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"a picture is channels x height x width, got shape {tuple(values.shape)}")
    if values.dtype.kind not in "uif":
        raise ValueError(f"a picture has whole numbers or floats, got {values.dtype}: convert it, for example to uint8")
    return values


def _in_colour(
    values: Shaped[np.ndarray, "bands height width"], visible: Bool[np.ndarray, "height width"] | None
) -> ChannelsAndVisibility:
    return np.repeat(values, 3, axis=0) if len(values) == 1 else values, visible
