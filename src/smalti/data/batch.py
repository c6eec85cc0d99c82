"""Samples of any sizes, as one batch."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from smalti.containers import Batch, Frame, Sample
from smalti.data.augment import paste_sample
from smalti.data.derive import Things, derive_targets


def collate(
    samples: Sequence[Sample], frames: Sequence[Frame] | None, needs: frozenset[str], is_thing: Things | None = None
) -> Batch:
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
    padded = [paste_sample(sample, size, (0, 0)) for sample in samples]
    return Batch(
        images=torch.stack([sample.image.as_subclass(Tensor) for sample in padded]),
        targets=derive_targets(padded, needs, is_thing),
        frames=tuple(replace(frame, padded=size) for frame in frames),
        names=tuple(sample.name for sample in samples),
    )
