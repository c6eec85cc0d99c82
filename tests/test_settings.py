import dataclasses
import json
from collections.abc import Mapping
from typing import Literal

import pytest

from smalti.models.create import config_type, find_recipe
from smalti.parts.losses import BoundaryWeights, SemanticLoss
from smalti.recipe import InputPolicy, TrainingRecipe, recipe_from_json
from smalti.settings import from_json, override, to_json


@pytest.mark.parametrize(
    "name",
    ["sis_cnn.camvid", "sis_cnn.quick", "sis_cnn.paper_vgg16_unet", "pac_deeplab.voc2012", "pac_deeplab.camvid_half"],
)
def test_a_recipe_survives_json(name):
    recipe = find_recipe(name)
    text = json.dumps(to_json(recipe))
    assert recipe_from_json(json.loads(text), config_type) == recipe


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    size: tuple[int, int] | None = None
    rate: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    count: int = 0
    flag: bool = False
    stride: Literal[8, 16] = 8
    part: Part = Part()
    parts: tuple[Part, ...] = ()
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)


def test_values_of_json_have_their_own_types():
    values = {"name": "x", "count": 2.0, "flag": True, "part": {"size": [3, 4], "rate": 1}, "numbers": {"a": 1}}
    assert from_json(values, Whole) == Whole(
        name="x", count=2, flag=True, part=Part(size=(3, 4), rate=1.0), numbers={"a": 1.0}
    )
    assert from_json({"name": "x", "other": 1}, Whole, ignore_unknown=True) == Whole(name="x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, 'needs the key "name"'),
        ({"name": "x", "cuont": 1}, 'unknown key "cuont": did you mean "count"'),
        ({"name": 1}, "name: must be text, got 1"),
        ({"name": "x", "count": "1"}, 'count: must be a whole number, got "1": write 1 without quotes'),
        ({"name": "x", "count": 0.6}, "count: must be a whole number, got 0.6"),
        ({"name": "x", "count": None}, "count: must be a whole number, got null"),
        ({"name": "x", "flag": "false"}, 'flag: must be true or false, got "false": write false without quotes'),
        ({"name": "x", "flag": 1}, "flag: must be true or false, got 1"),
        ({"name": "x", "stride": "8"}, 'stride: must be one of 8, 16, got "8"'),
        ({"name": "x", "stride": True}, "stride: must be one of 8, 16, got true"),
        ({"name": "x", "part": []}, r"part: must be an object .* size, rate, got \[\]"),
        ({"name": "x", "part": {"size": [1.5, 2]}}, r"part.size\[0\]: must be a whole number, got 1.5"),
        ({"name": "x", "part": {"size": [1]}}, "part.size: must be 2 values, got 1"),
        ({"name": "x", "part": {"rate": 10**400}}, "part.rate: must be a number, got 1000"),
        ({"name": "x", "parts": [{}, {"rate": True}]}, r"parts\[1\].rate: must be a number, got true"),
        ({"name": "x", "numbers": {"a": "1.5"}}, "numbers.a: must be a number, got .*: write 1.5 without quotes"),
        ([1], "must be an object .* name, count, .*, got .1."),
    ],
)
def test_values_of_another_type_are_told_where(values, message):
    with pytest.raises(ValueError, match=message):
        from_json(values, Whole)


def test_text_is_for_the_command_line_only():
    assert override(Whole(name="x"), {"flag": "no", "count": "3", "part.size": "3x4"}) == Whole(
        name="x", count=3, part=Part(size=(3, 4))
    )
    with pytest.raises(ValueError, match='count=x: must be a whole number, got "x"'):
        override(Whole(name="x"), {"count": "x"})
    assert override(Whole(name="x"), {"part": '{"rate": 2}'}).part == Part(rate=2.0)
