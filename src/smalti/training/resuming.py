"""Whether a run folder may be written to, and whether an interrupted run goes on as it began."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smalti.containers import Size
from smalti.data.fingerprints import IMAGES, ImageRecord
from smalti.json_files import load_json
from smalti.labels import LabelSet
from smalti.models.create import config_type
from smalti.recipe import Recipe, recipe_from_json
from smalti.settings import to_json
from smalti.training.callbacks import HISTORY, STATE, read_history

RECIPE = "recipe.json"
LABELS = "labels.json"
FILES_BEFORE_TRAINING = {RECIPE, LABELS, IMAGES}
"""What stands in the folder of a run that failed before its first epoch was saved."""
RESUMABLE = (
    "training.epochs",
    "training.steps",
    "training.patience",
    "data.root",
    "data.workers",
    "training.precision",
)
"""What may differ when a run is continued."""


@dataclass(frozen=True, kw_only=True)
class Resume:
    """How an interrupted run goes on."""

    allow_other_data: bool = False
    """With other images than it began with, too."""


@dataclass(frozen=True, kw_only=True)
class ContinuedRun:
    """A run that goes on: its folder, the recipe it began with (all that was resolved then), and its whole epochs."""

    out: Path
    recipe: Recipe
    epochs: int
    allow_other_data: bool


def prepare_folder(recipe: Recipe, out: Path, resume: bool | Resume) -> ContinuedRun | None:
    """The run to go on with; None = a new one, as one that was stopped in its first epoch begins anew.

    Raises:
        ValueError: If the folder exists and `resume` is not set, or if it belongs to another recipe.
    """
    if resume:
        if not (out / RECIPE).is_file():
            raise ValueError(f"{out}: no {RECIPE} here, nothing to resume; start without --resume")
        stored = _read_recipe(out / RECIPE)
        _check_same(recipe, stored, out)
        if not (out / STATE).is_file():
            return None
        allow_other_data = isinstance(resume, Resume) and resume.allow_other_data
        epochs = len(read_history(out / HISTORY))
        return ContinuedRun(out=out, recipe=stored, epochs=epochs, allow_other_data=allow_other_data)
    if out.exists() and not is_unstarted(out):
        raise ValueError(f"{out} exists already: choose another folder with --out, or go on with --resume")
    return None


def is_unstarted(out: Path) -> bool:
    """Whether a folder is empty, or that of a run of this package that failed before its first epoch was saved."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else {str(out)}
    return not names or (names <= FILES_BEFORE_TRAINING and has_recipe(out))


def has_recipe(out: Path) -> bool:
    """Whether a run of this package was begun in a folder: a recipe is the first that it writes there."""
    try:
        content = load_json(out / RECIPE)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"name", "model", "config", "training"} <= content.keys()


def check_labels(continued: ContinuedRun, labels: LabelSet) -> None:
    """Raises ValueError if the data has other classes than the run began with."""
    if LabelSet.read(continued.out / LABELS) != labels:
        raise ValueError(f"{continued.out} was trained with other classes than the data has now (see its {LABELS}): "
                         "train into another folder")  # fmt: skip


def continued_images(continued: ContinuedRun, now: ImageRecord, write: Callable[[str], None]) -> ImageRecord:
    """The images of a run that goes on.

    Raises:
        ValueError: If they are not those it began with, and that is not allowed; names them.
    """
    before = ImageRecord.read(continued.out)
    if before is None:
        write(f"note: {continued.out} does not record which images it began with: they are not compared")
        return dataclasses.replace(now, changes=({"epoch": continued.epochs, "unrecorded": True},))
    differences = before.differences(now)
    if not differences:
        return before
    found = "; ".join(f"{split}: {difference}" for split, difference in differences.items())
    if not continued.allow_other_data:
        raise ValueError(f"{continued.out} was trained on other images than the data has now: {found}. Give it those "
                         f"that it began with (its {IMAGES}), train into another folder, or go on with "
                         "--allow-other-data, which is recorded")  # fmt: skip
    write(f"note: goes on with other images after epoch {continued.epochs}, which {IMAGES} records: {found}")
    return before.continued_with(now, continued.epochs)


def continued_crop(continued: ContinuedRun, crop: Size | None) -> Size | None:
    """The crop that the run began with.

    Raises:
        ValueError: If `crop`, which suits the images now, is another one, though the images are the same.
    """
    stored = continued.recipe.augmentation.crop
    if stored != crop and not continued.allow_other_data:
        raise _other_setting(continued.out, "augmentation.crop", stored, crop)
    return stored


def _read_recipe(path: Path) -> Recipe:
    values = load_json(path)
    try:
        return recipe_from_json(values, config_type)
    except ValueError as error:
        raise ValueError(f"{path}: not a recipe: {error}") from error


def _check_same(recipe: Recipe, stored: Recipe, out: Path) -> None:
    old, new = _flat(to_json(stored)), _flat(to_json(recipe))
    for key in sorted(old.keys() | new.keys()):
        # What follows from the data was resolved when the run began: a rule's name became numbers.
        is_resolved = (
            (key.startswith("config.semantic_loss.class_weights") and isinstance(new.get(key), str))
            or (key in ("training.monitor", "input.value_range") and new.get(key) is None)
            or key == "augmentation.crop"  # compared once it is resolved
        )
        if old.get(key) != new.get(key) and key not in RESUMABLE and not is_resolved:
            raise _other_setting(out, key, old.get(key), new.get(key))


def _other_setting(out: Path, key: str, stored: Any, given: Any) -> ValueError:
    return ValueError(f"{out} was trained with {key}={stored}, not {given}: resume it as it was, or train into another "
                      "folder")  # fmt: skip


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {
        k: v for name, part in values.items() for k, v in _flat(part, f"{prefix}.{name}" if prefix else name).items()
    }
