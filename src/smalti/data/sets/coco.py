"""COCO 2017 (or 2014): boxes and masks of 80 classes of things, and maps of all pixels where they are there.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. Panoptic files: Kirillov et al., CVPR 2019.
COCO-Stuff maps: Caesar, Uijlings, Ferrari, CVPR 2018.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torchvision.tv_tensors import Image, Mask

from smalti.containers import Sample, Size
from smalti.data.annotated import AnnotatedPictures, check_listed, color_ids, paths_in
from smalti.data.boxes import OverhangCount
from smalti.data.coco_json import (
    CocoCategory,
    CocoFile,
    CocoPicture,
    has_area,
    kept,
    objects_of,
    overhang_of,
    painted,
    problem_of,
    read_categories,
    read_images,
    read_json,
    read_pictures,
)
from smalti.data.contract import TRUTH, DataError, check_split, first_few, refuse
from smalti.data.masks import to_labels
from smalti.data.pictures import read_mask, read_picture
from smalti.data.roots import NativeLayout, find_root
from smalti.data.sets.coco_stuff import COCO_STUFF
from smalti.data.value_range import ValueRange
from smalti.labels import IGNORED, LabelSet

SPLITS = ("train", "val")
NO_OBJECTS = b"null"
"""Annotations, as JSON text, of a picture that no file of objects lists."""
Kind = Literal["instances", "panoptic", "stuff"]
MARKERS = {
    "instances": "annotations/instances_*.json",
    "panoptic": "annotations/panoptic_*.json",
    "stuff": "stuffthingmaps_trainval*",
}
FOLDERS = ("coco", "COCO", "MSCOCO")
HOW = "It is the folder with annotations/ and train2017/, val2017/ (or images/train2017/, …) of the COCO downloads."


class Coco(AnnotatedPictures):
    """COCO's train and val split; those of 2017 are the trainval35k and minival of the papers before.

    Which classes the pixels have is told by `semantic`:

    * `instances`: background and the 80 things, painted from the objects, crowds among them, in the file's order, the
      later over the earlier: COCO has no order of depth (see `painted`);
    * `panoptic`: 133 things and stuff of the panoptic files (annotations/panoptic_val2017.json and the folder of
      pictures beside it);
    * `stuff`: 171 things and stuff of the COCO-Stuff maps (stuffthingmaps_trainval2017/), with the objects of
      annotations/ where that is there.

    Boxes come with all three; crowds are neither to be found nor wrong to find.
    """

    name = "coco"
    has_any_depth = True

    def __init__(
        self, root: Path | None = None, split: str = "train", *, year: int = 2017, semantic: Kind = "instances"
    ) -> None:
        """Reads the split's files of annotations.

        Raises:
            DataError: If files are missing, or annotations cannot be used; names them.
        """
        self.split, self.kind = check_split(split, SPLITS, self.name), semantic
        if semantic not in MARKERS:
            raise DataError(f'semantic must be {", ".join(MARKERS)}, got "{semantic}"')
        self.root = find_root(
            root, NativeLayout(set="coco", folders=FOLDERS, markers=(MARKERS[semantic],), how_to_get=HOW)
        )
        self.edition, part = f"{year} {semantic}", f"{split}{year}"
        listing = self.root / "annotations" / f"{'instances' if semantic == 'stuff' else semantic}_{part}.json"
        maps: Path | None = None
        if semantic == "stuff":
            maps = self.root / f"stuffthingmaps_trainval{year}" / part
            self.labels, label_of, file = _with_stuff(listing, maps)
        elif semantic == "panoptic":
            maps = _first_folder(self.root / "annotations" / f"panoptic_{part}", self.root / f"panoptic_{part}")
            self.labels, label_of, file = _listed_segments(listing)
        else:
            self.labels, label_of, file = _listed_objects(listing)
        self.notes = file.notes
        folder = _first_folder(self.root / part, self.root / "images" / part)
        self.items: list[CocoItem] = [
            CocoItem(
                picture=folder / picture.file_name,
                size=picture.size,
                annotations=picture.annotations,
                label_of=label_of,
                map=None if maps is None else (maps / picture.file_name).with_suffix(".png"),
                kind=semantic,
            )
            for picture in file.pictures
        ]
        if not self.items:
            raise DataError(f"{listing}: lists no pictures. {HOW}")
        if len({item.name for item in self.items}) < len(self.items):
            raise DataError(f"{listing}: two pictures have the same file name (without folder and suffix)")
        check_listed([path for item in self.items for path in item.files()], listing, HOW)

    def annotations(self, index: int) -> bytes:
        """See `AnnotatedPictures`."""
        return self.items[index].annotations


@dataclass(frozen=True, kw_only=True)
class CocoItem:
    """A picture, its annotations as JSON text, and the file with its map, if one tells its classes."""

    picture: Path
    size: Size | None
    annotations: bytes
    label_of: Mapping[int, int]
    map: Path | None
    kind: Kind
    value_range: ValueRange | None = None
    """Of a picture deeper than 8 bits; see `read_picture`."""

    @property
    def name(self) -> str:
        """The number of the picture."""
        return self.picture.stem

    def files(self) -> list[Path]:
        """Picture and map."""
        return paths_in(self)

    def annotated(self) -> frozenset[str]:
        """See `Dataset.annotated`."""
        return TRUTH if self.annotations != NO_OBJECTS else frozenset({"semantic"})

    def read(self, labels: LabelSet) -> Sample:
        """Decodes the files.

        Raises:
            DataError: If one cannot be decoded, or their sizes differ.
        """
        image = read_picture(self.picture, value_range=self.value_range)
        size = (int(image.shape[1]), int(image.shape[2]))
        if self.size not in (size, None):
            raise DataError(f"{self.picture}: has {size[0]} x {size[1]} pixels (height x width), its annotations are "
                            f"for {self.size[0]} x {self.size[1]}")  # fmt: skip
        annotations: Any = json.loads(self.annotations)
        ids = None
        if self.kind == "panoptic":
            semantic, ids = self._segments(annotations, labels.is_thing())
            of_things = (e for e in annotations if labels.is_thing()[self.label_of[e["category_id"]]])
            annotations = [kept(e) for e in of_things if has_area(e)]
        elif annotations is not None:
            try:
                semantic, ids = painted(annotations, self.label_of, size)
            except ValueError as error:
                raise DataError(f"{self.picture}: a mask among its annotations cannot be read: {error}") from error
        if self.kind == "stuff":
            assert self.map is not None
            values = read_mask(self.map).values.astype(np.int32)
            semantic = to_labels(values + (values != IGNORED), labels, self.map)  # the maps have COCO's number - 1
        if semantic.shape != size:
            raise DataError(f"{self.map}: {semantic.shape[0]} x {semantic.shape[1]} pixels, its picture has "
                            f"{size[0]} x {size[1]}: they must be of one size")  # fmt: skip
        return Sample(
            image=Image(image),
            semantic=Mask(torch.from_numpy(semantic)),
            instance_ids=None if ids is None else Mask(torch.from_numpy(ids)),
            instances=None if annotations is None else objects_of(annotations, self.label_of, size),
            name=self.name,
        )

    def _segments(self, segments: list[dict[str, Any]], is_thing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classes and object numbers of a panoptic picture, whose colours number its segments."""
        assert self.map is not None
        colors = color_ids(read_mask(self.map).values)
        numbers, places = np.unique(colors, return_inverse=True)
        known = {segment["id"]: segment for segment in segments}
        unlisted = set(numbers.tolist()) - known.keys() - {0}
        if unlisted:
            raise DataError(f"{self.map}: has the segment {min(unlisted)}, which its annotations do not list")
        classes, told_apart = np.full(len(numbers), IGNORED, np.uint8), np.zeros(len(numbers), np.int32)
        for place, number in enumerate(numbers.tolist()):
            if number in known:
                label = self.label_of[known[number]["category_id"]]
                classes[place] = label
                told_apart[place] = number if is_thing[label] and not known[number].get("iscrowd") else 0
        return classes[places].reshape(colors.shape), told_apart[places].reshape(colors.shape)


