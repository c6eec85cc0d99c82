"""IvaNet's speed: `python benchmarks/ivanet_speed.py [--rounds 5]`.

* matching and loss of a batch of 32 at 300 (11,640 boxes, 20 objects a picture), and decoding of one picture;
* a training step, and the prediction of one picture, of both tasks together and of each alone;
* prediction of one picture at 300x300 beside torchvision's `ssd300_vgg16`.

Medians, in turns in one process; weights are random, and the answers of prediction are decoded.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torchvision.models.detection import ssd300_vgg16

import smalti
from smalti.containers import Frame, Instances, Outputs, Targets
from smalti.hardware import autocast
from smalti.labels import VOC

TASKS = {"joint": ("boxes", "semantic"), "boxes": ("boxes",), "pixels": ("semantic",)}
CPU = torch.device("cpu")


def medians(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, the first round left out."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, one in work.items():
            begin = time.perf_counter()
            one()
            if turn:
                taken[name].append(1000 * (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in taken.items()}


def truth(batch: int, objects: int) -> Targets:
    low = torch.rand(batch, objects, 2) * 220
    boxes = torch.cat([low, low + 10 + torch.rand(batch, objects, 2) * 70], -1)
    return Targets(
        semantic=torch.randint(0, 21, (batch, 300, 300)),
        instances=tuple(Instances(boxes=b, labels=torch.randint(1, 21, (objects,))) for b in boxes),
        padding=torch.zeros(batch, 300, 300, dtype=torch.bool),
    )


def network(tasks: tuple[str, ...]) -> torch.nn.Module:
    return smalti.create_model("ivanet", classes=VOC, tasks=tasks).to(memory_format=torch.channels_last)


def pictures(batch: int) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, 300, 300), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)


def training_step(tasks: tuple[str, ...], batch: int) -> Callable[[], object]:
    model, images, targets = network(tasks), pictures(batch), truth(batch, 5)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def step() -> None:
        with autocast("auto", CPU):
            total = sum(model.loss(model(images), targets).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def prediction(tasks: tuple[str, ...], precision: str) -> Callable[[], object]:
    model, image = network(tasks).eval(), pictures(1)

    def predict() -> object:
        with torch.inference_mode(), autocast(precision, CPU):
            outputs = model(image)
        return model.decode(outputs, [Frame.whole((300, 300))])

    return predict


def torchvisions() -> Callable[[], object]:
    model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21).eval()
    image = torch.rand(3, 300, 300)

    def predict() -> object:
        with torch.inference_mode():
            return model([image])

    return predict


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--batch", type=int, default=4)
    options = arguments.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, ms")
    model = network(("boxes",)).eval()
    targets = truth(32, 20)
    outputs = Outputs(box_logits=torch.randn(32, 11640, 21), box_offsets=torch.randn(32, 11640, 4))
    one = Outputs(box_logits=3 * outputs.box_logits[:1], box_offsets=outputs.box_offsets[:1])
    found = medians({
        "matching and loss, 32 pictures": lambda: model.loss(outputs, targets),
        "decoding, 1 picture": lambda: model.decode(one, [Frame.whole((300, 300))]),
    }, options.rounds)  # fmt: skip
    steps = medians({name: training_step(tasks, options.batch) for name, tasks in TASKS.items()}, options.rounds)
    found |= {f"training step, {name}": value for name, value in steps.items()}
    answers = medians(
        {name: prediction(tasks, "auto") for name, tasks in TASKS.items()}
        | {"joint, float32": prediction(TASKS["joint"], "float32"), "boxes, float32": prediction(("boxes",), "float32"),
           "torchvision ssd300_vgg16": torchvisions()},
        options.rounds,
    )  # fmt: skip
    found |= {f"prediction, {name}": value for name, value in answers.items()}
    print("| | ms |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:.1f} |")
    rates = ", ".join(f"{name} {1000 / answers[name]:.1f}" for name in ("boxes", "pixels", "joint"))
    print(f"frames a second at 300: {rates} (the paper, GTX 1070 Ti: boxes 36.5, pixels 44.6, joint 32.5)")
    print(f"step: joint / (boxes + pixels) = {steps['joint'] / (steps['boxes'] + steps['pixels']):.2f}")
    print(f"prediction: joint / boxes = {answers['joint'] / answers['boxes']:.2f}")
    peer = answers["torchvision ssd300_vgg16"]
    print(f"ssd300_vgg16 / boxes = {peer / answers['boxes']:.2f}, float32 {peer / answers['boxes, float32']:.2f}")


if __name__ == "__main__":
    main()
