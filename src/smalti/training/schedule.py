"""How long a run is, and what of its recipe follows from that: warm-up, averaging, drops and validations."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from smalti.recipe import Recipe, TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class RunLength:
    """Optimiser steps of the whole training, and epochs they make; the last epoch may be cut short."""

    steps: int
    epochs: int
    steps_per_epoch: int

    @classmethod
    def of(cls, recipe: Recipe, images: int) -> "RunLength":
        """That of a recipe on so many training images; a last, smaller batch of a pass is left out."""
        training = recipe.training
        per_epoch = training.steps_per_epoch or max(images // (training.batch * training.accumulate), 1)
        steps = min(training.steps or math.inf, training.epochs * per_epoch)
        return cls(steps=int(steps), epochs=math.ceil(steps / per_epoch), steps_per_epoch=per_epoch)


def warmup_steps(training: TrainingRecipe, steps: int) -> int:
    """Steps of linear warm-up in a training of `steps`: below 1 `warmup` is a share of them, else their number."""
    return round(training.warmup * steps if training.warmup < 1 else training.warmup)


def ema_decay(training: TrainingRecipe, steps: int) -> float | None:
    """The decay of the averaged weights: it spans 1 / (1 - decay) steps, at most the share `ema_span` of all."""
    if training.ema is None:
        return None
    return min(training.ema, max(0.0, 1 - 1 / (training.ema_span * steps)))


def check_schedule(training: TrainingRecipe, length: RunLength, write: Callable[[str], None]) -> None:
    """Says in one line each what of the schedule is changed by, or has no effect in, so short a training.

    Raises:
        ValueError: If the warm-up takes half of the steps or more.
    """
    steps, warmup = length.steps, warmup_steps(training, length.steps)
    if warmup > 1 and 2 * warmup >= steps:
        raise ValueError(
            f"training.warmup={training.warmup:g} is {warmup} of {steps} steps: the learning rate would hardly reach "
            "its value. Set training.warmup to a share of all steps below 0.5 (say 0.05), or raise training.epochs"
        )
    decay = ema_decay(training, steps)
    if training.ema is not None and decay is not None and decay < training.ema:
        write(f"note: training.ema={training.ema:g} averages {1 / (1 - training.ema):.0f} steps, more than "
              f"{100 * training.ema_span:.0f} % of {steps} (training.ema_span): {decay:.3g} is used")  # fmt: skip
    if training.steps is not None and training.steps > steps:
        write(f"note: training.steps={training.steps} is never reached: {length.epochs} epochs of "
              f"{length.steps_per_epoch} steps end after {steps}; raise training.epochs")  # fmt: skip
    if training.schedule == "step":
        _check_drops(training, steps, write)
    _check_validations(training, length.epochs, write)


def _check_drops(training: TrainingRecipe, steps: int, write: Callable[[str], None]) -> None:
    warmup = warmup_steps(training, steps)
    last = (steps - 1 - warmup) / max(steps - warmup, 1)
    never = [at for at in training.step_at if at > last]
    if never:
        write(f"note: training.step_at={', '.join(f'{at:.3g}' for at in never)} has no effect in {steps} steps: the "
              "learning rate would fall after the last one")  # fmt: skip


def _check_validations(training: TrainingRecipe, epochs: int, write: Callable[[str], None]) -> None:
    every, patience = training.validate_every, training.patience
    if every is not None and epochs % every:
        write(f"note: training.validate_every={every} does not divide {epochs} epochs: the last one is validated, too")
    validations = 1 if every is None else math.ceil(epochs / every)
    if patience is not None and patience + 1 >= validations:
        write(f"note: training.patience={patience} cannot end this training earlier: it has {validations} validations")
