"""Lightning's trainer and loggers, as a recipe sets them up."""

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch import loggers
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from smalti.hardware import best_device, uses_bfloat16
from smalti.recipe import Recipe
from smalti.training.callbacks import Progress


def build_trainer(recipe: Recipe, epochs: int, callbacks: list[Any], out: Path) -> lightning.Trainer:
    """A trainer for one device; it draws a bar only if `Progress` is among the callbacks."""
    training = recipe.training
    every = min(training.validate_every or epochs, epochs)
    _quieten_lightning()
    return lightning.Trainer(
        accelerator="auto",
        devices=1,  # several have not been tried yet
        max_epochs=epochs,
        precision="bf16-mixed" if uses_bfloat16(training.precision, best_device()) else "32-true",
        accumulate_grad_batches=training.accumulate,
        gradient_clip_val=training.clip,
        check_val_every_n_epoch=every,
        num_sanity_val_steps=0,
        logger=_loggers(recipe, out),
        callbacks=[*callbacks, _ValidateLastEpoch()],
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(c, Progress) for c in callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        default_root_dir=out,
    )


class _ValidateLastEpoch(Callback):
    """The weights at the end of the schedule are validated, however often those before were."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Lightning asks after each epoch whether its number can be divided by this."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


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
