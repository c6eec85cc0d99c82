"""A picture however a caller holds it, as an array of values."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from PIL import Image
from torch import Tensor

from smalti.data.pictures import decode_values, image_values, read_values

Picture = str | Path | bytes | Image.Image | np.ndarray | Tensor


def picture_values(picture: Picture) -> Shaped[np.ndarray, "channels height width"]:
    """The picture's values, channels first; grey is repeated to three channels.

    Files, bytes and PIL images are turned upright by their EXIF note and become RGB. Arrays are height x width x
    channels (or height x width, grey), tensors channels x height x width, both of whole numbers or floats. Values
    deeper than 8 bits are left as they are: `ValueRange.to_8_bit` brings them to 8.

    Raises:
        ValueError: For anything else; says what was expected.
    """
    if isinstance(picture, str | Path):
        return _colours(read_values(Path(picture)))
    if isinstance(picture, bytes | bytearray | memoryview):
        return _colours(decode_values(bytes(picture)))
    if isinstance(picture, Image.Image):
        return _colours(image_values(picture))
    if isinstance(picture, np.ndarray):
        return _checked(_channels_first(picture))
    if isinstance(picture, Tensor):
        values = picture.detach().cpu()
        return _checked((values.float() if values.dtype == torch.bfloat16 else values).numpy())
    raise ValueError(
        "a picture is a path, encoded bytes, a PIL image, a NumPy array (height x width x channels) or a tensor "
        f"(channels x height x width), got {type(picture).__name__}"
    )


def _channels_first(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    if array.ndim == 2:
        return array
    if array.ndim != 3:
        raise ValueError(f"a NumPy picture is height x width x channels, got an array of shape {array.shape}")
    return array.transpose(2, 0, 1)


def _checked(values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "channels height width"]:
    if values.ndim == 2:
        values = _colours(values[None])
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"a picture is channels x height x width, got shape {tuple(values.shape)}")
    if values.dtype.kind not in "uif":
        raise ValueError(f"a picture has whole numbers or floats, got {values.dtype}: convert it, for example to uint8")
    return values


def _colours(values: Shaped[np.ndarray, "bands height width"]) -> Shaped[np.ndarray, "3 height width"]:
    return np.repeat(values, 3, axis=0) if len(values) == 1 else values
