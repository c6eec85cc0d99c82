"""Makes the network that comes with the package: train, measure on the test split, store in half precision.

    python scripts/default_model.py --data ~/data/CamVid --run runs/default

Two trainings, in `--run`/first and `--run`/second: `sis_cnn.camvid` on parts of pictures, then `sis_cnn.camvid_whole`
from its best weights. What is there is not trained again; what was interrupted goes on.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import smalti
from smalti import checkpoint, session
from smalti.checkpoint import DEFAULT_WEIGHTS
from smalti.evaluation.run import METRICS
from smalti.recipe import InputPolicy

FIRST, SECOND = "sis_cnn.camvid", "sis_cnn.camvid_whole"
TERMS = (
    "The network of the package was trained on CamVid and is licensed CC BY-NC 4.0: for personal and research use, "
    "not for commercial use. The code is Apache-2.0; networks that you train yourself are yours."
)
KEPT = ("semantic.miou", "semantic.pixel_accuracy", "semantic.class_accuracy")


def trained(recipe: str, data: str, run: Path, changes: dict[str, Any]) -> None:
    """Trains what is not trained yet."""
    if not (run / METRICS).is_file() and not session.train(
        recipe, data=data, out=run, resume=run.exists(), changes=changes
    ):
        raise SystemExit(f"{run} was interrupted: the same command goes on")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of CamVid")
    parser.add_argument("--run", type=Path, required=True)
    wanted = parser.parse_args()
    first, second = wanted.run / "first", wanted.run / "second"
    trained(FIRST, wanted.data, first, {})
    trained(SECOND, wanted.data, second, {"weights": str((first / checkpoint.BEST).resolve())})
    model, card = checkpoint.load(second)
    # A photograph of twelve megapixels shows things eight times as large as the network has learned to see them.
    recipe = dataclasses.replace(card.recipe, input=InputPolicy(size=(480, 480)))
    card = dataclasses.replace(card, recipe=recipe, terms=TERMS, version=smalti.__version__)
    checkpoint.save(model, card, DEFAULT_WEIGHTS, half=True)
    found = smalti.evaluate(
        "default", data=f"camvid={wanted.data}", split="test", changes={"training.precision": "float32"}
    )
    checkpoint.save(
        model,
        dataclasses.replace(card, metrics={f"test.{key}": found[key] for key in KEPT}),
        DEFAULT_WEIGHTS,
        half=True,
    )
    print(f"{DEFAULT_WEIGHTS}: {DEFAULT_WEIGHTS.stat().st_size / 1e6:.2f} MB")
    print(json.dumps({key: value for key, value in found.items() if key.startswith("semantic.")}, indent=1))


if __name__ == "__main__":
    main()
