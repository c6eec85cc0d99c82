"""Networks that find objects, from training to files."""

import json

import pytest
from PIL import Image

from fake_datasets import write_voc
from smalti.models.create import find_recipe
from smalti.predict.folder import find_files, predict_files
from smalti.session import EvaluationOptions, evaluate, train
from smalti.settings import override
from smalti.studies.listing import metric_lines
from smalti.training.run import Reporting

SMALL = {
    "weights": None, "data.options": {"size": (64, 96), "length": 4}, "data.workers": 0, "training.epochs": 1,
    "training.batch": 2, "training.warmup": 0, "training.validate_every": 1,
}  # fmt: skip
NETWORKS = {
    "hourglass.scenes": {"config.widths": (16, 16, 16, 8)},
    "ivanet.scenes": {"config.width": 16, "config.pcm_width": 16},
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path / "cache"))


def trained(name, out, **changes):
    said = []
    recipe = override(find_recipe(name), {**SMALL, **NETWORKS[name], **changes})
    metrics = train(recipe, out=out, reporting=Reporting(write=said.append))
    return metrics, said


@pytest.mark.parametrize(("name", "keys", "show", "files"), [
    ("hourglass.scenes", {"edges.ods_f", "distances.mae", "panoptic.pq_things", "instances.cityscapes_ap"}, "instances",
     {"a_instances.png", "a_objects.jpg", "instances.json", "images.json"}),
    ("ivanet.scenes", {"boxes.map50", "boxes.ap", "boxes.map50_11"}, "boxes",
     {"a_boxes.jpg", "boxes.json", "images.json", "boxes_car.txt", "boxes_pedestrian.txt", "boxes_bicyclist.txt"}),
])  # fmt: skip
def test_from_training_to_files(tmp_path, name, keys, show, files):
    metrics, _ = trained(name, tmp_path / "run")
    assert keys | {"semantic.miou", "boundary.f1"} <= metrics.keys()
    assert "objects" in json.loads((tmp_path / "run" / "metrics.json").read_text())["protocol"]
    report = (tmp_path / "run" / "report.html").read_text()
    assert ("objects found" if show == "instances" else "boxes found") in report
    (tmp_path / "in").mkdir()
    Image.new("RGB", (80, 60), (90, 120, 60)).save(tmp_path / "in" / "a.jpg")
    out = tmp_path / "out"
    assert predict_files(tmp_path / "run", find_files([tmp_path / "in"], out), out, show) == []
    assert {path.name for path in out.iterdir()} == files | {"predictions.jsonl"}


def test_boxes_alone(tmp_path):
    metrics, said = trained("ivanet.scenes", tmp_path / "run", **{"config.tasks": ("boxes",)})
    assert any("chosen by boxes.map50: the network predicts no classes" in line for line in said)
    assert "boxes.map50" in metrics
    assert metrics["semantic.miou"] is None
    report = (tmp_path / "run" / "report.html").read_text()
    assert "First pictures" in report
    assert "true boxes" in report
    assert "What is taken for what" not in report
    history = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert "box_map50" in history[0]
    assert "miou" not in history[0]
    assert all("IoU" not in line for line in metric_lines(metrics))


def test_the_best_weights_may_be_chosen_by_boxes(tmp_path):
    _, said = trained("ivanet.scenes", tmp_path / "run", **{"training.monitor": "boxes.map50", "training.epochs": 2})
    assert (tmp_path / "run" / "best.safetensors").is_file()
    assert any("box mAP" in line for line in said)


def test_pictures_with_boxes_only_beside_such_with_masks(tmp_path):
    """VOC 2007's pictures mostly have no mask: they train and are measured by their boxes."""
    root = write_voc(tmp_path, "2007")
    lists = root / "VOC2007" / "ImageSets" / "Main"
    lists.mkdir()
    for split, names in (("trainval", "2007_000001\n2007_000003\n"), ("test", "2007_000004\n2007_000005\n")):
        (lists / f"{split}.txt").write_text(names)
    for kind in ("SegmentationClass", "SegmentationObject"):
        for name in ("2007_000003", "2007_000005"):
            (root / "VOC2007" / kind / f"{name}.png").unlink()
    own = {"data.set": "voc", "data.root": str(root), "data.options": {}, "input.size": (48, 64), "training.batch": 2,
           "data.train": "main_trainval", "data.validation": "main_test", "training.steps_per_epoch": 2}  # fmt: skip
    recipe = override(find_recipe("ivanet.voc2012_300"), {
        **SMALL, **own, "config.encoder": "resnet10t", "config.width": 16, "config.pcm_width": 16,
    })  # fmt: skip
    metrics = train(recipe, out=tmp_path / "run", reporting=Reporting(write=lambda _: None))
    assert metrics["boxes.map50"] is not None
    assert metrics["semantic.miou"] is not None
    protocol = json.loads((tmp_path / "run" / "metrics.json").read_text())["protocol"]
    assert (protocol["pictures"], protocol["pictures_without_mask"]) == (2, 1)
    write_voc(tmp_path / "newer", "2012")  # now the newest year there, which has no such list
    (tmp_path / "newer" / "VOCdevkit" / "VOC2012").rename(root / "VOC2012")
    with pytest.raises(ValueError, match=r"VOC2012.ImageSets.Main.test.txt"):
        evaluate(tmp_path / "run", data=root, split="main_test", out=tmp_path / "no")
    found = evaluate(tmp_path / "run", data=root, split="main_test", out=tmp_path / "yes",
                     options=EvaluationOptions(changes={"data.options.year": "2007"}))  # fmt: skip
    assert found["boxes.map50"] == metrics["boxes.map50"]
    protocol = json.loads((tmp_path / "yes" / "metrics.json").read_text())["protocol"]
    assert protocol["changed_since_training"] == "data.options.year=2007"


def test_classes_of_things_are_needed(tmp_path):
    for folder, color in (("images", (1, 2, 3)), ("masks", 0), ("instances", 0)):
        (tmp_path / "own" / folder).mkdir(parents=True)
        for k in range(6):
            mode = "RGB" if folder == "images" else "L"
            picture = Image.new(mode, (96, 64), color)
            if folder == "masks":
                picture.paste(1, (0, 0, 48, 64))
            picture.save(tmp_path / "own" / folder / f"{k}.png")
    table = {"classes": [{"id": 0, "name": "road"}, {"id": 1, "name": "car"}]}
    (tmp_path / "own" / "labels.json").write_text(json.dumps(table))
    own = {"data.set": "folder", "data.options": {}, "data.root": str(tmp_path / "own")}
    with pytest.raises(ValueError, match='"thing": true'):
        trained("hourglass.scenes", tmp_path / "run", **own)
    table["classes"][1]["thing"] = True
    (tmp_path / "own" / "labels.json").write_text(json.dumps(table))
    for path in (tmp_path / "own" / "instances").iterdir():
        path.unlink()
    _, said = trained("hourglass.scenes", tmp_path / "run2", **own)
    assert any("the task distances learns nothing" in line for line in said)
