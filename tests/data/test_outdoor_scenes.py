"""Stanford Background and SIFT Flow beyond the contract of all sets: folds, text and MATLAB maps, incomplete copies."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fake_datasets import ORDER, SIFT_TEST, SIFT_TRAIN, write_sift_flow, write_stanford_background
from smalti.data.contract import DataError
from smalti.data.dataset import open_dataset
from smalti.data.regions import read_regions
from smalti.data.sets.sift_flow import COLLECTION, SiftFlow
from smalti.data.sets.stanford_background import StanfordBackground
from smalti.labels import SIFT_FLOW, STANFORD_BACKGROUND


def names(dataset):
    return [dataset.sample_name(k) for k in range(len(dataset))]


@pytest.fixture(scope="module")
def stanford(tmp_path_factory):
    return write_stanford_background(tmp_path_factory.mktemp("stanford"))


def test_folds_are_apart_and_cover_everything(stanford):
    folds = [set(names(StanfordBackground(stanford, "test", fold=k))) for k in range(1, 6)]
    assert [len(fold) for fold in folds] == [143] * 5
    assert len(set.union(*folds)) == 715
    assert set.union(*folds) == set(names(StanfordBackground(stanford, "all")))


def test_splits_of_a_fold(stanford):
    parts = {
        split: names(StanfordBackground(stanford, split, fold=2)) for split in ("train", "val", "trainval", "test")
    }
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 515, "val": 57, "trainval": 572, "test": 143,
    }  # fmt: skip
    assert sorted(parts["train"] + parts["val"]) == sorted(parts["trainval"])
    assert not set(parts["trainval"]) & set(parts["test"])


def test_the_order_is_fixed():
    """Numbers that were measured on a fold stay comparable only as long as it holds the same pictures."""
    order = ORDER.read_text().split()
    assert (len(order), len(set(order))) == (715, 715)
    assert hashlib.sha256(" ".join(order).encode()).hexdigest()[:16] == ORDER_HASH
    assert order[:3] + order[-2:] == ORDER_BEGINS_AND_ENDS


ORDER_HASH = "b96c0f2c940a24e1"
ORDER_BEGINS_AND_ENDS = ["6000140", "0105305", "6000123", "6000152", "6000116"]


def test_unknown_pixels_are_ignored(stanford):
    dataset = StanfordBackground(stanford, "test")
    sample = dataset.read(0)
    text = (stanford / "labels" / f"{sample.name}.regions.txt").read_text()
    regions = np.array([line.split() for line in text.splitlines()], int)
    assert np.array_equal(sample.semantic.numpy(), np.where(regions < 0, 255, regions))
    assert dataset.labels == STANFORD_BACKGROUND
    assert dataset.edition == "fold 1"


@pytest.mark.parametrize("fold", [0, 6, -1])
def test_folds_that_are_none(stanford, fold):
    with pytest.raises(DataError, match=f"folds 1 to 5, got fold={fold}"):
        StanfordBackground(stanford, fold=fold)


def test_a_fold_is_chosen_by_an_option(stanford):
    dataset = open_dataset("stanford_background", root=stanford, split="test", options={"fold": "3"})
    assert dataset.edition == "fold 3"


def test_missing_label_files_are_named(tmp_path):
    root = write_stanford_background(tmp_path)
    lost = StanfordBackground(root, "val").items[4].mask
    lost.unlink()
    with pytest.raises(DataError, match=f"1 listed files are missing: .*{lost.name}"):
        StanfordBackground(root, "val")
    assert len(StanfordBackground(root, "test")) == 143


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(("text", "message"), [
    ("", "empty"),
    ("0 1\n0 1 2\n", r"line 2 has 3 numbers, the lines before have 2"),
    ("0 1\n0 x\n", "whole numbers only"),
    ("0 1\n0 1.5\n", "whole numbers only"),
    ("0 -2\n0 1\n", r"region -2 first at row 0, column 1; 1 pixels"),
    ("0 1\n8 1\n", r"region 8 first at row 1, column 0; .* \(0 to 7\) nor unknown \(-1\)"),
])  # fmt: skip
def test_region_files_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_regions(written(tmp_path / "a.regions.txt", text), 8)


def test_region_files_that_are_not_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "a.txt", tmp_path / "none.txt"):
        with pytest.raises(DataError, match=f"{path.name}: cannot be read"):
            read_regions(path, 8)


def test_regions_that_are_no_class_and_maps_of_another_size(tmp_path):
    root = write_stanford_background(tmp_path)
    dataset = StanfordBackground(root, "test")
    mask = dataset.items[0].mask
    mask.write_text(mask.read_text().replace("7", "8", 1))
    with pytest.raises(DataError, match=rf"{mask.name}: region 8 first at row"):
        dataset.read(0)
    mask.write_text("0 1\n1 0\n")
    with pytest.raises(DataError, match=r"2 x 2 pixels .* has 24 x 32"):
        dataset.read(0)


def test_sift_flow_splits_by_its_list(tmp_path):
    root = write_sift_flow(tmp_path)
    assert names(SiftFlow(root, "test")) == sorted(SIFT_TEST)
    assert names(SiftFlow(root, "train")) == sorted(SIFT_TRAIN)
    listing = root / "TestSet1.txt"
    listing.write_text("".join(f"{COLLECTION}/{name}\n" for name in SIFT_TEST))  # the other way to write it
    listing.rename(root / "test.txt")
    assert names(SiftFlow(tmp_path, "test")) == sorted(SIFT_TEST)


def test_sift_flow_zero_is_unlabelled(tmp_path):
    sample = SiftFlow(write_sift_flow(tmp_path), "test").read(0)
    assert set(np.unique(sample.semantic)) == {0, 19, 32, 255}
    assert (SIFT_FLOW.names[0], SIFT_FLOW.names[32]) == ("awning", "window")


def test_sift_flow_maps_in_matlabs_own_numbers(tmp_path):
    root = write_sift_flow(tmp_path)
    dataset = SiftFlow(root, "test")
    before = dataset.read(0).semantic.clone()
    values = before.numpy().astype(float) + 1
    values[values == 256] = 0
    savemat(dataset.items[0].mask, {"S": values})
    assert np.array_equal(dataset.read(0).semantic, before)


def test_sift_flow_incomplete_copies(tmp_path):
    root = write_sift_flow(tmp_path)
    dataset = SiftFlow(root, "train")
    savemat(dataset.items[0].mask, {"T": np.zeros((24, 32), np.uint8)})
    with pytest.raises(DataError, match=f"{dataset.items[0].mask.name}: no readable MATLAB file .* variable S"):
        dataset.read(0)
    savemat(dataset.items[0].mask, {"S": np.full((24, 32), 0.5)})
    with pytest.raises(DataError, match="expected a map of whole numbers"):
        dataset.read(0)
    dataset.items[1].mask.unlink()
    with pytest.raises(DataError, match="1 listed files are missing"):
        SiftFlow(root, "train")
    (root / "TestSet1.txt").write_text("coast_n99\n")
    with pytest.raises(DataError, match="coast_n99.jpg"):
        SiftFlow(root, "test")
    (root / "TestSet1.txt").unlink()
    with pytest.raises(DataError, match="no list of the test pictures"):
        SiftFlow(root, "test")


@pytest.mark.skipif("SMALTI_DATA" not in os.environ, reason="needs the real data in SMALTI_DATA")
def test_the_real_stanford_background():
    dataset = StanfordBackground(None, "all")
    sizes = {line.split()[0]: tuple(map(int, line.split()[2:0:-1]))
             for line in (dataset.root / "horizons.txt").read_text().splitlines()}  # fmt: skip
    assert len(dataset) == 715
    assert len(set(sizes.values())) == 51
    counts = np.zeros(256, int)
    for k in range(0, len(dataset), 5):
        sample = dataset.read(k)
        assert sample.size == sizes[sample.name]
        counts += np.bincount(sample.semantic.numpy().ravel(), minlength=256)
    assert counts[8:255].sum() == 0
    shares = 100 * counts[:8] / counts.sum()
    assert np.abs(shares - [14.5, 14.0, 22.5, 6.9, 4.0, 22.6, 1.3, 13.7]).max() < 3
