"""The files of all images in COCO's formats: one rule for the ids of images, and the table that explains them."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smalti.files import write_text
from smalti.labels import LabelSet
from smalti.predict.writers.contract import Entry, Picture

IMAGES = "images.json"
MAX_ID = 2**53
"""Larger numbers are not exact in every reader of JSON."""


def described(file: Path, name: str, picture: Picture, labels: LabelSet) -> Entry:
    """What an image adds to the files of all beside its results: where it is from, its size, and the classes."""
    return {
        "name": name,
        "folder": file.parent.name,
        "image": {"file_name": file.name, "height": picture.shape[0], "width": picture.shape[1]},
        "categories": categories(labels),
    }


def image_ids(entries: Sequence[Entry]) -> list[int]:
    """An id for each image: the numbers that are their names, if all are and no two are equal; else 1 to N in order."""
    names = [entry["name"] for entry in entries]
    numbers = [int(name) for name in names if name.isdecimal() and int(name) < MAX_ID]
    return numbers if len(set(numbers)) == len(names) else list(range(1, len(names) + 1))


def image_table(entries: Sequence[Entry]) -> dict[str, Any]:
    """COCO's `images` and `categories`; a file name that several folders have gets its folder's name in front."""
    counts = Counter(entry["image"]["file_name"] for entry in entries)
    images = []
    for number, entry in zip(image_ids(entries), entries, strict=True):
        file_name = entry["image"]["file_name"]
        shown = file_name if counts[file_name] == 1 else f"{entry['folder']}/{file_name}"
        images.append({"id": number, **entry["image"], "file_name": shown})
    return {"images": images, "categories": entries[0]["categories"]}


def write_results(path: Path, entries: Sequence[Entry]) -> None:
    """A list of results as COCO's evaluators take it, and beside it `images.json`, which says what the ids mean."""
    results = [
        {"image_id": number, **result}
        for number, entry in zip(image_ids(entries), entries, strict=True)
        for result in entry["results"]
    ]
    write_text(path, json.dumps(results) + "\n")
    write_text(path.parent / IMAGES, json.dumps(image_table(entries)) + "\n")


def result_of(category: int, box: Sequence[float], score: float) -> Entry:
    """An object of an image, but for the image's id."""
    left, top, right, bottom = (round(value, 3) for value in box)
    return {
        "category_id": category,
        "bbox": [left, top, round(right - left, 3), round(bottom - top, 3)],
        "score": round(score, 6),
    }


def categories(labels: LabelSet) -> list[Entry]:
    """The class table; ids are those of the files."""
    return [
        {"id": number, "name": name, "isthing": int(name in labels.things), "color": list(color)}
        for number, name, color in zip(labels.ids, labels.names, labels.colors, strict=True)
    ]
