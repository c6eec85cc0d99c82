"""Gradients of the depthwise convolutions of an EfficientNet-Lite0 on CPUs: torch's own, and ours, in both precisions.

`python benchmarks/depthwise.py [--threads 1] [--rounds 9]`: CPU milliseconds, medians, in turns, 8 pictures of 180x240.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from smalti.parts import depthwise

LAYERS = (
    # channels, taps, stride, height, width (padded for strides), dilation
    (32, 3, 1, 90, 120, 1),
    (96, 3, 2, 91, 121, 1),
    (144, 3, 1, 45, 60, 1),
    (144, 5, 2, 47, 63, 1),
    (240, 5, 1, 23, 30, 1),
    (240, 3, 2, 25, 31, 1),
    (480, 3, 1, 12, 15, 1),
    (672, 5, 1, 12, 15, 1),
    (1152, 3, 1, 12, 15, 2),
    (1152, 5, 1, 12, 15, 2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| channels, taps, stride, size, dilation | torch bfloat16 | torch float32 | ours bfloat16 | ours float32 |")
    print("|---|---|---|---|---|")
    for channels, taps, stride, height, width, dilation in LAYERS:
        padding = 0 if stride == 2 else dilation * (taps // 2)
        geometry = depthwise._Geometry((stride, stride), (padding, padding), (dilation, dilation))
        x = torch.randn(8, channels, height, width).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(channels, 1, taps, taps)
        gradient = torch.randn_like(F.conv2d(x, weight, None, *geometry, channels))
        full = (gradient, x, weight)
        half = tuple(part.bfloat16() for part in full)
        found = medians(
            [
                lambda half=half, g=geometry: depthwise._gradients(*half, g, (True, True)),
                lambda full=full, g=geometry: depthwise._gradients(*full, g, (True, True)),
                lambda half=half, g=geometry: ours(*half, g),
                lambda full=full, g=geometry: ours(*full, g),
            ],
            arguments.rounds,
        )
        name = f"{channels}, {taps}x{taps}, {stride}, {height}x{width}, {dilation}"
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in found) + " |")


def ours(gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, geometry: depthwise._Geometry) -> None:
    depthwise._of_input(gradient, x, weight, geometry)
    depthwise._of_weight(gradient, x, weight.shape[2], geometry)


def medians(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, taken in zip(calls, times, strict=True):
            begin = time.process_time()
            call()
            if number:  # the first one warms up
                taken.append(1000 * (time.process_time() - begin))
    return [statistics.median(taken) for taken in times]


if __name__ == "__main__":
    main()