Listing = tuple[LabelSet, dict[int, int], CocoFile]
"""The class table, the label of each of the file's categories, and the pictures."""


def _listed_objects(path: Path) -> Listing:
    content = read_json(path, ("images", "annotations", "categories"))
    categories = read_categories(content, path)
    label_of = {category.number: k for k, category in enumerate(categories, start=1)}
    return _table(categories, background=True), label_of, read_pictures(content, path)


def _listed_segments(path: Path) -> Listing:
    content = read_json(path, ("images", "annotations", "categories"))
    categories, images = read_categories(content, path), read_images(content, path)
    classes = {category.number for category in categories}
    pictures: dict[int, CocoPicture] = {}
    problems, outside = [], OverhangCount()
    for place, entry in enumerate(content["annotations"]):
        number = entry.get("image_id") if isinstance(entry, dict) else None
        if number not in images or number in pictures or not isinstance(entry.get("segments_info"), list):
            problems.append(f"annotation {place} needs a list segments_info, and a picture that the file lists and no "
                            f"other annotation has; its image_id is {number}")  # fmt: skip
            continue
        image, segments = images[number], entry["segments_info"]
        size = (image["height"], image["width"])
        wrong = [f"picture {number}: {problem}" for problem in _segment_problems(segments, size, classes)]
        problems += wrong
        for segment in () if wrong else segments:
            outside.add(overhang_of(segment, size))
        text = json.dumps(segments).encode()
        pictures[number] = CocoPicture(file_name=image["file_name"], size=size, annotations=text)
    refuse(path, problems)
    label_of = {category.number: k for k, category in enumerate(categories)}
    listed = [pictures[number] for number in images if number in pictures]
    return _table(categories, background=False), label_of, CocoFile(pictures=listed, notes=outside.notes(path.name))


