"""From mask files to label ids.

Values are looked up in `LabelSet.ids`, colours in `LabelSet.colors`. A palette file holds both, numbers and colours; in
people's own folders the class table decides which of them count.
"""

import contextlib
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt8

from smalti.data.contract import DataError, first_few, percent
from smalti.data.mask_smoothing import find_blending, sign_of_smoothing
from smalti.data.pictures import Mask, MaskImage, read_mask, read_palette
from smalti.labels import IGNORED, Color, LabelSet

Palettes = Literal["numbers", "alike", "unlike"]
"""What palettes of mask files mean: nothing, the numbers count (`numbers`: the public data sets); or colours of the
class table, in files of which each number has one colour in all (`alike`) or not (`unlike`)."""
Reading = Literal[
    "index values",
    "colours",
    "palette numbers",
    "palette colours",
    "1-bit values",
    "values 0 and 255",
    "painted polygons",
]
BY_NUMBER: Reading = "palette numbers"
BY_COLOR: Reading = "palette colours"
_UNKNOWN = -1
_VALUES = 65536


@dataclass(frozen=True, kw_only=True)
class LabelledMask:
    """Label ids of one mask, and how its file was read."""

    ids: UInt8[np.ndarray, "height width"]
    reading: Reading = "index values"
    values: Mask | None = None
    """As in the file, where they are index values of people's own masks."""


def to_labels(mask: Mask, labels: LabelSet, where: Path | str) -> UInt8[np.ndarray, "height width"]:
    """Label ids of a mask: by value through `labels.ids`, or by colour through `labels.colors`.

    What is ignored are `labels.ignored_values`, and in colour masks `labels.no_class_color` (black unless a class is
    black), but nothing where the table leaves out the colour of a class.

    Raises:
        DataError: For a value or colour outside the table: which, where first, and how many pixels.
    """
    if mask.ndim == 2:
        ids = _value_table(labels)[np.clip(mask, -1, _VALUES) if mask.dtype != np.uint8 else mask]
    else:
        ids = _color_table(*_given_colors(labels))[codes(mask)]
    if ids.min(initial=0) == _UNKNOWN:
        _refuse(mask, ids == _UNKNOWN, labels, where)
    known: np.ndarray = ids.astype(np.uint8)
    return known


def label_mask(mask: MaskImage, labels: LabelSet, palettes: Palettes, where: Path | str) -> LabelledMask:
    """A mask file as label ids. In people's folders the numbers of a palette count only if its colours do not object.

    Raises:
        DataError: If it was smoothed or lost values by compression, holds values or colours outside the class table, or
            has a palette that contradicts the table.
    """
    values, reading = mask.values, _reading_of(mask, labels, palettes, where)
    is_own = palettes != "numbers"
    if is_own:
        check_smoothing(mask, where)
    if reading == BY_COLOR:
        assert mask.palette is not None
        values = mask.palette[values]
    elif mask.is_one_bit and IGNORED in labels.ids and 1 not in labels.ids:
        values = values * np.uint8(IGNORED)  # white, which other files of one bit a pixel call 255
    try:
        ids = to_labels(values, labels, where)
    except DataError as error:
        said = str(error)
        raise DataError(said if not mask.is_lossy or "PNG" in said else f"{said}. {remedy(True)}") from None
    is_index = is_own and mask.palette is None and values.ndim == 2
    return LabelledMask(ids=ids, reading=reading, values=values if is_index else None)


def _reading_of(mask: MaskImage, labels: LabelSet, palettes: Palettes, where: Path | str) -> Reading:
    if mask.values.ndim == 3:
        return "colours"
    if mask.palette is None:
        is_binary = mask.values.dtype == np.uint8 and not np.any((mask.values > 0) & (mask.values < IGNORED))
        if mask.is_one_bit:
            return "1-bit values"
        return "values 0 and 255" if is_binary and mask.values.any() else "index values"
    return BY_NUMBER if palettes == "numbers" else _palette_reading(mask, labels, palettes, where)


def _palette_reading(mask: MaskImage, labels: LabelSet, palettes: Palettes, where: Path | str) -> Reading:
    """By number where no colour says otherwise, by colour where all colours are those of the table."""
    colors = used_palette(mask)
    given, ignored = _given_colors(labels)
    ids_of: dict[Color, set[int]] = {}
    for label, color in given:
        ids_of.setdefault(color, set()).add(labels.ids[label])
    blank = {number for number, color in colors.items()
             if number in labels.ignored_values and color in ((0, 0, 0), labels.no_class_color)}  # fmt: skip
    known = colors.keys() <= {*labels.ids, *labels.ignored_values}
    if known and all(n in blank or n in ids_of.get(color, {n}) for n, color in colors.items()):
        foreign = [color for number, color in colors.items() if number not in blank and color not in ids_of]
        if not foreign and not blank and all(len(ids_of[color]) == 1 for color in colors.values()):
            return BY_COLOR  # which says the same
        if not foreign or palettes == "alike":
            return BY_NUMBER
        raise DataError(f"{where}: the palettes of the masks give one number different colours, and the colour "
                        f"{foreign[0]} is no class's in labels.json: give each class its colour there "
                        '({"name": "road", "color": [128, 64, 128]}), or save masks without a palette')  # fmt: skip
    outside = {number: color for number, color in colors.items() if color not in {*ids_of, ignored}}
    if not outside:
        return BY_COLOR
    number, color = next(iter(outside.items()))
    raise DataError(f"{where}: neither the palette's colours nor its numbers are those of labels.json: number {number} "
                    f"has the colour {color}, which is no class's{_without_color(labels)}. Give each class its colour "
                    "in labels.json, or save index masks without a palette")  # fmt: skip


