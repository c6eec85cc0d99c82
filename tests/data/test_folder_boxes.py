"""Boxes in people's own folders: COCO files, paired by path and by the names of classes."""

import json

import numpy as np
import pytest
import torch

from fake_datasets import SIZE, FolderShape, picture, save, write_folder
from smalti.checkpoint import Card, check_card
from smalti.cli import main
from smalti.data.dataset import DataError, open_dataset
from smalti.models.create import find_recipe

HEIGHT, WIDTH = SIZE


def box(number, image, category, corners, **more):
    left, top, right, bottom = corners
    return {"id": number, "image_id": image, "category_id": category, "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top), "iscrowd": 0, **more}  # fmt: skip


def write_boxes(root, names, annotations, categories=((3, "car"), (7, "dog")), *, file="all.json", size=SIZE):
    images = [{"id": k, "file_name": name, "height": size[0], "width": size[1]} for k, name in enumerate(names)]
    content = {"images": images, "annotations": annotations,
               "categories": [{"id": number, "name": name} for number, name in categories]}  # fmt: skip
    (root / "boxes").mkdir(parents=True, exist_ok=True)
    (root / "boxes" / file).write_text(json.dumps(content))
    return root


def opened(root, split="all", **options):
    return open_dataset("folder", root=root, split=split, options=options)


@pytest.fixture
def root(tmp_path):
    """Three pictures: one with two boxes, one looked at and empty, one not looked at."""
    for name in ("a.jpg", "deep/b.png", "c.png"):
        save(tmp_path / "images" / name, picture(len(name)))
    return write_boxes(tmp_path, ["deep/b.png", "a.jpg"], [box(1, 1, 7, (1, 2, 9, 8)), box(2, 1, 3, (0, 0, 5, 4))])


def test_boxes_alone(root):
    data = opened(root)
    assert data.labels.names == ("background", "car", "dog")
    assert data.labels.things == {"car", "dog"}
    samples = {data.sample_name(k): data.read(k) for k in range(len(data))}
    assert all(sample.semantic is None for sample in samples.values())
    assert samples["a"].instances.boxes.tolist() == [[1, 2, 9, 8], [0, 0, 5, 4]]
    assert samples["a"].instances.labels.tolist() == [2, 1]
    assert len(samples["deep__b"].instances.labels) == 0  # looked at, and nothing there
    assert samples["c"].instances is None


def test_boxes_beside_masks_take_the_table(tmp_path):
    root = write_folder(tmp_path)
    stem = sorted(path.stem for path in (root / "images").iterdir())[0]
    table = {"classes": [{"id": 0, "name": "road"}, {"id": 1, "name": "car", "thing": True}]}
    (root / "labels.json").write_text(json.dumps(table))
    for path in (root / "masks").iterdir():
        save(path, torch.zeros(SIZE, dtype=torch.uint8).numpy())
    write_boxes(root, [f"{stem}.jpg"], [box(5, 0, 9, (2, 2, 8, 8))], [(9, "car")])
    data = opened(root)
    sample = data.read([data.sample_name(k) for k in range(len(data))].index(stem))
    assert sample.semantic is not None
    assert sample.instances.labels.tolist() == [1]
    write_boxes(root, [f"{stem}.jpg"], [], [(9, "road")])
    with pytest.raises(DataError, match=r'"road", which is no class of things: give it "thing": true'):
        opened(root)
    write_boxes(root, [f"{stem}.jpg"], [], [(9, "lorry")])
    with pytest.raises(DataError, match='"lorry" is no class of labels.json, which has road, car'):
        opened(root)


def test_several_files_may_share_the_pictures(root):
    write_boxes(root, ["c.png"], [box(1, 0, 1, (0, 0, 4, 4))], [(1, "cat")], file="more.json")
    data = opened(root)
    assert data.labels.names == ("background", "car", "dog", "cat")
    assert data.read(1).instances.labels.tolist() == [3]
    write_boxes(root, ["a.jpg"], [], [(1, "cat")], file="more.json")
    with pytest.raises(DataError, match=r"more\.json: lists the picture a\.jpg, which is listed already"):
        opened(root)


def test_what_does_not_fit_is_named(root):
    write_boxes(root, ["a.jpg", "gone.jpg"], [], file="more.json", categories=[(1, "cat")])
    (root / "boxes" / "all.json").unlink()
    with pytest.raises(DataError, match="1 listed pictures are not in images/: gone.jpg"):
        opened(root)
    write_boxes(root, ["a.jpg"], [], file="more.json", size=(HEIGHT + 1, WIDTH))
    with pytest.raises(DataError, match=f"its annotations are for {HEIGHT + 1} x {WIDTH}"):
        opened(root).read(0)
    (root / "boxes" / "more.json").write_text("{}")
    with pytest.raises(DataError, match=r"more\.json: not in COCO's format"):
        opened(root)
    (root / "boxes" / "more.json").unlink()
    with pytest.raises(DataError, match="masks: no such folder"):  # neither masks nor boxes
        opened(root)


def square(left, top, right, bottom):
    return {"segmentation": [[left, top, right, top, right, bottom, left, bottom]]}


@pytest.fixture
def drawn(root):
    """`a` has two overlapping polygons and a box alone, `b` is looked at and empty, `c` is not looked at."""
    dog, car = (1, 2, 9, 8), (5, 4, 12, 10)
    annotations = [box(1, 1, 7, dog, **square(*dog)), box(2, 1, 3, car, **square(*car)), box(3, 1, 3, (20, 10, 25, 15))]
    return write_boxes(root, ["deep/b.png", "a.jpg"], annotations)


def test_polygons_are_masks(drawn):
    data = opened(drawn)
    samples = {data.sample_name(k): data.read(k) for k in range(len(data))}
    classes, ids = torch.zeros(SIZE, dtype=torch.uint8), torch.zeros(SIZE, dtype=torch.int32)
    classes[10:15, 20:25] = 255
    classes[2:8, 1:9], ids[2:8, 1:9] = 2, 1
    classes[4:10, 5:12], ids[4:10, 5:12] = 1, 2  # the later over the earlier
    assert torch.equal(samples["a"].semantic.as_subclass(torch.Tensor), classes)
    assert torch.equal(samples["a"].instance_ids.as_subclass(torch.Tensor), ids)
    assert len(samples["a"].instances) == 3
    assert samples["deep__b"].semantic.unique().tolist() == [0]
    assert (samples["c"].semantic, samples["c"].instance_ids) == (None, None)
    (note,) = data.notes
    assert note.startswith("the classes and objects of 2 images without a file in masks/ are painted from the polygons")
    assert note.endswith("pixels outside are background; 1 objects have a box alone, whose inside is ignored")


def test_a_file_in_masks_decides_the_classes(drawn):
    """And the polygons number the objects where it has their class; the image without a mask is painted."""
    mask = np.zeros(SIZE, np.uint8)
    mask[2:8, 1:7], mask[20, 20] = 2, 1
    save(drawn / "masks" / "a.png", mask)
    table = {"classes": ["background", {"name": "car", "thing": True}, {"name": "dog", "thing": True}]}
    (drawn / "labels.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match="1 pictures without a mask: c"):  # neither a mask nor polygons
        opened(drawn)
    (drawn / "images" / "c.png").unlink()
    data = opened(drawn)
    sample = data.read(0)
    assert np.array_equal(sample.semantic.numpy(), mask)
    ids = np.zeros(SIZE, int)
    ids[2:8, 1:7] = 1
    ids[4:8, 5:7] = 0  # polygon 2 lies above, and is of another class
    assert np.array_equal(sample.instance_ids.numpy(), ids)
    assert data.read(1).semantic.unique().tolist() == [0]
    assert "1 images have polygons in boxes/ and a file in masks/: masks/ decides the classes" in data.notes[1]
    numbers = (mask == 2).astype(np.uint16) * 7
    save(drawn / "instances" / "a.png", numbers)
    assert np.array_equal(opened(drawn).read(0).instance_ids.numpy(), numbers)
    assert "a file in instances/, which decides the object numbers" in opened(drawn).notes[2]


def test_without_a_background_class_the_rest_is_ignored(drawn):
    (drawn / "labels.json").write_text(json.dumps({"classes": [{"name": n, "thing": True} for n in ("car", "dog")]}))
    data = opened(drawn)
    assert data.read(0).semantic.unique().tolist() == [0, 1, 255]
    assert 'pixels outside are ignored, as no class is called "background"' in data.notes[0]


def test_unused_object_numbers_are_said(tmp_path):
    root = write_folder(tmp_path, FolderShape(instances=True))
    (note,) = opened(root).notes
    assert note.startswith("instances/ is not used, as no class is one of things")


def test_data_says_what_was_decided(drawn, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["smalti", "data", f"folder={drawn}", "--split", "all"])
    with pytest.raises(SystemExit):
        main()
    assert "  note: the classes and objects of 2 images" in capsys.readouterr().out


def test_all_categories_without_a_class_are_named(root):
    (root / "labels.json").write_text(json.dumps({"classes": ["background", "cat"]}))
    with pytest.raises(
        DataError, match='2 problems: the category "car" is no class .*; the category "dog" is no class'
    ):
        opened(root)


def test_other_boxes_are_another_content(root):
    before = opened(root).content_key(0)
    write_boxes(root, ["deep/b.png", "a.jpg"], [box(1, 1, 7, (1, 2, 9, 9))])
    assert opened(root).content_key(0) != before


@pytest.mark.slow
def test_a_network_learns_and_finds_them(root, tmp_path, monkeypatch):
    """From a folder with boxes and nothing else to boxes of other pictures, by the commands."""
    for split in ("train", "val"):
        save(root / "images" / split / "x.png", picture(3, (64, 96)))
        save(root / "images" / split / "y.png", picture(4, (64, 96)))
    for name in ("a.jpg", "deep/b.png", "c.png"):
        (root / "images" / name).unlink()
    names = [f"{split}/{name}.png" for split in ("train", "val") for name in "xy"]
    write_boxes(root, names, [box(k, k, 3, (10, 10, 50, 50)) for k in range(4)], size=(64, 96))
    settings = (
        "weights=none", "config.tasks=boxes,", "config.encoder=resnet18", "training.epochs=1", "training.batch=2",
        "training.steps_per_epoch=1", "data.workers=0", "input.size=96,96",
    )  # fmt: skip
    monkeypatch.setattr("sys.argv", ["smalti", "train", "ivanet.scenes_short", "--data", f"folder={root}", "--out",
                                     str(tmp_path / "run"), *(w for s in settings for w in ("--set", s))])  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 <= metrics["boxes.map50"] <= 1


def test_colors_of_categories_as_annotation_tools_write_them(root):
    """COCO Annotator writes "#a60f2f"; its characters once stood in the checkpoint, which nobody could read then."""
    path = root / "boxes" / "all.json"
    content = json.loads(path.read_text())
    content["categories"][0] |= {"color": "#a60f2f", "supercategory": "", "metadata": {}, "keypoint_colors": []}
    content["categories"][1] |= {"color": None, "isthing": True}
    path.write_text(json.dumps(content))
    labels = opened(root).labels
    assert labels.colors[1] == (0xA6, 0x0F, 0x2F)
    assert labels.things == {"car", "dog"}
    check_card(Card(recipe=find_recipe("ivanet.scenes"), labels=labels, metrics={}))
