"""What a network learns from must be in the training images: refused or said before the first step."""

import json
from pathlib import Path

import numpy as np
import pytest

from fake_datasets import SIZE, FolderShape, picture, save, write_camvid, write_coco, write_folder, write_voc
from smalti.data.dataset import WithMirrorImages, open_dataset
from smalti.models.create import build, find_recipe, model_class
from smalti.settings import override
from smalti.training.truth import check_truth

SMALL = {
    "hourglass.scenes": {"config.widths": (16, 16, 16, 8)},
    "ivanet.scenes_short": {"config.width": 16, "config.pcm_width": 16},
    "sis_cnn.quick": {},
}


def checked(recipe, dataset, **changes):
    """The lines that the check says."""
    found, lines = override(find_recipe(recipe), {**SMALL[recipe], **changes}), []
    check_truth(build(model_class(found.model), found.config, dataset.labels, None), dataset, lines.append)
    return lines


def boxes_only(root: Path, *, polygons: bool = False, objects: bool = True):
    """A folder of four images, the last of which shows a car."""
    for k in range(4):
        save(root / "images" / f"p{k}.png", picture(k))
    entry = {"id": 1, "image_id": 3, "category_id": 1, "bbox": [2, 2, 9, 9]}
    entry |= {"segmentation": [[2, 2, 11, 2, 11, 11, 2, 11]]} if polygons else {}
    images = [{"id": k, "file_name": f"p{k}.png", "height": SIZE[0], "width": SIZE[1]} for k in range(4)]
    content = {"images": images, "annotations": [entry] * objects, "categories": [{"id": 1, "name": "car"}]}
    (root / "boxes").mkdir()
    (root / "boxes" / "all.json").write_text(json.dumps(content))
    return open_dataset("folder", root=root, split="all", options={})


def test_a_pixel_network_without_masks_is_refused(tmp_path):
    data = boxes_only(tmp_path)
    message = r"none of the 4 training images has what this network needs: no classes of pixels \(put masks into masks/"
    with pytest.raises(ValueError, match=message):
        checked("sis_cnn.quick", data)
    with pytest.raises(ValueError, match="no classes of pixels .*; no numbered objects"):
        checked("hourglass.scenes", data)
    assert checked("ivanet.scenes_short", data, **{"config.tasks": ("boxes",)}) == []
    (line,) = checked("ivanet.scenes_short", data)
    assert line.startswith("note: the task semantic learns nothing, as the 4 training images have no classes of pixels")


def test_polygons_are_enough_for_all(tmp_path):
    data = boxes_only(tmp_path, polygons=True)
    for recipe in SMALL:
        assert checked(recipe, data) == []


def test_boxes_that_nobody_drew(tmp_path):
    data = boxes_only(tmp_path, objects=False)
    with pytest.raises(ValueError, match=r"no objects of a class of things \(put COCO files into boxes/"):
        checked("ivanet.scenes_short", data, **{"config.tasks": ("boxes",)})


def test_masks_where_all_is_ignored_are_no_truth(tmp_path):
    root = write_folder(tmp_path, FolderShape(values=(255,)))
    with pytest.raises(ValueError, match="none of the 10 training images"):
        checked("sis_cnn.quick", open_dataset("folder", root=root, split="all", options={}))


def test_one_task_of_several_without_truth(tmp_path):
    data = open_dataset("camvid", root=write_camvid(tmp_path), split="train", options={})
    (line,) = checked("hourglass.scenes", data)
    assert line.startswith("note: the task distances learns nothing, as the 3 training images have no numbered objects")
    with pytest.raises(ValueError, match='"thing": true in labels.json'):
        checked("hourglass.scenes", open_dataset("folder", root=write_folder(tmp_path), split="all", options={}))


def test_what_may_be_annotated_is_told_without_decoding(tmp_path):
    """It must hold all that reading a sample fills in."""
    coco, voc = write_coco(tmp_path), write_voc(tmp_path)
    sets = [open_dataset("coco", root=coco, split="train", options={"semantic": k}) for k in ("instances", "stuff")]
    sets += [open_dataset("voc", root=voc, split="train", options={}), boxes_only(tmp_path / "a"),
             boxes_only(tmp_path / "b", polygons=True), WithMirrorImages(sets[0])]  # fmt: skip
    (coco / "annotations").rename(tmp_path / "elsewhere")
    sets.append(open_dataset("coco", root=coco, split="train", options={"semantic": "stuff"}))
    for data in sets:
        for k in range(0, len(data), 3):
            if (sample := data.read(k)) is not None:
                fields = ("semantic", "instance_ids", "instances")
                assert data.annotated(k) == {name for name in fields if getattr(sample, name) is not None}
    assert np.unique([len(data.annotated(0)) for data in sets]).tolist() == [1, 3]
