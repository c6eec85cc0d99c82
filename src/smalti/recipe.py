"""A recipe says everything about a run: model, data, input policy, training.

A recipe is a plain function that returns a frozen `Recipe`; there is no inheritance of settings and no registry. Small
changes are made with `settings.override(recipe, {"training.steps": 100})`, on the command line
`--set training.steps=100`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from smalti.containers import Size
from smalti.settings import from_json


@dataclass(frozen=True, kw_only=True)
class InputPolicy:
    """How a picture of any size enters the network.

    * `pad`: as it is (or scaled so that its longer side is `size`'s), padded to a multiple of the model's stride;
    * `stretch`: resized to exactly `size`, whatever its shape;
    * `crop`: the centre of that `size` (padded where the picture is smaller).
    """

    fit: Literal["pad", "stretch", "crop"] = "pad"
    size: Size | None = None
    value_range: tuple[float, float] | None = None
    """Values of images deeper than 8 bits that become 0 and 255; None = 8-bit images, or to be measured by training."""

    def __post_init__(self) -> None:
        """Raises ValueError if `stretch` or `crop` lack a size, or the value range is none."""
        if self.fit not in ("pad", "stretch", "crop"):
            raise ValueError(f'fit must be "pad", "stretch" or "crop", got "{self.fit}"')
        if self.fit != "pad" and self.size is None:
            raise ValueError(f'fit="{self.fit}" needs a size (height, width)')
        if self.value_range is not None and not -math.inf < self.value_range[0] < self.value_range[1] < math.inf:
            raise ValueError(f"value_range is two finite numbers, the lower one first, got {self.value_range}")


@dataclass(frozen=True, kw_only=True)
class AugmentationRecipe:
    """How training pictures are varied; picture and truth move together.

    The picture is scaled by a factor drawn log-uniformly from `scale` (or, where there is a `scale_step`, one of the
    factors in such steps, each as likely), cut to `crop` at a random place (padded with
    ignored pixels where it is smaller; None = the picture's own size) and flipped; `brightness`, `contrast`,
    `saturation` and `hue` are the half-widths of torchvision's ColorJitter.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    scale_step: float | None = None
    crop: Size | None = None
    flip_horizontal: float = 0.5
    flip_vertical: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    zoom_out: float = 0.0
    """Probability that the picture is first put on a canvas of its mean colour, up to four times as long (SSD). The
    canvas is of the class named "background", where there is one, else ignored."""
    object_crop: bool = False
    """Then it is cut at random so that an object is overlapped by a share that is drawn (SSD)."""
    offline_flips: bool = False
    """The SIS-CNN paper's set: each picture, its horizontal and its vertical mirror image are three samples."""


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """Which pictures: the data set's name in `DATASETS`, its splits and options of its own."""

    set: str
    root: str | None = None
    """Folder of the data set on this machine; None = searched in `SMALTI_DATA`."""
    train: str = "train"
    validation: str = "val"
    options: Mapping[str, Any] = field(default_factory=dict)
    count_ignored: bool = False
    """Ignored pixels become one more class that is learned and counted (only SIS-CNN's paper mode does this)."""
    cache: bool = True
    workers: int = 2


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How the weights are found. An epoch is `steps_per_epoch` optimiser steps, or one pass where that is None."""

    epochs: int = 50
    steps_per_epoch: int | None = None
    steps: int | None = None
    """Stops after so many optimiser steps in all, whatever `epochs` says; the schedule ends there, too."""
    batch: int = 8
    accumulate: int = 1
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    encoder_learning_rate: float | None = None
    """Learning rate of the encoder; None = the same as the rest."""
    weight_decay: float = 0.01
    momentum: float = 0.9
    """Of SGD; beta1 of Adam."""
    schedule: Literal["poly", "cosine", "step", "constant"] = "poly"
    poly_power: float = 0.9
    step_factor: float = 0.1
    step_at: tuple[float, ...] = (0.6, 0.85)
    """Shares of the training behind the warm-up at which `schedule="step"` multiplies the rate by `step_factor`."""
    warmup: float = 0.0
    """Steps in which the learning rate rises to its value: below 1 as a share of all steps, else their number."""
    clip: float | None = None
    ema: float | None = None
    """Decay of the moving average of the weights that is validated and saved; None = the weights themselves."""
    ema_span: float = 0.2
    """The share of all steps that the average spans at most; in a shorter training its decay is lowered to that."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    monitor: str | None = None
    """The metric that chooses `best`: the higher the better, but for losses ("validation_loss").

    None = it follows from network and validation split before the first step: `semantic.miou` where classes are
    predicted and annotated, else `boxes.map50` where boxes are, else the validation loss."""
    validate_every: int | None = 1
    """Epochs; None = once, after the last one, whose weights are then the best: nothing is chosen by the validation."""
    patience: int | None = None
    """Stops when `monitor` has not risen for so many validations."""
    seed: int = 0
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    examples: int = 2
    """Validation pictures that are drawn after each validated epoch."""

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that make no training."""
        for name in ("epochs", "batch", "accumulate", "validate_every", "steps_per_epoch", "steps", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"training.{name} must be 1 or more, got {value}")
        for name in ("learning_rate", "encoder_learning_rate", "clip", "warmup"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"training.{name} must be a number >= 0, got {value}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(
                f"training.ema must be a decay of 0 or more and below 1 (none = no average), got {self.ema}"
            )
        if not 0 < self.ema_span <= 1:
            raise ValueError(f"training.ema_span must be a share of all steps above 0, up to 1, got {self.ema_span}")
        if any(not 0 < at < 1 for at in self.step_at):
            raise ValueError(f"training.step_at must be shares of the training between 0 and 1, got {self.step_at}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about a run. `config` is the frozen `Config` of the model's own file."""

    name: str
    model: str
    config: Any
    data: DataRecipe
    weights: str | None = None
    """None = random, "imagenet" = the encoder's ImageNet weights, else the path of a checkpoint to start from."""
    augmentation: AugmentationRecipe = AugmentationRecipe()
    input: InputPolicy = InputPolicy()
    training: TrainingRecipe = TrainingRecipe()


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of an ablation: a recipe with small changes."""

    name: str
    changes: Mapping[str, Any]
    """Dotted keys, as for `--set`; on top of those of the ablation's first row."""
    reported: float | None = None
    """The paper's difference to its baseline, in points (hundredths) of the ablation's first metric."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One recipe in several variants that are compared; the first row is the baseline."""

    name: str
    recipe: Recipe
    rows: tuple[Variant, ...]
    source: str = ""
    """The paper's table."""
    metrics: tuple[str, ...] = ("semantic.miou", "boundary.miou_3", "boundary.miou_5", "boundary.miou_10")
    """What the table shows, the most important first."""


def recipe_from_json(values: Any, config_type: Callable[[str], type[Any]]) -> Recipe:
    """A whole recipe from its JSON; `config_type` gives the `Config` class of a model's name.

    Raises:
        ValueError: If it is no recipe; says where, what was expected, and what came.
    """
    recipe = from_json(values, Recipe)
    try:
        return dataclasses.replace(recipe, config=from_json(recipe.config, config_type(recipe.model)))
    except ValueError as error:
        raise ValueError(f"config of {recipe.model}: {error}") from error