def _segment_problems(segments: list[Any], size: Size, classes: set[int]) -> Iterator[str]:
    seen: set[int] = set()
    for segment in segments:
        number = segment.get("id") if isinstance(segment, dict) else None
        if not isinstance(number, int) or number < 1 or number in seen:
            yield f"has the segment {number}: segments have whole numbers from 1, each its own"
        elif problem := problem_of(segment, size, classes):
            yield f"segment {number} {problem}"
        else:
            seen.add(number)


def _with_stuff(path: Path, maps: Path) -> Listing:
    """The objects of a file of objects; where there is none, only maps."""
    if not path.is_file():
        found = sorted(maps.glob("*.png"))
        pictures = [CocoPicture(file_name=f"{p.stem}.jpg", size=None, annotations=NO_OBJECTS) for p in found]
        return COCO_STUFF, {}, CocoFile(pictures=pictures, notes=())
    content = read_json(path, ("images", "annotations", "categories"))
    categories = read_categories(content, path)
    unknown = [category.name for category in categories if category.name not in COCO_STUFF.names]
    if unknown:
        raise DataError(f"{path}: {first_few(unknown)}: no such classes in COCO-Stuff")
    label_of = {category.number: COCO_STUFF.names.index(category.name) for category in categories}
    return COCO_STUFF, label_of, read_pictures(content, path)


def _first_folder(*places: Path) -> Path:
    """The first that is there; of none, the first."""
    return next((place for place in places if place.is_dir()), places[0])


def _table(categories: tuple[CocoCategory, ...], *, background: bool) -> LabelSet:
    """The classes, with the file's own numbers; background is 0 there, unless that is taken."""
    numbers = {category.number for category in categories}
    free = max(numbers) + 1 if 0 in numbers else 0
    nothing = CocoCategory(number=free, name="background", color=(0, 0, 0), is_thing=False)
    entries = (nothing, *categories) if background else categories
    return LabelSet(
        title=f"COCO, {len(categories)} classes" + (" and background" if background else ""),
        names=tuple(entry.name for entry in entries),
        colors=tuple(entry.color for entry in entries),
        things=frozenset(entry.name for entry in entries if entry.is_thing),
        ids=tuple(entry.number for entry in entries),
        ignored_ids=(IGNORED,),
    )
