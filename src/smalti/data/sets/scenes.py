"""Procedural street scenes: an endless data set that needs no download."""

import dataclasses
from pathlib import Path

import cv2
import torch
from torchvision.tv_tensors import Image, Mask

from smalti.containers import Sample, Size
from smalti.data.contract import DataError, Dataset, check_split
from smalti.data.scene_drawing import SCENES_VERSION, draw_scene
from smalti.labels import CAMVID

LENGTHS = {"train": 512, "val": 64, "test": 64}
_MOST = 1_000_000  # scenes of one split; keeps the seeds of splits apart


class Scenes(Dataset):
    """Procedural street scenes with CamVid's 11 classes, drawn from a seed: 512 train, 64 val, 64 test."""

    name = "scenes"
    edition = f"version {SCENES_VERSION}"
    labels = dataclasses.replace(CAMVID, title=f"procedural street scenes, version {SCENES_VERSION}")

    def __init__(
        self,
        root: Path | None = None,
        split: str = "train",
        *,
        size: Size = (192, 256),
        length: int | None = None,
        train_length: int = LENGTHS["train"],
        seed: int = 0,
    ) -> None:
        """The scenes of two splits or two seeds are never the same. `root` is unused.

        `length` is that of this split, whichever it is; without it `train` has `train_length` scenes, the others 64.

        Raises:
            DataError: If there is no such split, or a number is out of range.
        """
        self.split = check_split(split, tuple(LENGTHS), self.name)
        self.size = (size[0], size[1])
        self.length = length if length is not None else train_length if split == "train" else LENGTHS[split]
        if not 1 <= self.length <= _MOST or seed < 0:
            raise DataError(f"scenes: length must be 1 to {_MOST} and seed 0 or more, got {self.length} and {seed}")
        self.first = (seed * len(LENGTHS) + list(LENGTHS).index(split)) * _MOST

    def __len__(self) -> int:
        return self.length

    def sample_name(self, index: int) -> str:
        """See `Dataset`."""
        return f"scene_{self.first + index:08d}"

    def content_key(self, index: int) -> str | None:
        """See `Dataset`; drawing a scene costs more than ten times what reading it does."""
        # The JPEG coder, through which some scenes pass, is OpenCV's: its version decides about the last bits.
        height, width = self.size
        return f"scenes-{SCENES_VERSION}-{cv2.__version__}-{height}x{width}-{self.first + index}"

    def read(self, index: int) -> Sample:
        """See `Dataset`."""
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        scene = draw_scene(self.first + index, self.size)
        return Sample(
            image=Image(torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()),
            semantic=Mask(torch.from_numpy(scene.semantic)),
            instance_ids=Mask(torch.from_numpy(scene.instance_ids)),
            name=self.sample_name(index),
        )