def _color(rgb: UInt8[np.ndarray, "3"]) -> Color:
    return int(rgb[0]), int(rgb[1]), int(rgb[2])


def compare_palettes(masks: Sequence[Path]) -> Palettes:
    """Whether each number has one colour in all palette files; "alike" where there are none.

    Headers are read of all files, and pixels only of palette files that differ. Files that cannot be decoded are left
    out: the error is raised when they are read as masks.
    """
    palettes: dict[Path, bytes] = {}
    for path in masks:
        with contextlib.suppress(DataError):
            if (palette := read_palette(path)) is not None:
                palettes[path] = palette
    colors: dict[int, Color] = {}
    for path in palettes if len(set(palettes.values())) > 1 else ():
        with contextlib.suppress(DataError):
            for number, color in used_palette(read_mask(path)).items():
                if colors.setdefault(number, color) != color:
                    return "unlike"
    return "alike"


def used_palette(mask: MaskImage) -> dict[int, Color]:
    """Colour of each number that occurs in a palette file; empty for other files."""
    if mask.palette is None:
        return {}
    return {k: _color(mask.palette[k]) for k in np.unique(mask.values).tolist()}


def check_smoothing(mask: MaskImage, where: Path | str) -> None:
    """Raises DataError if the borders of an index mask blend, as smoothing and lossy compression make them."""
    if mask.values.ndim == 2 and mask.palette is None and (sign := sign_of_smoothing(mask.values, mask.is_lossy)):
        raise DataError(f"{where}: {sign}: the mask was smoothed or compressed. {remedy(mask.is_lossy)}")


def remedy(is_lossy: bool) -> str:
    """What to do about masks that were smoothed or compressed, for messages."""
    changed = "JPEG changes values at every border (as WebP and AVIF do). " if is_lossy else ""
    return f"{changed}Export the masks again as PNG, without smoothing, and resize them to the nearest pixel only."


def codes(mask: UInt8[np.ndarray, "height width rgb"]) -> Int[np.ndarray, "height width"]:
    """Each colour as one number, red first."""
    wide = mask.astype(np.int32)
    numbers: np.ndarray = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return numbers


@functools.lru_cache(maxsize=8)
def _value_table(labels: LabelSet) -> Integer[np.ndarray, "values"]:
    table = np.full(_VALUES + 2, _UNKNOWN, np.int16)  # the last two stand for "above" and, by index -1, "below"
    table[list(labels.ignored_values)] = IGNORED
    for label, value in enumerate(labels.ids):
        table[value] = label
    return table


def _given_colors(labels: LabelSet) -> tuple[tuple[tuple[int, Color], ...], Color | None]:
    """Label id and colour of each class whose colour the table gives, and the colour that means ignored."""
    given = tuple((k, c) for k, c in enumerate(labels.colors) if labels.names[k] not in labels.without_color)
    return given, None if labels.without_color else labels.no_class_color


@functools.lru_cache(maxsize=4)
def _color_table(given: tuple[tuple[int, Color], ...], ignored: Color | None) -> Integer[np.ndarray, "codes"]:
    table = np.full(1 << 24, _UNKNOWN, np.int16)
    if ignored is not None:
        table[_code(ignored)] = IGNORED
    shared = [color for color, count in Counter(color for _, color in given).items() if count > 1]
    if shared:
        raise DataError(f"colour masks need one colour for each class; {shared[0]} stands for several")
    for label, color in given:
        table[_code(color)] = label
    return table


def _code(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _without_color(labels: LabelSet) -> str:
    """For messages: the classes that colour masks cannot show."""
    if not labels.without_color:
        return ""
    return f"; labels.json gives no colour to {first_few([n for n in labels.names if n in labels.without_color])}"


def _refuse(mask: Mask, outside: Bool[np.ndarray, "height width"], labels: LabelSet, where: Path | str) -> None:
    row, column = (int(k) for k in np.argwhere(outside)[0])
    count = int(outside.sum())
    share = f"{count} pixels ({percent(count / outside.size)})"
    pixels = f"first at row {row}, column {column}; {share} are outside the class table"
    if mask.ndim == 2:
        known = f"known are {first_few([str(k) for k in sorted(labels.ids)], 20)}, ignored " + first_few(
            [str(k) for k in labels.ignored_values], 20
        )
        if hint := labels.hint_for(int(mask[row, column])):
            known += f"; {hint}"
        what = f"value {int(mask[row, column])}"
        advice = 'add the class, or the value to "ignored_ids", in labels.json'
        if mask.dtype == np.uint8 and find_blending(mask).share > 0:
            advice += ". Values between those of the classes come from smoothing or compression: " + remedy(False)
    else:
        given, _ = _given_colors(labels)
        colors = ", ".join(str(color) for _, color in given[:12])
        known = f"known are {colors or 'none'}{', …' if len(given) > 12 else ''}{_without_color(labels)}"
        what = f"colour {tuple(int(v) for v in mask[row, column])}"
        advice = "give the class of this colour in labels.json"
        different = len(np.unique(codes(mask)[outside]))
        if (mask[..., :1] == mask).all():
            known += "; is it an index mask saved with three channels? Then save it with one"
        elif different > len(given):
            advice += f". {different} unknown colours come from smoothing or compression: " + remedy(False)
    raise DataError(f"{where}: {what} {pixels} ({known}): {advice}")
