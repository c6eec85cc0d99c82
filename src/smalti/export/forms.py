"""Networks in the form of another runtime, in memory, and on disk with their card inside."""

import json
import logging
import shutil
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from smalti.checkpoint import Card
from smalti.export.program import INPUT, Program
from smalti.export.quantisation import quantise
from smalti.files import replacing
from smalti.models.create import CARD

To = Literal["onnx", "openvino", "torch"]
CARD_FILE = "smalti.json"
"""In a torch archive."""
OPSET = 18


class Form(ABC):
    """A network as one runtime takes it."""

    ending: str
    """Of its files."""

    @abstractmethod
    def write(self, path: Path, card: Card) -> None:
        """Writes the file with the card inside, whole or not at all."""

    @abstractmethod
    def quantised(self, pictures: Sequence[UInt8[Tensor, "channels height width"]]) -> "Form":
        """With 8-bit weights and activations, calibrated on pictures that are as large as the network takes them."""


class OnnxForm(Form):
    """A model of ONNX; the card is its metadata entry `smalti`."""

    ending = ".onnx"

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    def of(cls, program: Program) -> "OnnxForm":
        """Translates the graph."""
        wanted("onnx", "onnxscript")
        with _quiet():
            made = torch.onnx.export(
                program.graph, input_names=[INPUT], output_names=list(program.outputs), opset_version=OPSET,
                dynamo=True, verbose=False,
            )  # fmt: skip
        assert made is not None
        return cls(made.model_proto)

    def write(self, path: Path, card: Card) -> None:
        """See `Form`."""
        kept = [entry for entry in self.model.metadata_props if entry.key != CARD]
        del self.model.metadata_props[:]
        self.model.metadata_props.extend(kept)
        self.model.metadata_props.add(key=CARD, value=json.dumps(card.to_json()))
        with replacing(path) as part:
            part.write_bytes(self.model.SerializeToString())

    def quantised(self, pictures: Sequence[UInt8[Tensor, "channels height width"]]) -> Form:
        """See `Form`."""
        wanted("onnx", "nncf")
        import onnx  # noqa: PLC0415  # optional, and slow to import

        with tempfile.TemporaryDirectory() as folder:
            source, target = (Path(folder) / f"{name}{self.ending}" for name in ("float", "int8"))
            onnx.save(self.model, source)
            quantise(source, target, pictures, INPUT)
            return OnnxForm(onnx.load(target))


class OpenVinoForm(Form):
    """A model of OpenVINO (`.xml` and, beside it, `.bin`); the card is its runtime entry `smalti`."""

    ending, weights_ending = ".xml", ".bin"

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    def of(cls, program: Program) -> "OpenVinoForm":
        """Translates the graph."""
        wanted("openvino")
        import openvino  # noqa: PLC0415  # optional, and slow to import

        with _quiet():
            model = openvino.convert_model(program.graph)
        model.inputs[0].get_tensor().set_names({INPUT})
        for output, name in zip(model.outputs, program.outputs, strict=True):
            output.get_tensor().set_names({name})
        return cls(model)

    def write(self, path: Path, card: Card) -> None:
        """See `Form`. The weights are kept in float32."""
        import openvino  # noqa: PLC0415

        self.model.set_rt_info(json.dumps(card.to_json()), CARD)
        with tempfile.TemporaryDirectory() as folder:  # its writer names the second file after the first
            made = Path(folder) / path.name
            openvino.save_model(self.model, made, compress_to_fp16=False)
            for file in (made.with_suffix(self.weights_ending), made):
                with replacing(path.with_suffix(file.suffix)) as part:
                    shutil.copyfile(file, part)

    def quantised(self, pictures: Sequence[UInt8[Tensor, "channels height width"]]) -> Form:
        """See `Form`."""
        wanted("openvino", "nncf")
        import openvino  # noqa: PLC0415  # optional, and slow to import

        reader = openvino.Core()
        reader.set_property({"ENABLE_MMAP": False})  # the file goes away
        with tempfile.TemporaryDirectory() as folder:
            source, target = (Path(folder) / f"{name}{self.ending}" for name in ("float", "int8"))
            openvino.save_model(self.model, source, compress_to_fp16=False)
            quantise(source, target, pictures, INPUT)
            return OpenVinoForm(reader.read_model(target))


class TorchForm(Form):
    """A program of torch.export (`.pt2`); the card is the file `smalti.json` in it."""

    ending = ".pt2"

    def __init__(self, program: Program) -> None:
        self.program = program

    @classmethod
    def of(cls, program: Program) -> "TorchForm":
        """Takes the graph as it is."""
        return cls(program)

    def write(self, path: Path, card: Card) -> None:
        """See `Form`."""
        # torch warns about other endings than its own, and about weights that share memory, which it copies.
        with tempfile.TemporaryDirectory() as folder, _quiet():
            made = Path(folder) / path.name
            try:
                torch.export.save(self.program.graph, made, extra_files={CARD_FILE: json.dumps(card.to_json())})
            except Exception as error:  # it has no words of its own for what it cannot write
                raise ValueError(f"torch.export cannot write this network: {error}; try --to onnx") from error
            with replacing(path) as part:
                shutil.copyfile(made, part)

    def quantised(self, pictures: Sequence[UInt8[Tensor, "channels height width"]]) -> Form:
        """Not there.

        Raises:
            ValueError: Always; says what to choose.
        """
        raise ValueError("--int8 is made for --to onnx and --to openvino; torch has no fast 8-bit convolutions here")


FORMS: dict[str, type[OnnxForm] | type[OpenVinoForm] | type[TorchForm]] = {
    "onnx": OnnxForm,
    "openvino": OpenVinoForm,
    "torch": TorchForm,
}


def wanted(*packages: str) -> None:
    """Imports optional packages.

    Raises:
        ValueError: If one is not installed; says how to.
    """
    for package in packages:
        try:
            __import__(package)
        except ImportError as error:
            extra = "int8" if package == "nncf" else "export"
            raise ValueError(f'{package} is not installed: pip install "smalti[{extra}]"') from error


@contextmanager
def _quiet() -> Iterator[None]:
    """These packages warn about themselves, and log what they could not simplify."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
