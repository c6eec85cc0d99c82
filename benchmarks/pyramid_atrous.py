"""Pyramid atrous convolution beside the literal form and beside ASPP: `python benchmarks/pyramid_atrous.py`.

All are timed in turns in one process, and medians are compared: on a shared machine only ratios mean something.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from smalti.hardware import best_device
from smalti.models.pac_deeplab import Config, Head
from smalti.parts.context.pyramid_atrous import atrous_convolutions

RATES = (1, 3, 5, 7, 9)
CHANNELS, WIDTH = 2048, 256


def literal(x, weight, rates):
    return [F.conv2d(x, weight, dilation=rate, padding=rate) for rate in rates]


def factored(x, weight, rates):
    return atrous_convolutions(x, weight, tuple((rate,) for rate in rates))


def timed(work: Callable, device: torch.device) -> float:
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - begin)


def medians(works: dict[str, Callable], rounds: int, device: torch.device) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 2):
        for name, work in works.items():
            milliseconds = timed(work, device)
            if turn >= 2:
                taken[name].append(milliseconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def compare_convolutions(batch: int, side: int, dtype: torch.dtype, rounds: int, device: torch.device) -> None:
    x = torch.randn(batch, CHANNELS, side, side, device=device, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    weight = (torch.randn(WIDTH, CHANNELS, 3, 3, device=device) / 135).to(dtype)
    forms = {"five": (literal, RATES), "one": (literal, RATES[1:2]), "ours": (factored, RATES)}

    def forward(form, rates):
        with torch.no_grad():
            form(x, weight, rates)

    def backward(form, rates):
        inputs = (x.detach().requires_grad_(), weight.detach().requires_grad_())
        answers = form(*inputs, rates)
        torch.autograd.grad(answers, inputs, [torch.ones_like(a) for a in answers])

    for what, pass_ in (("forward", forward), ("forward + backward", backward)):
        found = medians({k: lambda p=pass_, f=f, r=r: p(f, r) for k, (f, r) in forms.items()}, rounds, device)
        print(f"| {batch}x{side}x{side} {str(dtype)[6:]} {what} | {found['five']:.0f} | {found['one']:.0f} | "
              f"{found['ours']:.0f} | {found['five'] / found['ours']:.2f} | {found['ours'] / found['one']:.2f} |",
              flush=True)  # fmt: skip


def compare_heads(batch: int, side: int, dtype: torch.dtype, rounds: int, device: torch.device) -> None:
    x = torch.randn(batch, CHANNELS, side, side, device=device).contiguous(memory_format=torch.channels_last)
    heads: dict[str, nn.Module] = {
        name: Head(CHANNELS, 21, Config(context=name)).to(device, memory_format=torch.channels_last)  # type: ignore[arg-type]
        for name in ("pac", "aspp")
    }

    def step(head, training):
        with torch.set_grad_enabled(training), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            answer = head.train(training)(x)
        if training:
            answer.float().sum().backward()

    for training in (False, True):
        found = medians({k: lambda h=h, t=training: step(h, t) for k, h in heads.items()}, rounds, device)
        what = "forward + backward" if training else "forward"
        counts = {k: sum(p.numel() for p in h.parameters()) for k, h in heads.items()}
        print(f"| {batch}x{side}x{side} {str(dtype)[6:]} {what} | {found['aspp']:.0f} | {found['pac']:.0f} | "
              f"{found['pac'] / found['aspp']:.2f} | {counts['pac'] / counts['aspp']:.2f} |", flush=True)  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--batch", type=int, default=2)
    arguments.add_argument("--sides", type=int, nargs="+", default=(33, 65))
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    device = best_device()
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}; ms, medians of {options.rounds}")
    dtypes = (torch.bfloat16, torch.float32)
    print("\n| 2048 -> 256, rates 1, 3, 5, 7, 9 | five convolutions | one of them | ours | faster | ours / one |")
    print("|---|---|---|---|---|---|")
    for side in options.sides:
        for dtype in dtypes:
            compare_convolutions(options.batch, side, dtype, options.rounds, device)
    print("\n| head, 21 classes | aspp | pac | pac / aspp, time | pac / aspp, parameters |\n|---|---|---|---|---|")
    for side in options.sides:
        for dtype in dtypes:
            compare_heads(options.batch, side, dtype, options.rounds, device)


if __name__ == "__main__":
    main()
