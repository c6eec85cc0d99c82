"""Augmentation: variations of a training picture, its truth moving with it.

torchvision's v2 transforms act on the whole `Sample`. Scaling and cropping are one step here: the window is cut out of
the original first, so that only pixels that are kept are resized and recoloured.
"""

import math
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

from smalti.containers import Sample, Size
from smalti.labels import IGNORED
from smalti.recipe import AugmentationRecipe

Maps = Shaped[Tensor, "*leading _ _"]  # a picture or a label map of any size


class Augmentation:
    """Varies a sample as the recipe says; picklable."""

    def __init__(self, recipe: AugmentationRecipe) -> None:
        """Raises ValueError if the scale is not a range of positive numbers, or torchvision refuses a value."""
        low, high = recipe.scale
        if not 0 < low <= high:
            raise ValueError(f"augmentation.scale must be two numbers, 0 < low <= high, got {recipe.scale}")
        self.recipe = recipe
        jitter = {"brightness": recipe.brightness, "contrast": recipe.contrast, "saturation": recipe.saturation,
                  "hue": recipe.hue}  # fmt: skip
        steps: list[Any] = [v2.ColorJitter(**jitter)] if any(jitter.values()) else []
        if recipe.flip_horizontal:
            steps.append(v2.RandomHorizontalFlip(recipe.flip_horizontal))
        if recipe.flip_vertical:
            steps.append(v2.RandomVerticalFlip(recipe.flip_vertical))
        self.appearance = v2.Compose(steps) if steps else None

    def __call__(self, sample: Sample, generator_seed: int) -> Sample:
        """A variation that is a function of the sample and the seed; the state of torch's generator is left alone."""
        size = self.recipe.crop or sample.size
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(generator_seed)
            sample = ScaledCrop(self.recipe.scale, size)(sample)
            if self.appearance is not None:
                sample = self.appearance(sample)
            return _place(sample, size)


class ScaledCrop(v2.Transform):
    """A random window of the sample, scaled by a random factor to at most `size`; what is smaller stays smaller."""

    def __init__(self, scale: tuple[float, float], size: Size) -> None:
        """`scale`: the factor is drawn log-uniformly between these."""
        super().__init__()
        self.scale, self.size = scale, size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws factor and place; torchvision calls this once for all tensors of a sample."""
        image = next(value for value in flat_inputs if isinstance(value, Image))
        low, high = (math.log(bound) for bound in self.scale)
        factor = math.exp(low + (high - low) * float(torch.rand(())))
        (top, rows, height), (left, columns, width) = (
            _window(int(length), wanted, factor) for length, wanted in zip(image.shape[-2:], self.size, strict=True)
        )
        return {"window": (top, left, rows, columns), "to": (height, width)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Applies the drawn window to one tensor."""
        if not isinstance(inpt, Image | Mask):
            return inpt
        top, left, rows, columns = params["window"]
        window = inpt.as_subclass(Tensor)[..., top : top + rows, left : left + columns]
        resized = (
            resize_picture(window, params["to"]) if isinstance(inpt, Image) else resize_labels(window, params["to"])
        )
        return type(inpt)(resized)


def _window(length: int, wanted: int, factor: float) -> tuple[int, int, int]:
    """Along one axis: where the window starts and ends in the original, and how long it becomes."""
    needed = max(1, round(wanted / factor))
    if needed > length:
        return 0, length, max(1, min(wanted, round(length * factor)))
    return int(torch.randint(length - needed + 1, ())), needed, wanted


def resize_picture(image: Maps, size: Size) -> Maps:
    """Bilinear, no antialias (spec 0), in the picture's own type."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    if image.dtype == torch.uint8 and min(size) > 1:  # torch's kernel for bytes fails at a width of 1
        resized: Tensor = v2.functional.resize_image(image, list(size), antialias=False)
        return resized
    wide = torch.nn.functional.interpolate(image[None].float(), size, mode="bilinear", align_corners=False)[0]
    return wide.round().to(image.dtype)


def resize_labels(labels: Maps, size: Size) -> Maps:
    """Nearest, by the centres of pixels: the same places that bilinear resizing of the picture looks at."""
    if tuple(labels.shape[-2:]) == tuple(size):
        return labels
    rows, columns = (
        ((torch.arange(new) * 2 + 1) * old).div(2 * new, rounding_mode="floor")
        for old, new in zip(labels.shape[-2:], size, strict=True)
    )
    return labels.index_select(-2, rows).index_select(-1, columns)


def _place(sample: Sample, size: Size) -> Sample:
    """Puts a smaller sample at a random place of `size`; around it are picture 0, label 255, instance 0."""
    if sample.size == tuple(size):
        return sample
    top, left = (int(torch.randint(all_ - own + 1, ())) for all_, own in zip(size, sample.size, strict=True))
    semantic, ids = sample.semantic, sample.instance_ids
    return Sample(
        image=Image(paste(sample.image, size, (top, left), 0)),
        semantic=None if semantic is None else Mask(paste(semantic, size, (top, left), IGNORED)),
        instance_ids=None if ids is None else Mask(paste(ids, size, (top, left), 0)),
        name=sample.name,
    )


def paste(maps: Maps, size: Size, corner: tuple[int, int], fill: int) -> Maps:
    """Maps at a place of a larger canvas of one value."""
    plain = maps.as_subclass(Tensor)
    top, left = corner
    height, width = plain.shape[-2:]
    canvas = torch.full((*plain.shape[:-2], *size), fill, dtype=plain.dtype)
    canvas[..., top : top + height, left : left + width] = plain
    return canvas
