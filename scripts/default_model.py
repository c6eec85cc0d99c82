"""Makes the network that comes with the package: train, measure on the test split, store in half precision.

    python scripts/default_model.py --data ~/data/CamVid --run runs/default

`--run` is trained if it is not there yet, and goes on where it was interrupted.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import smalti
from smalti import checkpoint, session
from smalti.checkpoint import DEFAULT_WEIGHTS
from smalti.recipe import InputPolicy

RECIPE = "sis_cnn.camvid"
TERMS = (
    "The network of the package was trained on CamVid and is licensed CC BY-NC 4.0: for personal and research use, "
    "not for commercial use. The code is Apache-2.0; networks that you train yourself are yours."
)
KEPT = ("semantic.miou", "semantic.pixel_accuracy", "semantic.class_accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of CamVid")
    parser.add_argument("--run", type=Path, required=True)
    wanted = parser.parse_args()
    if not (wanted.run / "metrics.json").is_file():
        session.train(RECIPE, data=wanted.data, out=wanted.run, resume=wanted.run.exists())
    model, card = checkpoint.load(wanted.run)
    # A photograph of twelve megapixels shows things eight times as large as the network has learned to see them.
    recipe = dataclasses.replace(card.recipe, input=InputPolicy(size=(480, 480)))
    card = dataclasses.replace(card, recipe=recipe, terms=TERMS, version=smalti.__version__)
    checkpoint.save(model, card, DEFAULT_WEIGHTS, half=True)
    found = smalti.evaluate("default", data=f"camvid={wanted.data}", split="test")
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
