"""Boundary weights beside the class-by-class form, and their share of a training step.

`python benchmarks/boundary_weights.py`: in turns in one process, medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

import smalti
from smalti.containers import Targets
from smalti.hardware import autocast, best_device
from smalti.parts.losses import BoundaryWeights

CLASSES = 21


def blocks(batch: int, size: tuple[int, int]) -> torch.Tensor:
    """Labels with regions of about 60 pixels, and rings of ignored pixels."""
    coarse = torch.randint(0, CLASSES, (batch, 1, size[0] // 60 + 1, size[1] // 60 + 1)).float()
    labels = F.interpolate(coarse, size, mode="nearest")[:, 0].long()
    labels[torch.rand(labels.shape) < 0.02] = 255
    return labels


def by_class(labels: torch.Tensor, weights: BoundaryWeights) -> torch.Tensor:
    """Eqs. 1 to 3 as printed: one-hot, borders and blur with the whole kernel for each class, then the sum."""
    place = torch.arange(weights.size, device=labels.device) - weights.size // 2
    raw = torch.exp(-(place[:, None] ** 2 + place[None] ** 2) / (weights.size * weights.sigma))
    kernel = ((raw - raw.min()) / (1 - raw.min()))[None, None]
    one_hot = F.one_hot(torch.where(labels == 255, CLASSES, labels), CLASSES + 1)[..., :CLASSES].movedim(-1, 1).float()
    edge = torch.tensor([[1.0, -0.5], [-0.5, 0.0]], device=labels.device)[None, None]
    flat = F.pad(one_hot.flatten(0, 1)[:, None], (0, 1, 0, 1), mode="replicate")
    borders = (F.conv2d(flat, edge).abs() > 0).float()
    if weights.down > 1:
        borders = F.avg_pool2d(borders, weights.down)
    blurred = F.conv2d(borders, kernel, padding=weights.size // 2)
    if weights.down > 1:
        blurred = F.interpolate(blurred, labels.shape[1:], mode="bilinear", align_corners=False)
    total = blurred.view(labels.shape[0], CLASSES, *labels.shape[1:]).sum(1)
    return total / total.amax((1, 2), keepdim=True) + weights.beta


def timed(work: Callable) -> float:
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - begin)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--size", type=int, nargs=2, default=(360, 480))
    options = arguments.parse_args()
    device = best_device()
    labels = blocks(options.batch, tuple(options.size)).to(device)
    print(f"{tuple(labels.shape)}, {CLASSES} classes, {device}, {torch.get_num_threads()} threads, torch "
          f"{torch.__version__}")  # fmt: skip
    print("| down | class by class, ms | ours, ms | faster | greatest difference |\n|---|---|---|---|---|")
    for down in (4, 1):
        weights = BoundaryWeights(down=down)
        works = {"literal": lambda w=weights: by_class(labels, w), "ours": lambda w=weights: w(labels)}
        taken: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(options.rounds + 1):
            for name, work in works.items():
                taken[name].append(timed(work)) if turn else work()
        a, b = (statistics.median(taken[name]) for name in ("literal", "ours"))
        difference = float((works["literal"]() - works["ours"]()).abs().max())
        print(f"| {down} | {a:.0f} | {b:.2f} | {a / b:.0f} | {difference:.1e} |", flush=True)
        if down == 4:
            default = b
    step = step_time(labels, device, max(options.rounds // 2, 2))
    print(f"\none training step of pac_deeplab with resnet101 on {tuple(labels.shape)}: {step:.0f} ms; the weights are "
          f"{100 * default / step:.2f} % of it")  # fmt: skip


def step_time(labels: torch.Tensor, device: torch.device, rounds: int) -> float:
    model = smalti.create_model("pac_deeplab", classes=CLASSES).to(device, memory_format=torch.channels_last)
    pictures = torch.randint(0, 256, (labels.shape[0], 3, *labels.shape[1:]), dtype=torch.uint8, device=device)
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def step() -> None:
        with autocast("auto", device):
            total = sum(model.loss(model(pictures), Targets(semantic=labels)).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    step()
    return statistics.median(timed(step) for _ in range(rounds))


if __name__ == "__main__":
    main()
