"""Files of object annotations in COCO's format: read, checked as a whole, and sorted by picture.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
from jaxtyping import Int32, UInt8

from smalti.containers import Instances, Size
from smalti.data.boxes import OverhangCount, annotated_boxes, is_far_outside, overhang, what_is_wrong
from smalti.data.contract import DataError, first_few, refuse
from smalti.geometry.masks import decode_mask
from smalti.json_files import parse_json
from smalti.label_table import parse_color
from smalti.labels import IGNORED, distinct_colors
from smalti.settings import from_json

FEWEST = 6
"""Numbers of a polygon: three points."""


@dataclass(frozen=True, kw_only=True)
class CocoPicture:
    """A picture of the file, and its annotations as JSON text: a million small objects would fill the memory."""

    file_name: str
    size: Size | None
    annotations: bytes
    masked: int = 0
    """Annotations with polygons or run lengths."""
    boxed: int = 0
    """Annotations with a box alone."""


@dataclass(frozen=True, kw_only=True)
class CocoFile:
    """The pictures of a file of objects, by rising number, and what was decided while it was read, a line each."""

    pictures: list[CocoPicture]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CocoCategory:
    """A class: its number in the file, its name and colour, and whether it is one of things."""

    number: int
    name: str
    color: tuple[int, int, int]
    is_thing: bool


@dataclass(frozen=True, kw_only=True)
class CategoryOptions:
    """What a category of a file may say beside its number and name."""

    color: Any = None
    isthing: bool | Literal[0, 1] = 1


def read_json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON file with these lists.

    Raises:
        DataError: If it cannot be read, or a list is missing; names the file.
    """
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    lacking = [key for key in keys if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking:
        raise DataError(f'{path}: not in COCO\'s format: it has no list "{lacking[0]}"')
    return dict(content)


def read_categories(content: Mapping[str, Any], path: Path) -> tuple[CocoCategory, ...]:
    """The classes by rising number; those of files of objects are all of things.

    Raises:
        DataError: If one lacks its number or name, two have the same, or its color or isthing cannot be read; names all
            such categories.
    """
    entries = _entries(content, "categories", {"id": _is_count, "name": _is_text}, path)
    _check_unique(path, "category", [entry["name"] for entry in entries])
    categories, problems = [], []
    for entry, default in zip(entries, distinct_colors(len(entries)), strict=True):
        try:
            options = from_json(entry, CategoryOptions, ignore_unknown=True)
            color = default if options.color is None else parse_color(options.color)
        except ValueError as error:
            problems.append(f'category {entry["id"]} ("{entry["name"]}"): {error}')
            continue
        is_thing = bool(options.isthing)
        categories.append(CocoCategory(number=entry["id"], name=entry["name"], color=color, is_thing=is_thing))
    refuse(path, problems)
    return tuple(categories)


def read_pictures(content: Mapping[str, Any], path: Path) -> CocoFile:
    """The pictures of a file of objects, also those without any object; their annotations in the order of the file.

    A box without area is left out, with a note: COCO itself has some. What reaches a little out of its image is
    clipped, with a note.

    Raises:
        DataError: If a number is used twice, an annotation is of no picture or category, or its box or mask is none;
            names the file and all such annotations.
    """
    images = read_images(content, path)
    _check_entries(content, "annotations", {"id": _is_count}, path)
    classes = {entry["id"] for entry in content["categories"]}
    of_picture: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
    flat, problems, outside = [], [], OverhangCount()
    for entry in content["annotations"]:
        number = entry.get("image_id")
        if not _is_count(number) or number not in images:
            problems.append(f"annotation {entry['id']} belongs to picture {number}, which the file does not list")
        elif problem := problem_of(entry, _size(images[number]), classes):
            problems.append(f"annotation {entry['id']} {problem}")
        elif has_area(entry):
            outside.add(overhang_of(entry, _size(images[number])))
            of_picture[number].append(kept(entry))
        else:
            flat.append(str(entry["id"]))
    refuse(path, problems)
    without_area = f"{path.name}: {len(flat)} annotations have a box without area and are left out: {first_few(flat)}"
    pictures = [_picture(entry, of_picture[number]) for number, entry in images.items()]
    return CocoFile(pictures=pictures, notes=((without_area,) if flat else ()) + outside.notes(path.name))


def _picture(image: Mapping[str, Any], annotations: list[dict[str, Any]]) -> CocoPicture:
    masked = sum(entry["segmentation"] is not None for entry in annotations)
    return CocoPicture(
        file_name=image["file_name"],
        size=_size(image),
        annotations=json.dumps(annotations).encode(),
        masked=masked,
        boxed=len(annotations) - masked,
    )


def read_images(content: Mapping[str, Any], path: Path) -> dict[int, dict[str, Any]]:
    """The pictures by their number, which rises.

    Raises:
        DataError: If one lacks its file's name or size, or two have the same number; names it.
    """
    wanted = {"id": _is_count, "file_name": _is_text, "height": _is_length, "width": _is_length}
    return {entry["id"]: entry for entry in _entries(content, "images", wanted, path)}


def problem_of(entry: Mapping[str, Any], size: Size, classes: Container[int]) -> str | None:
    """Why an annotation, or a panoptic segment, cannot be used in a picture of that size; None if it can."""
    category, box = entry.get("category_id"), entry.get("bbox")
    if not _is_count(category) or category not in classes:
        return f"has the category {json.dumps(category)}, which the file does not list as a number"
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"needs a bbox of four numbers (left, top, width, height), has {box}"
    if has_area(entry) and (wrong := what_is_wrong(_corners(box), size)):
        return f"cannot be used: {wrong}"
    area, crowd = entry.get("area", 0), entry.get("iscrowd", 0)
    if not _is_number(area) or area < 0 or crowd not in (0, 1):
        return f"needs an area that is a number of at least 0, has {area}, and an iscrowd of 0 or 1, has {crowd}"
    return _problem_of_mask(entry.get("segmentation"), size)


def _problem_of_mask(drawn: Any, size: Size) -> str | None:
    if drawn is None or drawn == []:
        return None
    if isinstance(drawn, dict):
        return _problem_of_run_lengths(drawn, size)
    if not isinstance(drawn, list) or not all(isinstance(polygon, list) for polygon in drawn):
        return "has a segmentation that is neither a list of polygons nor run lengths"
    return _problem_of_polygons(drawn, size)


def _problem_of_polygons(polygons: Sequence[Sequence[Any]], size: Size) -> str | None:
    if any(len(polygon) < FEWEST or len(polygon) % 2 for polygon in polygons):
        return "has a polygon of fewer than three points, or with half a point"
    if not all(_is_number(value) for polygon in polygons for value in polygon):
        return "has a polygon with something that is no number"
    for left, top, right, bottom in _polygon_bounds(polygons):
        if is_far_outside((left, top, right, bottom), size):  # it would fill the memory when it is drawn
            return (f"has a polygon that reaches far outside the picture (left {left:g}, top {top:g}, right {right:g}, "
                    f"bottom {bottom:g}; the picture has {size[0]} x {size[1]}, height x width)")  # fmt: skip
    return None


def _polygon_bounds(polygons: Sequence[Sequence[float]]) -> Iterator[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each polygon."""
    for polygon in polygons:
        columns, rows = polygon[::2], polygon[1::2]
        yield min(columns), min(rows), max(columns), max(rows)


def overhang_of(entry: Mapping[str, Any], size: Size) -> float:
    """Pixels by which the box or a polygon of an annotation without problems reaches out of its picture."""
    drawn = entry.get("segmentation")
    bounds = _polygon_bounds(drawn) if isinstance(drawn, list) else ()
    return max(overhang(corners, size) for corners in (_corners(entry["bbox"]), *bounds))


def _problem_of_run_lengths(drawn: Mapping[str, Any], size: Size) -> str | None:
    counts = drawn.get("counts")
    if not isinstance(counts, str) and not (isinstance(counts, list) and all(map(_is_count, counts))):
        return "has run lengths that are neither text nor whole numbers"
    if drawn.get("size") != list(size) or (isinstance(counts, list) and sum(counts) != size[0] * size[1]):
        return f"has run lengths for {drawn.get('size')} pixels, its picture has {size[0]} x {size[1]}"
    return None


def has_area(entry: Mapping[str, Any]) -> bool:
    """Whether an annotation's box has width and height."""
    return 0 not in entry["bbox"][2:]


def kept(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What is used of an annotation."""
    return {
        "bbox": entry["bbox"],
        "category_id": entry["category_id"],
        "segmentation": entry.get("segmentation") or None,
        "area": entry.get("area", entry["bbox"][2] * entry["bbox"][3]),
        "iscrowd": entry.get("iscrowd", 0),
    }


def _entries(
    content: Mapping[str, Any], key: str, wanted: Mapping[str, Callable[[Any], bool]], path: Path
) -> list[dict[str, Any]]:
    """The entries of a list by rising number, if each has what is wanted, and no two have one number."""
    _check_entries(content, key, wanted, path)
    return sorted(content[key], key=lambda entry: int(entry["id"]))


def _check_entries(
    content: Mapping[str, Any], key: str, wanted: Mapping[str, Callable[[Any], bool]], path: Path
) -> None:
    problems = []
    for place, entry in enumerate(content[key]):
        for field, fits in wanted.items():
            if not isinstance(entry, dict) or not fits(entry.get(field)):
                value = entry.get(field) if isinstance(entry, dict) else entry
                problems.append(f'entry {place} of "{key}" needs a proper "{field}", has {value}')
    refuse(path, problems)
    singular = {"categories": "category"}.get(key, key.removesuffix("s"))
    _check_unique(path, singular, [entry["id"] for entry in content[key]])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 1 << 62


def _is_length(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _size(image: Mapping[str, Any]) -> Size:
    return image["height"], image["width"]


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, width, height = box
    return left, top, left + width, top + height


@dataclass(frozen=True, kw_only=True)
class CocoObjects:
    """What a file of objects lists for one picture, and the label of each of its categories.

    `paints`: classes and object numbers are painted from the polygons and run lengths, where no file tells them.
    """

    file: Path
    picture: CocoPicture
    label_of: Mapping[int, int]
    paints: bool = False

    def of(self, file: Path, size: Size) -> Instances:
        """The objects of the picture in that file.

        Raises:
            DataError: If it has another size than its annotations say.
        """
        said = self.picture.size
        if said not in (size, None):
            raise DataError(f"{file}: has {size[0]} x {size[1]} pixels (height x width, upright), its annotations are "
                            f"for {said[0]} x {said[1]}")  # fmt: skip
        return objects_of(json.loads(self.picture.annotations), self.label_of, size)

    def painted(self, size: Size, background: int) -> tuple[UInt8[np.ndarray, "_ _"], Int32[np.ndarray, "_ _"]]:
        """Classes and object numbers, see `painted`.

        Raises:
            DataError: If run lengths cannot be read; names the file and the picture.
        """
        try:
            return painted(json.loads(self.picture.annotations), self.label_of, size, background)
        except ValueError as error:
            raise DataError(f"{self.file}: a mask of {self.picture.file_name} cannot be read: {error}") from error


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
    annotations: Sequence[Mapping[str, Any]], label_of: Mapping[int, int], size: Size, background: int = 0
) -> tuple[UInt8[np.ndarray, "height width"], Int32[np.ndarray, "height width"]]:
    """Classes and object numbers, painted in the order of the annotations, the later over the earlier.

    COCO says nothing of depth, so the file's order is kept: it is the annotator's, a reader can check it in the file,
    and COCO's and BlitzNet's own code paint in it. A pixel has the class and the number of the same, last, object. The
    number of an object is its place among the picture's annotations, from 1. Crowds are painted in their turn; as
    objects that are not told apart they have the number 0. Where no object is, the class is `background` and the number
    0. Within the box of an object without a mask the class is ignored, unless another object's mask lies there.

    Raises:
        ValueError: If run lengths cannot be read.
    """
    classes, ids = np.full(size, background, np.uint8), np.zeros(size, np.int32)
    for entry in annotations:
        if entry["segmentation"] is None:
            left, top, right, bottom = _corners(entry["bbox"])
            classes[max(0, math.floor(top)) : math.ceil(bottom), max(0, math.floor(left)) : math.ceil(right)] = IGNORED
    for number, entry in enumerate(annotations, start=1):
        if entry["segmentation"] is not None:
            mask = decode_mask(entry["segmentation"], size)
            classes[mask] = label_of[entry["category_id"]]
            ids[mask] = 0 if entry["iscrowd"] else number
    return classes, ids


def _check_unique(path: Path, what: str, numbers: Sequence[Any]) -> None:
    refuse(path, [f"{what} {number} is there twice" for number, count in Counter(numbers).items() if count > 1])
