"""Networks on disk: safetensors whose header carries recipe, class table and input policy. Nothing is unpickled."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open

from smalti.files import replacing
from smalti.labels import LabelSet
from smalti.models.contract import SegmentationModel
from smalti.models.create import CARD, build, load_weights, model_class
from smalti.recipe import Recipe, recipe_from_json
from smalti.settings import override, to_json

BEST = "best.safetensors"
LAST = "last.safetensors"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a checkpoint says about itself: how it was made, what its labels mean, and after how much training."""

    recipe: Recipe
    labels: LabelSet
    epoch: int = 0
    steps: int = 0
    metrics: dict[str, float]
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. The data folder's path stays on the machine it belongs to."""
        recipe = dataclasses.replace(self.recipe, data=dataclasses.replace(self.recipe.data, root=None))
        return {
            "recipe": to_json(recipe),
            "labels": self.labels.to_json(),
            "epoch": self.epoch,
            "steps": self.steps,
            "metrics": self.metrics,
            "version": self.version,
        }


def save(model: SegmentationModel, card: Card, path: Path) -> None:
    """Writes a checkpoint, whole or not at all.

    Raises:
        OSError: If it cannot be written (a full disk, say); an older checkpoint at `path` survives.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        with replacing(path) as part:
            safetensors.torch.save_file(tensors, part, metadata={CARD: json.dumps(card.to_json())})
    except SafetensorError as error:  # how safetensors reports a failed write
        raise OSError(f"{path} could not be written: {error}") from error


def read_card(path: Path) -> Card:
    """The card of a checkpoint.

    Raises:
        ValueError: If the file is none of this package's checkpoints.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(CARD)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as a checkpoint: {error}") from error
    if text is None:
        raise ValueError(f"{path}: holds weights, but no recipe and class table: not a checkpoint of this package")
    values = json.loads(text)
    config = model_class(values["recipe"]["model"]).config_type
    return Card(
        recipe=recipe_from_json(values["recipe"], config),
        labels=LabelSet.from_json(values["labels"]),
        epoch=values["epoch"],
        steps=values["steps"],
        metrics=values["metrics"],
        version=values["version"],
    )


def load(path: Path, changes: Mapping[str, Any] | None = None) -> tuple[SegmentationModel, Card]:
    """The network of a checkpoint or of a run folder (its best one), ready for prediction, and its card.

    `changes` are dotted keys of its recipe ("config.output_stride"), for a network that is to answer in another way
    than it was trained; the card says them.

    Raises:
        ValueError: If there is no checkpoint, a key is unknown or not to be changed any more, or the weights do not fit
            the recipe.
    """
    file = find(path)
    card = read_card(file)
    _check_changes(changes or {}, model_class(card.recipe.model))
    recipe = override(card.recipe, changes or {})
    card = dataclasses.replace(card, recipe=recipe)
    model = build(model_class(recipe.model), recipe.config, card.labels, None)
    load_weights(model, file)
    return model.eval(), card


def _check_changes(changes: Mapping[str, Any], network: type[SegmentationModel]) -> None:
    """What was fixed by the training would stand in the report as if it had been otherwise."""
    for key in changes:
        acts = key.startswith(("config.", "input.")) or key == "training.precision"
        if not acts or key.removeprefix("config.").partition(".")[0] in network.training_only:
            raise ValueError(f"{key} cannot be changed after training; what can: config.… (not the loss), input.…, "
                             "training.precision")  # fmt: skip


def find(path: Path) -> Path:
    """The checkpoint meant by a path: the file itself, or the best (else the last) one of a run folder.

    Raises:
        ValueError: If there is none.
    """
    if path.is_dir():
        for name in (BEST, LAST):
            if (path / name).is_file():
                return path / name
        raise ValueError(f"{path}: neither {BEST} nor {LAST} in this folder; is it a run folder?")
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint or run folder")
    return path
