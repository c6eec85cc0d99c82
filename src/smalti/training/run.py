"""A training run from a recipe to a run folder; continues one that was interrupted."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning

from smalti.checkpoint import BEST, LAST
from smalti.data.dataset import DataError
from smalti.data.fingerprints import IMAGES
from smalti.files import claimed, write_text
from smalti.models.contract import SegmentationModel
from smalti.recipe import Recipe
from smalti.settings import to_json
from smalti.training.callbacks import STATE, EpochLines, Progress, RunFolder
from smalti.training.datamodule import DataModule
from smalti.training.preparation import prepare
from smalti.training.resuming import LABELS, RECIPE, Resume, prepare_folder
from smalti.training.schedule import RunLength
from smalti.training.task import SegmentationTask
from smalti.training.trainer import build_trainer


@dataclass(frozen=True, kw_only=True)
class Reporting:
    """How a run tells what it does: lines of text, a live bar, and a call after each epoch."""

    write: Callable[[str], None] = print
    bar: bool = False
    after_epoch: Callable[[Path], None] | None = None
    version: str = ""


def run(recipe: Recipe, out: Path, resume: bool | Resume = False, reporting: Reporting | None = None) -> bool:
    """Trains; answers whether the training came to its end (Ctrl-C ends it early and leaves a usable run).

    Raises:
        ValueError: If the run folder exists (and `resume` is not set), belongs to another recipe or other images, or is
            trained in by another process; if recipe, network and data do not go together.
        OSError: If a checkpoint could not be written; the one before survives.
    """
    reporting = reporting or Reporting()
    continued = prepare_folder(recipe, out, resume)
    lightning.seed_everything(recipe.training.seed, workers=True, verbose=False)
    setup = prepare(recipe, reporting.write, continued)
    with claimed(out):
        write_text(out / RECIPE, json.dumps(to_json(setup.recipe), indent=1) + "\n")
        write_text(out / LABELS, setup.train.labels.to_text())
        if setup.images is not None:
            write_text(out / IMAGES, setup.images.to_text())
        data = DataModule(setup.recipe, setup.model, setup.train, setup.validation)
        return _fit(setup.model, data, out, reporting, resume=continued is not None)


def _fit(model: SegmentationModel, data: DataModule, out: Path, reporting: Reporting, *, resume: bool) -> bool:
    recipe = data.recipe
    training = recipe.training
    length = RunLength.of(recipe, len(data.train))
    task = SegmentationTask(model, recipe, length.steps)
    folder = RunFolder(out, recipe, reporting.after_epoch, reporting.version)
    bar = Progress(length.steps, training.batch * training.accumulate) if reporting.bar else None
    lines = EpochLines(folder, length.epochs, reporting.write if bar is None else bar.say)
    trainer = build_trainer(recipe, length.epochs, [*([] if bar is None else [bar]), folder, lines], out)
    reporting.write(
        f"{recipe.name}: {len(data.train)} training pictures, {len(data.validation)} for validation, "
        f"{length.steps} steps of {training.batch * training.accumulate}, "
        f"{trainer.precision} on {trainer.accelerator.name()}"
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
        reporting.write(f"no validation could measure {training.monitor}; {LAST} stands for the best")
    return not trainer.interrupted
