"""Distances, edges and boxes of samples: what is not known is not learned."""

import numpy as np
import torch
from torchvision.tv_tensors import Image, Mask

from smalti.containers import Sample
from smalti.data.contract import Dataset
from smalti.data.derive import WithDistances, derive_targets
from smalti.labels import LabelSet

LABELS = LabelSet(names=("road", "car"), things=frozenset({"car"}))
NEEDS = frozenset({"semantic", "edges", "distances", "distances_valid", "distance_weights", "instances"})


class One(Dataset):
    name, split, labels = "one", "train", LABELS

    def __init__(self, sample):
        self.sample = sample

    def __len__(self):
        return 1

    def read(self, index):
        return self.sample

    def sample_name(self, index):
        return "a"

    def content_key(self, index):
        return None


def targets(classes, ids, norm="instance"):
    sample = Sample(
        image=Image(torch.zeros(3, *classes.shape, dtype=torch.uint8)), semantic=Mask(torch.from_numpy(classes)),
        instance_ids=None if ids is None else Mask(torch.from_numpy(ids)), name="a",
    )  # fmt: skip
    return derive_targets([WithDistances(One(sample), norm).read(0)], NEEDS)


def street():
    classes, ids = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.int32)
    classes[5:15, 5:15], ids[5:15, 5:15] = 1, 4
    classes[18:28, 20:38] = 1  # cars that nobody told apart
    return classes, ids


def test_things_that_are_not_told_apart_teach_nothing():
    classes, ids = street()
    found = targets(classes, ids)
    group = np.s_[0, 18:28, 20:38]
    assert not found.distances_valid[group].any()
    assert set(found.edges[group].unique().tolist()) == {1, 255}
    assert found.edges[0, 19:27, 21:37].unique().tolist() == [255]
    assert found.distances_valid[0, :15].all()
    assert not found.distances.isnan().any()
    assert found.edges[0, 7:13, 7:13].unique().tolist() == [0]
    assert found.instances[0].boxes.tolist() == [[5, 5, 15, 15]]
    assert found.instances[0].labels.tolist() == [1]


def test_pictures_without_objects_annotated():
    classes, _ = street()
    found = targets(classes, None)
    assert not found.distances_valid[0][torch.from_numpy(classes == 1)].any()
    assert found.distances_valid[0][torch.from_numpy(classes == 0)].all()
    assert found.edges[0, 7:13, 7:13].unique().tolist() == [255]
    assert found.instances == (None,)


def test_objects_too_small_for_the_norm():
    classes, ids = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.int32)
    classes[5:10, 5:10], ids[5:10, 5:10] = 1, 4  # 25 pixels, of at least 100
    assert targets(classes, ids).distances_valid.all()
    assert not targets(classes, ids, "dwt").distances_valid[0, 5:10, 5:10].any()


def test_slivers_that_a_crop_leaves_are_no_boxes():
    classes, ids = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.int32)
    classes[:, 0], ids[:, 0] = 1, 4
    assert len(targets(classes, ids).instances[0]) == 0
