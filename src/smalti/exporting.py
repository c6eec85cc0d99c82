"""The job of exporting: write a network for another runtime, run the file beside it, and say how they agree."""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from smalti import checkpoint
from smalti.checkpoint import Card
from smalti.data.dataset import Dataset, open_dataset, parse_data_argument
from smalti.data.fit import fit_picture
from smalti.evaluation.agreement import Agreement, compare, odd_sizes, verdict
from smalti.evaluation.run import Progress, evaluate_checkpoint
from smalti.export.forms import FORMS, Form, OpenVinoForm, To, wanted
from smalti.export.program import to_program
from smalti.models.contract import SegmentationModel
from smalti.ownership import check_replaceable
from smalti.predict.loading import Execution, exported_card, load
from smalti.predict.predictor import Predictor
from smalti.predict.runtimes import ENDINGS, TorchRuntime, read_exported_card

OWN: dict[To, Execution] = {
    "onnx": Execution(runtime="onnx", precision="float32"),
    "openvino": Execution(runtime="openvino", precision="float32"),
    "torch": Execution(runtime="torch", precision="float32", trust=True),  # of this process's own making
}
"""What a file is proven in: the runtime whose name it bears, in float32 whatever the machine would take by itself."""
COMPARED = 8
"""Pictures that both are run on."""
CALIBRATED = 100
"""Training pictures that 8-bit numbers are calibrated on."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be written, and by what it is judged.

    `data` (as for `smalti evaluate`) gives the pictures that it is compared on, the metric that judges it, on `split`,
    and with `int8` the training pictures for calibration. Without it the pictures are drawn scenes.
    """

    to: To
    out: Path
    int8: bool = False
    data: str | None = None
    split: str | None = None
    overwrite: bool = False
    """Replace files that this package did not write."""

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot be written."""
        if self.to not in FORMS:
            raise ValueError(f'--to is one of {", ".join(FORMS)}, got "{self.to}"')
        ending = FORMS[self.to].ending
        if self.out.suffix != ending:
            raise ValueError(f"a file for {self.to} ends with {ending}, got {self.out}")
        if self.out.is_dir():
            raise ValueError(f"{self.out} is a folder: name a file with --out")
        if self.int8 and self.data is None:
            raise ValueError("8-bit numbers are calibrated on the training pictures and judged on others: "
                             "name the data set with --data")  # fmt: skip
        if self.int8:
            wanted("nncf")
            if self.to == "torch":
                raise ValueError("--int8 is made for --to onnx and --to openvino")


@dataclass(frozen=True, kw_only=True)
class Written:
    """The file, its card, whether it may stand for the network, and why."""

    path: Path
    card: Card
    agrees: bool
    reason: str


def export(
    model: str | Path,
    wish: Wish,
    *,
    changes: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Written:
    """Writes the file, runs it beside the network, and writes what it saw into the file's card.

    It is proven elsewhere first: one that does not agree becomes `NAME.refused.ENDING`, and what was there stays.

    Raises:
        ValueError: If the network cannot be written, or a package for it is missing.
    """
    tell = tell or (lambda _: None)
    if Path(model).suffix in ENDINGS:
        raise ValueError(f"{model} is exported already: export from the run or checkpoint that it was made of")
    refused = wish.out.with_suffix(f".refused{wish.out.suffix}")
    check_replaceable(_files_of(wish.out) + _files_of(refused), _is_export, overwrite=wish.overwrite)
    network, card = checkpoint.load(Path(model), changes)
    tell(f"tracing {card.recipe.model}, then writing {wish.out}")
    program = to_program(network, card.recipe.input)
    form: Form = FORMS[wish.to].of(program)
    if wish.int8:
        tell(f"calibrating 8-bit numbers on {CALIBRATED} training pictures")
        form = form.quantised(_calibration(network, card, wish))
    card = exported_card(card, wish.to, program.outputs, "int8" if wish.int8 else "float32")
    tell("running the file beside the network")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / wish.out.name
        form.write(file, card)
        seen, runtime = _compared(network, card, wish, file)
        metrics = _measured(Path(model), file, wish, changes, progress) if wish.data else None
    agrees, reason = verdict(seen, card.export["precision"], metrics)
    told = {
        **seen.to_json(),
        "runtime": runtime,
        "pictures_of": _source(wish, card),
        "agrees": agrees,
        "verdict": reason,
    }
    if metrics:
        keys = [key for key in ("semantic.miou", "boxes.map50", "panoptic.pq") if metrics[0].get(key) is not None]
        told["metrics"] = {key: {"network": metrics[0][key], "file": metrics[1].get(key)} for key in keys}
        told["protocol"] = metrics[1]["protocol"]
    card = dataclasses.replace(card, export={**card.export, "agreement": told})
    path = wish.out if agrees else refused
    form.write(path, card)
    if agrees:  # what an earlier try left
        for file in _files_of(refused):
            file.unlink(missing_ok=True)
    return Written(path=path, card=card, agrees=agrees, reason=reason)


def _files_of(path: Path) -> list[Path]:
    """An exported file, and the weights beside one of OpenVINO."""
    return [path, path.with_suffix(OpenVinoForm.weights_ending)] if path.suffix == OpenVinoForm.ending else [path]


def _is_export(path: Path) -> bool:
    """Whether this package wrote it: it has a card inside, or lies beside a graph that has one."""
    graph = path.with_suffix(OpenVinoForm.ending) if path.suffix == OpenVinoForm.weights_ending else path
    try:
        read_exported_card(graph)
    except (ValueError, OSError):
        return False
    return True


def _compared(network: SegmentationModel, card: Card, wish: Wish, file: Path) -> tuple[Agreement, str]:
    """How both agree, and what ran the file."""
    reference = Predictor(network, card.recipe.input, TorchRuntime(network, "float32", "cpu"))
    found = _dataset(card, wish, None)
    picked = [found.read(k).image.as_subclass(Tensor) for k in _spread(len(found), COMPARED)]
    exported = load(file, OWN[wish.to])
    return compare(reference, exported, odd_sizes(picked)), exported.runtime.name


def _calibration(network: SegmentationModel, card: Card, wish: Wish) -> list[Tensor]:
    found = _dataset(card, wish, card.recipe.data.train)
    pictures = (found.read(k).image.as_subclass(Tensor) for k in _spread(len(found), CALIBRATED))
    return [fit_picture(picture, card.recipe.input, network.stride)[0] for picture in pictures]


def _dataset(card: Card, wish: Wish, split: str | None) -> Dataset:
    if wish.data is None:
        return open_dataset("scenes", root=None, split=wish.split or "val", options={})
    name, root = parse_data_argument(wish.data, card.recipe.data.set)
    options = card.recipe.data.options if name == card.recipe.data.set else {}
    chosen = split or wish.split or card.recipe.data.validation
    return open_dataset(name, root=root, split=chosen, options=options, value_range=card.recipe.input.value_range)


def _source(wish: Wish, card: Card) -> str:
    if wish.data is None:
        return "drawn scenes, cut to odd sizes"
    found = _dataset(card, wish, None)
    return f"{found.name} {found.split}, cut to odd sizes"


def _spread(count: int, wanted: int) -> list[int]:
    """So many places of a list, evenly apart."""
    return sorted({round(k * (count - 1) / max(1, wanted - 1)) for k in range(wanted)})


def _measured(
    model: Path, file: Path, wish: Wish, changes: Mapping[str, Any] | None, progress: Progress | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    torch_ = Execution(runtime="torch", precision="float32", device="cpu")
    network = evaluate_checkpoint(model, wish.data, wish.split, progress, changes=changes, execution=torch_)
    # The file lies apart from the run: the part of a folder that is measured is named.
    split = network.protocol["split"]
    exported = evaluate_checkpoint(file, wish.data, split, progress, execution=OWN[wish.to])
    return network.to_json(), exported.to_json()
