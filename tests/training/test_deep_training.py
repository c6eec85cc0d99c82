"""The range of values of deep images is measured before training, kept in the card, and used from there on."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import smalti
from smalti import checkpoint
from smalti.data.pictures import read_any
from smalti.data.value_range import ValueRange
from smalti.evaluation.run import evaluate_checkpoint
from smalti.models.create import find_recipe
from smalti.settings import override
from smalti.studies.data_summary import summarise
from smalti.training.preparation import open_splits
from smalti.training.run import Reporting, run

TINY = {
    "weights": None, "config.encoder": "resnet10t", "config.widths": (8, 8, 8, 8, 8), "data.set": "folder",
    "data.workers": 0, "training.epochs": 1, "training.steps_per_epoch": 1, "training.batch": 2,
    "training.precision": "float32", "augmentation.crop": (32, 32), "data.options": {"validation": 0.25, "test": 0.0},
}  # fmt: skip


def write_folder(root, factor, dtype=np.uint16):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for k in range(8):
        values = rng.integers(0, 256, (40, 48))
        values[0, 0] = 255
        Image.fromarray((values * factor).astype(dtype)).save(root / "images" / f"{k}.tif")
        Image.fromarray((values > 128).astype(np.uint8)).save(root / "masks" / f"{k}.png")
    return root


@pytest.fixture
def recipe(tmp_path):
    def made(factor=16, dtype=np.uint16, **changes):
        root = write_folder(tmp_path / f"data{factor}", factor, dtype)
        settings = {key.replace("__", "."): value for key, value in changes.items()}
        return override(find_recipe("sis_cnn.quick"), {**TINY, "data.root": str(root), **settings})

    return made


def train(recipe, out, **options):
    lines = []
    assert run(recipe, out, reporting=Reporting(write=lines.append), **options)
    return lines


def test_the_measured_range_is_kept_and_used(recipe, tmp_path):
    settled, out = recipe(), tmp_path / "run"
    lines = train(settled, out)
    said = "7 of 7 images (16 bits): values 0 to 4080 become 0 to 255 (measured on 7 of them"
    assert sum(said in line for line in lines) == 1
    assert json.loads((out / "recipe.json").read_text())["input"]["value_range"] == [0, 4080]
    assert checkpoint.load(out)[1].recipe.input.value_range == (0, 4080)
    predictor = smalti.load(out, runtime="torch", device="cpu")
    image = tmp_path / "data16" / "images" / "0.tif"
    same = (read_any(image.read_bytes(), "image")[0][0] // 16).astype(np.uint8)
    assert torch.equal(predictor(image).semantic, predictor(same).semantic)
    found = evaluate_checkpoint(out, f"folder={settled.data.root}", None)
    assert "values 0 to 4080 become 0 to 255 (the model's range" in found.protocol["values"]
    train(override(settled, {"training.epochs": 2}), out, resume=True)
    assert checkpoint.load(out)[1].recipe.input.value_range == (0, 4080)


def test_deep_images_are_learned_like_the_8_bit_images_they_are_multiples_of(recipe):
    deep, plain = open_splits(recipe()), open_splits(recipe(factor=1, dtype=np.uint8))
    for split in (0, 1):
        for index in range(len(deep[split])):
            assert torch.equal(deep[split].read(index).image, plain[split].read(index).image)
        assert deep[split].scaling.value_range == ValueRange(0, 4080)
        assert plain[split].scaling is None


def test_a_given_range_is_used_and_cached_apart(recipe):
    measured = open_splits(recipe())
    given = open_splits(override(find_recipe("sis_cnn.quick"), {
        **TINY, "data.root": str(measured[0].dataset.root), "input.value_range": "0,8160",
    }))  # fmt: skip
    assert int(measured[0].read(0).image.max()) == 255
    assert int(given[0].read(0).image.max()) == 128
    assert given[1].content_key(0) != measured[1].content_key(0)


@pytest.mark.parametrize("text", ["5,1", "0,inf", "7"])
def test_ranges_that_are_none(text):
    with pytest.raises(ValueError, match="value_range"):
        override(find_recipe("sis_cnn.quick"), {"input.value_range": text})


def test_a_look_at_the_data_says_depth_and_range(tmp_path):
    said = []
    summarise(f"folder={write_folder(tmp_path / 'data', 16)}", "train", None, said.append)
    lines = "\n".join(said)
    assert "images (16 bits): values 0 to 4080 become 0 to 255" in lines
