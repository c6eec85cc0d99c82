import itertools

import pytest
import torch
from torch import Tensor

from smalti.data.dataset import DataError, open_dataset
from smalti.data.scene_drawing import SCENES_VERSION, draw_scene


def opened(split="train", **options):
    return open_dataset("scenes", root=None, split=split, options={"size": (64, 96), **options})


def test_default_lengths():
    assert [len(open_dataset("scenes", root=None, split=s, options={})) for s in ("train", "val", "test")] == [
        512,
        64,
        64,
    ]


def test_the_version_is_named():
    assert f"version {SCENES_VERSION}" in opened().labels.title


def test_sample_is_the_drawn_scene():
    dataset = opened("val", seed=3)
    sample, scene = dataset.read(2), draw_scene(dataset.first + 2, (64, 96))
    assert torch.equal(sample.image.as_subclass(Tensor), torch.from_numpy(scene.image).permute(2, 0, 1))
    assert torch.equal(sample.semantic.as_subclass(Tensor), torch.from_numpy(scene.semantic))
    assert torch.equal(sample.instance_ids.as_subclass(Tensor), torch.from_numpy(scene.instance_ids))


def test_splits_and_seeds_share_no_scene():
    ranges = sorted(
        (d.first, d.first + len(d)) for seed in range(4) for s in ("train", "val", "test")
        for d in [opened(s, seed=seed, length=1_000_000)]
    )  # fmt: skip
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))


def test_numbers_out_of_range():
    for options in ({"length": 0}, {"length": 1_000_001}, {"seed": -1}):
        with pytest.raises(DataError, match="length must be"):
            opened(**options)
    with pytest.raises(IndexError):
        opened(length=2).read(2)
    with pytest.raises(ValueError, match="64 x 96"):
        opened(size=(32, 32)).read(0)
