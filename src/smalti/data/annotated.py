"""Picture files and the files with their truth, as samples."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int32, UInt8
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

from smalti.containers import Sample, Size
from smalti.data.cache import content_hash, remembered
from smalti.data.coco_json import CocoObjects
from smalti.data.contract import DataError, Dataset, Fingerprint, first_few
from smalti.data.fingerprints import sample_fingerprints
from smalti.data.masks import LabelledMask, Palettes, check_smoothing, label_mask, remedy, to_labels, used_palette
from smalti.data.matlab import read_matlab_map
from smalti.data.objects import check_objects
from smalti.data.pictures import Mask as MaskValues
from smalti.data.pictures import MaskImage, read_mask, read_picture
from smalti.data.regions import read_regions
from smalti.data.settings_digest import settings_digest
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
    """Objects that a COCO file lists for this picture; they may have polygons, from which what no file tells of the
    classes and object numbers is painted. Beside a mask an object is numbered where the mask has its class."""
    no_instance: tuple[int, ...] = ()
    """Values beside 0 in the file of the instances that number none."""
    palettes: Palettes = "numbers"
    """What the palette of the mask's file means."""
    numbering: Literal["plain", "cityscapes", "kitti"] = "plain"
    """Of the objects: as they are; class x 1000 + number (below 1000: a class only); class x 256 + number (0: none)."""
    value_range: ValueRange | None = None
    """Of a picture deeper than 8 bits; see `read_picture`."""

    def files(self) -> list[Path]:
        """All files that the sample is made of."""
        return paths_in(self)

    def annotated(self) -> frozenset[str]:
        """See `Dataset.annotated`."""
        paints = self.listed is not None and self.listed.paints
        fields_told = {
            "semantic": self.mask is not None or paints,
            "instance_ids": self.instances is not None or paints,
            "instances": self.boxes is not None or self.listed is not None,
        }
        return frozenset(name for name, is_told in fields_told.items() if is_told)

    def read_labels(self, labels: LabelSet) -> LabelledMask | None:
        """Decodes the mask alone; None if there is none.

        Raises:
            DataError: If it cannot be decoded, or holds what the class table does not know.
        """
        if self.mask is None:
            return None
        match self.mask.suffix:
            case ".mat":
                return LabelledMask(ids=to_labels(read_matlab_map(self.mask), labels, self.mask))
            case ".txt":
                return LabelledMask(ids=read_regions(self.mask, len(labels)))
            case _:
                return label_mask(read_mask(self.mask), labels, self.palettes, self.mask)

    def read(self, labels: LabelSet) -> Sample:
        """Decodes the files.

        Raises:
            DataError: If one cannot be decoded, their sizes differ, or objects and classes disagree.
        """
        image = read_picture(self.picture, value_range=self.value_range)
        labelled = self.read_labels(labels)
        semantic = None if labelled is None else torch.from_numpy(labelled.ids)
        ids = None if self.instances is None else _read_ids(self.instances, self)
        for path, truth in ((self.mask, semantic), (self.instances, ids)):
            if truth is not None and truth.shape != image.shape[1:]:
                height, width = truth.shape
                is_turned = (height, width) == (image.shape[2], image.shape[1])
                turn = ". Turn it as the image is upright, or give it the same EXIF orientation" if is_turned else ""
                raise DataError(
                    f"{path}: {height} x {width} pixels (height x width), but its image {self.picture.name} has "
                    f"{image.shape[1]} x {image.shape[2]}: they must be of one size{turn}"
                )
        size = (int(image.shape[1]), int(image.shape[2]))
        objects = None if self.boxes is None else read_voc_boxes(self.boxes, labels, size)
        told_by = self.mask
        if self.listed is not None:
            objects = self.listed.of(self.picture, size)
            if self.listed.paints:
                semantic, ids = _painted(self.listed, labels.background, semantic, ids, size)
                told_by = told_by or self.listed.file
        if told_by is not None and self.instances is not None and semantic is not None and ids is not None:
            check_objects(semantic.numpy(), ids.numpy(), labels, (told_by, self.instances))
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

    def annotated(self) -> frozenset[str]:
        """See `Dataset.annotated`."""

    def read(self, labels: LabelSet) -> Sample:
        """Decodes them."""


