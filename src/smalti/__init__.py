"""Dense scene understanding: train, evaluate, compare and predict with published segmentation networks.

```python
import smalti

smalti.train("sis_cnn.quick", out="runs/first")
predictor = smalti.load("runs/first")
answer = predictor("photo.jpg")
```
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from smalti.telemetry import disable_telemetry

if TYPE_CHECKING:  # the rooms are imported when they are needed: `import smalti` and `smalti --help` answer at once
    from pathlib import Path

    from smalti import labels as labels
    from smalti.models.contract import SegmentationModel
    from smalti.models.create import Classes
    from smalti.predict.predictor import Predictor
    from smalti.recipe import Recipe

disable_telemetry()  # here, because every process of the package imports this file first
__version__ = version("smalti")
__all__ = ["create_model", "evaluate", "load", "train"]


def __getattr__(name: str) -> Any:
    """Class tables (`smalti.labels.VOC`) are imported when they are asked for."""
    if name == "labels":
        return importlib.import_module("smalti.labels")
    raise AttributeError(f"module 'smalti' has no attribute {name!r}")


def create_model(name: str, *, classes: Classes, weights: str | Path | None = None, **config: Any) -> SegmentationModel:
    """A network by name, e.g. `create_model("sis_cnn", classes=12, encoder="vgg16", decoder="unet")`.

    Args:
        name: `smalti list models` shows them.
        classes: How many, their names, or a `LabelSet`; the ignored label is not a class.
        weights: None = random; "imagenet" = the encoder's; else the file of a checkpoint, or of encoder weights.
        **config: Fields of the network's `Config`.

    Raises:
        ValueError: Unknown name or field (names the nearest), or weights that cannot be had or do not fit.
    """
    from smalti.models import create

    return create.create_model(name, classes=classes, weights=weights, **config)


def train(
    recipe: str | Recipe,
    *,
    data: str | Path | None = None,
    out: str | Path,
    resume: bool = False,
    allow_other_data: bool = False,
    changes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains a recipe into a run folder, then measures it on the validation split and writes the report.

    Args:
        recipe: A name ("sis_cnn.camvid", "my_recipes.py:tiny") or a `Recipe`.
        data: Where the pictures are: a path, or NAME=PATH for another data set; None = searched in `SMALTI_DATA`.
        out: The run folder; must not exist yet, unless `resume`.
        resume: Goes on with an interrupted run, on the images that it began with.
        allow_other_data: Goes on with other images, too; the run folder's `used_images.json` records it.
        changes: Dotted keys, e.g. {"training.epochs": 10}.

    Returns:
        The content of `metrics.json`; empty if it was interrupted (Ctrl-C).

    Raises:
        ValueError: For anything in the recipe, the data or the folder that cannot work.
    """
    from smalti import session

    resumed = session.resume_as(resume, allow_other_data)
    return session.train(recipe, data=data, out=out, resume=resumed, changes=changes)


def evaluate(
    model: str | Path,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    out: str | Path | None = None,
    changes: dict[str, Any] | None = None,
    max_objects: int | None = None,
    overwrite: bool = False,
    trust: bool = False,
) -> dict[str, Any]:
    """Measures a network on a split of a data set.

    Args:
        model: Run folder, checkpoint or exported file, or "default".
        data: As for `train`; None = the set it was trained on.
        split: None = the one it was validated on; or all of a folder of which no image was in its training.
        out: A folder for `metrics.json` and `report.html`; None = nothing is written.
        changes: Dotted keys of its recipe, to let it answer otherwise than trained: {"config.output_stride": 8}.
        max_objects: Objects of an image and class that count in COCO's AP, those with the highest scores; None = 100,
            or more if an image has more true objects.
        overwrite: Replace a `metrics.json` or `report.html` in `out` that this package did not write.
        trust: Load a .pt2 file, which may run code: only from people you trust.

    Returns:
        Metrics by name, and the `protocol` under which they were measured.

    Raises:
        ValueError: If model and data have different classes, or something cannot be read.
    """
    from smalti import session

    if max_objects is not None:
        changes = {**(changes or {}), "evaluation.max_objects": max_objects}
    options = session.EvaluationOptions(changes=changes, overwrite=overwrite, trust=trust)
    return session.evaluate(model, data=data, split=split, out=out, options=options)


def load(
    path: str | Path = "default",
    *,
    runtime: Literal["auto", "torch", "onnx", "openvino"] = "auto",
    device: str | None = None,
    value_range: tuple[float, float] | None = None,
    trust: bool = False,
) -> Predictor:
    """The predictor of a run folder, a checkpoint or an exported file: `load("runs/first")("photo.jpg").semantic`.

    Args:
        path: "default" = the network for street scenes that comes with the package.
        runtime: "auto" = OpenVINO or ONNX Runtime where there is no accelerator and the network has been converted
            before, else torch; "onnx" and "openvino" convert it (once, half a minute).
        device: torch's, e.g. "cuda:1"; None = the accelerator if there is one.
        value_range: Values of pictures deeper than 8 bits that become 0 and 255, such as (0, 4095); None = those the
            model was trained with, else measured on each picture.
        trust: Load a .pt2 file, which may run code: only from people you trust.

    Raises:
        ValueError: If there is no model of this package, or the runtime is not installed.
    """
    from smalti.predict import loading

    predictor = loading.load(path, loading.Execution(runtime=runtime, device=device, trust=trust))
    if value_range is not None:
        predictor.value_range = value_range
    return predictor
