"""From a path to a `Predictor`: run folders, checkpoints, exported files, and which runtime computes them."""

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from smalti import checkpoint
from smalti.checkpoint import Card
from smalti.data.cache import cache_folder
from smalti.export.forms import FORMS, OpenVinoForm
from smalti.export.program import to_program
from smalti.hardware import Precision
from smalti.models.contract import SegmentationModel
from smalti.predict.predictor import Predictor
from smalti.predict.runtimes import (
    COMPILED,
    ENDINGS,
    FileRuntime,
    OnnxRuntime,
    OpenVinoRuntime,
    ProgramRuntime,
    Runtime,
    TorchRuntime,
    read_exported_card,
)
from smalti.settings import override

RuntimeName = Literal["auto", "torch", "onnx", "openvino"]
MANY = 100
"""Pictures from which on converting a network (once, half a minute) is less work than what it saves."""
RUNTIMES: dict[str, type[FileRuntime]] = {
    "torch": ProgramRuntime,
    "onnx": OnnxRuntime,
    "openvino": OpenVinoRuntime,
}
"""That run exported files."""
PACKAGES = {"openvino": ("openvino",), "onnx": ("onnxruntime", "onnx")}
TRANSLATORS = {"openvino": (), "onnx": ("onnxscript",)}
"""What a runtime needs, the faster one first, and what else it takes to convert a network for it."""
PRECISION = "training.precision"
"""The one setting that a file may be loaded with."""
CONVERTED = 8
"""Networks whose converted form is kept, those used last."""
log = logging.getLogger("smalti")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What is to compute the answers.

    `runtime="auto"` on a machine without accelerator is OpenVINO, else ONNX Runtime, where installed and worth a
    conversion: for `pictures` of 100 or more, or if the converted network is still in the cache; else torch.
    `precision` None = as trained, for exported files "auto" (bfloat16 in OpenVINO where the CPU has it); with
    `runtime="auto"` one that is named is torch's. `device` is torch's always. `side_by_side`: the predictor may be
    called from `at_once` threads, where its runtime answers more pictures a second so; each waits longer for its own.
    `trust`: a .pt2 file may be loaded, which may run code.
    """

    runtime: RuntimeName = "auto"
    precision: Precision | None = None
    device: str | None = None
    pictures: int = 1
    side_by_side: bool = False
    trust: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for what no runtime can do."""
        if self.runtime in ("onnx", "openvino") and self.device:
            raise ValueError(f"device is torch's: leave it out with runtime {self.runtime}")


def load(path: str | Path, execution: Execution = Execution(), changes: Mapping[str, Any] | None = None) -> Predictor:
    """The predictor of a run folder (its best weights), a checkpoint, or an exported file.

    `changes` are dotted keys of the recipe, for a network that is to answer in another way than it was trained, such as
    {"config.refine_budget": 0.25}.

    Raises:
        ValueError: If there is no model of this package, or a change that it cannot make.
    """
    return load_with_card(path, execution, changes)[0]


def load_with_card(
    path: str | Path, execution: Execution = Execution(), changes: Mapping[str, Any] | None = None
) -> tuple[Predictor, Card]:
    """`load`, and what the file says of itself."""
    path = Path(path)
    read = _load_exported if path.suffix in ENDINGS else _load_checkpoint
    predictor, card = read(path, execution, changes)
    log.info("computed by %s, %s", predictor.runtime.name, predictor.runtime.precision)
    _say_terms(card)
    return predictor, card


def trained_value_range(path: Path, changes: Mapping[str, Any] | None = None) -> tuple[float, float] | None:
    """The range of values that a model was trained with, of its card; the network itself is not loaded.

    Raises:
        ValueError: If there is no model of this package, or a change that it cannot make.
    """
    if path.suffix in ENDINGS and path.is_file():
        return read_exported_card(path).recipe.input.value_range
    card = checkpoint.read_card(checkpoint.find(path))
    return checkpoint.changed(card, changes or {}).recipe.input.value_range


def _say_terms(card: Card) -> None:
    """Once on each machine."""
    if not card.terms:
        return
    mark = cache_folder() / "terms" / hashlib.sha256(card.terms.encode()).hexdigest()[:16]
    if not mark.exists():
        log.warning("%s", card.terms)
        with contextlib.suppress(OSError):  # then it is said again
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def _load_checkpoint(path: Path, execution: Execution, changes: Mapping[str, Any] | None) -> tuple[Predictor, Card]:
    model, card = checkpoint.load(path, changes)
    runtime = _converted(model, card, checkpoint.find(path), execution)
    if runtime is None:
        precision = execution.precision or card.recipe.training.precision
        runtime = TorchRuntime(model, precision, execution.device)
    return Predictor(model, card.recipe.input, runtime), card


