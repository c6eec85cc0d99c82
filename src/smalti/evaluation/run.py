"""Evaluation: prediction plus metrics, and the run folder's numbers and report."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import smalti
from smalti.checkpoint import Card, find
from smalti.data.cache import CachedDataset
from smalti.data.contract import unwrapped
from smalti.data.dataset import CountIgnored, Dataset, open_dataset, parse_data_argument
from smalti.data.doubts import find_doubts
from smalti.data.fingerprints import ImageRecord
from smalti.evaluation.errors import best_and_worst, most_doubtful
from smalti.evaluation.measured_part import measured_part
from smalti.evaluation.measures import Measures, true_labels
from smalti.evaluation.report import Example, ReportContent, is_report, write_report
from smalti.files import write_text
from smalti.models.create import find_recipe, paper_numbers
from smalti.ownership import check_replaceable
from smalti.predict.loading import Execution, load_with_card
from smalti.predict.predictor import Predictor
from smalti.predict.runtimes import ENDINGS
from smalti.recipe import Recipe
from smalti.settings import override

METRICS = "metrics.json"
REPORT = "report.html"
EXAMPLES = 3
"""Best and worst pictures that a report shows, each."""
DOUBTFUL = 8
"""Pictures to look at first that it names."""

OPTIONS = "data.options."
MAX_OBJECTS = "evaluation.max_objects"

TORCH = Execution(runtime="torch")
"""Numbers are torch's, unless another runtime is asked for."""

Progress = Callable[[int, int], None]
log = logging.getLogger("smalti")


