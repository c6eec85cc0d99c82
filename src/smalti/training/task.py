"""The LightningModule around a network: terms -> weights (stage 7 of the way of the data)."""

import math
from collections.abc import Mapping
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from smalti.containers import Batch
from smalti.draw.legend import legend_entries, with_legend
from smalti.draw.overlay import overlay
from smalti.labels import IGNORED, LabelSet
from smalti.metrics.boxes import BoxAP
from smalti.metrics.confusion import ConfusionMatrix
from smalti.metrics.semantic import semantic_metrics
from smalti.models.contract import SegmentationModel
from smalti.recipe import Recipe
from smalti.training.attention import AttentionWatch
from smalti.training.datamodule import ValidationBatch
from smalti.training.optimise import build_optimizer, learning_rate_factor
from smalti.training.schedule import ema_decay

SHOWN = {"semantic.miou": "mIoU", "boxes.map50": "box mAP"}
"""Metrics that the progress bar shows, as far as they are measured."""
WIDEST_EXAMPLE = 800
"""Pixels of one of the two pictures side by side."""


class SegmentationTask(lightning.LightningModule):
    """Trains `model`; validates and hands out `answering`, the averaged weights where the recipe averages."""

    def __init__(self, model: SegmentationModel, recipe: Recipe, steps: int) -> None:
        """`steps`: optimiser steps of the whole training, where the schedule ends."""
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.recipe = recipe
        self.steps = steps
        ema = ema_decay(recipe.training, steps)
        self.average = None if ema is None else AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True  # type: ignore[no-untyped-call]
        )  # fmt: skip
        self.confusion = ConfusionMatrix(len(model.labels))
        self.metrics: dict[str, float] = {}
        self.examples: list[np.ndarray] = []
        self.attention = AttentionWatch()
        self.boxes: BoxAP | None = None
        self._losses: list[tuple[Tensor, int]] = []

    @property
    def answering(self) -> SegmentationModel:
        """The network that is validated and saved."""
        answering = self.model if self.average is None else self.average.module
        assert isinstance(answering, SegmentationModel)
        return answering

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The sum of the loss's weighted terms, each logged by its name."""
        # Dropout and the like become a function of (seed, step): a continued run repeats them exactly.
        torch.manual_seed(self.recipe.training.seed * 1_000_003 + self.global_step * 64 + index % 64)
        images = batch.images.contiguous(memory_format=torch.channels_last)
        outputs = self.model(images)
        terms = self.model.loss(outputs, batch.targets)
        self.attention.update(outputs, batch.targets)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total.detach()):
            raise FloatingPointError(
                f"the loss is {float(total.detach())} at step {self.global_step} ({', '.join(batch.names)}): "
                "lower training.learning_rate or set training.clip; the last saved state is unharmed"
            )
        self.log("loss", total, prog_bar=True, on_step=True, on_epoch=False, batch_size=len(batch))
        for name, term in terms.items() if len(terms) > 1 else ():
            self.log(f"loss_{name}", term, on_step=False, on_epoch=True, batch_size=len(batch))
        self._losses.append((total.detach(), len(batch)))
        return total

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """One step, after which the averaged weights follow."""
        super().optimizer_step(*arguments, **options)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def on_train_batch_end(self, *_: Any) -> None:
        """Ends the training at its last step; Lightning's own limit of steps would disturb a continued run."""
        if self.global_step >= self.steps:
            self.trainer.should_stop = True

    def on_train_epoch_start(self) -> None:
        """Begins the epoch's means."""
        self._losses = []
        self.attention = AttentionWatch()

    def on_train_epoch_end(self) -> None:
        """Hands the epoch's means to the loggers."""
        means = {k: v for k, v in self.attention.means().items() if not math.isnan(v)}
        for logger in self.loggers if means else ():
            logger.log_metrics(means, step=self.global_step)

    def train_loss(self) -> float:
        """Mean training loss of the epoch so far."""
        if not self._losses:
            return float("nan")
        total = sum(float(loss) * count for loss, count in self._losses)
        return total / sum(count for _, count in self._losses)

    def on_validation_start(self) -> None:
        """Forgets the last validation."""
        self.examples = []
        self.confusion = ConfusionMatrix(len(self.model.labels))
        self.boxes = None
        self._validation_loss: list[tuple[float, int]] = []

    def validation_step(self, batch: ValidationBatch, index: int) -> None:
        """Counts the answers in each picture's own pixels; keeps no logits."""
        model = self.answering.eval()
        outputs = model(batch.batch.images.contiguous(memory_format=torch.channels_last))
        terms = model.loss(outputs, batch.batch.targets)
        weight = _counted(batch.batch) if outputs.box_logits is None else len(batch.batch)
        if weight:
            self._validation_loss.append((float(torch.stack(list(terms.values())).sum()), weight))
        # Objects from edges and distances are not counted here: making them takes longer than the network.
        answers = model.decode(outputs._replace(edges=None, distances=None), batch.batch.frames)
        for answer, objects in zip(answers, batch.objects or (), strict=False):
            if answer.instances is not None and objects is not None:
                self.boxes = self.boxes or BoxAP(self.model.labels)
                self.boxes.update(answer.instances, objects)
        for picture, answer, truth in zip(batch.pictures, answers, batch.truths, strict=True):
            if answer.semantic is not None and truth is not None:
                self.confusion.update(answer.semantic.cpu(), truth.cpu())
                if len(self.examples) < self.recipe.training.examples:
                    self.examples.append(draw_example(picture.cpu(), answer.semantic.cpu(), truth.cpu(), answer.labels))

    def on_validation_epoch_end(self) -> None:
        """Turns the counts into `metrics`, for the history and the choice of the best weights; only what there is."""
        counts = self.confusion.counts
        if self.trainer.world_size > 1:
            gathered = self.all_gather(counts)
            assert isinstance(gathered, Tensor)
            counts = gathered.sum(0).cpu()
        found: dict[str, Any] = dict(semantic_metrics(counts, self.model.labels))
        found |= {} if self.boxes is None else self.boxes.metrics()
        if weight := sum(count for _, count in self._validation_loss):
            found["validation_loss"] = sum(loss * count for loss, count in self._validation_loss) / weight
        self.metrics = {k: v for k, v in found.items() if isinstance(v, float) and not math.isnan(v)}
        for key, name in SHOWN.items():
            if key in self.metrics:
                self.log(name, self.metrics[key], prog_bar=True, rank_zero_only=True)
        for logger in self.loggers:
            logger.log_metrics(self.metrics, step=self.global_step)

    def configure_optimizers(self) -> Mapping[str, Any]:  # type: ignore[override]
        """The recipe's optimiser, and its schedule by optimiser step."""
        optimizer = build_optimizer(self.model, self.recipe.training)
        factor = learning_rate_factor(self.recipe.training, self.steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _counted(batch: Batch) -> int:
    """How much a batch weighs in the mean validation loss of pixels: those with truth."""
    semantic = batch.targets.semantic
    return len(batch) if semantic is None else int((semantic != IGNORED).sum())


def draw_example(picture: Tensor, answer: Tensor, truth: Tensor, labels: LabelSet) -> np.ndarray:
    """Truth and answer over the picture, side by side, with a legend."""
    step = max(1, -(-picture.shape[-1] // WIDEST_EXAMPLE))  # large photographs would fill the disk
    picture, answer, truth = (m[..., ::step, ::step] for m in (picture, answer, truth))
    image = picture.permute(1, 2, 0).numpy()[..., :3]
    if image.shape[-1] != 3 or image.dtype != np.uint8:  # multi-band data has no colours to show
        image = np.zeros((*image.shape[:2], 3), np.uint8)
    sides = [overlay(image, side.numpy().astype(np.uint8), labels) for side in (truth, answer)]
    both = np.concatenate([truth.numpy(), answer.numpy()], 1).astype(np.uint8)
    return with_legend(np.concatenate(sides, 1), legend_entries(both, labels))
