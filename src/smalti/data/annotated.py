"""Picture files and the files with their truth, as samples."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int32, UInt8
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

from smalti.containers import Sample
from smalti.data.cache import content_hash
from smalti.data.coco_json import CocoObjects
from smalti.data.contract import DataError, Dataset, first_few
from smalti.data.masks import read_labels, to_labels
from smalti.data.matlab import read_matlab_map
from smalti.data.objects import check_objects
from smalti.data.pictures import read_mask, read_picture
from smalti.data.regions import read_regions
from smalti.data.value_range import ValueRange
from smalti.data.value_survey import ValueScaling
from smalti.data.voc_xml import read_voc_boxes
from smalti.labels import LabelSet

CITYSCAPES_OBJECTS, KITTI_OBJECTS = 1000, 256


@dataclass(frozen=True, kw_only=True)
class AnnotatedPicture:
    """The files of one sample; what is not annotated is None."""

    name: str
    picture: Path
    mask: Path | None = None
    instances: Path | None = None
    boxes: Path | None = None
    """VOC's XML."""
    listed: CocoObjects | None = None
    """Objects that a COCO file lists for this picture."""
    no_instance: tuple[int, ...] = ()
    """Values beside 0 in the file of the instances that number none."""
    numbering: Literal["plain", "cityscapes", "kitti"] = "plain"
    """Of the objects: as they are; class x 1000 + number (below 1000: a class only); class x 256 + number (0: none)."""
    value_range: ValueRange | None = None
    """Of a picture deeper than 8 bits; see `read_picture`."""

    def files(self) -> list[Path]:
        """All files that the sample is made of."""
        return [path for path in (self.picture, self.mask, self.instances, self.boxes) if path is not None]

    def read(self, labels: LabelSet) -> Sample:
        """Decodes the files.

        Raises:
            DataError: If one cannot be decoded, their sizes differ, or objects and classes disagree.
        """
        image = read_picture(self.picture, value_range=self.value_range)
        semantic = None if self.mask is None else torch.from_numpy(_read_labels(self.mask, labels))
        ids = None if self.instances is None else _read_ids(self.instances, self)
        for path, truth in ((self.mask, semantic), (self.instances, ids)):
            if truth is not None and truth.shape != image.shape[1:]:
                height, width = truth.shape
                raise DataError(
                    f"{path}: {height} x {width} pixels (height x width), but its picture {self.picture.name} has "
                    f"{image.shape[1]} x {image.shape[2]} (upright, as its EXIF note says): they must be of one size"
                )
        if self.mask is not None and self.instances is not None and semantic is not None and ids is not None:
            check_objects(semantic.numpy(), ids.numpy(), labels, (self.mask, self.instances))
        size = (int(image.shape[1]), int(image.shape[2]))
        objects = None if self.boxes is None else read_voc_boxes(self.boxes, labels, size)
        if self.listed is not None:
            objects = self.listed.of(self.picture, size)
        return Sample(
            image=Image(image),
            semantic=None if semantic is None else Mask(semantic),
            instance_ids=None if ids is None else Mask(ids),
            instances=objects,
            name=self.name,
        )


@runtime_checkable
class PictureFiles(Protocol):
    """One sample of a set of files; a dataclass."""

    @property
    def picture(self) -> Path:
        """The image file."""

    @property
    def value_range(self) -> ValueRange | None:
        """Of an image deeper than 8 bits; see `read_picture`."""

    @property
    def name(self) -> str:
        """Unique in its split."""

    def files(self) -> list[Path]:
        """All files that the sample is made of."""

    def read(self, labels: LabelSet) -> Sample:
        """Decodes them."""


class AnnotatedPictures(Dataset):
    """A data set that is a list of files; a set's own file says how the list comes about."""

    items: Sequence[PictureFiles]
    has_any_depth = False
    """Whether images may be deeper than 8 bits; those of fixed sets are known not to be."""

    def image_files(self) -> list[Path]:
        """See `Dataset`."""
        return [item.picture for item in self.items] if self.has_any_depth else []

    def scale_values(self, scaling: ValueScaling) -> None:
        """See `Dataset`."""
        self.scaling = scaling
        self.items = [
            replace(item, value_range=scaling.value_range) if item.picture in scaling.files else item  # type: ignore[type-var]
            for item in self.items
        ]

    def __len__(self) -> int:
        return len(self.items)

    def sample_name(self, index: int) -> str:
        """See `Dataset`."""
        return self.items[index].name

    def content_key(self, index: int) -> str | None:
        """See `Dataset`."""
        item = self.items[index]
        salt = () if item.value_range is None else (repr(item.value_range).encode(),)
        return content_hash(item.files(), json.dumps(self.labels.to_json()).encode(), *salt)

    def read(self, index: int) -> Sample:
        """See `Dataset`."""
        return self.items[index].read(self.labels)


def read_list(path: Path) -> list[str]:
    """The lines of a split's list that are not empty.

    Raises:
        DataError: If it cannot be read, or is empty; names it.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    found = [line for line in lines if line]
    if not found:
        raise DataError(f"{path}: lists no pictures")
    return found


def check_listed(items: Sequence[PictureFiles | Path], listing: Path, how_to_get: str) -> None:
    """Whether every file is there that a list names.

    Raises:
        DataError: If not; names the first few.
    """
    files = (path for item in items for path in ([item] if isinstance(item, Path) else item.files()))
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise DataError(f"{listing}: {len(missing)} listed files are missing: {first_few(missing)}. {how_to_get}")


def _read_labels(path: Path, labels: LabelSet) -> UInt8[np.ndarray, "height width"]:
    match path.suffix:
        case ".mat":
            return to_labels(read_matlab_map(path), labels, path)
        case ".txt":
            return read_regions(path, len(labels))
        case _:
            return read_labels(path, labels)


def color_ids(colors: UInt8[np.ndarray, "height width rgb"]) -> Int32[np.ndarray, "height width"]:
    """Numbers of a picture with a colour an object, black = 0, as COCO's panoptic files count them."""
    red, green, blue = (colors[..., k].astype(np.int32) for k in range(3))
    ids: np.ndarray = red + 256 * green + 65536 * blue
    return ids


def _read_ids(path: Path, item: AnnotatedPicture) -> Int32[Tensor, "height width"]:
    ids = read_matlab_map(path) if path.suffix == ".mat" else read_mask(path)
    ids = color_ids(ids) if ids.ndim == 3 else ids.astype("int32")
    if ids.min(initial=0) < 0:
        raise DataError(f"{path}: has the object id {ids.min()}; ids are 0 (none) or positive")
    match item.numbering:
        case "plain":
            ids[np.isin(ids, item.no_instance)] = 0
        case "cityscapes":
            ids[ids < CITYSCAPES_OBJECTS] = 0
        case "kitti":
            ids[ids % KITTI_OBJECTS == 0] = 0
    return torch.from_numpy(ids)