def evaluation_execution(path: Path, *, trust: bool) -> Execution:
    """What computes when a network is measured: torch, and for exported files a runtime that takes them."""
    return Execution(trust=trust) if path.suffix in ENDINGS else TORCH


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured: numbers by name, under which protocol, and from which counts."""

    metrics: dict[str, Any]
    protocol: dict[str, Any]
    measures: Measures
    predictor: Predictor
    dataset: Dataset
    card: Card

    def to_json(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        return {**self.metrics, "protocol": self.protocol}


def evaluate_checkpoint(
    path: Path,
    data: str | Path | None,
    split: str | None,
    progress: Progress | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    execution: Execution | None = None,
) -> Evaluation:
    """Measures a run folder or checkpoint on a split, at each picture's own size; keeps counts, never logits.

    Args:
        path: Run folder (its best weights) or checkpoint file.
        data: Where the pictures are: a path, or NAME=PATH; None = the recipe's set, searched in SMALTI_DATA.
        split: Name of the split; None = the one the recipe validates on, or all of a folder that the run has never
            seen, see `measured_part`.
        progress: Called with (pictures done, pictures in all).
        changes: Dotted keys of the recipe, for a network that is to answer in another way than it was trained, for
            options of the data set (data.options.…), or how it is measured (evaluation.max_objects).
        execution: What computes the answers; None = torch, and for exported files a runtime that takes them.

    Raises:
        ValueError: If the checkpoint and the data have different classes, or a file cannot be read.
    """
    changes = dict(changes or {})
    max_objects = _max_objects(changes.pop(MAX_OBJECTS, None))
    options = {key: value for key, value in changes.items() if key.startswith(OPTIONS)}
    others = {k: v for k, v in changes.items() if k not in options}
    predictor, card = load_with_card(path, execution or evaluation_execution(path, trust=False), others)
    settled = override(card.recipe, options)
    folder = find(path).parent
    part = measured_part(folder, settled.data, data, split)
    dataset = _open(settled, data, part.split)
    if dataset.labels.names != card.labels.names:
        raise ValueError(f"{path} knows the classes {', '.join(card.labels.names)}; "
                         f"the data has {', '.join(dataset.labels.names)}: they cannot be compared")  # fmt: skip
    doubts = find_doubts({dataset.split: unwrapped(dataset)}, with_other_splits=False)
    if doubts.unusable is not None:
        raise ValueError(doubts.unusable)
    measures = Measures(card.labels, getattr(card.recipe.config, "distance_norm", "instance"), max_objects)
    bare = _measure(predictor, dataset, measures, progress)
    return Evaluation(
        metrics=measures.metrics(),
        protocol=_protocol(card, dataset, predictor)
        | part.to_protocol()
        | _trained_on(card, folder)
        | _changed(changes)
        | ({"pictures_without_mask": bare} if bare else {})
        | _objects_counted(measures, predictor, (*dataset.notes, *doubts.notes, *doubts.problems)),
        measures=measures,
        predictor=predictor,
        dataset=dataset,
        card=card,
    )


def _measure(predictor: Predictor, dataset: Dataset, measures: Measures, progress: Progress | None) -> int:
    """Predicts and measures all images that have truth; answers how many have no mask."""
    bare = 0
    for index in range(len(dataset)):
        sample = dataset.read(index)
        bare += sample.semantic is None
        if sample.semantic is not None or (sample.instances is not None and "instances" in predictor.model.needs):
            measures.update(predictor(sample.image.as_subclass(Tensor)), sample)
        if progress is not None:
            progress(index + 1, len(dataset))
    if not measures.names:
        raise ValueError(
            f"{dataset.name} {dataset.split}: no picture has a mask"
            f"{' or boxes' if 'instances' in predictor.model.needs else ''}, nothing to measure against"
        )
    return bare


def _open(recipe: Recipe, data: str | Path | None, split: str) -> Dataset:
    name, root = parse_data_argument(data, recipe.data.set)
    options = recipe.data.options if name == recipe.data.set else {}
    value_range = recipe.input.value_range
    dataset = open_dataset(name, root=root, split=split, options=options, value_range=value_range)
    if dataset.scaling is not None:
        level = logging.INFO if value_range else logging.WARNING
        log.log(level, "%s: %s", split, dataset.scaling.sentence("--set input.value_range=LOW,HIGH"))
    dataset = CachedDataset(dataset) if recipe.data.cache else dataset
    return CountIgnored(dataset) if recipe.data.count_ignored else dataset


def _protocol(card: Card, dataset: Dataset, predictor: Predictor) -> dict[str, Any]:
    recipe = card.recipe
    policy = recipe.input
    return {
        "data": f"{dataset.name} {dataset.edition}".strip(),
        "split": dataset.split,
        "pictures": len(dataset),
        "classes": list(card.labels.names),
        "ignored": "counted as a class" if recipe.data.count_ignored else "pixels with label 255 are not counted",
        "input_size": f"{policy.fit} {policy.size[0]}x{policy.size[1]}" if policy.size else f"{policy.fit}, any size",
        **({"values": dataset.scaling.sentence("--set input.value_range")} if dataset.scaling is not None else {}),
        "measured_at": "each picture's own size, one confusion matrix over the split",
        "boundary": "mIoU of pixels within 1 to 40 of a border of the truth (between neighbours of unlike label); F1 "
        "within 0.75 % of the diagonal; IoU of rims 2 % of it thick",
        "boxes": "found at an IoU of 0.5 or more (map50); difficult ones and crowds are neither to be found nor wrong",
        "objects": "edges within 2 pixels, the truth's being two wide; things that the truth does not tell apart are "
        "neither right nor wrong",
        "views": 1,
        "runtime": predictor.runtime.name,
        "precision": predictor.runtime.precision,
        "recipe": recipe.name,
        "weights": f"{recipe.weights or 'random'}, then {card.steps} steps ({card.epoch} epochs)",
        "loss": predictor.model.loss_in_words(),
        "version": smalti.__version__,
    }


def _trained_on(card: Card, folder: Path) -> dict[str, str]:
    """The data of the training, and whether a continued run had other images before."""
    record = ImageRecord.read(folder)
    changes = "" if record is None else record.changes_in_words()
    data = card.recipe.data
    return {"trained_on": f"{data.set} {data.train}" + (f"; {changes}" if changes else "")}


def _max_objects(value: Any) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ValueError(f"the objects of an image that count (--max-objects) are 1 or more, got {value}")
    return number


def _objects_counted(measures: Measures, predictor: Predictor, notes: Sequence[str]) -> dict[str, Any]:
    """The limit of objects in AP, and what was decided or limited, a line each; empty if nothing was."""
    counts = measures.objects.counted()
    notes = [*notes, *([] if counts is None else counts.notes(predictor.model.object_limits))]
    return ({} if counts is None else {"max_objects": counts.protocol()}) | ({"notes": notes} if notes else {})


def _changed(changes: Mapping[str, Any] | None) -> dict[str, str]:
    return {"changed_since_training": ", ".join(f"{k}={v}" for k, v in changes.items())} if changes else {}


def check_evaluation_replaceable(out: Path, *, overwrite: bool | None) -> None:
    """Asked before anything is measured: whether `metrics.json` and `report.html` may be written into a folder.

    `overwrite` is as for `check_replaceable`.

    Raises:
        ValueError: If one of them exists that this package did not write.
    """
    check_replaceable([out / METRICS], _is_metrics, overwrite=overwrite)
    check_replaceable([out / REPORT], is_report, overwrite=overwrite)


def _is_metrics(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    protocol = content.get("protocol") if isinstance(content, dict) else None
    return isinstance(protocol, dict) and {"version", "recipe"} <= protocol.keys()


def write_evaluation(evaluation: Evaluation, out: Path, history: list[dict[str, float]], title: str) -> None:
    """Writes `metrics.json` and `report.html` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / METRICS, json.dumps(evaluation.to_json(), indent=1, ensure_ascii=False) + "\n")
    measures = evaluation.measures
    best, worst = best_and_worst(measures.scores, EXAMPLES)
    content = ReportContent(
        title=title,
        metrics=evaluation.metrics,
        protocol=evaluation.protocol,
        labels=evaluation.card.labels,
        counts=measures.matrix.counts,
        history=history,
        reported=_beside_the_paper(evaluation, history),
        best=tuple(_example(evaluation, score.name, score.miou) for score in best),
        worst=tuple(_example(evaluation, score.name, score.miou) for score in worst),
        first=tuple(_example(evaluation, name) for name in measures.names[:EXAMPLES]) if not measures.scores else (),
        confidence=measures.confidence,
        difficulty=measures.difficulty,
        doubtful=most_doubtful(measures.scores, DOUBTFUL),
    )
    write_report(out / REPORT, content)


