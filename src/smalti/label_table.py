"""The class table as people write it: the forms of `labels.json`, checked entry by entry, and forms of colours."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from smalti.settings import from_json

Color = tuple[int, int, int]
IGNORED = 255
"""The label of pixels that belong to no class; fixed in every tensor of the package."""
EXAMPLE = '{"classes": [{"id": 0, "name": "sky", "color": [128, 128, 128]}, {"id": 1, "name": "car", "thing": true}]}'
_HEX = re.compile(r"#([0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ClassEntry:
    """One class of a table; an id or a colour that is not given is None."""

    name: str
    id: int | None = None
    color: Any = None
    """What `parse_color` reads."""
    thing: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for an empty name or something that is no colour."""
        if not self.name.strip():
            raise ValueError("the name is empty: every class needs one")
        self.rgb()

    def rgb(self) -> Color | None:
        """The colour, if the table gives one."""
        return None if self.color is None else parse_color(self.color)


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """The content of `labels.json`; without `ignored_ids` 255 is ignored."""

    classes: tuple[ClassEntry, ...]
    ignored_ids: tuple[int, ...] | None = None
    title: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError if there are no classes, names repeat, only some have ids, or an id is ignored, too."""
        if not self.classes:
            raise ValueError(f"classes: the list is empty. A class table is {EXAMPLE}")
        counts = Counter(entry.name for entry in self.classes)
        repeated = [name for name, count in counts.items() if count > 1]
        if repeated:
            raise ValueError(f'the class name "{repeated[0]}" stands there {counts[repeated[0]]} times: every class '
                             "needs a name of its own; one class has one value in the masks")  # fmt: skip
        without_id = [entry.name for entry in self.classes if entry.id is None]
        if 0 < len(without_id) < len(self.classes):
            raise ValueError(f'the class "{without_id[0]}" has no "id", others have one: give every class its id, or '
                             "none of them (they are then 0, 1, 2, … in this order)")  # fmt: skip
        both = sorted(set(self.ids()) & set(self.all_ignored_ids()))
        if both:
            remedy = ('255 is ignored where the table does not say otherwise: add "ignored_ids": []'
                      if self.ignored_ids is None else 'take it out of "ignored_ids"')  # fmt: skip
            given = " (no class has an id, so they are 0, 1, 2, … in this order)" if without_id else ""
            name = self.classes[self.ids().index(both[0])].name
            raise ValueError(f'the id {both[0]} is that of the class "{name}"{given}, and ignored: {remedy}')

    def ids(self) -> tuple[int, ...]:
        """The value of each class in masks: its id, or its place where no class has one."""
        return tuple(k if entry.id is None else entry.id for k, entry in enumerate(self.classes))

    def all_ignored_ids(self) -> tuple[int, ...]:
        """The values in masks that mean "no class"."""
        return (IGNORED,) if self.ignored_ids is None else self.ignored_ids


def parse_table(table: Any) -> ClassTable:
    """A class table from its JSON.

    A list at the top is the list of classes; a class may be its name only; `{"0": "sky", "1": "car"}` gives ids and
    names.

    Raises:
        ValueError: If it is something else; says where, what was expected, and what came.
    """
    if not isinstance(table, dict) or _is_names_by_id(table):
        table = {"classes": table}
    table = {**table, "classes": _entries(table["classes"])} if "classes" in table else table
    try:
        return from_json(table, ClassTable)
    except ValueError as error:
        is_list = isinstance(table.get("classes"), list)
        raise ValueError(str(error) if is_list else f"{error}. A class table is {EXAMPLE}") from error


def _is_names_by_id(value: Any) -> bool:
    """Whether it is of the form {"0": "sky", "1": "car"}."""
    return isinstance(value, dict) and bool(value) and all(
        re.fullmatch(r"[0-9]{1,5}", key) and isinstance(name, str) for key, name in value.items()
    )  # fmt: skip


def _entries(classes: Any) -> Any:
    if _is_names_by_id(classes):
        return [{"id": int(key), "name": name} for key, name in classes.items()]
    if isinstance(classes, list):
        return [{"name": entry} if isinstance(entry, str) else entry for entry in classes]
    return classes


def parse_color(value: Any) -> Color:
    """A colour from `[red, green, blue]` (whole numbers from 0 to 255) or "#rrggbb" or "#rgb".

    A fourth number (or two more digits) is dropped where it says that the colour is opaque.

    Raises:
        ValueError: If it is something else; says how to write it.
    """
    channels = _channels_of_text(value) if isinstance(value, str) else _channels(value)
    if len(channels) == 4 and channels[3] != 255:
        raise ValueError(f"the color {value} has an alpha of {channels[3]}: masks have opaque colours only, write "
                         f"{channels[:3]}")  # fmt: skip
    red, green, blue = channels[:3]
    return red, green, blue


def _channels_of_text(text: str) -> list[int]:
    match = _HEX.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'the color "{text}" cannot be read: write [red, green, blue], as in [255, 128, 0], or '
                         '"#rrggbb", as in "#ff8000"')  # fmt: skip
    digits = match[1] if len(match[1]) >= 6 else "".join(2 * digit for digit in match[1])
    return list(bytes.fromhex(digits))


def _channels(value: Any) -> list[int]:
    hint = 'write three whole numbers from 0 to 255, as in [255, 128, 0], or "#ff8000"'
    if not isinstance(value, Sequence) or not all(_is_number(v) for v in value) or len(value) not in (3, 4):
        raise ValueError(f"the color {value} cannot be read: {hint}")
    if any(isinstance(v, float) for v in value) and all(0 <= v <= 1 for v in value):
        raise ValueError(f"the color {list(value)} is on a scale from 0 to 1: write whole numbers from 0 to 255, here "
                         f"{[round(v * 255) for v in value]}")  # fmt: skip
    if not all(0 <= v <= 255 and v == int(v) for v in value):
        raise ValueError(f"the color {list(value)} is out of range: {hint}")
    return [int(v) for v in value]


def _is_number(value: Any) -> bool:
    return isinstance(value, float | Integral) and not isinstance(value, bool)
