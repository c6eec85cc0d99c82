"""What computes a network's answers: torch, ONNX Runtime or OpenVINO. The only file that runs the latter two."""

import functools
import threading
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt
from torch import Tensor

from smalti.checkpoint import Card
from smalti.containers import Outputs
from smalti.data.cache import cache_folder
from smalti.export.forms import CARD_FILE, FORMS, OpenVinoForm, wanted
from smalti.export.program import INPUT
from smalti.hardware import Precision, autocast, best_device, uses_bfloat16
from smalti.models.contract import SegmentationModel
from smalti.models.create import CARD
from smalti.settings import from_json, nearest

COMPILED = "openvino"
"""In the cache folder: what OpenVINO compiled."""
MOST_AT_ONCE = 4
"""Pictures that are computed side by side: each takes memory."""
ENDINGS = tuple(form.ending for form in FORMS.values())


class Runtime(ABC):
    """Computes the answers for a batch of pictures. `name` and `precision` are for people and protocols."""

    name: str
    precision: str
    at_once = 1
    """Threads that may call it at a time, each with pictures of its own."""

    @abstractmethod
    def __call__(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """The network's answers, on the device of the runtime."""


class TorchRuntime(Runtime):
    """The network as it is."""

    def __init__(
        self, model: SegmentationModel, precision: Precision = "auto", device: torch.device | str | None = None
    ) -> None:
        """`device` None = the accelerator if there is one. Raises ValueError for a device that is not there."""
        try:
            self.device = best_device() if device is None else torch.device(device)
            self.model: SegmentationModel = model.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        except (RuntimeError, AssertionError) as error:  # torch's, for unknown and for missing devices
            raise ValueError(f"device {device}: {_first_line(error)}") from error
        self._precision: Precision = precision
        self.precision = "bfloat16" if uses_bfloat16(precision, self.device) else "float32"
        self.name = f"torch ({self.device.type})"

    def __call__(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """See `Runtime`."""
        batch = images.to(self.device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(self._precision, self.device):
            answer: Outputs = self.model(batch)
        return answer


class FileRuntime(Runtime):
    """Runs an exported file; copied, or sent to another process on this machine, it opens the file again."""

    def __init__(self, path: Path, card: Card, precision: Precision = "auto", side_by_side: bool = False) -> None:
        """`side_by_side`: the predictor is called from `at_once` threads; where that is faster, they are several."""
        self._made_of = path.resolve(), card, precision, side_by_side

    def __reduce__(self) -> tuple[type["FileRuntime"], tuple[Any, ...]]:
        """For pickle and copy."""
        return type(self), self._made_of


class OnnxRuntime(FileRuntime):
    """A file of ONNX in ONNX Runtime, on its first execution provider that works here."""

    def __init__(self, path: Path, card: Card, precision: Precision = "auto", side_by_side: bool = False) -> None:
        """`side_by_side`: several pictures on some of the threads each, instead of one on all.

        Raises:
            ValueError: If it is not installed, refuses the file, or is asked for bfloat16.
        """
        super().__init__(path, card, precision, side_by_side)
        _no_bfloat16("ONNX Runtime", precision)
        wanted("onnxruntime")
        import onnxruntime  # noqa: PLC0415  # optional, and slow to import

        options = onnxruntime.SessionOptions()
        threads = torch.get_num_threads()
        # The most pictures of those that leave fewest threads without work.
        counts = range(1, min(MOST_AT_ONCE, threads) + 1) if side_by_side else (1,)
        self.at_once = max(counts, key=lambda count: (threads // count * count, count))
        options.intra_op_num_threads = threads // self.at_once
        options.log_severity_level = 3  # errors only
        usable = set(onnxruntime.get_available_providers())
        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in usable]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its errors share no class of their own
            raise ValueError(f"{path}: ONNX Runtime refuses it: {_first_line(error)}") from error
        self._outputs = _names(card)
        device = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.name = f"ONNX Runtime {onnxruntime.__version__} ({device.lower()})"
        self.precision = card.export["precision"]

    def __call__(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """See `Runtime`."""
        try:
            answers = self._session.run(list(self._outputs), {INPUT: images.cpu().numpy()})
        except Exception as error:  # its errors share no class of their own
            raise RuntimeError(_first_line(error)) from error
        return _outputs(self._outputs, [torch.from_numpy(answer) for answer in answers])


class OpenVinoRuntime(FileRuntime):
    """A file of OpenVINO or ONNX in OpenVINO, on the CPU; its compiled form is kept in the cache folder.

    `precision="auto"` is bfloat16 where the CPU multiplies it in hardware.
    """

    def __init__(self, path: Path, card: Card, precision: Precision = "auto", side_by_side: bool = False) -> None:
        """`side_by_side`: as many pictures at once as OpenVINO finds best, instead of one on all threads.

        Raises:
            ValueError: If it is not installed, or refuses the file.
        """
        super().__init__(path, card, precision, side_by_side)
        wanted("openvino")
        import openvino  # noqa: PLC0415  # optional, and slow to import

        core = _openvino_core()
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT" if side_by_side else "LATENCY",
            "PERFORMANCE_HINT_NUM_REQUESTS": MOST_AT_ONCE if side_by_side else 1,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "CACHE_DIR": str(cache_folder() / COMPILED),
        }
        if precision != "auto":
            settings["INFERENCE_PRECISION_HINT"] = {"float32": "f32", "bfloat16": "bf16"}[precision]
        try:
            self._compiled = core.compile_model(core.read_model(path), "CPU", settings)
        except RuntimeError as error:
            raise ValueError(f"{path}: OpenVINO refuses it: {_first_line(error)}") from error
        self.at_once = self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._whole = False  # whether it answers in the size of the pictures; until one is answered, nobody knows
        self._requests = threading.local()  # one for each thread: a request works on one picture at a time
        self._outputs = _names(card)
        asked = card.export["precision"]
        used = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = "bfloat16" if asked == "float32" and used == "bf16" else asked
        self.name = f"OpenVINO {openvino.__version__.split('-')[0]} (cpu)"

    def __call__(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """See `Runtime`."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        try:
            answers = self._requests.own.infer({INPUT: images.cpu().numpy()}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise RuntimeError(_first_line(error)) from error
        found = _outputs(self._outputs, [torch.from_numpy(np.array(answers[name])) for name in self._outputs])
        self._check(images, found)
        return found

    def _check(self, images: Tensor, found: Outputs) -> None:
        """On a single thread OpenVINO swallows its own errors: then it answers nothing, or what it did before."""
        empty = any(isinstance(value, Tensor) and len(value) != len(images) for value in found)
        whole = found.semantic is not None and found.semantic.shape[-2:] == images.shape[-2:]
        if empty or (self._whole and not whole):
            raise RuntimeError("OpenVINO gave no answer, and no reason: try --runtime onnx or torch")
        self._whole = whole


class ProgramRuntime(FileRuntime):
    """A program of torch.export. Loading one may run any code: `Execution.trust` is asked before."""

    def __init__(self, path: Path, card: Card, precision: Precision = "auto", side_by_side: bool = False) -> None:
        """Raises ValueError if it cannot be loaded, or is asked for bfloat16. One picture at a time always."""
        super().__init__(path, card, precision, side_by_side)
        _no_bfloat16("a program of torch.export", precision)
        try:
            program = torch.export.load(path)
        except Exception as error:  # whatever a broken archive makes it raise
            raise ValueError(f"{path}: torch.export refuses it: {_first_line(error)}") from error
        # Its guards say which branches were taken at the size of tracing; those hold for every size (`TRACED`).
        self._module = program.module(check_guards=False)
        self._outputs = _names(card)
        self.name, self.precision = "torch.export (cpu)", card.export["precision"]

    def __call__(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """See `Runtime`."""
        with torch.inference_mode():
            return _outputs(self._outputs, self._module(images.cpu()))


@dataclass(frozen=True, kw_only=True)
class _ExportedAs:
    """What the card of an exported file must say."""

    outputs: tuple[str, ...]
    precision: str

    def __post_init__(self) -> None:
        unknown = sorted(set(self.outputs) - set(Outputs._fields))
        if unknown:
            raise ValueError(f'unknown output "{unknown[0]}": {nearest(unknown[0], list(Outputs._fields))}')


def read_exported_card(path: Path) -> Card:
    """The card inside an exported file.

    Raises:
        ValueError: If it is none of this package's, was made by a newer version, or a package that reads it is missing.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes): copy it again")
    try:
        text = {".onnx": _onnx_card, ".xml": _openvino_card, ".pt2": _torch_card}[path.suffix](path)
    except ValueError:
        raise
    except Exception as error:  # each format's reader has errors of its own
        raise ValueError(f"{path}: cannot be read as {path.suffix} file: {_first_line(error)}") from error
    if text is None:
        raise ValueError(f"{path}: has no card of this package inside, so nobody knows its classes and how pictures "
                         "enter it: write such files with `smalti export`")  # fmt: skip
    card = Card.from_text(text, path)
    try:
        from_json(card.export, _ExportedAs, ignore_unknown=True)
    except ValueError as error:
        raise ValueError(f"{path}: its card does not say how it was exported ({error}): write it again with "
                         "`smalti export`") from error  # fmt: skip
    return card


def _onnx_card(path: Path) -> str | None:
    wanted("onnx")
    import onnx  # noqa: PLC0415  # optional, and slow to import

    entries = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    return entries.get(CARD)


def _openvino_card(path: Path) -> str | None:
    wanted("openvino")
    weights = path.with_suffix(OpenVinoForm.weights_ending)
    if path.is_file() and not weights.is_file():
        raise ValueError(f"{path}: its weights, {weights.name}, must lie beside it: copy both files")
    model = _openvino_core().read_model(path)
    return str(model.get_rt_info(CARD).astype(str)) if model.has_rt_info(CARD) else None


@functools.cache
def _openvino_core() -> Any:
    """The one of this process.

    A core that goes away takes its CPU plugin along, and that the stack for signals which it has given to the thread:
    the next signal, such as that of a loader worker that ends, would be a segmentation fault (seen with 2026.4).
    """
    import openvino  # noqa: PLC0415  # optional, and slow to import

    return openvino.Core()


def _torch_card(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(f"/{CARD_FILE}")]
        return archive.read(names[0]).decode() if names else None


def _no_bfloat16(name: str, precision: Precision) -> None:
    if precision == "bfloat16":
        raise ValueError(f"{name} computes in float32 here, not in bfloat16: take torch or openvino for that")


def _names(card: Card) -> tuple[str, ...]:
    return tuple(card.export["outputs"])


def _outputs(names: Sequence[str], values: Sequence[Tensor]) -> Outputs:
    found: dict[str, Any] = dict(zip(names, values, strict=True))
    return Outputs(**found)


def _first_line(error: Exception) -> str:
    """The first that says something; OpenVINO begins with places in its own source."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Exception from")), type(error).__name__)
