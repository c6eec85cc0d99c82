"""Which metric chooses the best weights: it follows from network and data, is named, or is refused."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from smalti import checkpoint
from smalti.models.create import config_type, find_recipe
from smalti.recipe import recipe_from_json
from smalti.settings import override, to_json
from smalti.training.callbacks import HISTORY, read_history
from smalti.training.preparation import prepare
from smalti.training.run import Reporting, run
from smalti.training.task import SegmentationTask

SIZE = (48, 64)
SMALL = {
    "weights": None, "data.workers": 0, "data.cache": False, "training.batch": 2, "training.epochs": 3,
    "training.validate_every": 1, "training.patience": 1, "training.steps_per_epoch": 1,
}  # fmt: skip
NETWORKS = {
    "ivanet.scenes": {"config.encoder": "resnet10t", "config.width": 16, "config.pcm_width": 16},
    "sis_cnn.quick": {"config.encoder": "resnet10t", "config.widths": (8, 8, 8, 8, 8)},
}


def write_images(root, *, masks=False, boxes=False):
    """Twelve images; masks of the classes 0 and 1, or boxes of two categories."""
    generator = np.random.default_rng(0)
    listed, found = [], []
    for k in range(12):
        for kind, high in (("images", 256), *((("masks", 2),) if masks else ())):
            (root / kind).mkdir(parents=True, exist_ok=True)
            shape = (*SIZE, 3) if kind == "images" else SIZE
            Image.fromarray(generator.integers(0, high, shape, np.uint8)).save(root / kind / f"{k}.png")
        listed.append({"id": k, "file_name": f"{k}.png", "height": SIZE[0], "width": SIZE[1]})
        for category in (1, 2):
            box = {"image_id": k, "category_id": category, "bbox": [4 * category, 4, 20, 16], "area": 320}
            found.append({"id": len(found), **box})
    if boxes:
        names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        (root / "boxes").mkdir()
        content = {"images": listed, "annotations": found, "categories": names}
        (root / "boxes" / "all.json").write_text(json.dumps(content))
    return root


def made(name, root, **changes):
    own = {"data.set": "folder", "data.root": str(root), "data.options": {}}
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return override(find_recipe(name), {**SMALL, **NETWORKS[name], **own, **changes})


def prepared(recipe):
    lines = []
    return prepare(recipe, lines.append).recipe.training.monitor, lines


def test_boxes_without_masks_choose_by_boxes(tmp_path):
    """No mask: mIoU was NaN, so that patience ended the training and the last weights were kept."""
    write_images(tmp_path / "data", boxes=True)
    lines, out = [], tmp_path / "run"
    rates = iter([0.2, 0.5, 0.4])
    real = SegmentationTask.on_validation_epoch_end

    def measured(task):
        real(task)
        assert "semantic.miou" not in task.metrics
        task.metrics["boxes.map50"] = next(rates)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationTask, "on_validation_epoch_end", measured)
        run(made("ivanet.scenes", tmp_path / "data"), out, reporting=Reporting(write=lines.append))
    assert checkpoint.read_card(out / "best.safetensors").epoch == 2
    assert [row["box_map50"] for row in read_history(out / HISTORY)] == [0.2, 0.5, 0.4]
    assert not {"miou", "pixel_accuracy"} & read_history(out / HISTORY)[0].keys()
    assert json.loads((out / "recipe.json").read_text())["training"]["monitor"] == "boxes.map50"
    assert sum("chosen by boxes.map50: no validation image has a mask" in line for line in lines) == 1
    assert "nan" not in " ".join(lines).lower()


@pytest.mark.parametrize(
    ("truth", "changes", "expected", "note"),
    [
        ({"masks": True, "boxes": False}, {"config__tasks": ("semantic",)}, "semantic.miou", None),
        ({"boxes": True}, {}, "boxes.map50", "no validation image has a mask"),
        ({"boxes": True}, {"config__tasks": ("boxes",)}, "boxes.map50", "predicts no classes"),
        ({"boxes": True}, {"training__monitor": "validation_loss"}, "validation_loss", None),
        ({"boxes": True}, {"training__monitor": "boxes.map50.dog"}, "boxes.map50.dog", None),
    ],
)
def test_what_is_monitored_follows_from_network_and_data(tmp_path, truth, changes, expected, note):
    monitor, lines = prepared(made("ivanet.scenes", write_images(tmp_path, **truth), **changes))
    assert monitor == expected
    assert any("chosen by" in line for line in lines) == (note is not None)
    assert note is None or any(note in line for line in lines)


@pytest.mark.parametrize(
    ("name", "truth", "changes", "message"),
    [
        ("ivanet.scenes", {"boxes": True}, {"training__monitor": "semantic.miou"}, "no image of folder val has masks"),
        ("ivanet.scenes", {"boxes": True}, {"training__monitor": "boxes.mapp50"}, 'did you mean "boxes.map50"'),
        (
            "ivanet.scenes",
            {"boxes": True},
            {"training__monitor": "semantic.miou", "config__tasks": ("boxes",)},
            "predicts no classes",
        ),
        ("sis_cnn.quick", {"masks": True}, {"training__monitor": "boxes.map50"}, "predicts no boxes"),
        ("sis_cnn.quick", {"boxes": True}, {}, "nothing to learn"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_step(tmp_path, name, truth, changes, message):
    with pytest.raises(ValueError, match=message):
        prepared(made(name, write_images(tmp_path, **truth), **changes))


def test_a_class_without_truth_cannot_be_monitored(tmp_path):
    write_images(tmp_path, masks=True)
    (tmp_path / "labels.json").write_text(json.dumps({"classes": ["a", "b", "c"]}))
    with pytest.raises(ValueError, match='masks of the class "c"'):
        prepared(made("sis_cnn.quick", tmp_path, training__monitor="semantic.iou.c"))


@pytest.mark.parametrize(
    ("monitor", "error", "advice"),
    [
        ("validation_loss", FloatingPointError, "lower training.learning_rate"),
        ("boxes.ap_small", ValueError, "boxes.ap"),
    ],
)
def test_a_number_that_does_not_exist_is_an_error_and_the_epoch_is_saved(tmp_path, monitor, error, advice):
    out = tmp_path / "run"
    real = SegmentationTask.on_validation_epoch_end

    def measured(task):
        real(task)
        task.metrics.pop(monitor, None)

    recipe = made("ivanet.scenes", write_images(tmp_path / "data", boxes=True), training__monitor=monitor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationTask, "on_validation_epoch_end", measured)
        with pytest.raises(error, match=advice):
            run(recipe, out, reporting=Reporting(write=lambda _: None))
    assert checkpoint.read_card(out / "last.safetensors").epoch == 1
    assert len(read_history(out / HISTORY)) == 1


def test_recipes_that_name_miou_are_still_read():
    recipe = find_recipe("sis_cnn.quick")
    stored = to_json(recipe)
    stored["training"]["monitor"] = "semantic.miou"
    read = recipe_from_json(stored, config_type)
    assert read == dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, monitor="semantic.miou"))
