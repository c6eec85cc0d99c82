"""Training crops follow the sizes of the images."""

from collections.abc import Sequence

from smalti.containers import Size
from smalti.data.dataset import Dataset
from smalti.models.create import find_recipe, recipes
from smalti.recipe import Recipe

MAX_WHOLE_BATCH_PIXELS = 4 * 1024 * 1024
"""Pixels of one batch of whole images, above which training cuts crops out of them."""
CROP_SIDE = 512
"""Pixels of the sides of such a crop, where the images are as large."""
SAMPLED_IMAGES = 32
"""Training images whose sizes are looked at."""


def fitted_crop(recipe: Recipe, stride: int, train: Dataset) -> tuple[Size | None, str | None]:
    """The crop that suits the images, and what to say if it is not the recipe's; its sides are multiples of `stride`.

    * A recipe on the data and at the input size that it was written for keeps its crop.
    * A crop that is longer than every image is cut to their largest size.
    * Where whole images would make a batch of more than `MAX_WHOLE_BATCH_PIXELS`, crops are cut out of them.
    """
    crop = recipe.augmentation.crop
    if recipe.input.fit == "stretch" or recipe.augmentation.zoom_out or _is_as_written(recipe):
        return crop, None
    height, width = _largest(train)
    if crop is not None:
        fitted = (min(crop[0], _up(height, stride)), min(crop[1], _up(width, stride)))
        if fitted == tuple(crop):
            return crop, None
        return fitted, (f"note: the crop of {_text(crop)} is larger than the training images, of which the largest are "
                        f"{_text((height, width))}: augmentation.crop={_text(fitted)} is used")  # fmt: skip
    batch = recipe.training.batch
    if height * width * batch <= MAX_WHOLE_BATCH_PIXELS:
        return None, None
    fitted = (min(CROP_SIDE, _down(height, stride)), min(CROP_SIDE, _down(width, stride)))
    return fitted, (
        f"note: batches of {batch} whole images of up to {_text((height, width))} need much memory and time: "
        f"augmentation.crop={_text(fitted)} is used. --set input.size=HEIGHT,WIDTH makes images smaller, "
        "--set augmentation.crop=HEIGHT,WIDTH sets another crop"
    )


def _is_as_written(recipe: Recipe) -> bool:
    """Whether a recipe of the package trains on its own data set, at its own input size and with its own crop."""
    if recipe.augmentation.crop is None or recipe.name not in recipes():
        return False
    own = find_recipe(recipe.name)
    return (own.data.set, own.input, own.augmentation.crop) == (
        recipe.data.set, recipe.input, recipe.augmentation.crop,
    )  # fmt: skip


def _largest(train: Dataset) -> Size:
    """The largest height and the largest width among images that are spread evenly over the data set."""
    count = min(len(train), SAMPLED_IMAGES)
    places: Sequence[int] = sorted({round(k * (len(train) - 1) / max(1, count - 1)) for k in range(count)})
    sizes = [train.read(place).size for place in places]
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def _up(length: int, stride: int) -> int:
    return -(-length // stride) * stride


def _down(length: int, stride: int) -> int:
    return max(length // stride, 1) * stride


def _text(size: Sequence[int]) -> str:
    return f"{size[0]},{size[1]}"
