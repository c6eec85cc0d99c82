"""Boxes of people's own folders: COCO files in boxes/, whose pictures are found by their path below images/."""

import unicodedata
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from smalti.data.coco_json import CocoCategory, CocoObjects, read_categories, read_json, read_pictures
from smalti.data.contract import DataError, first_few
from smalti.labels import LabelSet


def box_files(folder: Path) -> list[Path]:
    """The JSON files in a folder, which need not exist."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def table_of(files: list[Path]) -> LabelSet:
    """Background and the files' categories, for a folder with boxes and nothing else.

    Raises:
        DataError: If a file cannot be used; names it.
    """
    found: dict[str, CocoCategory] = {}
    for file in files:
        for category in read_categories(read_json(file, ("images", "annotations", "categories")), file):
            found.setdefault(category.name, category)
    if "background" in found or not found:
        raise DataError(f'{files[0]}: needs one category or more, and none of the name "background"')
    return LabelSet(
        names=("background", *found),
        colors=((0, 0, 0), *(category.color for category in found.values())),
        things=frozenset(found),
        title="background and the categories of boxes/",
    )


def boxes_by_key(files: list[Path], keys: Collection[str], labels: LabelSet) -> dict[str, CocoObjects]:
    """The objects of each picture that a file lists, also those without any, by its path below images/ without suffix.

    Raises:
        DataError: If a file cannot be used, a category is no class of things, or a picture is not there or listed
            twice; names them.
    """
    found: dict[str, CocoObjects] = {}
    missing: list[str] = []
    for file in files:
        content = read_json(file, ("images", "annotations", "categories"))
        label_of = _labels_of(read_categories(content, file), labels, file)
        for picture in read_pictures(content, file):
            key = unicodedata.normalize("NFC", PurePosixPath(picture.file_name).with_suffix("").as_posix())
            if key not in keys:
                missing.append(picture.file_name)
            elif key in found:
                raise DataError(f"{file}: lists the picture {picture.file_name}, which is listed already")
            else:
                found[key] = CocoObjects(picture=picture, label_of=label_of)
    if missing:
        raise DataError(f"{files[0].parent}: {len(missing)} listed pictures are not in images/: {first_few(missing)}. "
                        "A file_name is the path below images/")  # fmt: skip
    return found


def _labels_of(categories: tuple[CocoCategory, ...], labels: LabelSet, file: Path) -> dict[int, int]:
    is_thing = labels.is_thing()
    for category in categories:
        if category.name not in labels.names:
            raise DataError(f'{file}: the category "{category.name}" is no class of labels.json, which has '
                            f"{', '.join(labels.names)}")  # fmt: skip
        if not is_thing[labels.names.index(category.name)]:
            raise DataError(f'{file}: has boxes of "{category.name}", which is no class of things: give it '
                            '"thing": true in labels.json')  # fmt: skip
    return {category.number: labels.names.index(category.name) for category in categories}
