"""Picture files and the files with their truth, as samples."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int32
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

from smalti.containers import Sample
from smalti.data.cache import content_hash
from smalti.data.contract import DataError, Dataset
from smalti.data.masks import read_labels
from smalti.data.pictures import read_mask, read_picture
from smalti.labels import LabelSet


@dataclass(frozen=True, kw_only=True)
class AnnotatedPicture:
    """The files of one sample; what is not annotated is None."""

    name: str
    picture: Path
    mask: Path | None = None
    instances: Path | None = None

    def files(self) -> list[Path]:
        """All files that the sample is made of."""
        return [path for path in (self.picture, self.mask, self.instances) if path is not None]

    def read(self, labels: LabelSet) -> Sample:
        """Decodes the files.

        Raises:
            DataError: If one cannot be decoded, or their sizes differ.
        """
        image = read_picture(self.picture)
        semantic = None if self.mask is None else torch.from_numpy(read_labels(self.mask, labels))
        ids = None if self.instances is None else _read_ids(self.instances)
        for path, truth in ((self.mask, semantic), (self.instances, ids)):
            if truth is not None and truth.shape != image.shape[1:]:
                height, width = truth.shape
                raise DataError(
                    f"{path}: {height} x {width} pixels (height x width), but its picture {self.picture.name} has "
                    f"{image.shape[1]} x {image.shape[2]}: they must be of one size"
                )
        return Sample(
            image=Image(image),
            semantic=None if semantic is None else Mask(semantic),
            instance_ids=None if ids is None else Mask(ids),
            name=self.name,
        )


class AnnotatedPictures(Dataset):
    """A data set that is a list of files; a set's own file says how the list comes about."""

    items: list[AnnotatedPicture]

    def __len__(self) -> int:
        return len(self.items)

    def sample_name(self, index: int) -> str:
        """See `Dataset`."""
        return self.items[index].name

    def content_key(self, index: int) -> str | None:
        """See `Dataset`."""
        return content_hash(self.items[index].files(), json.dumps(self.labels.to_json()).encode())

    def read(self, index: int) -> Sample:
        """See `Dataset`."""
        return self.items[index].read(self.labels)


def _read_ids(path: Path) -> Int32[Tensor, "height width"]:
    ids = read_mask(path)
    if ids.ndim != 2:
        raise DataError(f"{path}: instance ids are whole numbers in one channel (16-bit PNG), this file has colours")
    return torch.from_numpy(ids.astype("int32"))
