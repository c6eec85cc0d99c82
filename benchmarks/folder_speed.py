"""Speed of predicting a folder: `python benchmarks/folder_speed.py MODEL FOLDER [--rounds 3] [--runtime auto]`.

In turns, in one process, medians of the rounds: the bare network (its forward alone, at the pictures' size as it
enters) one picture after the other and side by side, the predictor (with fitting and decoding) one after the other,
and `predict_files` from files to files. The shares are the last rate by the first two. Then what each step costs one
thread, in milliseconds of processor time a picture.

`--delay 60` puts a network of so many milliseconds in the real one's place, whose work keeps all threads of torch busy.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn

from smalti.containers import Outputs
from smalti.data.fit import fit_picture
from smalti.data.pictures import find_pictures, read_picture
from smalti.draw.image_files import save_drawing
from smalti.draw.legend import legend_entries, with_legend
from smalti.draw.overlay import overlay, save_index_png
from smalti.predict import folder
from smalti.predict.loading import Execution, load
from smalti.predict.predictor import Predictor


class Busy(nn.Module):
    """Answers what the network answered once, after `seconds` of matrix products on all of torch's threads."""

    def __init__(self, answer: Outputs, seconds: float) -> None:
        super().__init__()
        self.answer, self.matrix = answer, torch.randn(384, 384)
        self.turns = max(1, round(20 * seconds / min(timed(lambda: self.work(20)) for _ in range(9))))

    def work(self, turns: int) -> None:
        for _ in range(turns):
            self.matrix @ self.matrix

    def forward(self, images: Tensor) -> Outputs:
        self.work(self.turns)
        return self.answer


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    begin = clock()
    work()
    return clock() - begin


def forward(predictor: Predictor, batches: list[Tensor]) -> None:
    with ThreadPoolExecutor(predictor.at_once) as threads:
        deque(threads.map(predictor.runtime, batches), maxlen=0)


def step_costs(predictor: Predictor, files: list[Path], out: Path) -> dict[str, float]:
    """Median milliseconds of one thread a picture."""
    taken: dict[str, list[float]] = {}

    def step(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        begin = time.thread_time()
        result = work(*arguments)
        taken.setdefault(name, []).append(1000 * (time.thread_time() - begin))
        return result

    model, labels = predictor.model, predictor.labels
    for file in files:
        picture = step("read", read_picture, file)
        with torch.inference_mode():
            fitted, frame = step("fit", fit_picture, picture, predictor.policy, model.stride)
            outputs = predictor.runtime(fitted[None])
            answer = step("decode", model.decode, outputs, [frame])[0]
        pixels, classes = step("channels last", cv2.merge, tuple(picture.numpy())), answer.semantic.numpy()
        drawn = step("overlay", overlay, pixels, classes, labels)
        whole = step("legend", lambda d, c: with_legend(d, legend_entries(c, labels)), drawn, classes)
        step("write overlay", save_drawing, whole, out / "overlay.jpg")
        step("write labels", save_index_png, classes, labels, out / "labels.png")
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--show", default="both")
    parser.add_argument("--runtime", default="auto", choices=["auto", "torch", "onnx", "openvino"])
    parser.add_argument("--delay", type=float, help="milliseconds of a network in the real one's place")
    wanted = parser.parse_args()
    files = find_pictures(wanted.folder)
    predictor = load(wanted.model, Execution(runtime=wanted.runtime))
    many = load(wanted.model, Execution(runtime=wanted.runtime, side_by_side=True))
    pictures = [read_picture(file) for file in files]
    batches = [fit_picture(p, predictor.policy, predictor.model.stride)[0][None] for p in pictures]
    print(f"computed by {many.runtime.name}, {many.runtime.precision}, {many.at_once} side by side")
    if wanted.delay:
        predictor.runtime = many.runtime = Busy(predictor.runtime(batches[0]), wanted.delay / 1000)
    folder.load = lambda *_, **__: many
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        work = {
            "bare network": lambda: forward(predictor, batches),
            "side by side": lambda: forward(many, batches),
            "predictor": lambda: deque(map(predictor, pictures), maxlen=0),
            "files to files": lambda: folder.predict_files(wanted.model, files, out / "answers", wanted.show),
        }
        rates: dict[str, list[float]] = {name: [] for name in work}
        for turn in range(wanted.rounds):
            for name, one in work.items():
                rates[name].append(len(files) / timed(one))
                print(f"round {turn + 1}: {name} {rates[name][-1]:.2f} pictures/s", flush=True)
        print(f"\n{len(files)} pictures, {torch.get_num_threads()} threads of torch, load {os.getloadavg()[0]:.1f}")
        for name, values in rates.items():
            print(f"{name:16s} {statistics.median(values):8.2f} pictures/s")
        for name in ("bare network", "side by side"):
            shares = [end / bare for end, bare in zip(rates["files to files"], rates[name], strict=True)]
            print(f"share of {name:12s} {100 * statistics.median(shares):8.1f} %")
        torch.set_num_threads(1)
        for name, cost in step_costs(predictor, files[::5], out).items():
            print(f"{name:16s} {cost:8.2f} ms")


if __name__ == "__main__":
    main()
