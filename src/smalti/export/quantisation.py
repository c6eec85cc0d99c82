"""8-bit weights and activations, found by NNCF in a process of its own.

A process of its own, because NNCF opens OpenVINO by itself, and what that leaves behind ends a process that starts
loader workers later (see `_openvino_core` in predict/runtimes.py); and because its imports take longer than all others.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

PICTURES = "pictures.npz"


def quantise(
    source: Path, target: Path, pictures: Sequence[UInt8[Tensor, "channels height width"]], input_name: str
) -> None:
    """Reads a network (`.onnx`, or `.xml` of OpenVINO) from `source` and writes it in 8 bits to `target`.

    Raises:
        ValueError: If there are no pictures, or NNCF cannot; in its own words.
    """
    if not pictures:
        raise ValueError(
            "8-bit weights are calibrated on pictures, and there are none: name the training data with --data"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / PICTURES
        np.savez(file, *(picture.numpy() for picture in pictures))
        command = [sys.executable, "-m", "smalti.export.quantisation", source, target, file, input_name]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode or not target.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ValueError(
            f"NNCF could not make 8-bit numbers of {source.name}: {lines[-1] if lines else done.returncode}"
        )


def _main(source: Path, target: Path, pictures: Path, input_name: str) -> None:
    import nncf  # noqa: PLC0415  # optional, and slow to import

    read, write, feed = (_onnx if source.suffix == ".onnx" else _openvino)(input_name)
    with np.load(pictures) as stored:
        arrays = [stored[name][None] for name in stored.files]
    dataset = nncf.Dataset(arrays, feed)
    preset = nncf.QuantizationPreset.MIXED
    write(nncf.quantize(read(source), dataset, subset_size=len(arrays), preset=preset), target)


Handling = tuple[Callable[[Path], Any], Callable[[Any, Path], None], Callable[[Any], Any]]


def _onnx(input_name: str) -> Handling:
    import onnx  # noqa: PLC0415

    return onnx.load, onnx.save, lambda array: {input_name: array}


def _openvino(_: str) -> Handling:
    import openvino  # noqa: PLC0415

    return (
        openvino.Core().read_model,
        lambda model, path: openvino.save_model(model, path, compress_to_fp16=False),
        lambda array: array,
    )


if __name__ == "__main__":
    given = sys.argv[1:]
    _main(Path(given[0]), Path(given[1]), Path(given[2]), given[3])
