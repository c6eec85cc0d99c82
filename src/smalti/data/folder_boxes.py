"""Objects of people's own folders: COCO files in boxes/, whose pictures are found by their path below images/."""

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from smalti.data.coco_json import CocoCategory, CocoObjects, read_categories, read_json, read_pictures
from smalti.data.contract import DataError, first_few, refuse
from smalti.labels import LabelSet


@dataclass(frozen=True, kw_only=True)
class FolderBoxes:
    """The objects of each listed picture by its path below images/ without suffix, and what was decided, a line each.

    If any object has a polygon or run lengths, all listed pictures are painted from their objects, see
    `AnnotatedPicture`; a picture whose list is empty shows nothing but background then.
    """

    of_picture: dict[str, CocoObjects]
    notes: tuple[str, ...]

    def paints(self, key: str) -> bool:
        """Whether the classes of a picture can be painted from its objects."""
        return key in self.of_picture and self.of_picture[key].paints


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


def read_boxes(files: list[Path], keys: Collection[str], labels: LabelSet) -> FolderBoxes:
    """The objects of each picture that a file lists, also of those without any.

    Raises:
        DataError: If a file cannot be used, a category is no class of things, or a picture is not there or listed
            twice; names them.
    """
    found: dict[str, CocoObjects] = {}
    missing: list[str] = []
    notes: tuple[str, ...] = ()
    for file in files:
        content = read_json(file, ("images", "annotations", "categories"))
        label_of = _labels_of(read_categories(content, file), labels, file)
        listed = read_pictures(content, file)
        notes += listed.notes
        repeated = []
        for picture in listed.pictures:
            key = unicodedata.normalize("NFC", PurePosixPath(picture.file_name).with_suffix("").as_posix())
            if key not in keys:
                missing.append(picture.file_name)
            elif key in found:
                repeated.append(f"lists the picture {picture.file_name}, which is listed already")
            else:
                found[key] = CocoObjects(file=file, picture=picture, label_of=label_of)
        refuse(file, repeated)
    if missing:
        raise DataError(f"{files[0].parent}: {len(missing)} listed pictures are not in images/: {first_few(missing)}. "
                        "A file_name is the path below images/")  # fmt: skip
    paints = any(objects.picture.masked for objects in found.values())
    return FolderBoxes(of_picture={key: replace(objects, paints=paints) for key, objects in found.items()}, notes=notes)


def _labels_of(categories: tuple[CocoCategory, ...], labels: LabelSet, file: Path) -> dict[int, int]:
    problems = []
    for category in categories:
        if category.name not in labels.names:
            problems.append(f'the category "{category.name}" is no class of labels.json, which has '
                            f"{', '.join(labels.names)}")  # fmt: skip
        elif category.name not in labels.things:
            problems.append(f'has boxes of "{category.name}", which is no class of things: give it "thing": true in '
                            "labels.json")  # fmt: skip
    refuse(file, problems)
    return {category.number: labels.names.index(category.name) for category in categories}
