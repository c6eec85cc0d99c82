"""COCO: boxes, painted classes, panoptic files and COCO-Stuff maps; what cannot be used is named."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fake_datasets import COCO_OBJECTS, SIZE, coco_file, save, write_coco
from smalti.containers import Predictions
from smalti.data.contract import DataError
from smalti.data.dataset import open_dataset
from smalti.data.sets.coco import Coco
from smalti.data.sets.coco_stuff import COCO_STUFF
from smalti.predict.writers import Boxes


def rewrite(root, content, split="train"):
    (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def test_objects_and_what_is_painted(tmp_path):
    sample = Coco(write_coco(tmp_path)).read(0)
    objects = sample.instances
    assert objects.boxes.tolist() == [[2, 3, 12, 11], [6, 5, 16, 20], [30, 0, 32, 24]]
    assert objects.labels.tolist() == [1, 3, 2]  # background is 0, and the gaps in COCO's numbers are closed
    assert objects.crowd.tolist() == objects.excused().tolist() == [False, False, True]
    assert objects.areas.tolist() == [42, 42, 42]
    classes, ids = np.zeros(SIZE, int), np.zeros(SIZE, int)
    classes[3:11, 2:12], ids[3:11, 2:12] = 1, 1
    classes[5:20, 6:16], ids[5:20, 6:16] = 3, 2  # the later over the earlier
    classes[:, 30:32] = 2  # a crowd has a class and no number
    assert np.array_equal(sample.semantic.numpy(), classes)
    assert np.array_equal(sample.instance_ids.numpy(), ids)


def test_class_table_and_editions(tmp_path):
    root = write_coco(tmp_path)
    plain = Coco(root)
    assert plain.labels.names == ("background", "person", "car", "toothbrush")
    assert plain.labels.things == {"person", "car", "toothbrush"}
    assert plain.edition == "2017 instances"
    panoptic = open_dataset("coco", root=root, split="val", options={"semantic": "panoptic"})
    assert panoptic.labels.names == ("person", "car", "toothbrush", "rug-merged")
    assert panoptic.labels.things == {"person", "car", "toothbrush"}
    assert panoptic.labels.colors[0] == (9, 8, 1)
    keys = {Coco(root, semantic=kind).content_key(0) for kind in ("instances", "panoptic", "stuff")}
    assert len(keys) == 3


def test_panoptic_pictures(tmp_path):
    sample = Coco(write_coco(tmp_path), semantic="panoptic").read(1)
    classes, ids = np.full(SIZE, 255), np.zeros(SIZE, int)
    classes[:4, :5], ids[:4, :5] = 0, 5 + 256
    classes[4:7, :3] = 3
    assert np.array_equal(sample.semantic.numpy(), classes)
    assert np.array_equal(sample.instance_ids.numpy(), ids)
    assert sample.instances.boxes.tolist() == [[0, 0, 5, 4]]  # stuff has no box
    assert sample.instances.labels.tolist() == [0]


def test_a_segment_that_is_not_listed_is_named(tmp_path):
    root = write_coco(tmp_path)
    path = root / "annotations" / "panoptic_train2017" / "000000000100.png"
    save(path, np.full((*SIZE, 3), 9, np.uint8))
    with pytest.raises(DataError, match=r"000000000100.png: has the segment 592137, which"):
        Coco(root, semantic="panoptic").read(0)


def test_stuff_maps_and_objects(tmp_path):
    root = write_coco(tmp_path)
    sample = Coco(root, semantic="stuff").read(0)
    assert set(sample.semantic.unique().tolist()) == {0, 2, COCO_STUFF.names.index("banner"), 255}
    assert [COCO_STUFF.names[k] for k in sample.instances.labels] == ["person", "toothbrush", "car"]
    (root / "annotations").rename(tmp_path / "elsewhere")
    bare = Coco(root, semantic="stuff").read(0)
    assert (bare.instances, bare.instance_ids) == (None, None)
    assert torch.equal(bare.semantic, sample.semantic)


def test_the_table_of_stuff():
    assert len(COCO_STUFF) == 171
    assert len(COCO_STUFF.things) == 80
    assert dict(zip(COCO_STUFF.names, COCO_STUFF.ids, strict=True))["wood"] == 182
    assert dict(zip(COCO_STUFF.names, COCO_STUFF.ids, strict=True))["toothbrush"] == 90


def test_pictures_without_objects(tmp_path):
    root = write_coco(tmp_path)
    rewrite(root, coco_file("train", []))
    sample = Coco(root).read(0)
    assert len(sample.instances) == 0
    assert sample.semantic.max() == sample.instance_ids.max() == 0


def test_five_hundred_objects(tmp_path):
    root = write_coco(tmp_path)
    rewrite(root, coco_file("train", COCO_OBJECTS[:1] * 500))
    sample = Coco(root).read(0)
    assert len(sample.instances) == 500
    assert sample.instance_ids.max() == 500


def changed(**change):
    content = coco_file("train")
    content["annotations"][1] |= change
    return content


def category(**change):
    content = coco_file("train")
    return {**content, "categories": [{"id": 1, "name": "a", **change}, *content["categories"][1:]]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(image_id=7), "annotation 2 belongs to picture 7, which the file does not list"),
        (changed(category_id=2), "annotation 2 has the category 2"),
        (changed(id=1), "annotation 1 is there twice"),
        (changed(bbox=[1, 2, 3]), r"annotation 2 needs a bbox of four numbers"),
        (changed(bbox=[1, 2, -3, 4]), r"annotation 2 cannot be used: its box is inverted \(left 1, top 2, right -2"),
        (changed(bbox=[30, 2, 9, 4]), r"annotation 2 .*outside the picture .*has 24 x 32"),
        (changed(bbox=[1, float("nan"), 3, 4]), "annotation 2 needs a bbox of four numbers"),
        (changed(segmentation=[[5, 5, float("nan"), 5, 9, 9]]), "annotation 2 has a polygon .* that is no number"),
        (changed(segmentation=[[5, 5, 1e9, 5, 9, 9]]), "annotation 2 has a polygon .* far outside the picture"),
        (changed(segmentation=[1, 2, 3, 4, 5, 6]), "annotation 2 has a segmentation that is neither"),
        (changed(segmentation={"size": [24, 32], "counts": [9]}), "annotation 2 has run lengths for"),
        (changed(segmentation={"size": [24, 32], "counts": [-9, 777]}), "annotation 2 .* neither text nor"),
        (changed(area=float("nan")), "annotation 2 needs an area that is a number"),
        (changed(iscrowd="0"), "annotation 2 needs .* an iscrowd of 0 or 1"),
        (changed(category_id=[1]), r"annotation 2 has the category \[1\]"),
        (changed(id=None), 'entry 1 of "annotations" needs a proper "id", has None'),
        ({**coco_file("train"), "images": [{"id": 1, "height": None, "width": 3, "file_name": "a"}]},
         'entry 0 of "images" needs a proper "height"'),
        (changed(segmentation=[[1, 2, 3, 4]]), "annotation 2 has a polygon of fewer than three points"),
        (changed(segmentation={"size": [3, 3], "counts": [9]}), r"annotation 2 has run lengths for \[3, 3\] pixels"),
        ({**coco_file("train"), "images": coco_file("train")["images"] * 2}, "image 100 is there twice"),
        ({**coco_file("train"), "categories": [{"id": 1, "name": "a"}] * 2}, "category 1 is there twice"),
        (category(color="blue"), r'category 1 \("a"\): the color "blue" cannot be read'),
        (category(color=[1, 2, 3, 0]), "alpha of 0"),
        (category(isthing="false"), r'category 1 \("a"\): isthing: must be true or false or one of 0, 1, got "false"'),
        (category(isthing=2), "isthing: must be"),
        (category(id=1.5), 'entry 0 of "categories" needs a proper "id", has 1.5'),
        (changed(iscrowd="0"), "an iscrowd of 0 or 1, has 0"),
        ({"images": [], "annotations": []}, 'it has no list "categories"'),
        ([], 'it has no list "images"'),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(tmp_path, content, message):
    root = write_coco(tmp_path)
    rewrite(root, content)
    with pytest.raises(DataError, match=rf"instances_train2017.json.*{message}"):
        Coco(root)


def test_all_problems_of_a_file_are_named_at_once(tmp_path):
    root, content = write_coco(tmp_path), coco_file("train", COCO_OBJECTS * 3)
    for entry in content["annotations"][:7]:
        entry["bbox"] = [30, 2, 9, 4]
    content["annotations"][8]["category_id"] = 77
    rewrite(root, content)
    with pytest.raises(DataError, match=r"8 problems: annotation 1 .*; annotation 5 .*; and 3 more$") as caught:
        Coco(root)
    assert "annotation 6" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "corners"),
    [({"bbox": [29, -0.5, 4.5, 9]}, [29, 0, 32, 8.5]), ({"segmentation": [[-1.2, 0, 5, 0, 5, 5]]}, [6, 5, 16, 20])],
)
def test_a_small_overhang_is_clipped_and_said(tmp_path, change, corners):
    """5 % of a side, here 1.6 pixels; the note counts both images."""
    root = write_coco(tmp_path)
    content = changed(**change)
    content["annotations"][4] |= change
    rewrite(root, content)
    dataset = Coco(root)
    assert dataset.read(0).instances.boxes[1].tolist() == corners
    (note,) = dataset.notes
    farthest = "1.5" if "bbox" in change else "1.2"
    assert f"instances_train2017.json: 2 annotations reach up to {farthest} pixels out of their images and are" in note


def test_objects_are_painted_in_the_files_order(tmp_path):
    """Whatever their ids; at an overlap class and number are of the same object, the last one."""
    root = write_coco(tmp_path)
    for last in (2, 3):
        content = coco_file("train", COCO_OBJECTS[:2], pictures=1)
        first = content["annotations"]
        first[0]["id"], first[1]["id"] = (9, 4) if last == 2 else (4, 9)
        rewrite(root, {**content, "annotations": first if last == 2 else first[::-1]})
        sample = Coco(root).read(0)
        box = sample.instances.boxes[1].int().tolist()
        overlap = (slice(5, 11), slice(6, 12))
        assert box == ([6, 5, 16, 20] if last == 2 else [2, 3, 12, 11])
        assert set(sample.semantic[overlap].unique().tolist()) == {3 if last == 2 else 1}
        assert set(sample.instance_ids[overlap].unique().tolist()) == {2}
        assert sample.instances.labels[1] == sample.semantic[overlap].unique()


@pytest.mark.parametrize(
    ("segment", "message"),
    [({"bbox": [1, 2, float("nan"), 4]}, "needs a bbox of four numbers"), ({"category_id": 77}, "has the category 77"),
     ({"id": 7}, "has the segment 7: "), ({"bbox": None}, "needs a bbox")],
)  # fmt: skip
def test_panoptic_segments_are_checked(tmp_path, segment, message):
    root = write_coco(tmp_path)
    path = root / "annotations" / "panoptic_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["segments_info"][0] |= segment
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"panoptic_train2017.json: picture 101: .*{message}"):
        Coco(root, semantic="panoptic")


def test_objects_without_masks_leave_their_boxes_unknown(tmp_path):
    """Many detection sets have boxes only: what is in them is not background."""
    root = write_coco(tmp_path)
    rewrite(root, changed(segmentation=[]))
    classes = Coco(root).read(0).semantic.as_subclass(torch.Tensor)
    assert (classes[12:20, 6:16] == 255).all()
    assert (classes[3:11, 2:12] == 1).all()
    assert (classes[12:, :6] == 0).all()


def test_masks_that_cannot_be_read_are_named(tmp_path):
    root = write_coco(tmp_path)
    rewrite(root, changed(segmentation={"size": list(SIZE), "counts": "é"}))
    with pytest.raises(DataError, match=r"000000000100.jpg: a mask among its annotations cannot be read"):
        Coco(root).read(0)


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_perfect_answers_are_perfect_to_pycocotools(tmp_path):
    """With COCO's numbers of pictures and of classes, which have gaps."""
    dataset = Coco(write_coco(tmp_path))
    writer, entries = Boxes(tmp_path), []
    for k in range(len(dataset)):
        sample = dataset.read(k)
        objects = sample.instances.select(~sample.instances.crowd)
        found = replace(objects, boxes=objects.boxes.as_subclass(torch.Tensor), scores=torch.ones(len(objects)))
        picture = sample.image.permute(1, 2, 0).numpy()
        answer = Predictions(labels=dataset.labels, instances=found)
        entries.append(writer.add(tmp_path / f"{sample.name}.jpg", sample.name, picture, answer))
    writer.finish(entries)
    oracle = COCO(str(dataset.root / "annotations" / "instances_train2017.json"))
    evaluation = COCOeval(oracle, oracle.loadRes(str(tmp_path / "boxes.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    assert {entry["category_id"] for entry in json.loads((tmp_path / "boxes.json").read_text())} == {1, 90}


def test_two_pictures_of_one_name(tmp_path):
    root = write_coco(tmp_path)
    content = coco_file("train")
    content["images"][1]["file_name"] = f"more/{content['images'][0]['file_name']}"
    save(root / "train2017" / content["images"][1]["file_name"], np.zeros((*SIZE, 3), np.uint8))
    rewrite(root, content)
    with pytest.raises(DataError, match="two pictures have the same file name"):
        Coco(root)


def test_boxes_without_area_are_left_out_and_said(tmp_path):
    root = write_coco(tmp_path)
    rewrite(root, changed(bbox=[1, 2, 0, 4]))
    dataset = Coco(root)
    assert dataset.notes[0].endswith("1 annotations have a box without area and are left out: 2")
    sample = dataset.read(0)
    assert sample.instances.labels.tolist() == [1, 2]


def test_missing_and_wrong_pictures_are_named(tmp_path):
    root = write_coco(tmp_path)
    save(root / "train2017" / "000000000101.jpg", np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(DataError, match=r"101.jpg: has 5 x 6 pixels .*annotations are for 24 x 32"):
        Coco(root).read(1)
    (root / "train2017" / "000000000100.jpg").unlink()
    with pytest.raises(DataError, match=r"1 listed files are missing: .*000000000100.jpg"):
        Coco(root)
    (root / "annotations" / "instances_train2017.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        Coco(root)


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools with numpy 2
@pytest.mark.parametrize("split", ["train", "val"])
def test_real_pictures_are_painted_as_pycocotools_does(real_data, split):
    dataset = Coco(real_data / "COCO_tiny", split)
    oracle = COCO(str(real_data / "COCO_tiny" / "annotations" / f"instances_{split}2017.json"))
    assert len(dataset) == 50
    counts = []
    for k in range(len(dataset)):
        sample = dataset.read(k)
        entries = oracle.loadAnns(oracle.getAnnIds(int(sample.name)))
        counts.append(len(entries))
        classes = np.zeros(sample.size, int)
        for entry in entries:
            name = oracle.cats[entry["category_id"]]["name"]
            classes[oracle.annToMask(entry) == 1] = dataset.labels.names.index(name)
        assert np.array_equal(sample.semantic.numpy(), classes)
        assert sample.instances.crowd.tolist() == [bool(entry["iscrowd"]) for entry in entries]
    assert (sum(counts), counts.count(0)) == {"train": (470, 1), "val": (382, 2)}[split]


@pytest.mark.real
def test_real_stuff(real_data):
    dataset = Coco(real_data / "COCOStuff_sample", "val", semantic="stuff")
    assert len(dataset) == 8
    assert all(len(dataset.read(k).semantic.unique()) >= 3 for k in range(8))
