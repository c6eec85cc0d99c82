"""Files of object annotations in COCO's format: read, checked as a whole, and sorted by picture.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.
"""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from smalti.containers import Instances, Size
from smalti.data.boxes import annotated_boxes, what_is_wrong
from smalti.data.contract import DataError
from smalti.geometry.masks import decode_mask
from smalti.labels import distinct_colors

FEWEST = 6
"""Numbers of a polygon: three points."""


@dataclass(frozen=True, kw_only=True)
class CocoPicture:
    """A picture of the file, and its annotations as JSON text: a million small objects would fill the memory."""

    file_name: str
    size: Size | None
    annotations: bytes


@dataclass(frozen=True, kw_only=True)
class CocoCategory:
    """A class: its number in the file, its name and colour, and whether it is one of things."""

    number: int
    name: str
    color: tuple[int, int, int]
    is_thing: bool


def read_json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON file with these lists.

    Raises:
        DataError: If it cannot be read, or a list is missing; names the file.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    lacking = [key for key in keys if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking:
        raise DataError(f'{path}: not in COCO\'s format: it has no list "{lacking[0]}"')
    return dict(content)


def read_categories(content: Mapping[str, Any], path: Path) -> tuple[CocoCategory, ...]:
    """The classes by rising number; those of files of objects are all of things.

    Raises:
        DataError: If two have one number or one name.
    """
    entries = sorted(content["categories"], key=lambda entry: entry["id"])
    _check_unique(path, "category", [entry["id"] for entry in entries])
    _check_unique(path, "category", [entry["name"] for entry in entries])
    return tuple(
        CocoCategory(
            number=entry["id"],
            name=entry["name"],
            color=tuple(entry.get("color", default)),
            is_thing=bool(entry.get("isthing", 1)),
        )
        for entry, default in zip(entries, distinct_colors(len(entries)), strict=True)
    )


def read_pictures(content: Mapping[str, Any], path: Path) -> list[CocoPicture]:
    """The pictures of a file of objects, by rising number; also those without any object.

    A box without area is left out, with a warning: COCO itself has some.

    Raises:
        DataError: If a number is used twice, an annotation is of no picture or category, or its box or polygons are
            none; names the file and the annotation.
    """
    images = sorted(content["images"], key=lambda entry: entry["id"])
    annotations = content["annotations"]
    _check_unique(path, "image", [entry["id"] for entry in images])
    _check_unique(path, "annotation", [entry["id"] for entry in annotations])
    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in images}
    classes = {entry["id"] for entry in content["categories"]}
    of_picture: dict[Any, list[dict[str, Any]]] = {number: [] for number in sizes}
    flat = []
    for entry in annotations:
        problem = _problem(entry, sizes, classes)
        if problem is not None:
            raise DataError(f"{path}: annotation {entry['id']} {problem}")
        if min(entry["bbox"][2:]) == 0:
            flat.append(entry["id"])
        else:
            of_picture[entry["image_id"]].append(_kept(entry))
    if flat:
        said = ", ".join(str(number) for number in flat[:5]) + (" …" if len(flat) > 5 else "")
        warnings.warn(f"{path}: {len(flat)} annotations have a box without area and are left out: {said}", stacklevel=2)
    return [
        CocoPicture(
            file_name=entry["file_name"],
            size=sizes[entry["id"]],
            annotations=json.dumps(of_picture[entry["id"]]).encode(),
        )
        for entry in images
    ]


def _problem(entry: Mapping[str, Any], sizes: Mapping[Any, Size], classes: set[Any]) -> str | None:
    if entry.get("image_id") not in sizes:
        return f"belongs to picture {entry.get('image_id')}, which the file does not list"
    if entry.get("category_id") not in classes:
        return f"has the category {entry.get('category_id')}, which the file does not list"
    size = sizes[entry["image_id"]]
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        return f"needs a bbox of four numbers (left, top, width, height), has {box}"
    if min(box[2:]) != 0 and (wrong := what_is_wrong(_corners(box), size)):
        return f"cannot be used: {wrong}"
    return _problem_of_mask(entry.get("segmentation"), size)


def _problem_of_mask(drawn: Any, size: Size) -> str | None:
    if isinstance(drawn, dict) and tuple(drawn.get("size", ())) != size:
        return f"has run lengths for {drawn.get('size')} pixels, its picture has {size[0]} x {size[1]}"
    if isinstance(drawn, list) and any(len(polygon) < FEWEST or len(polygon) % 2 for polygon in drawn):
        return "has a polygon of fewer than three points, or with half a point"
    return None


def _kept(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "bbox": entry["bbox"],
        "category_id": entry["category_id"],
        "segmentation": entry.get("segmentation") or None,
        "area": entry.get("area", entry["bbox"][2] * entry["bbox"][3]),
        "iscrowd": entry.get("iscrowd", 0),
    }


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, width, height = box
    return left, top, left + width, top + height


def objects_of(annotations: Sequence[Mapping[str, Any]], label_of: Mapping[int, int], size: Size) -> Instances:
    """Boxes, label ids, crowds and areas of a picture's annotations."""
    return annotated_boxes(
        [_corners(entry["bbox"]) for entry in annotations],
        [label_of[entry["category_id"]] for entry in annotations],
        size,
        crowd=[bool(entry["iscrowd"]) for entry in annotations],
        areas=[float(entry["area"]) for entry in annotations],
    )


def painted(
    annotations: Iterable[Mapping[str, Any]], label_of: Mapping[int, int], size: Size
) -> tuple[UInt8[np.ndarray, "height width"], Int32[np.ndarray, "height width"]]:
    """Classes and object numbers, painted in the file's order, the later over the earlier; 0 where nothing is.

    Crowds are painted, too (BlitzNet); as objects that are not told apart they have the number 0.
    """
    classes, ids = np.zeros(size, np.uint8), np.zeros(size, np.int32)
    for number, entry in enumerate(annotations, start=1):
        if entry["segmentation"] is not None:
            mask = decode_mask(entry["segmentation"], size)
            classes[mask] = label_of[entry["category_id"]]
            ids[mask] = 0 if entry["iscrowd"] else number
    return classes, ids


def _check_unique(path: Path, what: str, numbers: Sequence[Any]) -> None:
    if len(set(numbers)) < len(numbers):
        seen: set[Any] = set()
        twice = next(n for n in numbers if n in seen or seen.add(n))  # type: ignore[func-returns-value]
        raise DataError(f"{path}: {what} {twice} is there twice")
