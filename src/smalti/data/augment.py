"""Augmentation: variations of a training picture, its truth moving with it.

torchvision's v2 transforms act on the whole `Sample`. Scaling and cropping are one step here: the window is cut out of
the original first, so that only pixels that are kept are resized and recoloured. Before it come SSD's two steps (Liu et
al. 2016): a larger canvas around the picture, and a crop that overlaps its objects.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, Image, Mask

from smalti.containers import Sample, Size
from smalti.data.boxes import as_boxes, objects_in, window_boxes, without_small
from smalti.data.derive import sample_objects
from smalti.labels import IGNORED
from smalti.recipe import AugmentationRecipe

OUTSIDE = {"semantic": IGNORED, "instance_ids": 0, "distances": 0, "distance_weights": 0}
"""The truths of a sample that are maps, and their value where no picture is."""
LARGEST_CANVAS = 4.0
"""Sides of the picture; PAPER: Liu et al. 2016."""
Maps = Shaped[Tensor, "*leading _ _"]  # a picture or a label map of any size


class Augmentation:
    """Varies a sample as the recipe says; picklable."""

    def __init__(self, recipe: AugmentationRecipe, stretch: Size | None = None, background: int = IGNORED) -> None:
        """`stretch`: the network's size, where every picture is brought to it: colours are then varied there.

        `background` is the class of what `zoom_out` puts around a picture.

        Raises ValueError if the scale is not a range of positive numbers, or torchvision refuses a value.
        """
        low, high = recipe.scale
        if not 0 < low <= high:
            raise ValueError(f"augmentation.scale must be two numbers, 0 < low <= high, got {recipe.scale}")
        if recipe.scale_step is not None and recipe.scale_step <= 0:
            raise ValueError(f"augmentation.scale_step must be above 0, got {recipe.scale_step}")
        if not 0 <= recipe.zoom_out <= 1:
            raise ValueError(f"augmentation.zoom_out is a probability, 0 to 1, got {recipe.zoom_out}")
        self.recipe, self.background = recipe, background
        self.stretch = None if stretch is None else Stretch(stretch)
        self.object_crop = v2.RandomIoUCrop() if recipe.object_crop else None
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
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(generator_seed)
            if self.recipe.zoom_out and float(torch.rand(())) < self.recipe.zoom_out:
                sample = _on_canvas(sample, self.background)
            if self.object_crop is not None:
                sample = _object_crop(sample, self.object_crop)
            size = self.recipe.crop or sample.size
            sample = ScaledCrop(self.recipe.scale, size, self.recipe.scale_step)(sample)
            if self.stretch is not None and sample.size == tuple(size):
                sample, size = self.stretch(sample), self.stretch.size
            if self.appearance is not None:
                sample = self.appearance(sample)
            if sample.instances is not None:
                sample = replace(sample, instances=without_small(sample.instances, 0.0))
            return _place(sample, size)


def _on_canvas(sample: Sample, label: int) -> Sample:
    """The picture at a random place of one up to four times as high and wide, of its mean colour (SSD's zoom-out).

    # DIFFERS: torchvision's RandomZoomOut has one value for all masks; here classes become `label`, object ids 0.
    """
    factor = 1 + (LARGEST_CANVAS - 1) * float(torch.rand(()))
    size = (round(factor * sample.size[0]), round(factor * sample.size[1]))
    top, left = (int(torch.randint(all_ - own + 1, ())) for all_, own in zip(size, sample.size, strict=True))
    picture = sample.image.as_subclass(Tensor)
    canvas = picture.float().mean((1, 2)).round().to(picture.dtype)[:, None, None].repeat(1, *size)
    canvas[:, top : top + sample.size[0], left : left + sample.size[1]] = picture
    truths = _pasted_truths(sample, size, (top, left), OUTSIDE | {"semantic": label})
    return replace(sample, image=Image(canvas), **truths)


def _object_crop(sample: Sample, crop: v2.RandomIoUCrop) -> Sample:
    """A crop that overlaps some object by a share that is drawn (SSD); pictures without annotated objects stay."""
    objects = sample_objects(sample)
    if objects is None or not len(objects):  # torchvision would try many crops in vain
        return sample
    boxes = as_boxes(objects.boxes, sample.size)
    cropped: Sample = crop(replace(sample, instances=replace(objects, boxes=boxes)))
    # Boxes that were read off the objects' pixels are read off what is left of them.
    return cropped if sample.instances is not None else replace(cropped, instances=None)


class ScaledCrop(v2.Transform):
    """A random window of the sample, scaled by a random factor to at most `size`; what is smaller stays smaller."""

    def __init__(self, scale: tuple[float, float], size: Size, step: float | None = None) -> None:
        """`scale`: the factor is drawn log-uniformly between these, or from first to last in steps of `step`."""
        super().__init__()
        self.scale, self.size, self.step = scale, size, step

    def _factor(self) -> float:
        low, high = self.scale
        if self.step is None:
            return math.exp(math.log(low) + math.log(high / low) * float(torch.rand(())))
        return low + self.step * int(torch.randint(math.floor((high - low) / self.step + 1e-9) + 1, ()))

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws factor and place; torchvision calls this once for all tensors of a sample."""
        image = next(value for value in flat_inputs if isinstance(value, Image))
        factor = self._factor()
        (top, rows, height), (left, columns, width) = (
            _window(int(length), wanted, factor) for length, wanted in zip(image.shape[-2:], self.size, strict=True)
        )
        return {"window": (top, left, rows, columns), "to": (height, width)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Applies the drawn window to one tensor."""
        if isinstance(inpt, BoundingBoxes):
            return as_boxes(window_boxes(inpt, params["window"], params["to"]), params["to"])
        if not isinstance(inpt, Image | Mask):
            return inpt
        top, left, rows, columns = params["window"]
        window = inpt.as_subclass(Tensor)[..., top : top + rows, left : left + columns]
        resized = (
            resize_picture(window, params["to"]) if isinstance(inpt, Image) else resize_labels(window, params["to"])
        )
        return type(inpt)(resized)


class Stretch(ScaledCrop):
    """The whole sample, at `size`."""

    def __init__(self, size: Size) -> None:
        super().__init__((1.0, 1.0), size)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """See `ScaledCrop`; nothing is drawn."""
        image = next(value for value in flat_inputs if isinstance(value, Image))
        return {"window": (0, 0, int(image.shape[-2]), int(image.shape[-1])), "to": self.size}


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
    """Puts a smaller sample at a random place of `size`."""
    if sample.size == tuple(size):
        return sample
    top, left = (int(torch.randint(all_ - own + 1, ())) for all_, own in zip(size, sample.size, strict=True))
    return paste_sample(sample, size, (top, left))


def paste_sample(sample: Sample, size: Size, corner: tuple[int, int]) -> Sample:
    """A sample at a place of a larger canvas; around it are picture 0, label 255, instance 0, and padding."""
    if sample.size == tuple(size):
        return sample
    inside = Mask(torch.zeros(sample.size, dtype=torch.uint8)) if sample.padding is None else sample.padding
    return replace(
        sample,
        image=Image(paste(sample.image, size, corner, 0)),
        **_pasted_truths(replace(sample, padding=inside), size, corner, OUTSIDE | {"padding": 1}),
    )


def _pasted_truths(sample: Sample, size: Size, corner: tuple[int, int], outside: Mapping[str, int]) -> dict[str, Any]:
    """What there is of maps, with these values around them, and of boxes, at a place of a larger canvas."""
    maps = {name: (getattr(sample, name), fill) for name, fill in outside.items()}
    truths: dict[str, Any] = {
        name: None if own is None else Mask(paste(own, size, corner, fill)) for name, (own, fill) in maps.items()
    }
    top, left = corner
    return truths | {"instances": objects_in(sample.instances, (-top, -left, *size), size)}


def paste(maps: Maps, size: Size, corner: tuple[int, int], fill: int) -> Maps:
    """Maps at a place of a larger canvas of one value."""
    plain = maps.as_subclass(Tensor)
    top, left = corner
    height, width = plain.shape[-2:]
    canvas = torch.full((*plain.shape[:-2], *size), fill, dtype=plain.dtype)
    canvas[..., top : top + height, left : left + width] = plain
    return canvas
