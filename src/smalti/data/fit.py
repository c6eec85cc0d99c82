"""How a picture of any size becomes the network's input: the same for training, evaluation and prediction."""

from dataclasses import replace
from typing import Any

from jaxtyping import Shaped
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

from smalti.containers import Frame, Sample, Size
from smalti.data.augment import OUTSIDE, paste, paste_sample, resize_labels, resize_picture
from smalti.data.boxes import objects_in
from smalti.recipe import InputPolicy


def fit_picture(
    image: Shaped[Tensor, "channels height width"], policy: InputPolicy, stride: int
) -> tuple[Shaped[Tensor, "channels height_ width_"], Frame]:
    """The picture (unsigned integers) as the network takes it, and the way back.

    Padding is 0 at the right and at the bottom; it is put there before the model normalises, so it is black. Resizing
    is bilinear without antialias (spec 0).
    """
    frame = frame_of((int(image.shape[-2]), int(image.shape[-1])), policy, stride)
    resized = _resized(image, frame, is_labels=False)
    return resized if tuple(resized.shape[-2:]) == frame.padded else paste(resized, frame.padded, (0, 0), 0), frame


def fit_sample(sample: Sample, policy: InputPolicy, stride: int) -> tuple[Sample, Frame]:
    """Picture and truth; labels are resized to the nearest pixel, and padded with 255, instance ids with 0."""
    frame = frame_of(sample.size, policy, stride)
    image = Image(_resized(sample.image, frame, is_labels=False))
    maps = {name: getattr(sample, name) for name in (*OUTSIDE, "padding")}
    truths: dict[str, Any] = {
        name: None if m is None else Mask(_resized(m, frame, is_labels=True)) for name, m in maps.items()
    }
    if frame.cropped:
        window = _middle(sample.size, frame.resized)
        objects = objects_in(sample.instances, window, window[2:])
    else:
        objects = objects_in(sample.instances, (0, 0, *sample.size), frame.resized)
    fitted = replace(sample, image=image, instances=objects, **truths)
    return paste_sample(fitted, frame.padded, (0, 0)), frame


def frame_of(original: Size, policy: InputPolicy, stride: int) -> Frame:
    """Where a picture of this size comes to lie in the network's input."""
    match policy.fit:
        case "pad":
            factor = 1.0 if policy.size is None else max(policy.size) / max(original)
            resized = (max(1, round(original[0] * factor)), max(1, round(original[1] * factor)))
        case "stretch" | "crop":
            assert policy.size is not None
            resized = (policy.size[0], policy.size[1])
    padded = (-(-resized[0] // stride) * stride, -(-resized[1] // stride) * stride)
    return Frame(original=original, resized=resized, padded=padded, cropped=policy.fit == "crop")


def _resized(
    maps: Shaped[Tensor, "*leading height width"], frame: Frame, *, is_labels: bool
) -> Shaped[Tensor, "*leading height_ width_"]:
    plain = maps.as_subclass(Tensor)
    if frame.cropped:
        return _centre(plain, frame.resized)
    return resize_labels(plain, frame.resized) if is_labels else resize_picture(plain, frame.resized)


def _centre(maps: Tensor, size: Size) -> Tensor:
    """The middle of the maps; an axis that is shorter than `size` is kept whole."""
    top, left, rows, columns = _middle((int(maps.shape[-2]), int(maps.shape[-1])), size)
    return maps[..., top : top + rows, left : left + columns]


def _middle(own: Size, wanted: Size) -> tuple[int, int, int, int]:
    """(top, left, rows, columns) of it."""
    top, left = (max(0, o - w) // 2 for o, w in zip(own, wanted, strict=True))
    return top, left, min(own[0], wanted[0]), min(own[1], wanted[1])
