"""A picture however a caller holds it, as the tensor that the networks take."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped, UInt
from PIL import Image
from torch import Tensor

from smalti.data.pictures import decode_picture, read_picture, to_rgb

Picture = str | Path | bytes | Image.Image | np.ndarray | Tensor


def as_tensor(picture: Picture) -> UInt[Tensor, "channels height width"]:
    """The picture as unsigned integers, channels first.

    Files, bytes and PIL images become RGB, turned upright by their EXIF note. Arrays are height x width x channels (or
    height x width, grey), tensors channels x height x width; both RGB and unsigned integers.

    Raises:
        ValueError: For anything else; says what was expected.
    """
    if isinstance(picture, str | Path):
        return read_picture(Path(picture))
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode_picture(bytes(picture))
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if isinstance(picture, np.ndarray):
        return _channels_first(picture)
    if isinstance(picture, Tensor):
        return _checked(picture)
    raise ValueError(
        "a picture is a path, encoded bytes, a PIL image, a NumPy array (height x width x channels) or a tensor "
        f"(channels x height x width), got {type(picture).__name__}"
    )


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