def _beside_the_paper(evaluation: Evaluation, history: list[dict[str, float]]) -> tuple[tuple[str, str, str], ...]:
    """What the paper reports for this recipe, beside ours."""
    recipe = evaluation.card.recipe
    per_epoch = [row["seconds"] for row in history]
    ours = dict(evaluation.metrics)
    if per_epoch:
        ours["seconds_per_epoch"] = float(np.median(per_epoch))
        # With the validation at its end, as the paper's; the bare step stands in the benchmarks.
        ours["seconds_per_step"] = float(np.median(per_epoch)) / (recipe.training.steps_per_epoch or math.nan)
    return tuple(
        (key.replace("_", " "), "not measured" if ours.get(key) is None else f"{ours[key]:.4g}", f"{value:.4g}")
        for key, value in _reported(recipe).items()
    )


def _reported(recipe: Recipe) -> dict[str, float]:
    """The paper's numbers, if the network and its loss are still those of the recipe of that name."""
    reported = paper_numbers(recipe.name)
    return reported if reported and find_recipe(recipe.name).config == recipe.config else {}


def _example(evaluation: Evaluation, name: str, miou: float | None = None) -> Example:
    names = [evaluation.dataset.sample_name(i) for i in range(len(evaluation.dataset))]
    sample = evaluation.dataset.read(names.index(name))
    picture = sample.image.as_subclass(Tensor)
    answer = evaluation.predictor(picture)
    return Example(
        name=name,
        score=miou,
        picture=picture.permute(1, 2, 0).numpy(),
        truth=None if sample.semantic is None else true_labels(sample),
        prediction=None if answer.semantic is None else answer.semantic.cpu().numpy(),
        difficulty=None if answer.difficulty is None else answer.difficulty.cpu().numpy(),
        objects=evaluation.measures.objects.drawings(picture.permute(1, 2, 0).numpy(), answer, sample),
    )
