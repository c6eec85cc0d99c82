import json
import os
import re
import time

import numpy as np
import pytest
from PIL import Image

from fake_datasets import SIZE, FolderShape, index_mask, picture, save, write_folder
from smalti.data.dataset import DataError, open_dataset
from smalti.data.sets.folder import SPLITS, _share

BY_FOLDERS = FolderShape(stems=("train/a", "train/deep/b", "val/a", "test/c"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path_factory.mktemp("cache")))


def opened(root, split="all", **options):
    return open_dataset("folder", root=root, split=split, options=options)


def names(dataset):
    return [dataset.sample_name(k) for k in range(len(dataset))]


def test_splits_by_folders(tmp_path):
    root = write_folder(tmp_path, BY_FOLDERS)
    assert {s: names(opened(root, s)) for s in ("train", "val", "test")} == {
        "train": ["a", "deep__b"], "val": ["a"], "test": ["c"],
    }  # fmt: skip
    assert names(opened(root)) == ["test__c", "train__a", "train__deep__b", "val__a"]


def test_splits_by_share_are_a_partition(tmp_path):
    root = write_folder(tmp_path, FolderShape(stems=tuple(f"s{k}" for k in range(20))))
    parts = [names(opened(root, s, validation=0.2, test=0.2)) for s in ("train", "val", "test")]
    assert sorted(parts[0] + parts[1] + parts[2]) == names(opened(root))
    assert parts[2] == ["s14", "s2", "s3"], "lines of `printf 0/$stem | sha256sum` below 33333333, on every machine"
    assert names(opened(root, "test", validation=0.2, test=0.2, seed=1)) != parts[2]


def test_images_stay_in_their_split_when_others_are_added(tmp_path):
    stems = tuple(f"s{k}" for k in range(40))
    write_folder(tmp_path / "few", FolderShape(stems=stems[:25]))
    write_folder(tmp_path / "more", FolderShape(stems=stems))
    for split in ("train", "val", "test"):
        assert set(names(opened(tmp_path / "few", split))) == set(names(opened(tmp_path / "more", split))) & {
            *stems[:25]
        }


@pytest.mark.parametrize("count", [3, 4, 5, 7])
def test_no_split_of_a_handful_is_empty(tmp_path, count):
    root = write_folder(tmp_path, FolderShape(stems=tuple(f"photo{k}" for k in range(count))))
    parts = [names(opened(root, split)) for split in ("train", "val", "test")]
    assert all(parts)
    assert sorted(name for part in parts for name in part) == names(opened(root))


@pytest.mark.parametrize(("share", "count"), [(0.15, 100_000), (1e-9, 20_000)])
def test_many_images_are_split_in_linear_time(share, count):
    """With the tiny share no hash falls into the split, which then takes the nearest image."""
    begun = time.process_time()
    part = _share([f"image{k}" for k in range(count)], "val", (share, share), 0)
    assert time.process_time() - begun < 10
    assert len(part) == pytest.approx(share * count, rel=0.05, abs=1)


def test_names_that_are_not_utf_8_are_split(tmp_path):
    root = write_folder(tmp_path, FolderShape(stems=("a", "b", "c", os.fsdecode(b"caf\xe9"))))
    assert sorted(name for split in SPLITS for name in names(opened(root, split))) == names(opened(root))


def test_a_share_that_cannot_be(tmp_path):
    root = write_folder(tmp_path)
    with pytest.raises(DataError, match="shares"):
        opened(root, validation=0.6, test=0.4)
    with pytest.raises(DataError, match='no pictures in the split "test"'):
        opened(root, "test", test=0.0)


def test_any_suffix_is_paired_by_path(tmp_path):
    save(tmp_path / "images" / "x" / "one.v2.JPG", picture(1))
    save(tmp_path / "masks" / "x" / "one.v2.tif", index_mask(1, [0, 1]))
    save(tmp_path / "images" / "two.bmp", picture(2))
    save(tmp_path / "masks" / "two.png", index_mask(2, [0, 1]))
    (tmp_path / "images" / ".hidden.png").write_bytes(b"")
    (tmp_path / "images" / "notes.txt").write_text("no picture")
    assert names(opened(tmp_path)) == ["two", "x__one.v2"]


def test_unpaired_files_are_listed(tmp_path):
    root = write_folder(tmp_path)
    for stem in ("p1", "p2", "p3", "p4", "p5", "p6"):
        (root / "masks" / f"{stem}.png").unlink()
    save(root / "masks" / "other.png", index_mask(0, [0]))
    expected = "6 pictures without a mask: p1, p2, p3, p4, p5 and 1 more; 1 masks without a picture: other"
    with pytest.raises(DataError, match=re.escape(expected)):
        opened(root)


