"""What there is, as lines of text."""

import math
from typing import Any

from smalti.checkpoint import DEFAULT, DEFAULT_WEIGHTS, read_card
from smalti.data.sets import DATASETS
from smalti.models import MODELS
from smalti.models.create import ablations, model_class, recipes
from smalti.parts.encoders.timm_encoder import encoder_names


def listing(what: str) -> list[str]:
    """Recipes, ablations and models with their first line of description; data sets; or encoders by name."""
    match what:
        case "recipes":
            return _table({name: make.__doc__ for name, make in recipes().items()})
        case "ablations":
            return _table({name: make.__doc__ for name, make in ablations().items()})
        case "models":
            own = read_card(DEFAULT_WEIGHTS)
            with_weights = f"In the package, with weights: {own.recipe.name}, {len(own.labels)} classes. {own.terms}"
            return _table({**{name: model_class(name).__doc__ for name in MODELS}, DEFAULT: with_weights})
        case "datasets":
            return _table({name: opener.__doc__ for name, opener in DATASETS.items()})
        case _:
            return encoder_names()


def _table(entries: dict[str, str | None]) -> list[str]:
    width = max(map(len, entries), default=0)
    return [f"{name.ljust(width)}  {(text or '').strip().splitlines()[0]}" for name, text in entries.items()]


def metric_lines(found: dict[str, Any]) -> list[str]:
    """The headline numbers that could be measured, one a line, and then the classes."""
    protocol = found["protocol"]
    lines = [f"{protocol['data']} {protocol['split']}: {protocol['pictures']} pictures, {protocol['measured_at']}"]
    lines += [protocol["measured_part"]] if "measured_part" in protocol else []
    lines += [f"  note: {note}" for note in protocol.get("notes", ())]
    lines += [
        f"  {key:32} {value:.4f}"
        for key, value in found.items()
        if isinstance(value, float) and not math.isnan(value) and ".iou." not in key and ".accuracy." not in key
    ]
    prefix = "semantic.iou."
    classes = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
    if not any(value is not None for value in classes.values()):
        return lines  # no picture has classes, or the network answers none
    lines += [f"  IoU {name:28} {'absent' if value is None else f'{value:.4f}'}" for name, value in classes.items()]
    return lines
