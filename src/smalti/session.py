"""Whole jobs, as the command line and `smalti.train` / `smalti.evaluate` run them: the rooms in order."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import smalti
from smalti.checkpoint import BEST, LAST, Card
from smalti.data.dataset import parse_data_argument
from smalti.data.fingerprints import IMAGES
from smalti.evaluation.plots import plot_history
from smalti.evaluation.run import (
    METRICS,
    REPORT,
    Evaluation,
    Progress,
    check_evaluation_replaceable,
    evaluate_checkpoint,
    evaluation_execution,
    write_evaluation,
)
from smalti.files import replacing
from smalti.models.create import find_recipe
from smalti.recipe import Recipe
from smalti.settings import override
from smalti.training.callbacks import EXAMPLES, HISTORY, STATE, read_history
from smalti.training.resuming import LABELS, RECIPE, Resume
from smalti.training.run import Reporting, run

CURVES = "curves.png"
RUN_FILES = (RECIPE, LABELS, IMAGES, HISTORY, BEST, LAST, STATE, METRICS, REPORT, CURVES, f"{EXAMPLES}/epoch_*.png")
"""All that `train` writes into a run folder; the last one is a pattern."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How a network is measured.

    `changes` are dotted keys of its recipe; `overwrite` replaces files that this package did not write; `trust` loads
    a .pt2 file, which may run code.
    """

    changes: Mapping[str, Any] | None = None
    overwrite: bool = False
    trust: bool = False
    progress: Progress | None = None


def resolve_recipe(recipe: str | Recipe, data: str | Path | None, changes: dict[str, Any] | None) -> Recipe:
    """The recipe by name, with its data and its small changes put in.

    Raises:
        ValueError: Unknown recipe, data set or key; names the nearest.
    """
    found = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if data is not None:
        name, root = parse_data_argument(data, found.data.set)
        options = found.data.options if name == found.data.set else {}
        place = dataclasses.replace(found.data, set=name, root=None if root is None else str(root), options=options)
        found = dataclasses.replace(found, data=place)
    return override(found, changes or {})


def train(
    recipe: str | Recipe,
    *,
    data: str | Path | None = None,
    out: str | Path,
    resume: bool | Resume = False,
    changes: dict[str, Any] | None = None,
    reporting: Reporting | None = None,
) -> dict[str, Any]:
    """See `smalti.train`. `reporting` says where lines of text go and whether a live bar is drawn."""
    out = Path(out)
    settled = resolve_recipe(recipe, data, changes)
    if resume:
        check_evaluation_replaceable(out, overwrite=None)
    told = dataclasses.replace(reporting or Reporting(), after_epoch=draw_curves, version=smalti.__version__)
    finished = run(settled, out, resume, told)
    if not finished:
        return {}
    found = evaluate_checkpoint(out, _data_of(settled), settled.data.validation)
    write_evaluation(found, out, read_history(out / HISTORY), f"{settled.name}: {out.name}")
    return found.to_json()


def resume_as(resume: bool, allow_other_data: bool) -> bool | Resume:
    """The two flags as one value.

    Raises:
        ValueError: If other data are allowed for a run that does not go on.
    """
    if allow_other_data and not resume:
        raise ValueError("--allow-other-data belongs to --resume: a new run takes whatever data it is given")
    return Resume(allow_other_data=True) if allow_other_data else resume


def _data_of(recipe: Recipe) -> str | None:
    return None if recipe.data.root is None else f"{recipe.data.set}={recipe.data.root}"


def evaluate(
    model: str | Path,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    out: str | Path | None = None,
    options: EvaluationOptions = EvaluationOptions(),
) -> dict[str, Any]:
    """See `smalti.evaluate`."""
    path = Path(model)
    if out is not None:
        check_evaluation_replaceable(Path(out), overwrite=options.overwrite)
    execution = evaluation_execution(path, trust=options.trust)
    found = evaluate_checkpoint(path, data, split, options.progress, changes=options.changes, execution=execution)
    if out is not None:
        history = read_history(path / HISTORY) if path.is_dir() else []
        write_evaluation(found, Path(out), history, _title(found, path, found.card))
    return found.to_json()


def _title(found: Evaluation, path: Path, card: Card) -> str:
    return f"{card.recipe.name}: {path.name} on {found.dataset.name} {found.dataset.split}"


def draw_curves(folder: Path) -> None:
    """Redraws a run folder's graphs from its history."""
    with replacing(folder / CURVES) as part:
        part.write_bytes(plot_history(read_history(folder / HISTORY)))
