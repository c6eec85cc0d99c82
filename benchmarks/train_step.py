"""One training step beside segmentation-models-pytorch: `python benchmarks/train_step.py [--encoders vgg16 resnet50]`.

Both networks are stepped in turns in one process (ours, peer at its defaults, peer with our settings, ours, …), and
medians are compared: on a shared machine only ratios mean something.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

import smalti
from smalti.containers import Targets
from smalti.hardware import autocast

CLASSES = 11


def stepper(model, loss: Callable, fast: bool, pictures, labels) -> Callable[[], float]:
    if fast:
        model = model.to(memory_format=torch.channels_last)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=fast)
    precision = "auto" if fast else "float32"

    def step() -> float:
        begin = time.perf_counter()
        with autocast(precision, torch.device("cpu")):
            total = loss(model, pictures, labels)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return time.perf_counter() - begin

    return step


def ours(model, pictures, labels):
    return sum(model.loss(model(pictures), Targets(semantic=labels)).values())


def peers(model, pictures, labels):
    return F.cross_entropy(model(pictures.float() / 255), labels)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--encoders", nargs="+", default=["vgg16", "resnet50"])
    arguments.add_argument("--size", nargs=2, type=int, default=(384, 480))
    arguments.add_argument("--batch", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    pictures = torch.randint(0, 256, (options.batch, 3, *options.size), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (options.batch, *options.size))
    print(f"{tuple(pictures.shape)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| encoder x unet | ours, s | peer's defaults, s | peer with our settings, s | faster | ours / equal peer |")
    print("|---|---|---|---|---|---|")
    for encoder in options.encoders:
        model = smalti.create_model("sis_cnn", classes=CLASSES, encoder=encoder, decoder="unet")
        make_peer = lambda name=encoder: smp.Unet(name, encoder_weights=None, classes=CLASSES)  # noqa: E731
        steps = {
            "ours": stepper(model, ours, True, pictures, labels),
            "plain": stepper(make_peer(), peers, False, pictures, labels),
            "equal": stepper(make_peer(), peers, True, pictures, labels),
        }
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(options.rounds + 2):
            for name, step in steps.items():
                taken = step()
                if turn >= 2:
                    seconds[name].append(taken)
        a, b, c = (statistics.median(seconds[name]) for name in ("ours", "plain", "equal"))
        print(f"| {encoder} | {a:.3f} | {b:.3f} | {c:.3f} | {b / a:.2f} | {a / c:.2f} |", flush=True)


if __name__ == "__main__":
    main()
