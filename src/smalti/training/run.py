"""A training run from a recipe to a run folder; continues one that was interrupted."""

import dataclasses
import json
import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch import loggers
from lightning.pytorch.loggers import Logger

from smalti.checkpoint import BEST, LAST
from smalti.data.cache import CachedDataset
from smalti.data.dataset import AtInputScale, CountIgnored, DataError, Dataset, WithMirrorImages, open_dataset
from smalti.data.derive import WithDistances
from smalti.data.statistics import pixel_counts
from smalti.files import claimed, write_text
from smalti.geometry.distances import Norm
from smalti.hardware import best_device, uses_bfloat16
from smalti.labels import LabelSet
from smalti.models.contract import SegmentationModel
from smalti.models.create import build, model_class
from smalti.recipe import Recipe, recipe_from_json
from smalti.settings import to_json
from smalti.training.callbacks import STATE, EpochLines, Progress, RunFolder
from smalti.training.datamodule import DataModule
from smalti.training.task import SegmentationTask

RECIPE = "recipe.json"
LABELS = "labels.json"
MANY_PIXELS = 8 * 1024 * 1024
"""Of one batch, from which on a run says how to make it smaller."""
NOTHING_LOST = {RECIPE, LABELS}
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
    resume = _prepare_folder(recipe, out, resume)
    lightning.seed_everything(recipe.training.seed, workers=True, verbose=False)
    train, validation = open_splits(recipe)
    recipe = _with_class_weights(recipe, train)
    model = build(model_class(recipe.model), recipe.config, train.labels, None if resume else recipe.weights)
    if train.channels != model.in_channels:
        raise ValueError(f"the pictures have {train.channels} channels, the network takes {model.in_channels}: "
                         f"set config.in_channels={train.channels}")  # fmt: skip
    if resume and LabelSet.read(out / LABELS) != train.labels:
        raise ValueError(f"{out} was trained with other classes than the data has now (see its {LABELS}): train into "
                         "another folder")  # fmt: skip
    if model.needs & {"distances", "edges"}:
        norm: Norm = getattr(recipe.config, "distance_norm", "instance")
        train, validation = (WithDistances(part, norm) for part in (train, validation))
    if model.needs & {"distances", "instances"}:
        _check_objects(train, reporting.write)
    with claimed(out):
        write_text(out / RECIPE, json.dumps(to_json(recipe), indent=1) + "\n")
        write_text(out / LABELS, train.labels.to_text())
        _warn_of_size(recipe, train, reporting.write)
        if recipe.data.validation == "test" and recipe.training.validate_every is not None:
            reporting.write("note: the best weights are chosen by the test pictures, whose numbers then say too much: "
                            "--set training.validate_every=none looks at them once, at the end")  # fmt: skip
        task_data = DataModule(recipe, model, train, validation)
        return _fit(model, task_data, out, reporting, resume=resume)


def open_splits(recipe: Recipe) -> tuple[Dataset, Dataset]:
    """The training and validation pictures of a recipe, cached and wrapped as it says."""
    data = recipe.data
    opened = []
    for split in (data.train, data.validation):
        root = None if data.root is None else Path(data.root)
        dataset = open_dataset(data.set, root=root, split=split, options=data.options)
        if split == data.train and recipe.input.fit == "pad" and recipe.input.size is not None:
            dataset = AtInputScale(dataset, recipe.input)
        if data.cache:
            dataset = CachedDataset(dataset)
        opened.append(CountIgnored(dataset) if data.count_ignored else dataset)
    train, validation = opened
    if train.labels != validation.labels:
        raise ValueError(f"the splits {data.train} and {data.validation} have different class tables")
    return (WithMirrorImages(train) if recipe.augmentation.offline_flips else train), validation


def _with_class_weights(recipe: Recipe, train: Dataset) -> Recipe:
    """Class weights named by their rule become numbers, so that the checkpoint's recipe says what was used."""
    loss = recipe.config.semantic_loss
    if not isinstance(loss.class_weights, str):
        return recipe
    config = dataclasses.replace(recipe.config, semantic_loss=loss.resolved(*pixel_counts(train)))
    return dataclasses.replace(recipe, config=config)


def _check_objects(train: Dataset, write: Callable[[str], None]) -> None:
    """Networks that learn objects need some."""
    if not train.labels.things:
        raise ValueError('this network learns objects, and no class of the data is one of things: mark them with '
                         '"thing": true in labels.json, or train without these tasks (config.tasks)')  # fmt: skip
    looked = min(len(train), 50)
    samples = (train.read(k) for k in range(looked))
    if not any(sample.instance_ids is not None or sample.instances is not None for sample in samples):
        write(f"note: none of the first {looked} pictures has objects (instances/): what needs them is not learned")


