"""Pixels without a class: the value in every kind of file, and that it is read again as what it was."""

import numpy as np
import pytest
import rasterio
from PIL import Image

from smalti.data.masks import label_mask
from smalti.data.pictures import read_mask
from smalti.draw.legend import legend_entries
from smalti.draw.overlay import colorize, save_index_png
from smalti.labels import CAMVID, SIFT_FLOW, VOC, LabelSet
from smalti.predict.label_tiff import read_reduced_labels, writing_labels
from smalti.predict.video_writing import LabelDrawing

EIGHT_BITS = tuple(k for k in range(256) if k != 77)
TABLES = {
    "255 is a class": (LabelSet(names=("background", "object"), ids=(0, 255), ignored_ids=()), 254),
    "254 and 255 are classes": (LabelSet(names=("a", "b"), ids=(254, 255), ignored_ids=()), 253),
    "255 is free": (LabelSet(names=("a", "b"), ignored_ids=()), 255),
    "all but one of 256": (LabelSet(names=tuple(map(str, EIGHT_BITS)), ids=EIGHT_BITS, ignored_ids=()), 77),
    "16 bits": (LabelSet(names=("a", "b"), ids=(255, 3000), ignored_ids=()), 254),
    "named": (LabelSet(names=("a", "b"), ids=(0, 255), ignored_ids=(7, 9)), 7),
    "named, of 16 bits": (LabelSet(names=("a", "b"), ids=(0, 255), ignored_ids=(300,)), 300),
    "CamVid": (CAMVID, 11),
    "SIFT Flow": (SIFT_FLOW, 0),
    "VOC": (VOC, 255),
}
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def read_again(path, table):
    """As a mask of people's own folder."""
    return label_mask(read_mask(path), table, "alike", path).ids


def label_map(table):
    """Every class, and pixels without one."""
    return np.resize(np.array([*range(len(table)), 255], np.uint8), (20, 30))


@pytest.mark.parametrize("name", TABLES)
def test_masks_and_geotiffs_are_read_as_they_were_written(tmp_path, name):
    table, value = TABLES[name]
    labels = label_map(table)
    save_index_png(labels, table, tmp_path / "mask.png")
    with writing_labels(tmp_path / "mask.tif", labels.shape, table, {}) as file:
        file.add(labels)
    expected = np.array([*table.ids, value])[np.where(labels == 255, len(table), labels)]
    with rasterio.open(tmp_path / "mask.tif") as file:
        assert file.nodata == value
        np.testing.assert_array_equal(file.read(1), expected)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), expected)
    for ending in ("png", "tif"):
        np.testing.assert_array_equal(read_again(tmp_path / f"mask.{ending}", table), labels)
    np.testing.assert_array_equal(read_reduced_labels(tmp_path / "mask.tif", labels.shape, table), labels)


@pytest.mark.parametrize("name", TABLES)
def test_label_videos_have_the_values_of_masks(name):
    table, value = TABLES[name]
    labels = label_map(table)
    frame = LabelDrawing(table, labels.shape).frame(np.zeros((*labels.shape, 3), np.uint8), labels)
    assert frame.format.name == ("gray" if max(*table.ids, value) < 256 else "gray16le")
    np.testing.assert_array_equal(frame.to_ndarray() == value, labels == 255)


def test_the_value_without_a_class_can_become_a_class():
    """On the base, 255 twice was an error."""
    table, value = TABLES["255 is a class"]
    assert table.with_ignored_as_class().ids == (0, 255, value)


def test_a_black_class_is_told_from_no_class(tmp_path):
    labels = np.array([[0, 1, 255]], np.uint8)
    black, free = VOC.colors[0], VOC.no_class_color
    assert free == (224, 224, 192)  # that of VOC's own borders
    assert tuple(colorize(labels, VOC)[0, 2]) == free != black
    assert legend_entries(labels, VOC)[-1] == ("no class  33 %", free)
    save_index_png(labels, VOC, tmp_path / "mask.png")
    Image.open(tmp_path / "mask.png").convert("RGB").save(tmp_path / "colors.png")
    np.testing.assert_array_equal(read_again(tmp_path / "colors.png", VOC), labels)
    assert LabelSet(names=("a",), colors=((1, 1, 1),)).no_class_color == (0, 0, 0)
