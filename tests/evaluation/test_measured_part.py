"""Which part of a folder is measured where no split is named: what the network has not seen, and it is said."""

import shutil

import numpy as np
import pytest
from PIL import Image

import smalti
from fake_datasets import FolderShape, picture, save, write_camvid, write_folder
from smalti import checkpoint
from smalti.checkpoint import Card
from smalti.data.dataset import open_dataset
from smalti.data.fingerprints import IMAGES, ImageRecord
from smalti.evaluation.measured_part import measured_part
from smalti.models.create import build, find_recipe, model_class
from smalti.settings import override
from smalti.studies.listing import metric_lines

TINY = {
    "weights": None, "config.encoder": "resnet10t", "config.widths": (8, 8, 8, 8, 8), "data.cache": False,
    "data.set": "folder", "input.size": (32, 32),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder as a training on `data` leaves it, and that folder of ten images."""
    root = tmp_path_factory.mktemp("trained")
    data = write_folder(root / "data")
    recipe = override(find_recipe("sis_cnn.quick"), TINY)
    train, validation = (open_dataset("folder", root=data, split=split, options={}) for split in ("train", "val"))
    model = build(model_class(recipe.model), recipe.config, train.labels, None)
    card = Card(recipe=recipe, labels=train.labels, metrics={})
    checkpoint.save(model, card, root / "run" / "best.safetensors")
    (root / "run" / IMAGES).write_text(ImageRecord.of(train, validation).to_text())
    return root


def write_other(root, count=4):
    """Images that are in no other folder."""
    write_folder(root, FolderShape(stems=tuple(f"other{k}" for k in range(count))))
    for k in range(count):
        save(root / "images" / f"other{k}.png", picture(100 + k))
    return root


def test_all_of_a_folder_that_the_run_has_never_seen(trained, tmp_path):
    found = smalti.evaluate(trained / "run", data=f"folder={write_other(tmp_path / 'new')}")
    assert (found["protocol"]["split"], found["protocol"]["pictures"]) == ("all", 4)
    part = found["protocol"]["measured_part"]
    assert part == "all 4 images: none of them was in this run's training or validation"
    assert part in metric_lines(found)


def test_a_folder_that_the_run_knows_in_part(trained, tmp_path):
    """The images are known by their content, under other names too."""
    root = write_other(tmp_path / "new")
    name = next(iter(ImageRecord.read(trained / "run").train))
    shutil.copy(trained / "data" / "images" / f"{name}.png", root / "images" / "other0.png")
    found = smalti.evaluate(trained / "run", data=f"folder={root}")
    assert (found["protocol"]["split"], found["protocol"]["pictures"]) == ("val", 1)
    part = found["protocol"]["measured_part"]
    assert part.startswith('1 of 4 images were in this run\'s training or validation: measured is the split "val"')
    assert "1 of 4 images; --split all measures all of them" in part


def test_the_run_s_own_folder_is_measured_on_its_validation_split(trained):
    found = smalti.evaluate(trained / "run", data=f"folder={trained / 'data'}")
    assert found["protocol"]["split"] == "val"
    assert found["protocol"]["measured_part"].endswith("Of the measured ones 0 were trained on")


def test_a_checkpoint_alone_does_not_say_what_it_has_seen(trained, tmp_path):
    lone = shutil.copy(trained / "run" / "best.safetensors", tmp_path / "lone.safetensors")
    found = smalti.evaluate(lone, data=f"folder={write_other(tmp_path / 'new')}")
    assert found["protocol"]["split"] == "val"
    assert found["protocol"]["measured_part"].startswith("it is not recorded beside the network which images")


def test_a_split_that_is_named_is_measured(trained, tmp_path):
    found = smalti.evaluate(trained / "run", data=f"folder={write_other(tmp_path / 'new')}", split="test")
    assert found["protocol"]["split"] == "test"
    assert "measured_part" not in found["protocol"]


@pytest.mark.parametrize("content", ['{"train": {', '{"images": [], "annotations": []}', "[]",
                                     '{"train": {"a": 1}, "validation": {}, "changes": []}'])  # fmt: skip
def test_a_damaged_or_foreign_used_images_json_is_no_record(trained, tmp_path, content):
    (tmp_path / IMAGES).write_text(content)
    assert ImageRecord.read(tmp_path) is None
    recipe = find_recipe("sis_cnn.quick").data
    part = measured_part(tmp_path, recipe, f"folder={trained / 'data'}", None)
    assert part.split == "val"
    assert part.reason.startswith("it is not recorded")


def test_values_are_not_looked_at_to_choose_the_part(trained, tmp_path):
    """Images of 16 bits and floats have no range in common; that of the network is for the part that is measured."""
    root = write_other(tmp_path / "new")
    (root / "images" / "other0.png").unlink()
    Image.fromarray(np.full((24, 32), 0.5, np.float32)).save(root / "images" / "other0.tif")
    Image.fromarray(np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)).save(root / "images" / "other1.png")
    recipe = find_recipe("sis_cnn.quick").data
    assert measured_part(trained / "run", recipe, f"folder={root}", None).split == "all"


def test_images_of_a_public_data_set_are_known_in_a_folder(tmp_path):
    """Of the files of public data sets only the ends are recorded, here of more than 128 KiB."""
    root = write_camvid(tmp_path)
    for path in (root / "train").iterdir():
        save(path, picture(int(path.stem[-1]), (300, 300)))
    train, validation = (open_dataset("camvid", root=root, split=split, options={}) for split in ("train", "val"))
    (tmp_path / IMAGES).write_text(ImageRecord.of(train, validation).to_text())
    own = write_folder(tmp_path / "own", FolderShape(stems=("a", "b", "c")))
    shutil.copy(train.items[0].picture, own / "images" / "a.png")
    recipe = override(find_recipe("sis_cnn.quick"), {"data.set": "camvid"}).data
    assert measured_part(tmp_path, recipe, f"folder={own}", None).reason.startswith("1 of 3 images were in this run's")
