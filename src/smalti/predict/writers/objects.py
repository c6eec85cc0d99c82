"""Objects: numbered, drawn, and as the benchmarks of COCO, PASCAL VOC and Cityscapes take them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smalti.containers import Instances, Predictions
from smalti.draw.boxes import draw_boxes
from smalti.draw.image_files import save_drawing, save_png
from smalti.draw.legend import with_legend
from smalti.draw.objects import draw_objects, object_entries
from smalti.files import write_text
from smalti.geometry.masks import encode_mask
from smalti.predict.writers.coco_results import IMAGES, described, result_of, write_results
from smalti.predict.writers.contract import (
    Entry,
    Picture,
    Writer,
    as_array,
    class_file_stems,
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

    The JSON is a list of results as COCO's evaluators take it; `images.json` beside it says which image an `image_id`
    is, and names the categories, which are the class table's file ids. See `image_ids`.
    """

    endings, needs, summaries = ("_instances.png", "_objects.jpg"), ("masks",), ("instances.json", IMAGES)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> Entry:
        """See `Writer`."""
        found = masked(answer)
        if len(found) > MOST_OBJECTS:
            raise ValueError(f"{len(found)} objects are more than the {MOST_OBJECTS} that a 16-bit file can number")
        ids, classes = found.ids(), found.labels.tolist()
        save_png(ids.astype(np.uint16), self.out / f"{name}_instances.png")
        drawing = with_legend(
            draw_objects(picture, ids, classes, answer.labels), object_entries(classes, answer.labels)
        )
        save_drawing(drawing, self.out / f"{name}_objects.jpg")
        results = []
        masks, boxes, scores = as_array(found.masks), found.boxes.tolist(), scores_of(found)
        for mask, box, label, score in zip(masks, boxes, classes, scores, strict=True):
            result = result_of(answer.labels.ids[label], box, score)
            results.append({**result, "segmentation": encode_mask(mask)})
        return {**described(file, name, picture, answer.labels), "results": results}

    def finish(self, entries: Sequence[Entry]) -> None:
        """See `Writer`."""
        write_results(self.out / "instances.json", entries)


class Boxes(Writer):
    """`NAME_boxes.jpg` (the surer boxes drawn), and of all pictures `boxes.json` and a `boxes_CLASS.txt` a class.

    The JSON and `images.json` are those of `Objects`; the text files are lines as PASCAL VOC takes them: picture,
    score, left, top, right, bottom, the first pixel being 1.
    """

    endings, needs, summaries = ("_boxes.jpg",), ("instances",), ("boxes.json", "boxes_*.txt", IMAGES)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> Entry:
        """See `Writer`."""
        found: Instances = known(answer, "instances")
        labels, classes, scores = answer.labels, found.labels.tolist(), scores_of(found)
        drawing = draw_boxes(picture, as_array(found.boxes), classes, labels, scores)
        save_drawing(drawing, self.out / f"{name}_boxes.jpg")
        results: list[Entry] = []
        lines: dict[str, list[str]] = {label: [] for label in labels.names if label in labels.things}
        for box, label, score in zip(found.boxes.tolist(), classes, scores, strict=True):
            results.append(result_of(labels.ids[label], box, score))
            first, last = (f"{value + 1:.1f}" for value in box[:2]), (f"{value:.1f}" for value in box[2:])
            line = f"{without_blanks(name)} {score:.6f} {' '.join([*first, *last])}\n"
            lines.setdefault(labels.names[label], []).append(line)
        return {**described(file, name, picture, labels), "results": results, "lines": lines}

    def finish(self, entries: Sequence[Entry]) -> None:
        """See `Writer`."""
        write_results(self.out / "boxes.json", entries)
        stems = class_file_stems(dict.fromkeys(label for entry in entries for label in entry["lines"]))
        for label, stem in stems.items():
            lines = (line for entry in entries for line in entry["lines"].get(label, []))
            write_text(self.out / f"boxes_{stem}.txt", "".join(lines))


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
            save_png(mask.astype(np.uint8) * 255, path)
            lines.append(f"{folder.name}/{path.name} {answer.labels.ids[label]} {score:.6f}\n")
        write_text(self.out / f"{name}.txt", "".join(lines))