def test_pictures_alone(tmp_path):
    save(tmp_path / "images" / "a.png", picture(0))
    with pytest.raises(DataError, match="masks: no such folder"):
        opened(tmp_path)
    sample = opened(tmp_path, require_masks=False).read(0)
    assert sample.semantic is None
    assert sample.size == SIZE


def test_some_pictures_without_a_mask(tmp_path):
    root = write_folder(tmp_path)
    (root / "masks" / "p1.png").unlink()
    dataset = opened(root, require_masks=False)
    assert [dataset.read(k).semantic is None for k in range(3)] == [False, True, False]


def test_two_files_of_one_stem(tmp_path):
    root = write_folder(tmp_path)
    save(root / "images" / "p1.jpg", picture(0))
    with pytest.raises(DataError, match="same stem"):
        opened(root)


def test_empty_folder(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="no pictures here"):
        opened(tmp_path)


def test_class_table_remaps_ids(tmp_path):
    table = {"classes": [{"id": 7, "name": "a"}, {"id": 300, "name": "b"}], "ignored_ids": [9, 255]}
    root = write_folder(tmp_path, FolderShape(stems=("p",), values=(7, 9, 255), table=table))
    mask = np.full(SIZE, 300, np.uint16)
    mask[0, :4] = (7, 9, 255, 300)
    save(root / "masks" / "p.png", mask)
    dataset = opened(root)
    assert dataset.labels.names == ("a", "b")
    assert dataset.read(0).semantic[0, :4].tolist() == [0, 255, 255, 1]


def test_classes_found_in_index_masks(tmp_path):
    root = write_folder(tmp_path, FolderShape(values=(3, 5, 4, 255), table=None))
    dataset = opened(root, "val")
    assert dataset.labels.names == ("class_3", "class_4", "class_5")
    stored = np.asarray(Image.open(root / "masks" / f"{dataset.sample_name(0)}.png"))
    expected = np.vectorize({3: 0, 4: 1, 5: 2, 255: 255}.get)(stored)
    assert np.array_equal(dataset.read(0).semantic.numpy(), expected)


def test_found_classes_follow_changed_masks(tmp_path):
    root = write_folder(tmp_path, FolderShape(values=(0, 1), table=None))
    assert len(opened(root).labels) == 2
    save(root / "masks" / "p0.png", index_mask(0, [0, 1, 2]))
    assert len(opened(root).labels) == 3


def test_classes_found_in_colour_masks(tmp_path):
    save(tmp_path / "images" / "a.png", picture(0))
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[:5], mask[5:9] = (255, 0, 0), (0, 0, 128)
    save(tmp_path / "masks" / "a.png", mask)
    dataset = opened(tmp_path)
    assert dataset.labels.names == ("class_000000", "class_000080", "class_ff0000")
    assert dataset.labels.colors == ((0, 0, 0), (0, 0, 128), (255, 0, 0))
    assert dataset.read(0).semantic[[0, 6, 20], 0].tolist() == [2, 1, 0]


def test_colours_of_palette_masks_are_kept(tmp_path):
    save(tmp_path / "images" / "a.png", picture(0))
    mask = Image.fromarray(index_mask(0, [0, 2, 255])).convert("P")
    mask.putdata(index_mask(0, [0, 2, 255]).ravel().tolist())
    mask.putpalette([10, 20, 30, 0, 0, 0, 40, 50, 60] + [0] * 759)
    (tmp_path / "masks").mkdir()
    mask.save(tmp_path / "masks" / "a.png")
    labels = opened(tmp_path).labels
    assert (labels.names, labels.colors) == (("class_0", "class_2"), ((10, 20, 30), (40, 50, 60)))


def test_masks_of_0_and_255_need_a_table(tmp_path):
    root = write_folder(tmp_path, FolderShape(values=(0, 255), table=None))
    with pytest.raises(DataError, match=r"255 means ignored.*labels\.json") as caught:
        opened(root)
    example = json.loads(str(caught.value).split("labels.json: ", 1)[1])
    (root / "labels.json").write_text(json.dumps(example))
    assert set(np.unique(opened(root).read(0).semantic.numpy())) == {0, 1}


