"""VOC and SBD beyond the contract of all sets: years, rings, the joined training set, incomplete copies."""

import numpy as np
import pytest
import torch
from PIL import Image

from fake_datasets import SBD_SPLITS, VOC_SPLITS, write_sbd, write_voc
from smalti.data.contract import DataError
from smalti.data.dataset import open_dataset
from smalti.data.sets.sbd import Sbd
from smalti.data.sets.voc import Voc
from smalti.labels import VOC


def names(dataset):
    return [dataset.sample_name(k) for k in range(len(dataset))]


def test_colours_are_those_of_the_published_rule():
    """Bit k of a class id, three by three, gives bit 7 - k / 3 of red, green and blue."""
    for label, color in enumerate(VOC.colors):
        expected = [sum(((label >> (3 * k + channel)) & 1) << (7 - k) for k in range(3)) for channel in range(3)]
        assert list(color) == expected


def test_rings_are_ignored_and_objects_counted(tmp_path):
    root = write_voc(tmp_path)
    sample = Voc(root).read(0)
    folder = root / "VOC2012"
    classes = np.array(Image.open(folder / "SegmentationClass" / f"{sample.name}.png"))
    objects = np.array(Image.open(folder / "SegmentationObject" / f"{sample.name}.png"))
    assert np.array_equal(sample.semantic.numpy(), classes)
    assert np.array_equal(sample.instance_ids.numpy(), np.where(objects == 255, 0, objects))


def test_without_objects_there_are_no_instances(tmp_path):
    root = write_voc(tmp_path)
    (root / "VOC2012" / "SegmentationObject").rename(tmp_path / "elsewhere")
    (root / "VOC2012" / "Annotations").rename(tmp_path / "not needed")
    assert Voc(root).read(0).instance_ids is None


def test_years(tmp_path):
    write_voc(tmp_path, "2007")
    assert Voc(tmp_path).root.name == "VOC2007"
    write_voc(tmp_path / "more", "2012")
    (tmp_path / "more" / "VOCdevkit" / "VOC2012").rename(tmp_path / "VOCdevkit" / "VOC2012")
    assert Voc(tmp_path).root.name == "VOC2012"
    assert Voc(tmp_path, year=2007).root.name == "VOC2007"
    assert (Voc(tmp_path).edition, Voc(tmp_path, year=2007).edition) == ("2012", "2007")
    assert open_dataset("voc", root=tmp_path, split="val", options={"year": "2007"}).edition == "2007"
    (tmp_path / "VOCdevkit" / "VOC2012").rename(tmp_path / "VOCdevkit" / "VOC2012_old")
    assert Voc(tmp_path).edition == "2007"
    (tmp_path / "VOCdevkit" / "VOC2012_old").rename(tmp_path / "VOCdevkit" / "VOC2012")
    with pytest.raises(DataError, match=r"no VOC2011 here, only VOC2007, VOC2012"):
        Voc(tmp_path, year=2011)


def test_splits(tmp_path):
    root = write_voc(tmp_path)
    assert names(Voc(root, "trainval")) == list(VOC_SPLITS["train"] + VOC_SPLITS["val"])
    assert names(Voc(root, "test")) == list(VOC_SPLITS["test"])


def test_the_augmented_training_set_leaves_out_what_is_validated_on(tmp_path):
    root = write_voc(tmp_path)
    write_sbd(tmp_path)  # beside VOCdevkit, where it is found
    joined = Voc(root, "train_aug")
    assert names(joined) == [*VOC_SPLITS["train"], "2008_000001", "2008_000002", "2008_000003"]
    masks = {item.name: item.mask.suffix for item in joined.items}
    assert masks["2007_000001"] == ".png"  # VOC's own where both have one
    assert masks["2008_000001"] == ".mat"
    assert len({joined.content_key(k) for k in range(len(joined))}) == len(joined)
    semantic = joined.read(2).semantic
    assert set(semantic.unique().tolist()) == {0, 7, 12}


def test_the_augmented_training_set_says_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.delenv("SMALTI_DATA", raising=False)
    root = write_voc(tmp_path)
    with pytest.raises(DataError, match=r"train_aug joins VOC 2012 with SBD.*--set data\.train=train"):
        Voc(root, "train_aug")
    with pytest.raises(DataError, match=r"nowhere.*--set data\.options\.sbd=FOLDER"):
        Voc(root, "train_aug", sbd=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="train_aug joins SBD with VOC2012, this is VOC2007"):
        Voc(write_voc(tmp_path / "old", "2007"), "train_aug")
    place = write_sbd(tmp_path / "far" / "away")
    assert len(Voc(root, "train_aug", sbd=str(place))) == 5


@pytest.mark.parametrize("missing", [
    "ImageSets/Segmentation/train.txt", "SegmentationClass/2007_000002.png", "JPEGImages/2007_000001.jpg",
    "SegmentationObject/2007_000002.png", "Annotations/2007_000001.xml",
])  # fmt: skip
def test_incomplete_copies_are_named(tmp_path, missing):
    root = write_voc(tmp_path)
    (root / "VOC2012" / missing).unlink()
    with pytest.raises(DataError, match=missing.rpartition("/")[2]):
        Voc(root)


def test_an_empty_list_is_named(tmp_path):
    root = write_voc(tmp_path)
    (root / "VOC2012/ImageSets/Segmentation/train.txt").write_text("\n\n")
    with pytest.raises(DataError, match=r"train\.txt: lists no pictures"):
        Voc(root)


def test_sbd_reads_its_own_format(tmp_path):
    dataset = Sbd(write_sbd(tmp_path), "val")
    assert names(dataset) == list(SBD_SPLITS["val"])
    sample = dataset.read(0)
    assert set(sample.semantic.unique().tolist()) == {0, 7, 12}
    assert set(sample.instance_ids.unique().tolist()) == {0, 1, 2}
    assert sample.instance_ids.dtype == torch.int32


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other", "shape"])
def test_a_corrupt_matlab_file_is_named(tmp_path, damage):
    from scipy.io import savemat

    root = write_sbd(tmp_path)
    path = root / "cls" / "2008_000001.mat"
    content = path.read_bytes()
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "text":
            path.write_text("this is no MATLAB file" * 20)
        case "other":
            savemat(path, {"something": np.zeros(3)})
        case "shape":
            savemat(path, {"GTcls": {"Segmentation": np.zeros((2, 3, 4))}})
    with pytest.raises(DataError, match=r"2008_000001\.mat"):
        Sbd(root).read(0)


def test_a_missing_matlab_file_is_named(tmp_path):
    root = write_sbd(tmp_path)
    (root / "inst" / "2008_000001.mat").unlink()
    with pytest.raises(DataError, match=r"train\.txt: 1 listed files are missing: .*2008_000001\.mat"):
        Sbd(root)


@pytest.mark.real
def test_real_pictures(real_data):
    train, val = (Voc(real_data / "VOC2007_subset", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (20, 24)
    seen = set()
    for dataset in (train, val):
        for k in range(len(dataset)):
            sample = dataset.read(k)
            seen |= set(sample.semantic.unique().tolist())
            assert sample.instance_ids.max() <= 10
            assert bool((sample.semantic[sample.instance_ids > 0] > 0).all())
    assert seen == {*range(21), 255}
