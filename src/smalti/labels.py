"""The class table: what each label id means, how it is drawn, and which values in files stand for it.

A `LabelSet` travels with every data set, checkpoint, exported file and result, so that a mask can always be read and
two unlike ones are never compared.
"""

import colorsys
import json
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from smalti.json_files import load_json
from smalti.label_table import IGNORED, Color, parse_color, parse_table

__all__ = [
    "CAMVID", "CITYSCAPES", "IGNORED", "MAX_CLASSES", "MAX_ID", "SIFT_FLOW", "STANFORD_BACKGROUND", "VOC", "Color",
    "LabelSet", "distinct_colors",
]  # fmt: skip

MAX_CLASSES = 255
MAX_GREY_CODES = 16
"""Classes that people tell apart by grey values, at most."""
MAX_ID = 65536
"""Values in mask files are below this: they have 8 or 16 bits."""
NO_CLASS_COLORS = ((0, 0, 0), (224, 224, 192), *((grey, grey, grey) for grey in range(255, 0, -1)))
"""Colours for pixels without a class, the first that no class has: black, VOC's border colour, greys."""


def distinct_colors(count: int) -> tuple[Color, ...]:
    """`count` colours that differ in hue and brightness; the same ones on every call."""
    golden = 0.61803398875
    rgb = (
        colorsys.hsv_to_rgb((0.02 + k * golden) % 1.0, (0.85, 0.55, 0.7)[k % 3], (0.9, 0.75, 0.55)[(k // 3) % 3])
        for k in range(count)
    )
    return tuple((round(r * 255), round(g * 255), round(b * 255)) for r, g, b in rgb)


def is_grey_coded(ids: Sequence[int]) -> bool:
    """Whether a few ids are spread over the grey values (0, 127, …), so that 255 may well be the next class of them."""
    return len(ids) <= MAX_GREY_CODES and max(ids) >= max(64, 2 * len(ids))


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """Names, colours and file values of the classes; the position in `names` is the label id in every tensor.

    `ids` are the values that stand for the classes in index masks on disk (default 0, 1, 2, …) and `ignored_ids` the
    values there that mean "no class". `things` names the countable classes, whose instances can be told apart.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...] = ()
    things: frozenset[str] = frozenset()
    ids: tuple[int, ...] = ()
    ignored_ids: tuple[int, ...] = (IGNORED,)
    title: str = field(default="", compare=False)
    without_color: frozenset[str] = field(default=frozenset(), compare=False)
    """Names of classes whose colour nobody gave: they are drawn in one of ours, and colour masks cannot show them."""

    def __post_init__(self) -> None:
        """Fills in default colours and ids.

        Raises:
            ValueError: If names repeat or are none, lengths differ, a colour is none, or an id stands for two things.
        """
        if not all(isinstance(name, str) and name.strip() for name in self.names):
            raise ValueError(f"class names must be text that is not empty, got {list(self.names)}")
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise ValueError(f"a label set needs 1 to {MAX_CLASSES} classes, got {len(self.names)}")
        if not self.colors:
            object.__setattr__(self, "without_color", frozenset(self.names))
        colors = self.colors or distinct_colors(len(self.names))
        object.__setattr__(self, "colors", tuple(parse_color(color) for color in colors))
        object.__setattr__(self, "ids", _whole_numbers(self.ids) or tuple(range(len(self.names))))
        object.__setattr__(self, "ignored_ids", _whole_numbers(self.ignored_ids))
        for what, values in (("name", self.names), ("id", self.ids + self.ignored_ids)):
            repeated = sorted({str(v) for v in values if values.count(v) > 1})
            if repeated:
                raise ValueError(f"each class {what} must stand for one class only; repeated: {', '.join(repeated)}")
        if len(self.colors) != len(self.names) or len(self.ids) != len(self.names):
            raise ValueError(f"{len(self.names)} names, {len(self.colors)} colours, {len(self.ids)} ids: must be equal")
        outside = [v for v in self.ids + self.ignored_ids if not 0 <= v < MAX_ID]
        if outside:
            raise ValueError(f"class ids and ignored ids are from 0 to {MAX_ID - 1}, got {outside[0]}")
        unknown = self.things - set(self.names)
        if unknown:
            raise ValueError(f"things {sorted(unknown)} are not among the class names {list(self.names)}")

    @classmethod
    def of(cls, classes: "int | Sequence[str] | LabelSet") -> "LabelSet":
        """The label set meant by `classes=`: a number of classes, their names, or a label set as it is."""
        if isinstance(classes, LabelSet):
            return classes
        if isinstance(classes, int):
            return cls(names=tuple(f"class_{k}" for k in range(classes)))
        if isinstance(classes, str):  # its letters would become the classes
            raise ValueError(f'classes must be a number, a list of names or a LabelSet, got "{classes}": for one class '
                             f'write ["{classes}"]')  # fmt: skip
        return cls(names=tuple(classes))

    def __len__(self) -> int:
        return len(self.names)

    def is_thing(self) -> Bool[np.ndarray, "256"]:
        """Whether each label id is a class of things; False beyond the classes."""
        table = np.zeros(IGNORED + 1, bool)
        table[: len(self)] = [name in self.things for name in self.names]
        return table

    @property
    def background(self) -> int:
        """The id of the class named "background"; where there is none, what is no class is ignored."""
        return self.names.index("background") if "background" in self.names else IGNORED

    @property
    def no_class_value(self) -> int:
        """The value that stands for "no class" in files; every writer and reader takes it from here.

        The first of `ignored_ids`; without any, 255, or the next lower value that is not the id of a class. One of the
        256 values is always free, as there are at most 255 classes.
        """
        if self.ignored_ids:
            return self.ignored_ids[0]
        return next(value for value in range(IGNORED, -1, -1) if value not in self.ids)

    @property
    def ignored_values(self) -> tuple[int, ...]:
        """All values of mask files that are read as "no class", in order."""
        return tuple(sorted({self.no_class_value, *self.ignored_ids}))

    @property
    def no_class_color(self) -> Color:
        """The colour of pixels without a class: black, or where a class is black, one that no class has."""
        return next(color for color in NO_CLASS_COLORS if color not in self.colors)

    def palette(self) -> UInt8[np.ndarray, "values rgb"]:
        """Colours by label id for all 256 values of an index image; unused ones are black, see `no_class_color`."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colors
        table[IGNORED] = self.no_class_color
        return table

    def with_ignored_as_class(self, name: str = "void") -> "LabelSet":
        """This table with the ignored pixels as one more class (SIS-CNN's paper mode counts void, spec 2.4)."""
        return LabelSet(
            names=(*self.names, name),
            colors=(*self.colors, self.no_class_color),
            things=self.things,
            ids=(*self.ids, self.no_class_value),
            ignored_ids=self.ignored_ids[1:],
            title=self.title,
            without_color=self.without_color,
        )

    def hint_for(self, value: int) -> str:
        """What to do about a mask's value that no id stands for, if the ids look shifted by one; else "".

        Masks that number their classes from 1 look like that beside a table without ids, which numbers them from 0.
        """
        first, count = min(self.ids), len(self)
        if set(self.ids) != set(range(first, first + count)) or value not in (first - 1, first + count):
            return ""
        start = first + 1 if value == first + count else first - 1
        entries = ", ".join(f'{{"id": {start + k}, "name": "{name}"}}' for k, name in enumerate(self.names[:2]))
        more = ", …" if count > 2 else ""
        return (f"do the masks number the classes {start} to {start + count - 1}, shifted by one from the table's ids "
                f'{first} to {first + count - 1}? Then give every class its id: {{"classes": [{entries}{more}]}}, and '
                'name the values of no class in "ignored_ids"')  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The content of `labels.json`, the same layout that people write for their own folders."""
        classes = [
            {"id": i, "name": n, "color": list(c), "thing": n in self.things}
            for i, n, c in zip(self.ids, self.names, self.colors, strict=True)
        ]
        return {"title": self.title, "classes": classes, "ignored_ids": list(self.ignored_ids)}

    @classmethod
    def from_json(cls, table: Any) -> "LabelSet":
        """Reads what `to_json` wrote, or a person: see `label_table.parse_table`.

        Raises:
            ValueError: If it is no class table; says where, what was expected, and what came.
        """
        read = parse_table(table)
        defaults = distinct_colors(len(read.classes))
        return cls(
            names=tuple(entry.name for entry in read.classes),
            colors=tuple(e.rgb() or default for e, default in zip(read.classes, defaults, strict=True)),
            things=frozenset(entry.name for entry in read.classes if entry.thing),
            ids=read.ids(),
            ignored_ids=read.all_ignored_ids(),
            title=read.title,
            without_color=frozenset(entry.name for entry in read.classes if entry.color is None),
        )

    @classmethod
    def read(cls, path: Path) -> "LabelSet":
        """The class table in a `labels.json`.

        Raises:
            ValueError: If the file is not such a table; names the file.
        """
        table = load_json(path)
        try:
            return cls.from_json(table)
        except ValueError as error:
            raise ValueError(f"{path}: not a class table: {error}") from error

    def to_text(self) -> str:
        """The text of `labels.json`."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"


def _whole_numbers(ids: Iterable[Any]) -> tuple[int, ...]:
    """Python's own integers, which JSON can hold, of any kind of whole numbers."""
    try:
        return tuple(operator.index(value) for value in ids)
    except TypeError as error:
        raise ValueError(f"class ids and ignored ids must be whole numbers, got {ids}") from error


CAMVID = LabelSet(
    title="CamVid, 11 classes",
    names=("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
    colors=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
    things=frozenset({"car", "pedestrian", "bicyclist"}),
    ignored_ids=(11, IGNORED),
)  # fmt: skip
"""CamVid's classes as the SegNet authors number them; 11 is void. The procedural scenes use the same table."""

VOC = LabelSet(
    title="PASCAL VOC, 20 classes and background",
    names=(
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    ),
    colors=(
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
        (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128), (64, 128, 128),
        (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
    ),
    things=frozenset({
        "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
        "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    }),
)  # fmt: skip
"""VOC's classes and colours; 255, the ring around objects, is ignored."""

STANFORD_BACKGROUND = LabelSet(
    title="Stanford Background, 8 classes",
    names=("sky", "tree", "road", "grass", "water", "building", "mountain", "foreground"),
    colors=(
        (128, 170, 210), (70, 110, 40), (110, 100, 110), (150, 190, 80), (40, 90, 170), (170, 110, 80),
        (130, 90, 160), (220, 60, 60),
    ),
    things=frozenset(),
)  # fmt: skip
"""The region classes; foreground is any object. -1 (unknown) in the set's files is ignored."""

SIFT_FLOW = LabelSet(
    title="SIFT Flow, 33 classes",
    names=(
        "awning", "balcony", "bird", "boat", "bridge", "building", "bus", "car", "cow", "crosswalk", "desert", "door",
        "fence", "field", "grass", "moon", "mountain", "person", "plant", "pole", "river", "road", "rock", "sand",
        "sea", "sidewalk", "sign", "sky", "staircase", "streetlight", "sun", "tree", "window",
    ),
    things=frozenset({"bird", "boat", "bus", "car", "cow", "person"}),
    ids=tuple(range(1, 34)),
    ignored_ids=(0,),
)  # fmt: skip
"""As the set's files number them; 0 is unlabelled."""

CITYSCAPES = LabelSet(
    title="Cityscapes, 19 classes",
    names=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    colors=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
        (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
    things=frozenset({"person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"}),
    ids=(7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33),
    ignored_ids=(*range(7), 9, 10, 14, 15, 16, 18, 29, 30, IGNORED),
)  # fmt: skip
"""The 19 classes that are evaluated, and the label ids of the files; KITTI uses the same."""
