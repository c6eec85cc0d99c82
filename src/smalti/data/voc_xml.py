"""Boxes from the XML files of PASCAL VOC, which many annotation tools write, too."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from smalti.containers import Instances, Size
from smalti.data.boxes import OverhangCount, annotated_boxes, overhang, what_is_wrong
from smalti.data.cache import content_hash, remembered
from smalti.data.contract import DataError, refuse
from smalti.data.pictures import picture_size
from smalti.labels import LabelSet
from smalti.settings import nearest

DIFFICULT = {"0": False, "1": True, "false": False, "true": True, "": False}
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc_boxes(path: Path, labels: LabelSet, size: Size) -> Instances:
    """The objects of a file; the corners there are whole pixels, counted from 1, that belong to the box.

    Raises:
        DataError: If the file cannot be read, a name is no class of things, or a box is none in a picture of that size;
            names the file and all its objects with a problem.
    """
    root = _parsed(path)
    said = tuple(root.findtext(f"size/{side}") for side in ("height", "width"))
    if None not in said and said != (str(size[0]), str(size[1])):
        raise DataError(f"{path}: is for a picture of {said[0]} x {said[1]} pixels (height x width), its picture has "
                        f"{size[0]} x {size[1]}")  # fmt: skip
    corners, classes, difficult, problems = [], [], [], []
    for number, entry in enumerate(root.findall("object"), start=1):
        name, box = entry.findtext("name", "").strip(), _corners(entry)
        flag = entry.findtext("difficult", "0").strip().lower()
        if name not in labels.things:
            problem: str | None = f"no such class; {nearest(name, sorted(labels.things))}"
        elif box is None:
            texts = [entry.findtext(f"bndbox/{key}", "") for key in CORNERS]
            problem = f"needs a bndbox with the numbers {', '.join(CORNERS)}, has {texts}"
        elif flag not in DIFFICULT:
            problem = f'difficult must be 0 or 1, got "{flag}"'
        else:
            problem = what_is_wrong(box, size)
        if problem is not None or box is None:
            problems.append(f"object {number} ({name or 'without a name'}): {problem}")
            continue
        corners.append(box)
        classes.append(labels.names.index(name))
        difficult.append(DIFFICULT[flag])
    refuse(path, problems)
    return annotated_boxes(corners, classes, size, difficult=difficult)


def voc_overhang_notes(files: Sequence[tuple[Path, Path]]) -> tuple[str, ...]:
    """A line if boxes reach a little out of their image, of files (XML, image); counted once, then remembered."""

    def count() -> list[float]:
        total = OverhangCount()
        for path, picture in files:
            with contextlib.suppress(DataError):  # reading the sample says what is wrong
                root = _parsed(path)
                size = _size(root) or picture_size(picture)
                for box in map(_corners, root.findall("object")):
                    total.add(0.0 if box is None or what_is_wrong(box, size) else overhang(box, size))
        return [total.count, total.farthest]

    number, farthest = remembered("voc-overhang", content_hash([path for pair in files for path in pair]), count)
    return OverhangCount(int(number), float(farthest)).notes("Annotations", "boxes")


def _size(root: ElementTree.Element) -> Size | None:
    """Height and width as the file says them; None if it says nothing usable."""
    try:
        return int(root.findtext("size/height", "")), int(root.findtext("size/width", ""))
    except ValueError:
        return None


def _parsed(path: Path) -> ElementTree.Element:
    try:
        content = path.read_bytes()
        if b"<!ENTITY" in content:  # a few of them can stand for gigabytes of text
            raise ValueError("it declares entities, which no annotation needs")
        return ElementTree.fromstring(content)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path}: cannot be read as XML: {error}") from error


def _corners(entry: ElementTree.Element) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom as edges between pixels; None if they are no numbers."""
    try:
        left, top, right, bottom = (float(entry.findtext(f"bndbox/{key}", "")) for key in CORNERS)
    except ValueError:
        return None
    return left - 1, top - 1, right, bottom