def test_colour_masks_with_a_table(tmp_path):
    table = {"classes": [{"name": "a", "color": [200, 0, 0]}, {"name": "b", "color": [0, 200, 0]}]}
    root = write_folder(tmp_path, FolderShape(stems=("p",), table=table))
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[1:, :9], mask[1:, 9:] = (200, 0, 0), (0, 200, 0)
    save(root / "masks" / "p.png", mask)
    semantic = opened(root).read(0).semantic
    assert (semantic[0] == 255).all(), "black is ignored where no class is black"
    assert (semantic[1:, :9] == 0).all()
    assert (semantic[1:, 9:] == 1).all()
    mask[4, 3] = (200, 0, 1)
    save(root / "masks" / "p.png", mask)
    with pytest.raises(DataError, match=r"p\.png: colour \(200, 0, 1\) first at row 4, column 3; 1 pixels"):
        opened(root).read(0)


def test_index_mask_saved_as_rgb_is_explained(tmp_path):
    root = write_folder(tmp_path)
    save(root / "masks" / "p0.png", np.repeat(index_mask(0, [0, 1])[..., None], 3, axis=2))
    with pytest.raises(DataError, match="index mask saved with three channels"):
        opened(root).read(0)


def test_jpeg_masks_are_explained(tmp_path):
    root = write_folder(tmp_path)
    (root / "masks" / "p0.png").unlink()
    save(root / "masks" / "p0.jpg", index_mask(0, [0, 1, 2, 100]))
    with pytest.raises(DataError, match="JPEG changes values"):
        opened(root).read(0)


def test_sizes_that_differ(tmp_path):
    root = write_folder(tmp_path)
    save(root / "masks" / "p0.png", index_mask(0, [0, 1], (24, 31)))
    with pytest.raises(DataError, match=r"p0\.png: 24 x 31 pixels .* p0\.png has 24 x 32"):
        opened(root).read(0)


def test_broken_class_table(tmp_path):
    root = write_folder(tmp_path)
    (root / "labels.json").write_text("{")
    with pytest.raises(DataError, match=r"labels\.json: is broken JSON at line 1"):
        opened(root)


def test_instance_ids(tmp_path):
    root = write_folder(tmp_path, FolderShape(instances=True))
    ids = opened(root).read(0).instance_ids
    assert ids.flatten().tolist() == list(range(SIZE[0] * SIZE[1]))


def test_objects_without_a_picture_are_listed(tmp_path):
    root = write_folder(tmp_path, FolderShape(instances=True))
    first = next((root / "instances").rglob("*.png"))
    (root / "instances" / "stray_instances.png").write_bytes(first.read_bytes())
    with pytest.raises(DataError, match="1 files in instances/ without a picture: stray_instances"):
        opened(root)


def test_an_empty_folder_of_objects_is_none(tmp_path):
    root = write_folder(tmp_path)
    (root / "instances").mkdir()
    assert opened(root).read(0).instance_ids is None


@pytest.mark.parametrize("name", ["training", "Train", "valid"])
def test_folders_that_look_like_splits_are_not_mixed(tmp_path, name):
    root = write_folder(tmp_path)
    (root / "images" / name).mkdir()
    with pytest.raises(DataError, match=f"is the folder {name} a split"):
        open_dataset("folder", root=root, split="train", options={})


def test_one_class_is_nothing_to_learn(tmp_path):
    root = write_folder(tmp_path, FolderShape(values=(0,), table=None))
    with pytest.raises(DataError, match="which is one class"):
        open_dataset("folder", root=root, split="train", options={})


def test_names_written_in_two_ways_are_paired(tmp_path):
    root = write_folder(tmp_path, FolderShape(stems=("caf\u00e9", "b", "c", "d")))
    (root / "masks" / "caf\u00e9.png").rename(root / "masks" / "cafe\u0301.png")
    assert len(open_dataset("folder", root=root, split="all", options={})) == 4


def test_links_to_folders_are_followed(tmp_path):
    root = write_folder(tmp_path / "real")
    (tmp_path / "linked" / "images").mkdir(parents=True)
    (tmp_path / "linked" / "masks").symlink_to(root / "masks")
    (tmp_path / "linked" / "labels.json").symlink_to(root / "labels.json")
    for split in ("train", "val"):
        (tmp_path / "linked" / "images" / split).mkdir()
    (tmp_path / "linked" / "images" / "train").rmdir()
    (tmp_path / "linked" / "images" / "train").symlink_to(root / "images")
    (tmp_path / "linked" / "masks").unlink()
    (tmp_path / "linked" / "masks").mkdir()
    (tmp_path / "linked" / "masks" / "train").symlink_to(root / "masks")
    assert len(open_dataset("folder", root=tmp_path / "linked", split="train", options={})) == 10
