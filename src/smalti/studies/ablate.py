"""Ablations: one recipe in several variants, over seeds, row by row; goes on where it was interrupted."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from smalti import session
from smalti.checkpoint import LAST
from smalti.files import claimed, write_text
from smalti.json_files import load_json
from smalti.models.create import ablations, find_ablation, find_recipe, recipes
from smalti.ownership import check_replaceable
from smalti.recipe import Ablation, Recipe, Variant
from smalti.settings import from_json, override, to_json
from smalti.studies.ablation_table import TABLES, Cell, write_tables
from smalti.studies.jobs import Job, one_by_one, side_by_side
from smalti.training.callbacks import HISTORY, STATE, read_history
from smalti.training.preparation import open_splits
from smalti.training.resuming import has_recipe
from smalti.training.run import Reporting

CELL = "ablation.json"
REPEATED = {"seed": "training.seed", "fold": "data.options.fold"}
ANY_RECIPE = (
    "semantic.miou",
    "semantic.pixel_accuracy",
    "semantic.class_accuracy",
    "boundary.miou_3",
    "boxes.map50",
    "boxes.ap",
    "difficulty.auc",
)
"""What the table of a recipe shows, as far as it was measured."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What an ablation is run on; `only` keeps the rows whose name contains one of these texts, and the baseline.

    Each row is run `repeats` times: with the seeds 0, 1, … or on the data set's folds 1, 2, …; `jobs` of these runs are
    trained side by side, each with its share of the processor's threads.
    """

    data: str | None = None
    split: str | None = None
    repeats: int = 3
    over: Literal["seed", "fold"] = "seed"
    only: tuple[str, ...] = ()
    jobs: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)


def choose_ablation(name: str, recipe: str | None, variants: list[dict[str, Any]]) -> Ablation:
    """The ablation of that name, on another recipe if one is named; or the recipe of that name beside its variants.

    A recipe without variants is an ablation of one row: its numbers with their spread.

    Raises:
        ValueError: If there is none of that name; names the nearest.
    """
    if variants and name in ablations():
        own = find_ablation(name).recipe.name
        raise ValueError(f"{name} has rows of its own: --variant belongs to a recipe, such as {own}")
    if variants or name in recipes():
        if recipe is not None:
            raise ValueError("a recipe is named first already: leave --recipe away")
        rows = [Variant(name=" ".join(f"{k}={v}" for k, v in changes.items()), changes=changes) for changes in variants]
        rows = [Variant(name="as it is", changes={}), *rows]
        return Ablation(name=name, recipe=find_recipe(name), rows=tuple(rows), metrics=ANY_RECIPE)
    ablation = find_ablation(name)
    return ablation if recipe is None else dataclasses.replace(ablation, recipe=find_recipe(recipe))


def run_ablation(ablation: Ablation, out: Path, trial: Trial, write: Callable[[str], None]) -> bool:
    """Trains and measures every row with every seed or fold not there yet; answers whether all are there now.

    Every run is a run folder below `out`; the tables (`ablation.md`, `.csv`, `.png`) are written anew after each one
    and hold every row that has been measured there, also by an earlier call.

    Raises:
        ValueError: If a run folder there was made with other settings, a table there is of another maker, or no row is
            left.
    """
    _check(ablation, trial)
    rows = _chosen(ablation, trial)
    cells = _measured(ablation, out, trial)
    # Beside runs that an ablation measured, the tables are an ablation's.
    check_replaceable([out / name for name in TABLES], lambda _: any(out.glob(f"*/*/{CELL}")), overwrite=None)
    first = 0 if trial.over == "seed" else 1
    repeats = range(first, first + trial.repeats)
    left = [(row, repeat) for repeat in repeats for row in rows if (row.name, repeat) not in cells]
    _open_data(ablation, trial, dict.fromkeys(repeat for _, repeat in left))
    jobs = [
        Job(
            name=f"[{number}/{len(left)}] {row.name}, {trial.over} {repeat}",
            recipe=_recipe(ablation, row, repeat, trial),
            folder=_folder(out, row) / f"{trial.over}_{repeat}",
            split=trial.split,
        )
        for number, (row, repeat) in enumerate(left, start=1)
    ]
    trained = one_by_one(run_cell, jobs, write) if trial.jobs == 1 else side_by_side(run_cell, jobs, trial.jobs, write)
    for number, cell in trained:
        if cell is None:
            return False
        row, repeat = left[number]
        cells[row.name, repeat] = cell
        write_tables(ablation, cells, out, trial.over)
    write_tables(ablation, cells, out, trial.over)
    return True


def _check(ablation: Ablation, trial: Trial) -> None:
    folders = [_folder(Path(), row).name for row in ablation.rows]
    twice = sorted({name for name in folders if folders.count(name) > 1 or name.strip(".") == ""})
    if twice:
        raise ValueError(f'rows need names that differ and make folders; not so: "{twice[0]}"')
    _check_rows_differ(ablation)
    if REPEATED[trial.over] in trial.changes:
        raise ValueError(f"--set {REPEATED[trial.over]} is what the runs of a row differ by: leave it away")
    for key in trial.changes:
        for row in ablation.rows:
            same = [own for own in row.changes if f"{own}.".startswith(f"{key}.") or f"{key}.".startswith(f"{own}.")]
            if same:
                raise ValueError(f'--set {key} changes what the row "{row.name}" is about ({same[0]}): the differences '
                                 "would mix two causes. Make it a row of its own with --variant")  # fmt: skip


def _check_rows_differ(ablation: Ablation) -> None:
    """A row that forgets to undo the first one's changes would be that row again, after hours."""
    first, *_ = ablation.rows
    recipes = [override(ablation.recipe, {**first.changes, **row.changes}) for row in ablation.rows]
    for k, recipe in enumerate(recipes):
        if recipe in recipes[:k]:
            alike = ablation.rows[recipes.index(recipe)].name
            raise ValueError(f'the rows "{alike}" and "{ablation.rows[k].name}" are the same training: changes of a '
                             "row come on top of the first row's")  # fmt: skip


