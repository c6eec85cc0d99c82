"""Cityscapes and KITTI beyond the contract of all sets: label ids, objects, incomplete copies."""

import os

import numpy as np
import pytest

from fake_datasets import write_cityscapes, write_kitti
from smalti.data.contract import DataError
from smalti.data.sets.cityscapes import Cityscapes
from smalti.data.sets.kitti import Kitti
from smalti.labels import CITYSCAPES

CAR = CITYSCAPES.names.index("car")


@pytest.mark.parametrize(("opener", "write"), [(Cityscapes, write_cityscapes), (Kitti, write_kitti)])
def test_label_ids_become_classes_and_groups_no_objects(tmp_path, opener, write):
    sample = opener(write(tmp_path), "train").read(0)
    semantic, ids = sample.semantic.numpy(), sample.instance_ids.numpy()
    assert set(np.unique(semantic)) == {0, 2, 10, 11, CAR, 255}  # road, building, sky, person; id 0 is ignored
    assert (semantic[:8] == CAR).all()
    assert len(set(np.unique(ids[:8, :16]))) == 2
    assert (ids[:8, :8] > 0).all()
    assert (ids[:8, 16:] == 0).all()  # cars that were not told apart
    assert (ids[8:] == 0).all()


def test_cityscapes_lists_all_cities(tmp_path):
    root = write_cityscapes(tmp_path)
    assert [Cityscapes(root, split).sample_name(0) for split in ("train", "val", "test")] == [
        "aachen_000000_000019", "ulm_000000_000019", "bonn_000000_000019",
    ]  # fmt: skip
    assert len(Cityscapes(root)) == 4
    assert Cityscapes(root).edition == "incomplete: 4 of 2975 pictures"
    assert Cityscapes(root, "test").read(0).semantic is None
    lost = Cityscapes(root, "val").items[0].mask
    lost.unlink()
    with pytest.raises(DataError, match=lost.name):
        Cityscapes(root, "val")


def test_kitti_holds_out_every_fifth_picture(tmp_path):
    root = write_kitti(tmp_path)
    assert [Kitti(root, "val").sample_name(k) for k in range(2)] == ["000000_10", "000005_10"]
    assert len(Kitti(root, "train")) == 5
    assert len(Kitti(root, "trainval")) == 7
    assert Kitti(root, "test").read(0).semantic is None
    assert Kitti(root).edition == "incomplete: 7 of 200 pictures"
    (root / "training" / "image_2" / "000003_10.png").rename(root / "training" / "image_2" / "third.png")
    with pytest.raises(DataError, match="expected a name like"):
        Kitti(root)


def test_the_table_is_the_official_one():
    ids = dict(zip(CITYSCAPES.names, CITYSCAPES.ids, strict=True))
    assert (ids["road"], ids["vegetation"], ids["person"], ids["train"], ids["bicycle"]) == (7, 21, 24, 31, 33)
    assert len(CITYSCAPES) == 19
    assert len(CITYSCAPES.things) == 8
    assert set(range(34)) | {255} == set(CITYSCAPES.ids) | set(CITYSCAPES.ignored_ids)


@pytest.mark.skipif("SMALTI_DATA" not in os.environ, reason="needs the real data in SMALTI_DATA")
def test_the_real_kitti_sample():
    from pathlib import Path

    dataset = Kitti(Path(os.environ["SMALTI_DATA"]) / "KITTI_semantics_sample", "trainval")
    assert len(dataset) == 5
    for k in range(5):
        sample = dataset.read(k)
        assert sample.size == (370, 1224)
        things = [CITYSCAPES.names[c] in CITYSCAPES.things for c in np.unique(sample.semantic[sample.instance_ids > 0])]
        assert things
        assert all(things)
