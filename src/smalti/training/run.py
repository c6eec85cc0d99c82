"""A training run from a recipe to a run folder; continues one that was interrupted."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning

from smalti.checkpoint import BEST, LAST
from smalti.data.dataset import DataError
from smalti.files import claimed, write_text
from smalti.labels import LabelSet
from smalti.models.contract import SegmentationModel
from smalti.recipe import Recipe
from smalti.settings import to_json
from smalti.training.callbacks import STATE, EpochLines, Progress, RunFolder
from smalti.training.datamodule import DataModule
from smalti.training.preparation import prepare
from smalti.training.resuming import LABELS, RECIPE, prepare_folder
from smalti.training.task import SegmentationTask
from smalti.training.trainer import build_trainer


@dataclass(frozen=True, kw_only=True)
class Reporting:
    """How a run tells what it does: lines of text, a live bar, and a call after each epoch."""

    write: Callable[[str], None] = print
    bar: bool = False
    after_epoch: Callable[[Path], None] | None = None
    version: str = ""


def run(recipe: Recipe, out: Path, resume: bool = False, reporting: Reporting | None = None) -> bool:
    """Trains; answers whether the training came to its end (Ctrl-C ends it early and leaves a usable run).

    Raises:
        ValueError: If the run folder exists (and `resume` is not set), belongs to another recipe, or is trained in by
            another process.
        OSError: If a checkpoint could not be written; the one before survives.
    """
    reporting = reporting or Reporting()
    resume = prepare_folder(recipe, out, resume)
    lightning.seed_everything(recipe.training.seed, workers=True, verbose=False)
    setup = prepare(recipe, reporting.write, resume=resume)
    if resume and LabelSet.read(out / LABELS) != setup.train.labels:
        raise ValueError(f"{out} was trained with other classes than the data has now (see its {LABELS}): train into "
                         "another folder")  # fmt: skip
    with claimed(out):
        write_text(out / RECIPE, json.dumps(to_json(setup.recipe), indent=1) + "\n")
        write_text(out / LABELS, setup.train.labels.to_text())
        data = DataModule(setup.recipe, setup.model, setup.train, setup.validation)
        return _fit(setup.model, data, out, reporting, resume=resume)


def _fit(model: SegmentationModel, data: DataModule, out: Path, reporting: Reporting, *, resume: bool) -> bool:
    recipe = data.recipe
    training = recipe.training
    steps = training.epochs * data.steps_per_epoch
    steps = min(training.steps or steps, steps)
    epochs = math.ceil(steps / data.steps_per_epoch)
    task = SegmentationTask(model, recipe, steps)
    folder = RunFolder(out, recipe, reporting.after_epoch, reporting.version)
    bar = Progress(steps, training.batch * training.accumulate) if reporting.bar else None
    lines = EpochLines(folder, epochs, reporting.write if bar is None else bar.say)
    trainer = build_trainer(recipe, epochs, [*([] if bar is None else [bar]), folder, lines], out)
    reporting.write(
        f"{recipe.name}: {len(data.train)} training pictures, {len(data.validation)} for validation, "
        f"{steps} steps of {training.batch * training.accumulate}, {trainer.precision} on {trainer.accelerator.name()}"
    )
    try:
        trainer.fit(task, datamodule=data, ckpt_path=str(out / STATE) if resume else None, weights_only=True)
    except (KeyboardInterrupt, SystemExit):  # Lightning makes an exit of Ctrl-C
        if not trainer.interrupted:
            raise
    except DataError as error:  # from a loader's worker it comes with the worker's traceback in its text
        raise DataError(str(error).rpartition(f"{DataError.__name__}: ")[2].strip()) from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError("a batch of one picture cannot be normalised in this network's pooled maps: set "
                         "training.batch=2 or more") from error  # fmt: skip
    if trainer.interrupted:
        folder.save_interrupted(trainer, task)
        saved = (
            f"{len(folder.rows)} whole epochs are saved in {out}; go on with --resume"
            if folder.rows
            else f"the weights of now are saved in {out}; --resume begins the first epoch anew"
        )
        reporting.write(f"interrupted: {saved}")
    elif not (out / BEST).is_file():
        reporting.write(f"nothing was validated; {LAST} stands for the best")
    return not trainer.interrupted