class AnnotatedPictures(Dataset):
    """A data set that is a list of files; a set's own file says how the list comes about.

    A sample is made of its item and of the class table alone: both are in its content key, with all their fields.
    """

    items: Sequence[PictureFiles]
    is_own_folder: bool = False
    """Whether people made the masks and the class table themselves: then they are looked at with more doubt."""
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

    def annotated(self, index: int) -> frozenset[str]:
        """See `Dataset`."""
        return self.items[index].annotated()

    def content_key(self, index: int) -> str | None:
        """See `Dataset`."""
        item = self.items[index]
        return content_hash(item.files(), settings_digest(item, self.labels, shared=self.shared_digests).encode())

    def fingerprints(self, *, whole_files: bool | None = None) -> list[Fingerprint]:
        """See `Dataset`; remembered until a file changes.

        People's own files count as a whole: scans without compression and with black borders are alike at both ends. Of
        public data sets, which may have a hundred thousand images, size and both ends count. `whole_files` chooses.
        """
        whole = self.is_own_folder if whole_files is None else whole_files
        samples = [(item.files(), self.annotations(index)) for index, item in enumerate(self.items)]
        key = content_hash(
            [path for files, _ in samples for path in files],
            f"whole files: {whole}".encode(),
            *(f"{len(files)} ".encode() + annotations for files, annotations in samples),
        )
        values = remembered("fingerprints", key, lambda: sample_fingerprints(samples, whole=whole))
        return [Fingerprint(*value) for value in values]

    def annotations(self, index: int) -> bytes:
        """What files of the whole set say about one image."""
        return b""

    def read(self, index: int) -> Sample:
        """See `Dataset`."""
        return self.items[index].read(self.labels)

    def other_splits(self, opened: Container[str]) -> Iterator[tuple[str, "AnnotatedPictures"]]:
        """Opens the splits of the same folder beside those that are open, by name; of public data sets none."""
        return iter(())

    def read_labels(self, index: int) -> LabelledMask | None:
        """The label ids of one image, where a mask file tells them without decoding the image; None = it has none.

        Raises:
            DataError: If the mask cannot be used; names it.
        """
        item = self.items[index]
        paints = (
            isinstance(item, AnnotatedPicture) and item.mask is None and item.listed is not None and item.listed.paints
        )
        if isinstance(item, AnnotatedPicture) and not paints:
            return item.read_labels(self.labels)
        semantic = item.read(self.labels).semantic
        return None if semantic is None else LabelledMask(ids=semantic.numpy(), reading="painted polygons")


def paths_in(item: Any) -> list[Path]:
    """The files that the fields of a dataclass name."""
    values = (getattr(item, field.name) for field in fields(item))
    return [value for value in values if isinstance(value, Path)]


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


def color_ids(colors: UInt8[np.ndarray, "height width rgb"]) -> Int32[np.ndarray, "height width"]:
    """Numbers of a picture with a colour an object, black = 0, as COCO's panoptic files count them."""
    red, green, blue = (colors[..., k].astype(np.int32) for k in range(3))
    ids: np.ndarray = red + 256 * green + 65536 * blue
    return ids


def _painted(
    listed: CocoObjects, background: int, semantic: Tensor | None, ids: Tensor | None, size: Size
) -> tuple[Tensor, Tensor]:
    """Classes and object numbers; what the image's own files tell stands, the rest is painted from its objects."""
    classes, numbers = (torch.from_numpy(painted) for painted in listed.painted(size, background))
    semantic = classes if semantic is None else semantic
    return semantic, torch.where(classes == semantic, numbers, 0) if ids is None else ids


def _read_ids(path: Path, item: AnnotatedPicture) -> Int32[Tensor, "height width"]:
    ids = read_matlab_map(path) if path.suffix == ".mat" else _object_values(read_mask(path), item.numbering, path)
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


def _object_values(mask: MaskImage, numbering: str, path: Path) -> MaskValues:
    """Numbers or colours of objects; a palette's colours count where black, which means none, is not number 0."""
    if numbering != "plain":
        return mask.values
    if mask.is_lossy:
        raise DataError(f"{path}: object numbers do not survive a lossy file format. {remedy(True)}")
    check_smoothing(mask, path)
    colors = used_palette(mask)
    if mask.palette is not None and (0, 0, 0) in colors.values() and colors.get(0, (0, 0, 0)) != (0, 0, 0):
        return mask.palette[mask.values]
    return mask.values
