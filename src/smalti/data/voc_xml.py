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
        found = ElementTree.parse(path).getroot().findall("object")
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{path}: cannot be read as XML: {error}") from error
    corners, classes, difficult = [], [], []
    for number, entry in enumerate(found, start=1):
        name = entry.findtext("name", "").strip()
        where = f"{path}: object {number} ({name or 'without a name'})"
        if name not in labels.things:
            raise DataError(f"{where}: no such class; {nearest(name, sorted(labels.things))}")
        corners.append(_corners(entry, where))
        if problem := what_is_wrong(corners[-1], size):
            raise DataError(f"{where}: {problem}")
        classes.append(labels.names.index(name))
        difficult.append(entry.findtext("difficult", "0").strip() == "1")
    return annotated_boxes(corners, classes, size, difficult=difficult)


def _corners(entry: ElementTree.Element, where: str) -> tuple[float, float, float, float]:
    texts = [entry.findtext(f"bndbox/{key}", "") for key in CORNERS]
    try:
        left, top, right, bottom = (float(text) for text in texts)
    except ValueError as error:
        raise DataError(f"{where}: needs a bndbox with the numbers {', '.join(CORNERS)}, has {texts}") from error
    return left - 1, top - 1, right, bottom
