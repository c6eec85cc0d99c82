"""What refining only a part of the tiles costs and brings: `python benchmarks/refine_budget.py RUN --data …`.

RUN is a trained ccfnet. Every picture is answered with every budget in turns, and the medians of the times stand beside
the operations counted in each (multiply-adds of convolutions and matrix products): time cannot fall by more than these.
"""

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from ccfnet_step import LiteralPool
from torch.utils.flop_counter import FlopCounterMode

import smalti
from smalti.data.dataset import open_dataset, parse_data_argument
from smalti.data.fit import fit_picture
from smalti.hardware import autocast
from smalti.metrics.confusion import ConfusionMatrix
from smalti.metrics.semantic import semantic_metrics
from smalti.predict.loading import Execution, load

BUDGETS = (0.0, 0.1, 0.25, 0.5, 1.0, None)


def operations(size: tuple[int, int]) -> None:
    """The paper's network: what its branches cost, and what the factored form of the fine branch saves."""
    model = smalti.create_model("ccfnet", classes=8).eval()
    literal = LiteralPool(model.fine.pool).eval()
    features = torch.zeros(1, 2048, -(-size[0] // 8), -(-size[1] // 8))
    parts = {
        "encoder": lambda: model.encoder(torch.zeros(1, 3, *size)),
        "coarse": lambda: model.coarse(features),
        "attention": lambda: model.attention(features),
        "fine": lambda: model.fine(features),
        "fine with the concatenation built": lambda: literal(features),
    }
    print(f"multiply-adds of the paper's network at {size[0]}x{size[1]}, in 10^9:")
    print(", ".join(f"{name} {counted(run):.1f}" for name, run in parts.items()))


@torch.inference_mode()
def counted(run) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2e9


@torch.inference_mode()
def answered(model, batch):
    """The network alone, without decoding."""
    begin = time.perf_counter()
    with autocast("auto", torch.device("cpu")):
        outputs = model(batch)
    return outputs, time.perf_counter() - begin


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("run", type=Path)
    arguments.add_argument("--data")
    arguments.add_argument("--pictures", type=int, default=None)
    arguments.add_argument("--plot", type=Path, default=None)
    options = arguments.parse_args()
    operations((240, 320))
    predictor = load(options.run, Execution(runtime="torch", device="cpu"))
    card = smalti.checkpoint.load(options.run)[1]
    name, root = parse_data_argument(options.data, card.recipe.data.set)
    data = open_dataset(name, root=root, split=card.recipe.data.validation, options=card.recipe.data.options)
    seconds: dict[float | None, list[float]] = {budget: [] for budget in BUDGETS}
    work: dict[float | None, list[float]] = {budget: [] for budget in BUDGETS}
    matrices = {budget: ConfusionMatrix(len(data.labels)) for budget in BUDGETS}
    for index in range(min(len(data), options.pictures or len(data))):
        sample = data.read(index)
        image = sample.image.as_subclass(torch.Tensor)
        for budget in BUDGETS:
            predictor.model.config = dataclasses.replace(card.recipe.config, refine_budget=budget)
            fitted, frame = fit_picture(image, predictor.policy, predictor.model.stride)
            batch = fitted[None].contiguous(memory_format=torch.channels_last)
            outputs, taken = answered(predictor.model, batch)
            seconds[budget].append(taken)
            (answer,) = predictor.model.decode(outputs, [frame])
            matrices[budget].update(answer.semantic.numpy(), sample.semantic.numpy())
            if index < 8:
                work[budget].append(counted(lambda pictures=batch: predictor.model(pictures)))
    print(f"{data.name} {data.edition} {data.split}, {len(seconds[None])} pictures, {torch.get_num_threads()} threads")
    print("| budget | ms | of dense | multiply-adds, 10^9 | of dense | mIoU | pixel accuracy |")
    print("|---|---|---|---|---|---|---|")
    dense = (statistics.median(seconds[None]), statistics.fmean(work[None]))
    points = []
    for budget in BUDGETS:
        found = semantic_metrics(matrices[budget].counts, data.labels)
        middle, macs = statistics.median(seconds[budget]), statistics.fmean(work[budget])
        label = "dense" if budget is None else f"{budget:g}"
        print(f"| {label} | {1e3 * middle:.1f} | {middle / dense[0]:.2f} | {macs:.2f} | {macs / dense[1]:.2f} | "
              f"{found['semantic.miou']:.4f} | {found['semantic.pixel_accuracy']:.4f} |")  # fmt: skip
        points.append((label, 1e3 * middle, found["semantic.miou"]))
    if options.plot is not None:
        draw(points, options.plot)


def draw(points: list[tuple[str, float, float]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    *budgets, dense = points
    axes.plot([p[1] for p in budgets], [p[2] for p in budgets], marker="o", label="refined in part")
    axes.plot(dense[1], dense[2], "kD", markerfacecolor="none", label="dense")
    for label, x, y in budgets:
        axes.annotate(label, (x, y), textcoords="offset points", xytext=(4, -11), fontsize=8)
    axes.set_xlabel("ms a picture")
    axes.set_ylabel("mIoU")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
