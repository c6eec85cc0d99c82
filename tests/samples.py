"""Small samples made at run time."""

import torch
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

from fake_datasets import SIZE, index_mask, picture
from smalti.containers import Sample


def make(size=SIZE, seed=0):
    """Noise, with labels 0 to 2 and the instance ids 1 to 3 in the same places."""
    semantic = torch.from_numpy(index_mask(seed, [0, 1, 2], size))
    return Sample(
        image=Image(torch.from_numpy(picture(seed, size).transpose(2, 0, 1).copy())),
        semantic=Mask(semantic),
        instance_ids=Mask(semantic.int() + 1),
        name="x",
    )


def plain(sample):
    """Picture, labels and instance ids as ordinary tensors."""
    return [m.as_subclass(Tensor) for m in (sample.image, sample.semantic, sample.instance_ids)]
