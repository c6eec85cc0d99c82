"""Which part of a folder is measured where no split is named: what the network has not seen, and it is said."""

import shutil

import pytest

import smalti
from fake_datasets import FolderShape, picture, save, write_folder
from smalti import checkpoint
from smalti.checkpoint import Card
from smalti.data.dataset import open_dataset
from smalti.data.fingerprints import IMAGES, ImageRecord
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


def test_an_images_json_of_another_tool_is_no_record(trained, tmp_path):
    lone = shutil.copy(trained / "run" / "best.safetensors", tmp_path / "lone.safetensors")
    (tmp_path / IMAGES).write_text('{"images": [], "annotations": []}')
    found = smalti.evaluate(lone, data=f"folder={write_other(tmp_path / 'new')}")
    assert found["protocol"]["measured_part"].startswith("it is not recorded")
