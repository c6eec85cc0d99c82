"""The class table of masks that came without one: every value, or every colour, is a class."""

from collections.abc import Collection, Sequence
from pathlib import Path

from smalti.data.contract import DataError
from smalti.data.mask_smoothing import Counts, add_counts, count_solid, sign_of_noise
from smalti.data.masks import check_smoothing, codes, remedy, used_palette
from smalti.data.pictures import read_mask
from smalti.labels import IGNORED, MAX_CLASSES, Color, LabelSet, is_grey_coded

AMBIGUOUS_255_SHARE = 0.1
"""Share of the pixels from which on 255 is no ring of ignored pixels around objects."""


def find_labels(masks: Sequence[Path]) -> LabelSet:
    """A class table of all values (255 = ignored) or all colours that occur; classes are named after them.

    The colours of palette masks become the colours of the classes.

    Raises:
        DataError: If the masks are of both kinds, hold one class only or too many, were smoothed or compressed, give
            one palette number different colours, or use 255 as if it were a class.
    """
    counts: dict[int, tuple[int, int]] = {}
    one_bit: dict[int, tuple[int, int]] = {}
    palette: dict[int, Color] = {}
    kinds: dict[bool, Path] = {}
    for path in masks:
        mask = read_mask(path)
        is_color = mask.values.ndim == 3
        kinds.setdefault(is_color, path)
        if len(kinds) > 1:
            raise DataError(f"{path}: some masks hold index values, others colours: convert them to one kind")
        _check_palette(palette, used_palette(mask), path)
        check_smoothing(mask, path)
        seen = count_solid(codes(mask.values) if is_color else mask.values)
        add_counts(one_bit if mask.is_one_bit else counts, seen)
        if len(counts.keys() - {IGNORED}) > MAX_CLASSES:
            raise DataError(f"{path}: more than {MAX_CLASSES} different values so far. {remedy(mask.is_lossy)} "
                            "Or write labels.json")  # fmt: skip
    # Of 1 bit, set pixels are white, which is 255 where other masks say it so.
    add_counts(counts, {IGNORED if k and IGNORED in counts and 1 not in counts else k: n for k, n in one_bit.items()})
    if sign := sign_of_noise(counts, "colours" if True in kinds else "values"):
        raise DataError(f"{next(iter(kinds.values()))} and others: {sign}: the masks were smoothed or compressed. "
                        f"{remedy(False)}")  # fmt: skip
    return _table_of_colors(set(counts)) if True in kinds else _index_table(counts, palette)


def _check_palette(palette: dict[int, Color], used: dict[int, Color], path: Path) -> None:
    for number, color in used.items():
        if palette.setdefault(number, color) != color:
            raise DataError(f"{path}: number {number} of the palette has the colour {color}, in another mask "
                            f"{palette[number]}: the numbers mean nothing then. Write labels.json with the colour of "
                            'each class ({"classes": [{"name": "road", "color": [128, 64, 128]}, …]})')  # fmt: skip


def _are_contiguous(values: Collection[int]) -> bool:
    ids = set(values) - {IGNORED}
    return not ids or max(ids) < 2 * len(ids)


def _index_table(counts: Counts, palette: dict[int, Color]) -> LabelSet:
    ids = sorted(counts.keys() - {IGNORED})
    if len(ids) < 2:
        raise DataError(
            f"the masks hold only the values {sorted(counts)} (255 means ignored), which is one class, and there is "
            "nothing to learn. If 255 is a class, or a class is missing here by chance, name all classes in "
            'labels.json: {"classes": [{"id": 0, "name": "background"}, {"id": 255, "name": "object"}], '
            '"ignored_ids": []}'
        )
    share = counts.get(IGNORED, (0, 0))[0] / sum(pixels for pixels, _ in counts.values())
    if share and (is_grey_coded(ids) or (not _are_contiguous(counts) and share > AMBIGUOUS_255_SHARE)):
        entries = ", ".join(f'{{"id": {k}, "name": "class_{k}"}}' for k in (*ids, IGNORED))
        raise DataError(f"the masks hold the values {', '.join(map(str, sorted(counts)))}; {100 * share:.2g} % of the "
                        "pixels are 255, which may be a class or mean ignored: say it in labels.json, for example "
                        f'{{"classes": [{entries}], "ignored_ids": []}}')  # fmt: skip
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
