"""Whether a run folder may be written to, and whether an interrupted run goes on as it began."""

import json
from pathlib import Path
from typing import Any

from smalti.recipe import Recipe, recipe_from_json
from smalti.settings import to_json
from smalti.training.callbacks import STATE

RECIPE = "recipe.json"
LABELS = "labels.json"
FILES_BEFORE_TRAINING = {RECIPE, LABELS}
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


def prepare_folder(recipe: Recipe, out: Path, resume: bool) -> bool:
    """Whether there is a state to go on from; a run that was stopped in its first epoch begins anew.

    Raises:
        ValueError: If the folder exists and `resume` is not set, or if it belongs to another recipe.
    """
    if resume:
        if not (out / RECIPE).is_file():
            raise ValueError(f"{out}: no {RECIPE} here, nothing to resume; start without --resume")
        _check_same(recipe, read_recipe(out, type(recipe.config)), out)
        return (out / STATE).is_file()
    if out.exists() and (not out.is_dir() or {p.name for p in out.iterdir()} - FILES_BEFORE_TRAINING):
        raise ValueError(f"{out} exists already: choose another folder with --out, or go on with --resume")
    return False


def read_recipe(out: Path, config: type[Any]) -> Recipe:
    """The recipe that a run folder began with, with all that was resolved then."""
    return recipe_from_json(json.loads((out / RECIPE).read_text(encoding="utf-8")), config)


def _check_same(recipe: Recipe, stored: Recipe, out: Path) -> None:
    old, new = _flat(to_json(stored)), _flat(to_json(recipe))
    for key in sorted(old.keys() | new.keys()):
        # What follows from the data was resolved when the run began: a rule's name became numbers.
        resolved = (key.startswith("config.semantic_loss.class_weights") and isinstance(new.get(key), str)) or (
            key == "training.monitor" and new.get(key) is None
        )
        if old.get(key) != new.get(key) and key not in RESUMABLE and not resolved:
            raise ValueError(f"{out} was trained with {key}={old.get(key)}, not {new.get(key)}: resume it as it was, "
                             "or train into another folder")  # fmt: skip


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {
        k: v for name, part in values.items() for k, v in _flat(part, f"{prefix}.{name}" if prefix else name).items()
    }