def _load_exported(path: Path, execution: Execution, changes: Mapping[str, Any] | None) -> tuple[Predictor, Card]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    others = {key: value for key, value in (changes or {}).items() if key != PRECISION}
    if others:
        raise ValueError(f"{path}: an exported network answers as it was exported: make the change when exporting")
    if path.suffix == ".pt2" and not execution.trust:
        raise ValueError(f"{path}: a .pt2 file may run any code when it is loaded, like a program from a stranger: if "
                         "you trust whoever made it, add --trust (in Python: trust=True); .onnx and .xml files run no "
                         "code")  # fmt: skip
    card = read_exported_card(path)
    asked: Precision = override(card.recipe, changes).training.precision if changes else "auto"
    wish = execution.runtime
    if path.suffix == ".pt2":
        kinds: tuple[str, ...] = ("torch",)
    else:
        kinds = ("openvino",) if path.suffix == ".xml" else ("openvino", "onnx")
    if execution.device:
        raise ValueError(f"{path}: an exported file runs where its runtime does: leave device out")
    if wish != "auto" and wish not in kinds:
        raise ValueError(f"{path}: runs in {' or '.join(kinds)}, not in {wish}")
    installed = [kind for kind in kinds if kind == "torch" or all(map(_there, PACKAGES[kind]))]
    chosen = wish if wish != "auto" else (installed or kinds)[0]
    runtime = RUNTIMES[chosen](path, card, execution.precision or asked, execution.side_by_side)
    return Predictor(checkpoint.skeleton(card), card.recipe.input, runtime), card


def _converted(model: SegmentationModel, card: Card, file: Path, execution: Execution) -> Runtime | None:
    """The network in a faster runtime than torch; None where torch is to compute it."""
    kind = execution.runtime
    chosen = kind in ("onnx", "openvino")
    if kind == "auto":
        if execution.device or execution.precision or torch.cuda.is_available():
            return None
        kind = next((name for name in PACKAGES if all(map(_there, (*PACKAGES[name], *TRANSLATORS[name])))), "torch")
    precision = execution.precision or card.recipe.training.precision
    if kind == "torch" or (kind == "onnx" and precision == "bfloat16" and not chosen):
        return None
    form = FORMS[kind]
    place = cache_folder() / "converted" / f"{_identity(card, file)}{form.ending}"
    try:
        if not place.is_file():
            if not chosen and execution.pictures < MANY:
                return None
            log.warning("converting the network for %s, once (about half a minute)", kind)
            program = to_program(model, card.recipe.input)
            form.of(program).write(place, exported_card(card, kind, program.outputs))
            _forget_oldest()
        with contextlib.suppress(OSError):  # a cache that cannot be written to
            os.utime(place)
        return RUNTIMES[kind](place, read_exported_card(place), precision, execution.side_by_side)
    except Exception as error:  # translators raise whatever they like
        with contextlib.suppress(OSError):
            place.unlink(missing_ok=True)  # if it was there, it is damaged: converted once more the next time
        if chosen:
            raise ValueError(f"{file} cannot be converted for {kind}: {error}") from error
        log.warning("not converted, so torch computes it: %s", error)
        return None


def _forget_oldest() -> None:
    """Keeps the `CONVERTED` networks that were used last; other processes may do the same."""
    endings = {form.ending for form in FORMS.values()}
    files = [file for file in (cache_folder() / "converted").iterdir() if file.suffix in endings]
    with contextlib.suppress(OSError):
        for file in _all_but_the_last(files, CONVERTED):
            file.unlink(missing_ok=True)
            if file.suffix == OpenVinoForm.ending:
                file.with_suffix(OpenVinoForm.weights_ending).unlink(missing_ok=True)
        # OpenVINO keeps what it compiled of them, for one picture and for many at once, and forgets nothing by itself.
        for file in _all_but_the_last(list((cache_folder() / COMPILED).iterdir()), 2 * CONVERTED):
            file.unlink(missing_ok=True)


def _all_but_the_last(files: list[Path], kept: int) -> list[Path]:
    return sorted(files, key=lambda file: file.stat().st_mtime)[:-kept]


def _there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _identity(card: Card, file: Path) -> str:
    digest = hashlib.sha256(file.read_bytes())
    digest.update(json.dumps(card.to_json(), sort_keys=True).encode())
    packages = ("smalti", "torch", *sum((*PACKAGES.values(), *TRANSLATORS.values()), ()))
    made_with = [f"{name} {version(name)}" for name in packages if _there(name)]
    digest.update(" ".join(made_with).encode())
    return digest.hexdigest()[:24]


def exported_card(card: Card, to: str, outputs: tuple[str, ...], precision: str = "float32") -> Card:
    """The card of a file for another runtime."""
    return replace(card, export={"to": to, "precision": precision, "outputs": list(outputs)})
