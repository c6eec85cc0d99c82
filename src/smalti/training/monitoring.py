"""Which metric chooses the best weights: it follows from what the network predicts and the validation split has."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from smalti.data.dataset import Dataset
from smalti.data.derive import Things, sample_objects
from smalti.labels import IGNORED, LabelSet
from smalti.metrics.boxes import BoxAP
from smalti.metrics.semantic import semantic_metrics
from smalti.recipe import Recipe
from smalti.settings import nearest

LOSS = "validation_loss"
MIOU = "semantic.miou"
BOX_AP = "boxes.map50"


@dataclass(kw_only=True)
class ValidationTruth:
    """What the images of a split are annotated with: class ids of pixels, class ids of boxes that must be found."""

    pixel_classes: set[int] = field(default_factory=set)
    box_classes: set[int] = field(default_factory=set)
    has_objects: bool = False
    """Also true if every box is difficult or a crowd."""

    def add(self, dataset: Dataset, index: int, thing_table: Things) -> None:
        """Adds one image."""
        sample = dataset.read(index)
        if sample.semantic is not None:
            self.pixel_classes |= set(torch.unique(sample.semantic.as_subclass(Tensor)).tolist()) - {IGNORED}
        objects = sample_objects(sample, thing_table)
        if objects is not None and len(objects):
            self.has_objects = True
            self.box_classes |= set(objects.labels[~objects.excused()].tolist())


def choose_monitor(recipe: Recipe, needs: frozenset[str], validation: Dataset) -> tuple[str, str | None]:
    """The metric that chooses the best weights, and, unless it is named or mIoU, the reason in words.

    A recipe that names none gets mIoU if the network predicts classes and the split has masks, else the box mAP if it
    predicts boxes and the split has some, else the validation loss. `needs` are those of the network.

    Raises:
        ValueError: If the named metric does not exist, or network or split cannot give it; if the split has no truth
            for this network at all.
    """
    classes, boxes = "semantic" in needs, "instances" in needs
    named = recipe.training.monitor
    if named is not None:
        _check_named(named, recipe, (classes, boxes), validation)
        return named, None
    if recipe.training.validate_every is None:  # the last weights are the best: no metric chooses
        return (MIOU if classes else BOX_AP), None
    truth = _read_truth(validation, lambda seen: bool(seen.pixel_classes if classes else seen.box_classes))
    if classes and truth.pixel_classes:
        return MIOU, None
    cause = "the network predicts no classes" if not classes else "no validation image has a mask"
    if boxes and truth.box_classes:
        return BOX_AP, cause
    if boxes and truth.has_objects:
        return LOSS, f"{cause}, and all boxes there are difficult or crowds"
    kinds = " or ".join(kind for kind, is_predicted in (("masks", classes), ("boxes", boxes)) if is_predicted)
    raise ValueError(f"no image of {validation.name} {validation.split} has {kinds}: nothing that this network "
                     "predicts can be measured there. Annotate them, or name another split: "
                     "--set data.validation=SPLIT")  # fmt: skip


def _check_named(name: str, recipe: Recipe, predicts: tuple[bool, bool], validation: Dataset) -> None:
    """Raises ValueError if no validation could give the metric; `predicts`: (classes, boxes)."""
    labels = validation.labels
    known = [*_semantic_keys(labels), *BoxAP(labels).metrics(), LOSS]
    if name not in known:
        raise ValueError(f'training.monitor="{name}" is no metric of a validation: {nearest(name, known)}')
    if name == LOSS or recipe.training.validate_every is None:
        return
    is_semantic = name.startswith("semantic.")
    kind, is_predicted = ("classes", predicts[0]) if is_semantic else ("boxes", predicts[1])
    advice = "leave training.monitor away (none), so that it follows from the network and the data"
    if not is_predicted:
        raise ValueError(f'training.monitor="{name}": this network predicts no {kind} (config.tasks); {advice}')
    wanted = _class_of(name, labels)

    def is_enough(seen: ValidationTruth) -> bool:
        there = seen.pixel_classes if is_semantic else seen.box_classes
        return bool(there) if wanted is None else wanted in there

    if not is_enough(_read_truth(validation, is_enough)):
        what = ("masks" if is_semantic else "boxes") + (
            "" if wanted is None else f' of the class "{labels.names[wanted]}"'
        )
        raise ValueError(f'training.monitor="{name}": no image of {validation.name} {validation.split} has {what}; '
                         f"{advice}")  # fmt: skip


def _semantic_keys(labels: LabelSet) -> list[str]:
    counts = torch.zeros(len(labels), len(labels) + 1, dtype=torch.int64)
    return [key for key, value in semantic_metrics(counts, labels).items() if not isinstance(value, list)]


def _class_of(metric: str, labels: LabelSet) -> int | None:
    """The class that a metric is about; None if it is about all."""
    for prefix in ("semantic.iou.", "semantic.accuracy.", "boxes.map50."):
        if metric.startswith(prefix):
            return labels.names.index(metric.removeprefix(prefix))
    return None


def _read_truth(dataset: Dataset, is_enough: Callable[[ValidationTruth], bool]) -> ValidationTruth:
    """What the images have, up to the first at which `is_enough` says so."""
    truth, thing_table = ValidationTruth(), dataset.labels.is_thing()
    for index in range(len(dataset)):
        truth.add(dataset, index, thing_table)
        if is_enough(truth):
            break
    return truth


def with_monitor(recipe: Recipe, monitor: str) -> Recipe:
    """The recipe with the metric that was chosen."""
    return replace(recipe, training=replace(recipe.training, monitor=monitor))
