"""One network for three tasks beside three networks for one each: `python benchmarks/hourglass_step.py`.

Seconds of a training step (forward, loss, backward, AdamW), medians, the networks in turns in one process.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import smalti
from smalti.containers import Targets
from smalti.hardware import autocast
from smalti.parts.losses.distance import distance_loss
from smalti.parts.losses.edge import balanced_edge_loss

CLASSES = 19
TASKS = ("semantic", "edges", "distances")
NETWORKS = {"paper": {}, "light": {"encoder": "tf_efficientnet_lite0", "upsample": "bilinear"}}


def loss_of(task: str, model, outputs, targets: Targets) -> Tensor:
    match task:
        case "edges":
            return balanced_edge_loss(outputs.edges, targets.edges[:, None])
        case "distances":
            answer = outputs.distances[:, 0].float().sigmoid()
            return distance_loss(answer, targets.distances, targets.distance_weights, targets.distances_valid)
    return sum(model.loss(outputs, targets).values())


def stepper(task: str, settings: dict, pictures: Tensor, targets: Targets) -> Callable[[], float]:
    """`task` "all" = the network with the three of them."""
    tasks = TASKS if task == "all" else tuple(dict.fromkeys(("semantic", task)))
    model = smalti.create_model("hourglass", classes=CLASSES, tasks=tasks, **settings)
    if task in ("edges", "distances"):
        del model.branches["semantic"]
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def step() -> float:
        begin = time.perf_counter()
        with autocast("auto", torch.device("cpu")):
            total = loss_of(task, model, model(pictures), targets)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return time.perf_counter() - begin

    return step


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--batch", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    size = (300, 500)
    pictures = torch.randint(0, 256, (options.batch, 3, *size), dtype=torch.uint8)
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (options.batch, *size))
    things = labels == 1
    targets = Targets(
        semantic=labels, edges=(labels == 2).long(), distances=things * torch.rand(things.shape),
        distance_weights=things.float(), distances_valid=torch.ones_like(things),
    )  # fmt: skip
    print(f"{tuple(pictures.shape)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| network | all tasks, s | semantic, s | edges, s | distances, s | one / three |")
    print("|---|---|---|---|---|---|")
    for name, settings in NETWORKS.items():
        steps = {task: stepper(task, settings, pictures, targets) for task in ("all", *TASKS)}
        taken: dict[str, list[float]] = {task: [] for task in steps}
        for turn in range(options.rounds + 1):
            for task, step in steps.items():
                seconds = step()
                if turn:
                    taken[task].append(seconds)
        one, *three = (statistics.median(values) for values in taken.values())
        print(f"| {name} | {one:.2f} | {' | '.join(f'{t:.2f}' for t in three)} | {one / sum(three):.2f} |", flush=True)


if __name__ == "__main__":
    main()
