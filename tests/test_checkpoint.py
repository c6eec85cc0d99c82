"""The card of a checkpoint: read strictly, and read back before anything is trained."""

import json
from pathlib import Path

import pytest

from smalti.checkpoint import DEFAULT_WEIGHTS, Card, check_card, read_card
from smalti.labels import LabelSet


@pytest.fixture(scope="module")
def card():
    return read_card(DEFAULT_WEIGHTS)


def test_the_card_of_an_earlier_version_is_read(card):
    assert (card.version, card.epoch, len(card.labels)) == ("0.1.0", 14, 11)
    check_card(card)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("epoch",), "14", 'epoch: must be a whole number, got "14": write 14 without quotes'),
        (("lables",), {}, 'unknown key "lables": did you mean "labels"'),
        (("format",), [1], r"format: must be a whole number, got \[1\]"),
        (("format",), 9, "which is newer than this one"),
        (("metrics",), [], r"metrics: must be an object .*, got \[\]"),
        (("metrics", "semantic.miou"), "0.5", "metrics.semantic.miou: must be a number"),
        (("labels",), "camvid", 'labels: classes: must be a list of values, got "camvid"'),
        (("labels", "classes", 0, "color"), list("#a60f2f"), r"labels: classes\[0\]: the color \['#', 'a'"),
        (("labels", "classes", 0, "thing"), "false", r"labels: classes\[0\].thing: must be true or false"),
        (("recipe",), None, "recipe: must be an object .*, got null"),
        (("recipe", "model"), ["sis_cnn"], "recipe: model: must be text"),
        (("recipe", "model"), "sis_cn", 'recipe: config of sis_cn: unknown model "sis_cn": did you mean "sis_cnn"'),
        (("recipe", "config"), [], "recipe: config of sis_cnn: must be an object"),
        (("recipe", "config", "widths", 1), "8", r"config of sis_cnn: widths\[1\]: must be a whole number"),
        (("recipe", "training", "epochs"), 1.5, "recipe: training.epochs: must be a whole number, got 1.5"),
        (("recipe", "data", "cache"), "false", 'recipe: data.cache: must be true or false, got "false"'),
        (("recipe", "input", "size"), [480], "recipe: input.size: must be 2 values, got 1"),
    ],
)
def test_a_wrong_value_in_a_card_is_told_where(card, place, value, message):
    values = json.loads(json.dumps(card.to_json()))
    part = values
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(ValueError, match=rf"net\.safetensors: .*{message}"):
        Card.from_text(json.dumps(values), Path("net.safetensors"))


@pytest.mark.parametrize("text", ["", "{", "3", "[]", "null", "{}"])
def test_text_that_is_no_card(text):
    with pytest.raises(ValueError, match=r"net\.safetensors: its card cannot be read"):
        Card.from_text(text, Path("net.safetensors"))


def test_a_card_that_would_be_read_otherwise_is_an_error(card, monkeypatch):
    monkeypatch.setattr(LabelSet, "from_json", classmethod(lambda cls, table: cls.of(len(table["classes"]))))
    with pytest.raises(ValueError, match="could not be loaded again as it is: its labels"):
        check_card(card)
