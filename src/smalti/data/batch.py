"""Samples of any sizes, as one batch."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

from smalti.containers import Batch, Frame, Sample, Size
from smalti.data.augment import paste
from smalti.data.derive import derive_targets
from smalti.labels import IGNORED


def collate(samples: Sequence[Sample], frames: Sequence[Frame] | None, needs: frozenset[str]) -> Batch:
    """Stacks pictures and truth; smaller ones are padded at the right and bottom (picture 0, truth 255).

    `frames` None = the pictures come in as they are. The batch's frames say the padded size.

    Raises:
        ValueError: If there are no samples, or pictures differ in their number of channels.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample")
    if len({sample.image.shape[0] for sample in samples}) > 1:
        channels = ", ".join(f"{s.name}: {s.image.shape[0]}" for s in samples)
        raise ValueError(f"the pictures of a batch must have the same number of channels, got {channels}")
    size = (max(s.size[0] for s in samples), max(s.size[1] for s in samples))
    frames = [Frame.whole(s.size) for s in samples] if frames is None else frames
    padded = [_padded(sample, size) for sample in samples]
    return Batch(
        images=torch.stack([sample.image.as_subclass(Tensor) for sample in padded]),
        targets=derive_targets(padded, needs),
        frames=tuple(replace(frame, padded=size) for frame in frames),
        names=tuple(sample.name for sample in samples),
    )


def _padded(sample: Sample, size: Size) -> Sample:
    if sample.size == size:
        return sample
    semantic, ids = sample.semantic, sample.instance_ids
    return replace(
        sample,
        image=Image(paste(sample.image, size, (0, 0), 0)),
        semantic=None if semantic is None else Mask(paste(semantic, size, (0, 0), IGNORED)),
        instance_ids=None if ids is None else Mask(paste(ids, size, (0, 0), 0)),
    )
