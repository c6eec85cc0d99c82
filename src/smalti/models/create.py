"""Networks by name, and the recipes that stand in their files."""

import importlib
import importlib.util
import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open

from smalti.labels import LabelSet
from smalti.models import MODELS
from smalti.models.contract import SegmentationModel
from smalti.parts.encoders.imagenet import read_tensors
from smalti.recipe import Ablation, Recipe
from smalti.settings import from_json, nearest

T = TypeVar("T")
Classes = int | Sequence[str] | LabelSet
CARD = "smalti"
"""The key of our own entry in a safetensors header: what makes a file a checkpoint and not an encoder's weights."""


def create_model(name: str, *, classes: Classes, weights: str | Path | None = None, **config: Any) -> SegmentationModel:
    """A network by name.

    Args:
        name: One of `MODELS`, e.g. "sis_cnn".
        classes: How many, their names, or a `LabelSet`; the ignored label is not a class.
        weights: None = random; "imagenet" = the encoder's; else a file: a checkpoint of this network, or weights of its
            encoder.
        **config: Fields of the network's `Config`, e.g. encoder="vgg16".

    Raises:
        ValueError: Unknown name or field (names the nearest), or weights that do not fit.
    """
    network = model_class(name)
    return build(network, from_json(config, network.config_type), LabelSet.of(classes), weights)


def build(
    network: type[SegmentationModel], config: Any, labels: LabelSet, weights: str | Path | None
) -> SegmentationModel:
    """The network with its weights; see `create_model`."""
    if weights is None or str(weights) == "imagenet" or not is_checkpoint(Path(weights)):
        return network(config, labels, weights)  # type: ignore[call-arg, arg-type]
    model = network(config, labels, None)  # type: ignore[call-arg, arg-type]
    load_weights(model, Path(weights))
    return model


def model_class(name: str) -> type[SegmentationModel]:
    """The class of a network.

    Raises:
        ValueError: If there is none of that name; names the nearest.
    """
    if name not in MODELS:
        raise ValueError(f'unknown model "{name}": {nearest(name, sorted(MODELS))}')
    network: type[SegmentationModel] = getattr(_module(name), MODELS[name])
    return network


def config_type(name: str) -> type[Any]:
    """The `Config` class of a network; see `model_class`."""
    return model_class(name).config_type


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"smalti.models.{name}")


def paper_numbers(recipe: str) -> dict[str, float]:
    """The numbers that the paper reports for one of our recipes; empty where it reports none."""
    name, _, key = recipe.partition(".")
    reported: dict[str, dict[str, float]] = _module(name).REPORTED if name in MODELS else {}
    return reported.get(key, {})


def is_checkpoint(path: Path) -> bool:
    """Whether the file holds a whole network of this package, not only the weights of an encoder."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return CARD in (file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path}: cannot be read as safetensors: {error}") from error


def load_weights(model: SegmentationModel, path: Path) -> None:
    """Loads a checkpoint's weights into a network.

    Raises:
        ValueError: If the checkpoint is of another network or of other classes; says what differs.
    """
    tensors, own = read_tensors(path), model.state_dict()
    differing = [k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape]
    missing, extra = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    if differing or missing or extra:
        example = (
            f"{differing[0]} is {tuple(tensors[differing[0]].shape)} there and {tuple(own[differing[0]].shape)} here"
            if differing
            else f"{len(missing)} tensors missing there, {len(extra)} unknown here"
        )
        raise ValueError(
            f"{path}: this checkpoint is of another network or of another number of classes "
            f"(this network has {len(model.labels)}): {example}"
        )
    model.load_state_dict(tensors)


def recipes() -> dict[str, Callable[[], Recipe]]:
    """Every recipe of the package, by its full name such as "sis_cnn.camvid"."""
    return _in_all_models(Recipe)


def ablations() -> dict[str, Callable[[], Ablation]]:
    """Every ablation of the package, by its full name such as "pac_deeplab.bal"."""
    return _in_all_models(Ablation)


def _in_all_models(kind: type[T]) -> dict[str, Callable[[], T]]:
    return {f"{name}.{key}": make for name in MODELS for key, make in _makers_in(_module(name), kind).items()}


def _makers_in(module: ModuleType, kind: type[T]) -> dict[str, Callable[[], T]]:
    """The public functions of a module that need no arguments and are annotated to return `kind`."""
    found = {}
    for name, member in vars(module).items():
        public = inspect.isfunction(member) and not name.startswith("_")
        if public and not inspect.signature(member).parameters and typing.get_type_hints(member).get("return") is kind:
            found[name] = member
    return found


def find_recipe(name: str) -> Recipe:
    """A recipe by name ("sis_cnn.camvid") or of one's own file ("my_recipes.py:tiny").

    Raises:
        ValueError: If there is none; names the nearest.
    """
    return _found(name, recipes(), Recipe)


def find_ablation(name: str) -> Ablation:
    """An ablation by name ("pac_deeplab.bal") or of one's own file ("my_recipes.py:widths").

    Raises:
        ValueError: If there is none; names the nearest.
    """
    return _found(name, ablations(), Ablation)


def _found(name: str, known: dict[str, Callable[[], T]], kind: type[T]) -> T:
    what, key = kind.__name__.lower(), name
    if ".py:" in name:
        file, _, key = name.rpartition(":")
        known, what = _makers_in(_own_module(Path(file)), kind), f"{what} in {file}"
    if key not in known:
        raise ValueError(f'unknown {what} "{key}" (a function without parameters annotated "-> {kind.__name__}"): '
                         f"{nearest(key, sorted(known))}")  # fmt: skip
    return known[key]()


def _own_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"{path}: no such recipe file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
