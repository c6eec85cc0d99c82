"""Boxes from the XML files of PASCAL VOC, which many annotation tools write, too."""

from pathlib import Path
from xml.etree import ElementTree

from smalti.containers import Instances, Size
from smalti.data.boxes import annotated_boxes, what_is_wrong
from smalti.data.contract import DataError
from smalti.labels import LabelSet
from smalti.settings import nearest

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc_boxes(path: Path, labels: LabelSet, size: Size) -> Instances:
    """The objects of a file; the corners there are whole pixels, counted from 1, that belong to the box.

    Raises:
        DataError: If the file cannot be read, a name is no class of things, or a box is none in a picture of that size;
            names the file and the object.
    """
    try:
        content = path.read_bytes()
        if b"<!ENTITY" in content:  # a few of them can stand for gigabytes of text
            raise ValueError("it declares entities, which no annotation needs")
        root = ElementTree.fromstring(content)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path}: cannot be read as XML: {error}") from error
    said = tuple(root.findtext(f"size/{side}") for side in ("height", "width"))
    if None not in said and said != (str(size[0]), str(size[1])):
        raise DataError(f"{path}: is for a picture of {said[0]} x {said[1]} pixels (height x width), its picture has "
                        f"{size[0]} x {size[1]}")  # fmt: skip
    corners, classes, difficult = [], [], []
    for number, entry in enumerate(root.findall("object"), start=1):
        name = entry.findtext("name", "").strip()
        where = f"{path}: object {number} ({name or 'without a name'})"
        if name not in labels.things:
            raise DataError(f"{where}: no such class; {nearest(name, sorted(labels.things))}")
        corners.append(_corners(entry, where))
        if problem := what_is_wrong(corners[-1], size):
            raise DataError(f"{where}: {problem}")
        classes.append(labels.names.index(name))
        difficult.append(entry.findtext("difficult", "0").strip().lower() in ("1", "true"))
    return annotated_boxes(corners, classes, size, difficult=difficult)


def _corners(entry: ElementTree.Element, where: str) -> tuple[float, float, float, float]:
    texts = [entry.findtext(f"bndbox/{key}", "") for key in CORNERS]
    try:
        left, top, right, bottom = (float(text) for text in texts)
    except ValueError as error:
        raise DataError(f"{where}: needs a bndbox with the numbers {', '.join(CORNERS)}, has {texts}") from error
    return left - 1, top - 1, right, bottom
