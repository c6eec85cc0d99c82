"""Every network in every runtime: does it answer alike, and how fast?

    python benchmarks/runtimes.py --rounds 5 [--only hourglass]          the table of docs/predict.md, random weights
    python benchmarks/runtimes.py --rounds 9 --default 360x480 512x1024  the network of the package, by picture size
    … --int8 street.xml                                                  and its file of 8-bit numbers beside it

One process, the runtimes in turns, medians; batch 1, seconds of the clock. In its turn a runtime answers four times, of
which the first does not count: the caches are still full of another's numbers, whose threads may not rest yet.
`--precision auto` is what `smalti predict` would use on this machine (bfloat16 in OpenVINO and torch where the CPU has
it); without it all compute in float32. torch eager always does.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import smalti
from smalti import checkpoint
from smalti.checkpoint import Card
from smalti.containers import Outputs
from smalti.export.forms import FORMS
from smalti.export.program import to_program
from smalti.labels import LabelSet
from smalti.models.create import build, find_recipe, model_class
from smalti.predict.loading import exported_card
from smalti.predict.runtimes import (
    OnnxRuntime,
    OpenVinoRuntime,
    ProgramRuntime,
    Runtime,
    TorchRuntime,
    read_exported_card,
)

ROWS = (
    "sis_cnn.camvid", "sis_cnn.paper_vgg16_unet", "sis_cnn.paper_resnet50_pspnet", "pac_deeplab.camvid",
    "pac_deeplab.voc2012", "ccfnet.stanford_background", "ccfnet.paper_stanford_background", "hourglass.scenes",
    "hourglass.cityscapes", "ivanet.scenes", "ivanet.voc0712_300",
)  # fmt: skip
SIZE = (256, 320)
COUNTED = 3
RUNTIMES = {"ONNX Runtime": ("onnx", OnnxRuntime), "OpenVINO": ("openvino", OpenVinoRuntime),
            "torch.export": ("torch", ProgramRuntime)}  # fmt: skip


class Eager(Runtime):
    """The network as most people run it: float32, in torch's own memory format."""

    name, precision = "torch eager", "float32"

    def __init__(self, model):
        self.model = model.eval()

    @torch.inference_mode()
    def __call__(self, images):
        return self.model(images)


def network(name):
    recipe = find_recipe(name)
    classes = LabelSet(names=tuple(f"class {k}" for k in range(11)), things=frozenset(("class 8", "class 9")))
    torch.manual_seed(0)
    model = build(model_class(recipe.model), recipe.config, classes, None).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as after training: not the identity
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.normal_(layer.running_mean, std=0.1)
    return model, Card(recipe=recipe, labels=classes, metrics={})


def written(model, card, folder, precision):
    """The file of each runtime, or why there is none."""
    program = to_program(model, card.recipe.input)
    for name, (to, runtime) in RUNTIMES.items():
        path = Path(folder) / f"net{FORMS[to].ending}"
        try:
            FORMS[to].of(program).write(path, exported_card(card, to, program.outputs))
            yield name, runtime(path, exported_card(card, to, program.outputs), precision)
        except Exception as error:
            yield name, f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"


def timed(runtimes, images, rounds):
    seconds = {name: [] for name in runtimes}
    for _ in range(rounds):
        for name, runtime in runtimes.items():
            runtime(images)
            for _ in range(COUNTED):
                begin = time.perf_counter()
                runtime(images)
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def agreement(wanted: Outputs, got: Outputs):
    """Largest difference as a share of the largest answer, and the share of equal labels."""
    worst = 0.0
    for one, other in zip(wanted, got, strict=True):
        if isinstance(one, torch.Tensor):
            worst = max(worst, float((one - other).abs().max() / one.abs().max()))
    equal = None
    if wanted.semantic is not None:
        equal = float((wanted.semantic.argmax(1) == got.semantic.argmax(1)).float().mean())
    return worst, equal


def row(name, rounds, precision, sizes=(SIZE,), int8=None):
    if name == "default":
        model, card = checkpoint.load(Path("default"))
    else:
        model, card = network(name)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        found = dict(written(model, card, folder, precision))
        if int8 is not None:
            found["OpenVINO, 8 bits"] = OpenVinoRuntime(int8, read_exported_card(int8), precision)
        used_by = ", ".join(f"{k} {v.precision}" for k, v in found.items() if isinstance(v, Runtime))
        print(f"# {name}: written in {time.perf_counter() - begin:.0f} s; {used_by}", flush=True)
        for size in sizes:
            policy = card.recipe.input
            used = policy.size if policy.fit != "pad" else size
            used = tuple(-(-side // model.stride) * model.stride for side in used)
            images = torch.randint(0, 256, (1, model.in_channels, *used), dtype=torch.uint8)
            runtimes = {"torch eager": Eager(model)} | {k: v for k, v in found.items() if isinstance(v, Runtime)}
            seconds = timed(runtimes, images, rounds)
            runtimes["torch"] = TorchRuntime(model, precision, "cpu")  # moves the network to channels_last: last
            seconds |= timed({"torch": runtimes["torch"]}, images, rounds)
            wanted = Eager(model)(images)
            cells = [f"{seconds['torch eager']:.3f}", f"{seconds['torch eager'] / seconds['torch']:.2f}"]
            for kind, there in found.items():
                if kind not in runtimes:
                    cells.append(str(there))
                    continue
                worst, equal = agreement(wanted, runtimes[kind](images))
                share = "" if equal is None else f", {100 * equal:.2f} %"
                cells.append(f"{seconds['torch eager'] / seconds[kind]:.2f} ({worst:.0e}{share})")
            millions = sum(p.numel() for p in model.parameters()) / 1e6
            print(f"| `{name}` | {millions:.1f} | {used[0]}x{used[1]} | {' | '.join(cells)} |", flush=True)
            model.to(memory_format=torch.contiguous_format)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--int8", type=Path)
    parser.add_argument("--precision", choices=("auto", "float32"), default="float32")
    parser.add_argument("--default", nargs="+", metavar="HEIGHTxWIDTH")
    wanted = parser.parse_args()
    print(f"smalti {smalti.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    columns = ["network", "millions of weights", "picture", "torch eager, s", "our torch, times as fast"]
    names = [*RUNTIMES, *(["OpenVINO, 8 bits"] if wanted.int8 else [])]
    columns += [f"{name}, times as fast (largest difference, equal labels)" for name in names]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    if wanted.default:
        row(
            "default",
            wanted.rounds,
            wanted.precision,
            [tuple(map(int, size.split("x"))) for size in wanted.default],
            wanted.int8,
        )
        return
    for name in ROWS:
        if wanted.only in name:
            row(name, wanted.rounds, wanted.precision)


if __name__ == "__main__":
    main()
