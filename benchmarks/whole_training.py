"""How much of its bare step's rate a whole training reaches: `python benchmarks/whole_training.py --data PATH`.

Runs the real `train` for some steps (loader, augmentation, metrics, logging) and then the same number of bare steps on
one batch in memory, in one process.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from smalti.containers import Targets
from smalti.hardware import autocast
from smalti.models.create import build, model_class
from smalti.session import resolve_recipe
from smalti.training.optimise import build_optimizer
from smalti.training.preparation import open_splits
from smalti.training.run import Reporting, run
from smalti.training.task import SegmentationTask


def bare_step(recipe, labels, steps: int) -> float:
    """Median seconds of a step on one batch."""
    model = build(model_class(recipe.model), recipe.config, labels, None).to(memory_format=torch.channels_last).train()
    size = recipe.augmentation.crop or (360, 480)
    padded = [-(-n // model.stride) * model.stride for n in size]
    x = torch.randint(0, 256, (recipe.training.batch, 3, *padded), dtype=torch.uint8)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, len(labels), (recipe.training.batch, *padded))
    optimizer = build_optimizer(model, recipe.training)
    taken = []
    for _ in range(steps):
        begin = time.perf_counter()
        with autocast("auto", torch.device("cpu")):
            total = sum(model.loss(model(x), Targets(semantic=y)).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[2:])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--recipe", default="sis_cnn.camvid")
    arguments.add_argument("--data")
    arguments.add_argument("--steps", type=int, default=24)
    options = arguments.parse_args()
    changes = {"training.epochs": 1, "training.steps_per_epoch": options.steps, "training.validate_every": 99}
    recipe = resolve_recipe(options.recipe, options.data, changes)
    labels = open_splits(recipe)[0].labels
    begins: list[float] = []
    original = SegmentationTask.training_step

    def timed(self, batch, index):
        begins.append(time.perf_counter())
        return original(self, batch, index)

    SegmentationTask.training_step = timed
    bare_before = bare_step(recipe, labels, 8)
    with tempfile.TemporaryDirectory() as folder:
        run(recipe, Path(folder) / "run", reporting=Reporting(write=lambda _: None))
    # From the third step on: the loader's workers have started, as they have for the rest of a real training.
    whole = (begins[-1] - begins[2]) / (len(begins) - 3)
    bare = (bare_before + bare_step(recipe, labels, 8)) / 2
    batch = recipe.training.batch
    print(
        f"{recipe.name}: {batch / whole:.2f} pictures/s of {batch / bare:.2f} in bare steps: {100 * bare / whole:.0f} %"
    )


if __name__ == "__main__":
    main()
