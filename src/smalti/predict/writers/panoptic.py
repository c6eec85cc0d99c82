"""Classes and objects in one map, as COCO's panoptic task takes them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from smalti.containers import Predictions
from smalti.draw.image_files import save_drawing, save_png
from smalti.draw.legend import legend_entries, with_legend
from smalti.draw.objects import draw_objects
from smalti.draw.overlay import overlay
from smalti.files import write_text
from smalti.geometry.boxes import object_boxes
from smalti.geometry.panoptic import STRIDE, panoptic_segments
from smalti.labels import IGNORED, LabelSet
from smalti.predict.writers.coco_results import described, image_ids, image_table
from smalti.predict.writers.contract import Entry, Picture, Writer, as_array, known, masked


@dataclass(frozen=True, kw_only=True)
class Segments:
    """A map of segments from 1 (0 = none), and of each its label id and its object's number (0 = no object)."""

    map: Int32[np.ndarray, "height width"]
    classes: Sequence[int]
    objects: Sequence[int]


def segments_of(answer: Predictions) -> Segments:
    """The answer's classes and objects as segments, as panoptic quality counts them.

    Raises:
        NoSuchAnswerError: If the network does not know both.
    """
    classes, ids = as_array(known(answer, "semantic")), masked(answer).ids()
    segments = panoptic_segments(classes, ids, answer.labels.is_thing())
    keys, places = np.unique(segments, return_inverse=True)
    numbers = np.arange(len(keys), dtype=np.int32) + (keys[0] >= 0)
    found = keys[keys >= 0]
    return Segments(
        map=numbers[places.reshape(segments.shape)],
        classes=(found // STRIDE).tolist(),
        objects=(found % STRIDE).tolist(),
    )


class Panoptic(Writer):
    """`NAME_panoptic.png`, `NAME_panoptic_overlay.jpg` for people, and `panoptic.json` of all pictures.

    The first has a colour a segment, whose number is R + 256 G + 65536 B (0 = none). The categories are the class
    table's file ids; the images are numbered as in `images.json`, see `image_ids`.
    """

    endings, needs = ("_panoptic.png", "_panoptic_overlay.jpg"), ("semantic", "masks")
    summaries = ("panoptic.json",)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> Entry:
        """See `Writer`."""
        found = segments_of(answer)
        numbers = np.ascontiguousarray(found.map, dtype="<u4")
        red_green_blue = numbers.view(np.uint8).reshape(*numbers.shape, 4)[..., :3]
        save_png(np.ascontiguousarray(red_green_blue), self.out / f"{name}_panoptic.png")
        save_drawing(_drawn(picture, found, answer.labels), self.out / f"{name}_panoptic_overlay.jpg")
        return {
            **described(file, name, picture, answer.labels),
            "file_name": f"{name}_panoptic.png",
            "segments_info": _infos(found, answer.labels),
        }

    def finish(self, entries: Sequence[Entry]) -> None:
        """See `Writer`."""
        annotations = [
            {"image_id": k, "file_name": entry["file_name"], "segments_info": entry["segments_info"]}
            for k, entry in zip(image_ids(entries), entries, strict=True)
        ]
        content = {**image_table(entries), "annotations": annotations}
        write_text(self.out / "panoptic.json", json.dumps(content) + "\n")


def _infos(found: Segments, labels: LabelSet) -> list[Entry]:
    return [
        {
            "id": number,
            "category_id": labels.ids[found.classes[number - 1]],
            "area": area,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
        }
        for number, (top, left, bottom, right), area in zip(
            *(values.tolist() for values in object_boxes(found.map)), strict=True
        )
    ]


def _drawn(picture: Picture, found: Segments, labels: LabelSet) -> np.ndarray:
    """Stuff in the colours of its classes, objects each in a shade of its own with an outline."""
    classes = np.array([IGNORED, *found.classes], np.uint8)[found.map]
    objects = np.array([0, *(k if number else 0 for k, number in enumerate(found.objects, 1))], np.int32)[found.map]
    told_apart = draw_objects(picture, objects, found.classes, labels)
    drawn = np.where((objects > 0)[..., None], told_apart, overlay(picture, classes, labels))
    return with_legend(drawn, legend_entries(classes, labels))
