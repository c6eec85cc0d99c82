"""Networks on disk: safetensors whose header carries recipe, class table and input policy. Nothing is unpickled."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from smalti.files import replacing
from smalti.json_files import parse_json
from smalti.labels import LabelSet
from smalti.models.contract import SegmentationModel
from smalti.models.create import CARD, build, config_type, load_weights, model_class
from smalti.recipe import Recipe, recipe_from_json
from smalti.settings import from_json, override, to_json

BEST = "best.safetensors"
LAST = "last.safetensors"
DEFAULT = "default"
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "default.safetensors"
"""The network that comes with the package; its card and its licence stand beside it."""
FORMAT = 1
"""Of the card; a file with a higher one was made by a newer version of the package."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a checkpoint says about itself: how it was made, what its labels mean, and after how much training."""

    recipe: Recipe
    labels: LabelSet
    epoch: int = 0
    steps: int = 0
    metrics: dict[str, float]
    version: str = ""
    terms: str = ""
    """Under which the weights may be used, where they have terms of their own."""
    export: Mapping[str, Any] = field(default_factory=dict)
    """Of a file for another runtime: which, the outputs in order, and how well it agrees with the network itself."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. Paths of data and of first weights stay on the machine they belong to."""
        begun = self.recipe.weights and "/".join(Path(self.recipe.weights).parts[-2:])
        recipe = dataclasses.replace(self.recipe, data=dataclasses.replace(self.recipe.data, root=None), weights=begun)
        return {
            "recipe": to_json(recipe),
            "labels": self.labels.to_json(),
            "epoch": self.epoch,
            "steps": self.steps,
            "metrics": self.metrics,
            "version": self.version,
            "format": FORMAT,
            **({"terms": self.terms} if self.terms else {}),
            **({"export": dict(self.export)} if self.export else {}),
        }

    @classmethod
    def from_text(cls, text: str, path: Path) -> "Card":
        """The card as it stands in the file at `path`.

        Raises:
            ValueError: If a newer version wrote it, or it is none; says where, what was expected, and what came.
        """
        try:
            values = parse_json(text)
            made_with = from_json(values, _Format, ignore_unknown=True)
            if made_with.format <= FORMAT:
                return cls.from_json(values)
        except ValueError as error:
            raise ValueError(f"{path}: its card cannot be read: {error}. Make the file again, with `smalti export` or "
                             "a training") from error  # fmt: skip
        raise ValueError(f"{path}: made by smalti {made_with.version}, which is newer than this one: "
                         "pip install --upgrade smalti")  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Card":
        """Reads what `to_json` wrote.

        Raises:
            ValueError: If it is no card; says where, what was expected, and what came.
        """
        parts = {key: value for key, value in values.items() if key != "format"}
        readers: dict[str, Callable[[Any], Any]] = {
            "recipe": lambda recipe: recipe_from_json(recipe, config_type),
            "labels": LabelSet.from_json,
        }
        for key in readers.keys() & parts.keys():
            try:
                parts[key] = readers[key](parts[key])
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from error
        return from_json(parts, cls)


@dataclass(frozen=True, kw_only=True)
class _Format:
    """Which version of the package wrote a card, in which format: read first, as the rest may be in a newer one."""

    format: int = FORMAT
    version: str = ""


def check_card(card: Card) -> None:
    """Writes a card as text and reads it back, so that a checkpoint nobody could load is an error before the training.

    Raises:
        ValueError: If it cannot be written, cannot be read again, or says something else then.
    """
    where = f"recipe {card.recipe.name}: its checkpoint could not be loaded again"
    try:
        written = card.to_json()
        read = Card.from_json(parse_json(json.dumps(written))).to_json()
    except (TypeError, ValueError) as error:  # TypeError: a value that JSON does not have
        raise ValueError(f"{where}: {error}") from error
    differing = [key for key in written if written[key] != read[key]]
    if differing:
        raise ValueError(f"{where} as it is: its {differing[0]} is {written[differing[0]]} and would be read as "
                         f"{read[differing[0]]}")  # fmt: skip


def save(model: SegmentationModel, card: Card, path: Path, *, half: bool = False) -> None:
    """Writes a checkpoint, whole or not at all; with `half` the filters in float16, which are read as float32 again.

    Raises:
        OSError: If it cannot be written (a full disk, say); an older checkpoint at `path` survives.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if half:  # vectors (biases, variances) are small, and a variance may be more than float16 can hold
        tensors = {name: tensor.half() if tensor.ndim == 4 else tensor for name, tensor in tensors.items()}
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
    return Card.from_text(text, path)


def load(path: Path, changes: Mapping[str, Any] | None = None) -> tuple[SegmentationModel, Card]:
    """The network of a checkpoint or of a run folder (its best one), ready for prediction, and its card.

    `changes` are dotted keys of its recipe ("config.output_stride"), for a network that is to answer in another way
    than it was trained; the card says them.

    Raises:
        ValueError: If there is no checkpoint, a key is unknown or not to be changed any more, or the weights do not fit
            the recipe.
    """
    file = find(path)
    card = changed(read_card(file), changes or {})
    model = build(model_class(card.recipe.model), card.recipe.config, card.labels, None)
    load_weights(model, file)
    return model.eval(), card


def skeleton(card: Card) -> SegmentationModel:
    """The network without weights: it decodes the answers that another runtime gave."""
    with torch.device("meta"):
        return build(model_class(card.recipe.model), card.recipe.config, card.labels, None).eval()


def changed(card: Card, changes: Mapping[str, Any]) -> Card:
    """The card of a network that answers in another way than it was trained; see `load`.

    Raises:
        ValueError: If a key is unknown or not to be changed any more.
    """
    _check_changes(changes, model_class(card.recipe.model))
    return dataclasses.replace(card, recipe=override(card.recipe, changes))


def _check_changes(changes: Mapping[str, Any], network: type[SegmentationModel]) -> None:
    """What was fixed by the training would stand in the report as if it had been otherwise."""
    for key in changes:
        acts = key.startswith(("config.", "input.")) or key == "training.precision"
        if not acts or key.removeprefix("config.").partition(".")[0] in network.training_only:
            raise ValueError(f"{key} cannot be changed after training; what can: config.… (not the loss), input.…, "
                             "training.precision")  # fmt: skip


def find(path: Path) -> Path:
    """The checkpoint meant by a path: the file itself, the best (else the last) one of a run folder, or `default`.

    Raises:
        ValueError: If there is none.
    """
    if str(path) == DEFAULT:
        return DEFAULT_WEIGHTS
    if path.is_dir():
        for name in (BEST, LAST):
            if (path / name).is_file():
                return path / name
        raise ValueError(f"{path}: neither {BEST} nor {LAST} in this folder; is it a run folder?")
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint or run folder")
    return path
