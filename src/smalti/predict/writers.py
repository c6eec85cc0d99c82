"""What is written of answers: one class a kind, all chosen by name."""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from smalti.containers import Instances, Predictions
from smalti.draw.boxes import draw_boxes
from smalti.draw.heat import heat_map, with_scale
from smalti.draw.legend import legend_entries, with_legend
from smalti.draw.objects import draw_objects, object_entries
from smalti.draw.overlay import overlay, save_index_png
from smalti.files import replacing, write_text
from smalti.geometry.masks import encode_mask

Picture = UInt8[np.ndarray, "height width 3"]
OVERLAY, MASKS = "_overlay", "_masks"
MOST_OBJECTS = 65535
"""That a 16-bit file can number."""


class NoSuchAnswerError(ValueError):
    """Of the network, and so said once and not for each picture."""


class Writer(ABC):
    """Writes the answers of many pictures into one folder."""

    endings: tuple[str, ...]
    """Of the files of one picture, after its name."""

    def __init__(self, out: Path) -> None:
        self.out = out

    @abstractmethod
    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """Writes one picture's answer. `file` is where it came from, `name` the stem of its answers.

        Raises:
            NoSuchAnswerError: If the network does not know the task.
        """

    def finish(self) -> None:  # noqa: B027  # most kinds say nothing of all
        """Writes what is said of all pictures together."""


class Labels(Writer):
    """`NAME.png`: label ids as an index mask."""

    endings = (".png",)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        _known(answer, "semantic")
        save_index_png(_array(answer.semantic), answer.labels, self.out / f"{name}.png")


class Overlay(Writer):
    """`NAME_overlay.png`: classes in colour over the picture, with a legend of those that occur."""

    endings = (f"{OVERLAY}.png",)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        labels = _array(_known(answer, "semantic"))
        drawing = with_legend(overlay(picture, labels, answer.labels), legend_entries(labels, answer.labels))
        _save(drawing, self.out / f"{name}{OVERLAY}.png")


class Both(Writer):
    """The mask and the overlay."""

    endings = Labels.endings + Overlay.endings

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.parts = (Labels(out), Overlay(out))

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        for part in self.parts:
            part.add(file, name, picture, answer)


class Heat(Writer):
    """`NAME_edges.png` or `NAME_distances.png`: a map of the network from 0 to 1, in colour with its scale."""

    def __init__(self, out: Path, task: str, title: str) -> None:
        super().__init__(out)
        self.task, self.title = task, title
        self.endings = (f"_{task}.png",)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        self._draw(name, picture, _known(answer, self.task), self.title)

    def _draw(self, name: str, picture: Picture, values: Any, title: str) -> None:
        _save(with_scale(heat_map(picture, _array(values)), title), self.out / f"{name}_{self.task}.png")


class Difficulty(Heat):
    """`NAME_difficulty.png` and `difficulty.csv`, the pictures in the order in which a person should look at them."""

    def __init__(self, out: Path) -> None:
        super().__init__(out, "difficulty", "probability that the coarse answer is wrong")
        self.means: dict[Path, float] = {}

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        difficulty = _known(answer, "difficulty")
        self.means[file] = float(difficulty.mean())
        self._draw(name, picture, difficulty, f"{self.title} (mean {100 * self.means[file]:.0f} %)")

    def finish(self) -> None:
        """See `Writer`."""
        if not self.means:
            return
        ranked = sorted(self.means.items(), key=lambda entry: (-entry[1], str(entry[0])))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["rank", "picture", "mean_difficulty"])
        writer.writerows([rank, file, f"{mean:.4f}"] for rank, (file, mean) in enumerate(ranked, start=1))
        write_text(self.out / "difficulty.csv", text.getvalue())


class Objects(Writer):
    """`NAME_instances.png` (16 bit, 0 = none), `NAME_objects.png` (drawn), and `instances.json` of all pictures.

    The JSON is a list of results as COCO takes them. A picture's `image_id` is its name as a number if it is one, else
    its name; the categories are the class table's file ids.
    """

    endings = ("_instances.png", "_objects.png")

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.results: list[dict[str, Any]] = []

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        found = _masked(answer)
        if len(found) > MOST_OBJECTS:
            raise ValueError(f"{len(found)} objects are more than the {MOST_OBJECTS} that a 16-bit file can number")
        ids, classes = found.ids(), found.labels.tolist()
        with replacing(self.out / f"{name}_instances.png") as part:
            Image.fromarray(ids.astype(np.uint16)).save(part, format="PNG")
        drawing = with_legend(
            draw_objects(picture, ids, classes, answer.labels), object_entries(classes, answer.labels)
        )
        _save(drawing, self.out / f"{name}_objects.png")
        masks, boxes, scores = _array(found.masks), found.boxes.tolist(), _scores(found)
        for mask, box, label, score in zip(masks, boxes, classes, scores, strict=True):
            result = _coco_result(name, answer.labels.ids[label], box, score)
            self.results.append({**result, "segmentation": encode_mask(mask)})

    def finish(self) -> None:
        """See `Writer`."""
        write_text(self.out / "instances.json", json.dumps(self.results) + "\n")


