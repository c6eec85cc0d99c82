"""Objects that disagree with the classes are named; unusual files of objects are understood."""

import json

import numpy as np
import pytest
from PIL import Image

from smalti.data.contract import DataError
from smalti.data.dataset import open_dataset

CLASSES = {"classes": [{"id": 0, "name": "road"}, {"id": 1, "name": "car", "thing": True}]}


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path / "cache"))

    def make(classes, ids, table=CLASSES):
        for name in ("images", "masks", "instances"):
            (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(np.zeros((*classes.shape, 3), np.uint8)).save(tmp_path / "images" / "a.png")
        Image.fromarray(classes).save(tmp_path / "masks" / "a.png")
        ids.save(tmp_path / "instances" / "a.tif")
        (tmp_path / "labels.json").write_text(json.dumps(table))
        return open_dataset("folder", root=tmp_path, split="all", options={}).read(0)

    return make


def street():
    classes = np.zeros((20, 30), np.uint8)
    classes[5:15, 5:15] = 1
    return classes


def test_objects_with_their_classes(opened):
    ids = np.zeros((20, 30), np.uint16)
    ids[5:15, 5:10], ids[5:15, 10:15] = 7, 60000
    sample = opened(street(), Image.fromarray(ids))
    assert np.unique(sample.instance_ids.numpy()).tolist() == [0, 7, 60000]


def test_one_that_lies_on_two_classes(opened):
    ids = np.zeros((20, 30), np.uint16)
    ids[5:15, 8:18] = 3  # 70 of 100 pixels are car
    with pytest.raises(
        DataError, match=r"a\.tif: object 3 has 70 % of its 100 pixels on car, of at least 75 %.*a\.png"
    ):
        opened(street(), Image.fromarray(ids))


def test_one_that_is_stuff(opened):
    ids = np.zeros((20, 30), np.uint16)
    ids[5:15, 5:15], ids[16:19] = 1, 2
    with pytest.raises(DataError, match="object 2 has 100 % of its 90 pixels on road, which is no class of things"):
        opened(street(), Image.fromarray(ids))
    without = {"classes": [{**entry, "thing": False} for entry in CLASSES["classes"]]}
    assert opened(street(), Image.fromarray(ids), without).instance_ids.max() == 2


def test_ignored_pixels_do_not_speak(opened):
    classes, ids = street(), np.zeros((20, 30), np.uint16)
    classes[:, 10:] = 255
    ids[5:15, 5:15], ids[0:3, 20:] = 1, 2
    assert opened(classes, Image.fromarray(ids)).instance_ids.max() == 2


def test_wide_numbers_and_colours(opened):
    wide = np.zeros((20, 30), np.int32)
    wide[5:15, 5:15] = 2_000_000_000
    assert opened(street(), Image.fromarray(wide)).instance_ids.max() == 2_000_000_000
    colours = np.zeros((20, 30, 3), np.uint8)
    colours[5:15, 5:10], colours[5:15, 10:15] = (1, 2, 3), (200, 0, 0)
    found = np.unique(opened(street(), Image.fromarray(colours)).instance_ids.numpy()).tolist()
    assert found == [0, 200, 1 + 2 * 256 + 3 * 65536]
    wide[5:15, 5:15] = -4
    with pytest.raises(DataError, match="the object id -4"):
        opened(street(), Image.fromarray(wide))
