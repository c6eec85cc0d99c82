"""What happens beside the steps: history, checkpoints, early stopping, progress."""

import csv
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import rich
from lightning.pytorch.callbacks import Callback, RichProgressBar

from smalti import checkpoint
from smalti.draw.image_files import save_png
from smalti.files import replacing, write_text
from smalti.training.monitoring import LOSS
from smalti.training.task import SegmentationTask

HISTORY = "history.csv"
STATE = "state.ckpt"
EXAMPLES = "examples"
MEASURED = {"pixel_accuracy": "semantic.pixel_accuracy", "miou": "semantic.miou", "box_map50": "boxes.map50"}
"""Columns of a history by the metric they hold; those that no validation of the run gave are left out."""
COLUMNS = ("epoch", "train_loss", "validation_loss", "pixel_accuracy", "miou", "learning_rate", "seconds")
"""The first columns of a history, in order; then come the boxes' metric and those of `AttentionWatch`."""


class RunFolder(Callback):
    """Writes history, best and last weights and the training state at the end of every epoch.

    The files of an epoch are written in an order that a crash at any moment leaves a state and weights to go on from.
    """

    def __init__(self, out: Path, recipe: Any, after_epoch: Callable[[Path], None] | None, version: str) -> None:
        """`after_epoch` is called with the run folder once its files are up to date (it draws the curves)."""
        self.out, self.recipe, self.version = out, recipe, version
        self.monitor: str = recipe.training.monitor  # named or resolved before the first step
        self.only_once: bool = recipe.training.validate_every is None
        self.after_epoch = after_epoch
        self.rows: list[dict[str, float]] = []
        self.best = float("-inf")
        self.since_best = 0
        self._began, self._rate = 0.0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a continued run needs to know of the epochs before."""
        return {"rows": self.rows, "best": self.best, "since_best": self.since_best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the epochs before from a saved state."""
        self.rows, self.best, self.since_best = state["rows"], state["best"], state["since_best"]

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Starts the clock."""
        assert isinstance(task, SegmentationTask)
        self._began = time.perf_counter()
        self._rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        task.metrics = {}

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Adds the epoch's row and saves."""
        assert isinstance(task, SegmentationTask)
        row = {
            "epoch": trainer.current_epoch + 1,
            "train_loss": task.train_loss(),
            "validation_loss": task.metrics.get("validation_loss", float("nan")),
            **{column: task.metrics[key] for column, key in MEASURED.items() if key in task.metrics},
            "learning_rate": self._rate,
            "seconds": time.perf_counter() - self._began,
            **task.attention.means(),
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            card = self._card(trainer, task)
            self._save_best(trainer, task, card)
            checkpoint.save(task.answering, card, self.out / checkpoint.LAST)
        self._save_state(trainer)
        if trainer.is_global_zero:
            write_text(self.out / HISTORY, history_text(self.rows))
            self._save_examples(task, trainer.current_epoch + 1)
            if self.after_epoch is not None:
                self.after_epoch(self.out)
        self._check_measured(task)

    def _check_measured(self, task: SegmentationTask) -> None:
        """Raises an error if the metric that chooses the best weights was not measured; the epoch is saved by then."""
        if not task.metrics or self.only_once or self.monitor in task.metrics:
            return
        epoch = f"after epoch {self.rows[-1]['epoch']:.0f}"
        if self.monitor == LOSS:
            raise FloatingPointError(f"{self.monitor} is no number {epoch}: lower training.learning_rate or set "
                                     "training.clip; the weights of this epoch are saved")  # fmt: skip
        raise ValueError(f'training.monitor="{self.monitor}" could not be measured {epoch}; what was measured: '
                         f"{', '.join(sorted(task.metrics))}. Leave it away (none), or name one of these")  # fmt: skip

    def _save_best(self, trainer: lightning.Trainer, task: SegmentationTask, card: checkpoint.Card) -> None:
        if not task.metrics:
            return
        if not self.only_once and self.monitor not in task.metrics:
            return
        value = task.metrics.get(self.monitor, math.nan) * (-1 if self.monitor == LOSS else 1)
        if self.only_once or value > self.best:
            self.best, self.since_best = value, 0
            checkpoint.save(task.answering, card, self.out / checkpoint.BEST)
            return
        self.since_best += 1
        patience = self.recipe.training.patience
        trainer.should_stop = trainer.should_stop or (patience is not None and self.since_best >= patience)

    def _save_examples(self, task: SegmentationTask, epoch: int) -> None:
        """Left the truth, right the answer of the first validation pictures, after this epoch."""
        for number, drawn in enumerate(task.examples):
            save_png(drawn, self.out / EXAMPLES / f"epoch_{epoch:03d}_{number}.png")
        task.examples = []

    def _save_state(self, trainer: lightning.Trainer) -> None:
        with replacing(self.out / STATE) as part:
            trainer.save_checkpoint(part)

    def _card(self, trainer: lightning.Trainer, task: SegmentationTask) -> checkpoint.Card:
        return checkpoint.Card(
            recipe=self.recipe,
            labels=task.model.labels,
            epoch=trainer.current_epoch + 1,
            steps=trainer.global_step,
            metrics=dict(task.metrics),
            version=self.version,
        )

    def save_interrupted(self, trainer: lightning.Trainer, task: SegmentationTask) -> None:
        """After Ctrl-C in the first epoch there is no checkpoint yet: the weights as they are become one."""
        if not self.rows and trainer.is_global_zero:
            checkpoint.save(task.answering, self._card(trainer, task), self.out / checkpoint.LAST)


def history_text(rows: list[dict[str, float]]) -> str:
    """`history.csv`: a row an epoch; what was not measured in an epoch is empty."""
    text = io.StringIO()
    measured = {key for row in rows for key in row}
    columns = dict.fromkeys((*(key for key in COLUMNS if key in measured), *(key for row in rows for key in row)))
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: "" if math.isnan(v) else f"{v:.6g}" for k, v in row.items()})
    return text.getvalue()


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of a `history.csv`; empty cells are NaN.

    Raises:
        ValueError: If the file holds something else; names it.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{k: float(v) if v else float("nan") for k, v in row.items()} for row in csv.DictReader(file)]
    except (ValueError, TypeError) as error:  # TypeError: a row with more cells than the first line
        raise ValueError(f"{path}: not the history of a run, which has numbers only: {error}") from error


