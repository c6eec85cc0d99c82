"""Objects: numbered, drawn, and as the benchmarks of COCO, PASCAL VOC and Cityscapes take them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smalti.containers import Instances, Predictions
from smalti.draw.boxes import draw_boxes
from smalti.draw.legend import with_legend
from smalti.draw.objects import draw_objects, object_entries
from smalti.draw.overlay import save_drawing
from smalti.files import replacing, write_text
from smalti.geometry.masks import encode_mask
from smalti.predict.writers.contract import (
    Entry,
    Picture,
    Writer,
    as_array,
    known,
    masked,
    scores_of,
    without_blanks,
)

MASKS = "_masks"
MOST_OBJECTS = 65535
"""That a 16-bit file can number."""


class Objects(Writer):
    """`NAME_instances.png` (16 bit, 0 = none), `NAME_objects.jpg` (drawn), and `instances.json` of all pictures.

    The JSON is a list of results as COCO takes them. A picture's `image_id` is its name as a number if it is one, else
    its name; the categories are the class table's file ids.
    """

    endings, needs, summaries = ("_instances.png", "_objects.jpg"), ("masks",), ("instances.json",)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> Entry:
        """See `Writer`."""
        found = masked(answer)
        if len(found) > MOST_OBJECTS:
            raise ValueError(f"{len(found)} objects are more than the {MOST_OBJECTS} that a 16-bit file can number")
        ids, classes = found.ids(), found.labels.tolist()
        with replacing(self.out / f"{name}_instances.png") as part:
            Image.fromarray(ids.astype(np.uint16)).save(part, format="PNG", compress_level=1)
        drawing = with_legend(
            draw_objects(picture, ids, classes, answer.labels), object_entries(classes, answer.labels)
        )
        save_drawing(drawing, self.out / f"{name}_objects.jpg")
        results = []
        masks, boxes, scores = as_array(found.masks), found.boxes.tolist(), scores_of(found)
        for mask, box, label, score in zip(masks, boxes, classes, scores, strict=True):
            result = _coco_result(name, answer.labels.ids[label], box, score)
            results.append({**result, "segmentation": encode_mask(mask)})
        return {"results": results}

    def finish(self, entries: Sequence[Entry]) -> None:
        """See `Writer`."""
        write_text(self.out / "instances.json", _joined(entries))


class Boxes(Writer):
    """`NAME_boxes.jpg` (the surer boxes drawn), and of all pictures `boxes.json` and a `boxes_CLASS.txt` a class.

    The JSON is a list of results as COCO takes them; the text files are lines as PASCAL VOC takes them: picture, score,
    left, top, right, bottom, the first pixel being 1.
    """

    endings, needs, summaries = ("_boxes.jpg",), ("instances",), ("boxes.json", "boxes_*.txt")

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> Entry:
        """See `Writer`."""
        found: Instances = known(answer, "instances")
        labels, classes, scores = answer.labels, found.labels.tolist(), scores_of(found)
        drawing = draw_boxes(picture, as_array(found.boxes), classes, labels, scores)
        save_drawing(drawing, self.out / f"{name}_boxes.jpg")
        results: list[Entry] = []
        lines: dict[str, list[str]] = {label: [] for label in labels.names if label in labels.things}
        for box, label, score in zip(found.boxes.tolist(), classes, scores, strict=True):
            results.append(_coco_result(name, labels.ids[label], box, score))
            first, last = (f"{value + 1:.1f}" for value in box[:2]), (f"{value:.1f}" for value in box[2:])
            line = f"{without_blanks(name)} {score:.6f} {' '.join([*first, *last])}\n"
            lines.setdefault(labels.names[label], []).append(line)
        return {"results": results, "lines": lines}

    def finish(self, entries: Sequence[Entry]) -> None:
        """See `Writer`."""
        write_text(self.out / "boxes.json", _joined(entries))
        for label in dict.fromkeys(label for entry in entries for label in entry["lines"]):
            lines = (line for entry in entries for line in entry["lines"].get(label, []))
            write_text(self.out / f"boxes_{label.replace('/', '_')}.txt", "".join(lines))


class CityscapesFiles(Writer):
    """Results as the Cityscapes instance benchmark takes them: `NAME.txt`, a line an object, with its mask in a PNG.

    Nothing is removed: masks of an earlier run that no line names any more stay in `NAME_masks/`.
    """

    endings, needs = (".txt", MASKS), ("masks",)

    def stem(self, name: str) -> str:
        """Without blanks, by which the benchmark's script separates."""
        return "_".join(name.split())

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        found, name = masked(answer), self.stem(name)
        folder = self.out / f"{name}{MASKS}"
        folder.mkdir(exist_ok=True)
        lines = []
        for k, (mask, label, score) in enumerate(
            zip(as_array(found.masks), found.labels.tolist(), scores_of(found), strict=True)
        ):
            path = folder / f"{k:03d}.png"
            with replacing(path) as part:
                Image.fromarray(mask.astype(np.uint8) * 255).save(part, format="PNG", compress_level=1)
            lines.append(f"{folder.name}/{path.name} {answer.labels.ids[label]} {score:.6f}\n")
        write_text(self.out / f"{name}.txt", "".join(lines))


def image_id(name: str) -> int | str:
    """The name as a number if it is one: COCO's file names have zeros in front."""
    return int(name) if name.isdecimal() else name


def _coco_result(name: str, category: int, box: Sequence[float], score: float) -> dict[str, Any]:
    left, top, right, bottom = (round(value, 3) for value in box)
    return {
        "image_id": image_id(name),
        "category_id": category,
        "bbox": [left, top, round(right - left, 3), round(bottom - top, 3)],
        "score": round(score, 6),
    }


def _joined(entries: Sequence[Entry]) -> str:
    return json.dumps([result for entry in entries for result in entry["results"]]) + "\n"
