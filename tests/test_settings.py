import dataclasses
import json

import pytest

from smalti.models.create import find_recipe, model_class
from smalti.parts.losses import BoundaryWeights, SemanticLoss
from smalti.recipe import InputPolicy, TrainingRecipe, recipe_from_json
from smalti.settings import override, to_json


@pytest.mark.parametrize(
    "name",
    ["sis_cnn.camvid", "sis_cnn.quick", "sis_cnn.paper_vgg16_unet", "pac_deeplab.voc2012", "pac_deeplab.camvid_half"],
)
def test_a_recipe_survives_json(name):
    recipe = find_recipe(name)
    text = json.dumps(to_json(recipe))
    assert recipe_from_json(json.loads(text), model_class(recipe.model).config_type) == recipe


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("training.epochs", "7", 7),
        ("training.ema", "none", None),
        ("training.ema", "0.9", 0.9),
        ("training.precision", "float32", "float32"),
        ("augmentation.crop", "96x128", (96, 128)),
        ("augmentation.offline_flips", "true", True),
        ("config.widths", "8,8,8,8,8", (8, 8, 8, 8, 8)),
        ("config.semantic_loss.class_weights", "median_frequency", "median_frequency"),
        ("config.semantic_loss.dice", "0.5", 0.5),
        ("config.output_stride", "8", 8),
        ("augmentation.crop", "96 x 128", (96, 128)),
        ("weights", "none", None),
        ("weights", "imagenet", "imagenet"),
        ("data.options.length", "12", 12),
    ],
)
def test_changes_are_read_as_the_fields_type(key, text, expected):
    value = override(find_recipe("sis_cnn.camvid"), {key: text})
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    assert value == expected


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.epoch", "7", 'did you mean "epochs"'),
        ("trainin.epochs", "7", 'did you mean "training"'),
        ("training.epochs", "many", "training.epochs=many"),
        ("training.epochs", "1.5", "training.epochs=1.5"),
        ("training.optimizer", "adamax", "must be one of adamw, adam, sgd"),
        ("training.epochs.x", "1", "below a single value"),
        ("augmentation.scale", "1,2,3", "must be 2 values"),
    ],
)
def test_wrong_changes_say_what_is_wrong(key, value, message):
    with pytest.raises(ValueError, match=message):
        override(find_recipe("sis_cnn.camvid"), {key: value})


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(ValueError, match='did you mean "sis_cnn.camvid"'):
        find_recipe("sis_cnn.camvit")


def test_own_recipe_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import dataclasses\nfrom smalti.models.sis_cnn import quick\nfrom smalti.recipe import Recipe\n"
        "def tiny() -> Recipe:\n    return dataclasses.replace(quick(), name='tiny')\n"
    )
    assert find_recipe(f"{file}:tiny").name == "tiny"
    with pytest.raises(ValueError, match='did you mean "tiny"'):
        find_recipe(f"{file}:tin")


def test_recipes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingRecipe().epochs = 3


def test_input_policy_needs_its_size():
    with pytest.raises(ValueError, match="needs a size"):
        InputPolicy(fit="stretch")


def test_a_field_of_an_absent_part_brings_it_with_its_defaults():
    loss = override(find_recipe("sis_cnn.camvid"), {"config.semantic_loss.boundary.size": "15"}).config.semantic_loss
    assert loss.boundary == BoundaryWeights(size=15)
    assert override(find_recipe("pac_deeplab.camvid"), {"config.semantic_loss.boundary": "none"}).config.semantic_loss \
        == SemanticLoss()  # fmt: skip
    with pytest.raises(ValueError, match='did you mean "sigma"'):
        override(find_recipe("sis_cnn.camvid"), {"config.semantic_loss.boundary.sigm": "1"})
    with pytest.raises(ValueError, match="is below a single value"):
        override(find_recipe("sis_cnn.camvid"), {"training.ema.decay": "1"})


@pytest.mark.parametrize("order", [1, -1])
def test_changes_that_need_each_other_come_in_any_order(order):
    changes = [("input.fit", "stretch"), ("input.size", "300,300")][::order]
    recipe = override(find_recipe("ivanet.scenes"), dict(changes))
    assert recipe.input == InputPolicy(fit="stretch", size=(300, 300))


@pytest.mark.parametrize("text", ["boxes", "boxes,", "(boxes)"])
def test_words_with_an_x_are_words(text):
    assert override(find_recipe("ivanet.scenes"), {"config.tasks": text}).config.tasks == ("boxes",)
    both = override(find_recipe("ivanet.scenes"), {"config.tasks": "boxes,semantic"})
    assert both.config.tasks == ("boxes", "semantic")


def test_no_changes():
    recipe = find_recipe("ivanet.scenes")
    assert override(recipe, {}) == recipe