def _warn_of_size(recipe: Recipe, train: Dataset, write: Callable[[str], None]) -> None:
    """Large photographs in whole batches end in minutes a step, or in no memory: better said before."""
    if recipe.augmentation.crop is not None or recipe.input.fit == "stretch":
        return
    height, width = train.read(0).size
    if height * width * recipe.training.batch > MANY_PIXELS:
        write(
            f"note: batches of {recipe.training.batch} whole pictures of {height}x{width} need much memory and time; "
            "--set input.size=HEIGHT,WIDTH makes pictures smaller, --set augmentation.crop=HEIGHT,WIDTH trains on parts"
        )


def _prepare_folder(recipe: Recipe, out: Path, resume: bool) -> bool:
    """Whether there is a state to go on from; a run that was stopped in its first epoch begins anew."""
    if resume:
        if not (out / RECIPE).is_file():
            raise ValueError(f"{out}: no {RECIPE} here, nothing to resume; start without --resume")
        _check_same(recipe, recipe_from_json(json.loads((out / RECIPE).read_text()), type(recipe.config)), out)
        return (out / STATE).is_file()
    if out.exists() and not is_unstarted(out):
        raise ValueError(f"{out} exists already: choose another folder with --out, or go on with --resume")
    return False


def is_unstarted(out: Path) -> bool:
    """Whether a folder is empty, or that of a run of this package that failed before its first epoch was saved."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else {str(out)}
    return not names or (names <= NOTHING_LOST and has_recipe(out))


def has_recipe(out: Path) -> bool:
    """Whether a run of this package was begun in a folder: a recipe is the first that it writes there."""
    try:
        content = json.loads((out / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"name", "model", "config", "training"} <= content.keys()


def _check_same(wanted: Recipe, stored: Recipe, out: Path) -> None:
    old, new = _flat(to_json(stored)), _flat(to_json(wanted))
    for key in sorted(old.keys() | new.keys()):
        # A rule's name has become numbers when the run began.
        resolved = key.startswith("config.semantic_loss.class_weights") and isinstance(new.get(key), str)
        if old.get(key) != new.get(key) and key not in RESUMABLE and not resolved:
            raise ValueError(f"{out} was trained with {key}={old.get(key)}, not {new.get(key)}: resume it as it was, "
                             "or train into another folder")  # fmt: skip


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {
        k: v for name, part in values.items() for k, v in _flat(part, f"{prefix}.{name}" if prefix else name).items()
    }


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
    trainer = _trainer(recipe, epochs, [*([] if bar is None else [bar]), folder, lines], out)
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


def _trainer(recipe: Recipe, epochs: int, callbacks: list[Any], out: Path) -> lightning.Trainer:
    training = recipe.training
    _quieten_lightning()
    return lightning.Trainer(
        accelerator="auto",
        devices=1,  # several have not been tried yet
        max_epochs=epochs,
        precision="bf16-mixed" if uses_bfloat16(training.precision, best_device()) else "32-true",
        accumulate_grad_batches=training.accumulate,
        gradient_clip_val=training.clip,
        check_val_every_n_epoch=training.validate_every or epochs,
        num_sanity_val_steps=0,
        logger=_loggers(recipe, out),
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(c, Progress) for c in callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        default_root_dir=out,
    )


def _quieten_lightning() -> None:
    """Keeps off the terminal what no user of ours can act on."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # the recipe decides
        ".*LeafSpec.*is deprecated.*",  # Lightning's own use of torch
        ".*The number of training batches.*",  # short epochs
    ):
        warnings.filterwarnings("ignore", message)


def _loggers(recipe: Recipe, out: Path) -> list[Logger]:
    try:
        return [_logger(name, recipe.name, out) for name in recipe.training.loggers]
    except ModuleNotFoundError as error:
        raise ValueError(f'training.loggers: {error}; install it with: pip install "smalti[track]"') from error


def _logger(name: str, experiment: str, out: Path) -> Logger:
    match name:
        case "tensorboard":
            return loggers.TensorBoardLogger(out, name="", version="tensorboard")
        case "mlflow":
            return loggers.MLFlowLogger(experiment, tracking_uri=f"file:{out.resolve() / 'mlruns'}")
        case _:
            return loggers.WandbLogger(project="smalti", name=out.name, save_dir=out)