class Progress(RichProgressBar):
    """Lightning's bar with pictures a second and the time left of the whole training."""

    def __init__(self, steps: int, batch: int) -> None:
        """`steps`: optimiser steps of the whole training; `batch`: pictures a step."""
        super().__init__(leave=False)
        self.steps, self.batch = steps, batch
        self._began: tuple[float, int] | None = None

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.progress is None:
            rich.print(text)
        else:
            self.progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def get_metrics(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> dict[str, Any]:  # noqa: D102
        shown = {k: v for k, v in super().get_metrics(trainer, task).items() if k != "v_num"}
        now = (time.perf_counter(), trainer.global_step)
        self._began = self._began or now
        seconds, steps = now[0] - self._began[0], now[1] - self._began[1]
        if steps > 0:
            shown["pictures/s"] = f"{steps * self.batch / seconds:.1f}"
            left = int(seconds / steps * (self.steps - now[1]))
            shown["left"] = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
        return shown


class EpochLines(Callback):
    """One line an epoch, where no bar can be drawn (logs, pipes)."""

    def __init__(self, folder: RunFolder, epochs: int, write: Callable[[str], None]) -> None:
        """Reads the rows that `folder` collects."""
        self.folder, self.epochs, self.write = folder, epochs, write

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Says what the epoch brought."""
        row = self.folder.rows[-1]
        measured = {"validation_loss": "validation loss", "miou": "mIoU", "box_map50": "box mAP"}
        found = "".join(
            f", {name} {row[key]:.4f}" for key, name in measured.items() if not math.isnan(row.get(key, math.nan))
        )
        if "coarse_right" in row:
            found += (
                f", coarse right {100 * row['coarse_right']:.1f} %, attention {row['attention_mean']:.2f}, "
                f"where wrong {row['attention_where_wrong']:.2f}, AUC {row['attention_auc']:.3f}"
            )
        self.write(
            f"epoch {row['epoch']:.0f}/{self.epochs}: loss {row['train_loss']:.4f}{found}, {row['seconds']:.0f} s"
        )
        assert isinstance(task, SegmentationTask)
        if remark := task.attention.remark():
            self.write(f"note: {remark}")