class Boxes(Writer):
    """`NAME_boxes.png` (the surer boxes drawn), and of all pictures `boxes.json` and a `boxes_CLASS.txt` a class.

    The JSON is a list of results as COCO takes them; the text files are lines as PASCAL VOC takes them: picture, score,
    left, top, right, bottom, the first pixel being 1.
    """

    endings = ("_boxes.png",)

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.results: list[dict[str, Any]] = []
        self.lines: dict[str, list[str]] = {}

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        found: Instances = _known(answer, "instances")
        labels, classes, scores = answer.labels, found.labels.tolist(), _scores(found)
        drawing = draw_boxes(picture, _array(found.boxes), classes, labels, scores)
        _save(drawing, self.out / f"{name}_boxes.png")
        for box, label, score in zip(found.boxes.tolist(), classes, scores, strict=True):
            self.results.append(_coco_result(name, labels.ids[label], box, score))
            first, last = (f"{value + 1:.1f}" for value in box[:2]), (f"{value:.1f}" for value in box[2:])
            line = f"{name.replace(' ', '_')} {score:.6f} {' '.join([*first, *last])}\n"
            self.lines.setdefault(labels.names[label], []).append(line)
        for label in labels.things:
            self.lines.setdefault(label, [])

    def finish(self) -> None:
        """See `Writer`."""
        write_text(self.out / "boxes.json", json.dumps(self.results) + "\n")
        for label, lines in self.lines.items():
            write_text(self.out / f"boxes_{label.replace('/', '_')}.txt", "".join(lines))


class CityscapesFiles(Writer):
    """Results as the Cityscapes instance benchmark takes them: `NAME.txt`, a line an object, with its mask in a PNG.

    Nothing is removed: masks of an earlier run that no line names any more stay in `NAME_masks/`.
    """

    endings = (".txt", MASKS)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        found = _masked(answer)
        name = "_".join(name.split())  # the benchmark's script separates by blanks
        folder = self.out / f"{name}{MASKS}"
        folder.mkdir(exist_ok=True)
        lines = []
        for k, (mask, label, score) in enumerate(
            zip(_array(found.masks), found.labels.tolist(), _scores(found), strict=True)
        ):
            path = folder / f"{k:03d}.png"
            with replacing(path) as part:
                Image.fromarray(mask.astype(np.uint8) * 255).save(part, format="PNG")
            lines.append(f"{folder.name}/{path.name} {answer.labels.ids[label]} {score:.6f}\n")
        write_text(self.out / f"{name}.txt", "".join(lines))


WRITERS: dict[str, Callable[[Path], Writer]] = {
    "both": Both,
    "labels": Labels,
    "overlay": Overlay,
    "difficulty": Difficulty,
    "edges": lambda out: Heat(out, "edges", "probability of an edge"),
    "distances": lambda out: Heat(out, "distances", "distance to the object's border, as a share of the farthest"),
    "instances": Objects,
    "boxes": Boxes,
    "cityscapes": CityscapesFiles,
}
ENDINGS = tuple(dict.fromkeys(ending for make in WRITERS.values() for ending in make(Path()).endings))
"""Of all kinds: a name is free only if none of them is taken."""
WHO_KNOWS = {
    "semantic": "the classes of pixels",
    "difficulty": "how difficult a pixel is: train ccfnet with its attention gate",
    "edges": "edges: train hourglass with this task",
    "distances": "distances: train hourglass with this task",
    "instances": "objects: train hourglass with distances, or ivanet, on data whose class table names things",
}


def _known(answer: Predictions, task: str) -> Any:
    found = getattr(answer, task)
    if found is None:
        raise NoSuchAnswerError(f"this network does not know {WHO_KNOWS[task]}, or choose another --show")
    return found


def _masked(answer: Predictions) -> Instances:
    found: Instances = _known(answer, "instances")
    if found.masks is None:
        raise NoSuchAnswerError("this network knows objects as boxes only: choose --show boxes")
    return found


def _coco_result(name: str, category: int, box: Sequence[float], score: float) -> dict[str, Any]:
    left, top, right, bottom = (round(value, 3) for value in box)
    return {
        "image_id": int(name) if name.isdecimal() else name,  # COCO's file names have zeros in front
        "category_id": category,
        "bbox": [left, top, round(right - left, 3), round(bottom - top, 3)],
        "score": round(score, 6),
    }


def _array(values: Any) -> np.ndarray:
    found: np.ndarray = values.cpu().numpy()
    return found


def _scores(found: Instances) -> list[float]:
    return [1.0] * len(found) if found.scores is None else found.scores.tolist()


def _save(drawing: np.ndarray, path: Path) -> None:
    with replacing(path) as part:
        Image.fromarray(drawing).save(part, format="PNG")