def _open_data(ablation: Ablation, trial: Trial, repeats: Iterable[int]) -> None:
    """A fold or a split that is not there is better known before the first training than after the last."""
    for repeat in repeats if trial.over == "fold" else list(repeats)[:1]:
        recipe = _recipe(ablation, ablation.rows[0], repeat, trial)
        for split in dict.fromkeys((recipe.data.validation, trial.split or recipe.data.validation)):
            open_splits(override(recipe, {"data.validation": split}))


def _chosen(ablation: Ablation, trial: Trial) -> list[Variant]:
    baseline, *others = ablation.rows
    if not others and not trial.only:
        return [baseline]
    kept = [row for row in others if not trial.only or any(text in row.name for text in trial.only)]
    if not kept:
        raise ValueError(f"no row of {ablation.name} has {' or '.join(trial.only)} in its name; the rows are: "
                         f"{'; '.join(row.name for row in others)}")  # fmt: skip
    return [baseline, *kept]


def _recipe(ablation: Ablation, row: Variant, repeat: int, trial: Trial) -> Recipe:
    """The baseline's changes, those of this trial, then the row's own, so that a row always is what its name says."""
    recipe = session.resolve_recipe(ablation.recipe, trial.data, {**ablation.rows[0].changes, **trial.changes})
    return override(recipe, {**row.changes, REPEATED[trial.over]: repeat})


def _folder(out: Path, row: Variant) -> Path:
    return out / re.sub(r"[^\w.,=+-]+", "_", row.name)


def _measured(ablation: Ablation, out: Path, trial: Trial) -> dict[tuple[str, int], Cell]:
    """Every cell that is there, of any seed, or of any fold."""
    cells = {}
    for row in ablation.rows:
        for file in sorted(_folder(out, row).glob(f"{trial.over}_*/{CELL}")):
            repeat = int(file.parent.name.removeprefix(f"{trial.over}_"))
            cell = _read_cell(file)
            recipe = _recipe(ablation, row, repeat, trial)
            if cell.wanted != to_json(recipe):
                raise ValueError(f"{file.parent} was made with other settings or other data: "
                                 "choose another folder with --out")  # fmt: skip
            measured_on = cell.protocol["split"]
            if measured_on != (trial.split or recipe.data.validation):
                raise ValueError(f"{file.parent} was measured on the split {measured_on}: take --split {measured_on}, "
                                 "or another folder with --out")  # fmt: skip
            cells[row.name, repeat] = cell
    return cells


def _read_cell(file: Path) -> Cell:
    values = load_json(file)
    try:
        return from_json(values, Cell)
    except ValueError as error:
        raise ValueError(f"{file}: not the numbers of a run: {error}") from error


def run_cell(job: Job, write: Callable[[str], None]) -> Cell | None:
    """Trains and measures, or goes on with it; None = interrupted."""
    recipe, folder, split = job.recipe, job.folder, job.split
    resume = (folder / STATE).is_file()
    if not resume and has_recipe(folder) and not (folder / HISTORY).is_file():  # stopped in its first epoch
        with claimed(folder):
            (folder / LAST).unlink(missing_ok=True)
    found = session.train(recipe, out=folder, resume=resume, reporting=Reporting(write=write))
    if not found:
        return None
    if split is not None and split != recipe.data.validation:
        place = None if recipe.data.root is None else f"{recipe.data.set}={recipe.data.root}"
        found = session.evaluate(folder, data=place, split=split)
    numbers = {k: v for k, v in found.items() if isinstance(v, float)}
    seconds = sum(row["seconds"] for row in read_history(folder / HISTORY))
    cell = Cell(metrics=numbers, protocol=found["protocol"], seconds=seconds, wanted=to_json(recipe))
    write_text(folder / CELL, json.dumps(dataclasses.asdict(cell), indent=1) + "\n")
    return cell
