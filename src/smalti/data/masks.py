"""From the values of a mask file to label ids, and the class table of masks that came without one."""

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, Integer, UInt8

from smalti.data.contract import DataError
from smalti.data.pictures import Mask, read_mask, read_palette
from smalti.labels import IGNORED, MAX_CLASSES, Color, LabelSet

_UNKNOWN = -1
_VALUES = 65536


def to_labels(mask: Mask, labels: LabelSet, where: Path | str) -> UInt8[np.ndarray, "height width"]:
    """Label ids of a mask: by value through `labels.ids`, or by colour through `labels.colors`.

    What is ignored are `labels.ignored_values`, and in colour masks `labels.no_class_color`: black unless it is the
    colour of a class.

    Raises:
        DataError: For a value or colour outside the table: which, where first, and how many pixels.
    """
    if mask.ndim == 2:
        values = np.clip(mask, -1, _VALUES) if mask.dtype != np.uint8 else mask
        found = _value_table(labels)[values]
    else:
        found = _color_table(labels)[_codes(mask)]
    if found.min(initial=0) == _UNKNOWN:
        _refuse(mask, found == _UNKNOWN, labels, where)
    labelled: np.ndarray = found.astype(np.uint8)
    return labelled


def read_labels(path: Path, labels: LabelSet) -> UInt8[np.ndarray, "height width"]:
    """A mask file as label ids.

    Raises:
        DataError: If it cannot be decoded or holds values outside the class table; names the file.
    """
    return to_labels(read_mask(path), labels, path)


def find_labels(masks: Sequence[Path]) -> LabelSet:
    """A class table of all values (255 = ignored) or all colours that occur; classes are named after them.

    The colours of palette masks become the colours of the classes.

    Raises:
        DataError: If the masks are of both kinds, hold one class only or too many.
    """
    values: set[int] = set()
    colors: set[int] = set()
    palette: dict[int, Color] = {}
    for path in masks:
        mask = read_mask(path)
        if mask.ndim == 2:
            values.update(np.unique(mask).tolist())
            palette = palette or read_palette(path)
        else:
            colors.update(np.unique(_codes(mask)).tolist())
        if values and colors:
            raise DataError(f"{path}: some masks hold index values, others colours: convert them to one kind")
        _check_number(values or colors, path)
    return _index_table(values, palette) if values else _table_of_colors(colors)


def _index_table(values: set[int], palette: dict[int, Color]) -> LabelSet:
    ids = sorted(values - {IGNORED})
    if len(ids) < 2:
        raise DataError(
            f"the masks hold only the values {sorted(values)} (255 means ignored), which is one class, and there is "
            "nothing to learn. If 255 is a class, or a class is missing here by chance, name all classes in "
            'labels.json: {"classes": [{"id": 0, "name": "background"}, {"id": 255, "name": "object"}], '
            '"ignored_ids": []}'
        )
    known = len({palette[k] for k in ids if k in palette}) == len(ids)
    return LabelSet(
        names=tuple(f"class_{k}" for k in ids),
        colors=tuple(palette[k] for k in ids) if known else (),
        ids=tuple(ids),
        title="found in the masks",
    )


def _table_of_colors(codes: set[int]) -> LabelSet:
    ordered = sorted(codes)
    if len(ordered) < 2:
        raise DataError("the masks hold one colour only: there is nothing to learn; name all classes in labels.json")
    return LabelSet(
        names=tuple(f"class_{code:06x}" for code in ordered),
        colors=tuple((code >> 16, code >> 8 & 255, code & 255) for code in ordered),
        title="colours found in the masks",
    )


def _check_number(found: set[int], path: Path) -> None:
    if len(found - {IGNORED}) > MAX_CLASSES:
        raise DataError(f"{path}: more than {MAX_CLASSES} different values so far: {_lossy(path)} or write labels.json")


def _lossy(path: Path | str) -> str:
    if Path(path).suffix.lower() in (".jpg", ".jpeg"):
        return "JPEG changes values at every border: save masks as PNG,"
    return "masks must be saved without smoothing and compression losses;"


def _codes(mask: UInt8[np.ndarray, "height width rgb"]) -> Int[np.ndarray, "height width"]:
    wide = mask.astype(np.int32)
    codes: np.ndarray = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return codes


@functools.lru_cache(maxsize=8)
def _value_table(labels: LabelSet) -> Integer[np.ndarray, "values"]:
    table = np.full(_VALUES + 2, _UNKNOWN, np.int16)  # the last two stand for "above" and, by index -1, "below"
    table[list(labels.ignored_values)] = IGNORED
    for label, value in enumerate(labels.ids):
        if 0 <= value < _VALUES:
            table[value] = label
    return table


@functools.lru_cache(maxsize=4)
def _color_table(labels: LabelSet) -> Integer[np.ndarray, "codes"]:
    table = np.full(1 << 24, _UNKNOWN, np.int16)
    red, green, blue = labels.no_class_color
    table[red << 16 | green << 8 | blue] = IGNORED
    shared = [color for color, count in Counter(labels.colors).items() if count > 1]
    if shared:
        raise DataError(f"colour masks need one colour for each class; {shared[0]} stands for several")
    for label, (r, g, b) in enumerate(labels.colors):
        table[r << 16 | g << 8 | b] = label
    return table


def _refuse(mask: Mask, wrong: np.ndarray, labels: LabelSet, where: Path | str) -> None:
    row, column = (int(k) for k in np.argwhere(wrong)[0])
    pixels = f"first at row {row}, column {column}; {int(wrong.sum())} pixels are outside the class table"
    if mask.ndim == 2:
        known = f"known are {sorted(labels.ids)} and ignored {list(labels.ignored_values)}"
        what = f"value {int(mask[row, column])}"
    else:
        known = f"known are {', '.join(map(str, labels.colors[:12]))}{', …' if len(labels) > 12 else ''}"
        what = f"colour {tuple(int(v) for v in mask[row, column])}"
        if (mask[..., :1] == mask).all():
            known += "; is it an index mask saved with three channels? Then save it with one"
    raise DataError(f"{where}: {what} {pixels} ({known}): {_lossy(where)} or add the class to labels.json")
