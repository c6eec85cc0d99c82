"""What the pages promise: their Python examples run, and the recipes that they name exist."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import smalti
from smalti import checkpoint, session
from smalti.checkpoint import Card
from smalti.labels import CAMVID, VOC
from smalti.models import MODELS
from smalti.models.ccfnet import REPORTED as CCFNET_REPORTED
from smalti.models.create import find_recipe
from smalti.models.sis_cnn import REPORTED as SIS_CNN_REPORTED
from smalti.recipe import DataRecipe, Recipe
from smalti.studies.listing import listing

ROOT = Path(__file__).parents[1]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("src/smalti/**/*.md")})
EXAMPLES = [path for path in (*PAGES, ROOT / "src/smalti/__init__.py") if "```python" in path.read_text("utf-8")]
SMALL = {
    "sis_cnn": {"encoder": "resnet10t", "widths": (8, 8, 8, 8)},
    "ccfnet": {"encoder": "resnet10t", "width": 16},
    "hourglass": {"encoder": "resnet10t", "upsample": "bilinear", "widths": (16, 16, 16, 8, 8)},
    "ivanet": {"encoder": "resnet10t", "width": 16, "pcm_width": 16},
}


SCENES = DataRecipe(set="scenes", options={"size": [64, 96], "length": 4}, workers=0)


def save_run(name, folder):
    model = smalti.create_model(name, classes=CAMVID, **SMALL[name])
    recipe = Recipe(name="tiny", model=name, config=model.config, data=SCENES)
    folder.mkdir(parents=True)
    checkpoint.save(model, Card(recipe=recipe, labels=model.labels, metrics={}), folder / "best.safetensors")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the photos that the examples name; a training is only its result, with random weights."""
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "street.jpg"):
        Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / name)
    monkeypatch.setattr(session, "train", lambda recipe, *, out, **_: save_run(recipe.split(".")[0], Path(out)) or {})
    return tmp_path


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda path: path.name)
def test_python_examples_run(page, workplace):
    if page.stem in SMALL:
        save_run(page.stem, workplace / "runs" / ("stanford" if page.stem == "ccfnet" else "scenes"))
    for example in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        exec(compile(example, page.name, "exec"), {"smalti": smalti})


@pytest.mark.parametrize("page", [*PAGES, ROOT / "benchmarks/README.md"], ids=lambda path: path.name)
def test_recipes_and_ablations_that_pages_name_exist(page):
    known = {line.split()[0] for kind in ("recipes", "ablations") for line in listing(kind)}
    named = set(re.findall(rf"\b(?:{'|'.join(MODELS)})\.(?!py\b|md\b)[a-z]\w*", page.read_text("utf-8")))
    assert {name for name in named if name not in known and not name.endswith("_")} == set()


def test_class_tables_are_an_attribute_of_the_package():
    assert smalti.labels.VOC == VOC
    with pytest.raises(AttributeError, match="no attribute 'lables'"):
        _ = smalti.lables


def test_numbers_of_the_papers():
    """Section IV of SIS-CNN: "around 13 seconds per step (6904s per epoch)"; the abstract of CCFNet."""
    assert {tuple(row.values()) for row in SIS_CNN_REPORTED.values()} == {(13.0, 6904.0)}
    assert CCFNET_REPORTED["sift_flow"] == {"semantic.pixel_accuracy": 0.916}


def test_the_start_of_kitti_is_the_one_that_its_description_names():
    recipe, description = (
        find_recipe("hourglass.kitti"),
        next(line for line in listing("recipes") if line.split()[0] == "hourglass.kitti"),
    )
    assert recipe.weights == "imagenet"
    assert "from ImageNet weights" in description
