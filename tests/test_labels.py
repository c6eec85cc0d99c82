import json

import pytest

from smalti.labels import CAMVID, IGNORED, LabelSet


def test_camvid_as_the_segnet_authors_number_it():
    assert len(CAMVID) == 11
    assert (CAMVID.names[0], CAMVID.names[3], CAMVID.names[10]) == ("sky", "road", "bicyclist")
    assert CAMVID.ids == tuple(range(11))
    assert CAMVID.ignored_ids == (11, IGNORED)


def test_json_round_trip_and_short_forms(tmp_path):
    (tmp_path / "labels.json").write_text(CAMVID.to_text(), encoding="utf-8")
    assert LabelSet.read(tmp_path / "labels.json") == CAMVID
    assert LabelSet.from_json({"classes": ["a", "b"]}) == LabelSet(names=("a", "b"))
    assert LabelSet.from_json({"classes": [{"name": "a", "id": 7}]}).ids == (7,)


def test_classes_as_number_names_or_table():
    assert LabelSet.of(3).names == ("class_0", "class_1", "class_2")
    assert LabelSet.of(["x", "y"]).names == ("x", "y")
    assert LabelSet.of(CAMVID) is CAMVID


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ("a", "a")}, "repeated: a"),
        ({"names": ("a", "b"), "ids": (1, 1)}, "repeated: 1"),
        ({"names": ("a",), "ids": (255,)}, "repeated: 255"),
        ({"names": ()}, "1 to 255 classes"),
        ({"names": ("a",), "things": frozenset({"b"})}, "not among the class names"),
    ],
)
def test_tables_that_contradict_themselves(options, message):
    with pytest.raises(ValueError, match=message):
        LabelSet(**options)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"classes": [1]}', '{"classes": [{"id": 1}]}', '{"classes": [{"name": "a", "color": [1, 2]}]}'],
)
def test_broken_tables_name_the_file(tmp_path, text):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(ValueError, match=r"labels\.json"):
        LabelSet.read(tmp_path / "labels.json")


def test_void_as_a_class():
    table = CAMVID.with_ignored_as_class()
    assert len(table) == 12
    assert table.names[11] == "void"
    assert table.ids[11] == 11
    assert json.loads(json.dumps(table.to_json()))["classes"][11]["name"] == "void"
    assert LabelSet(names=("a", "b")).with_ignored_as_class().ids[2] == IGNORED


def test_colors_differ():
    assert len(set(LabelSet.of(40).colors)) == 40


def test_a_misspelt_key_of_a_class_is_named():
    with pytest.raises(ValueError, match=r'classes\[0\]: unknown key "colour": did you mean "color"\?'):
        LabelSet.from_json({"classes": [{"name": "a", "colour": [1, 2, 3]}]})


def test_colours_that_are_given_are_kept_beside_those_that_are_not():
    found = LabelSet.from_json({"classes": [{"name": "a", "color": [1, 2, 3]}, "b"]})
    assert found.colors[0] == (1, 2, 3)
    assert found.colors[1] == LabelSet.of(2).colors[1]


@pytest.mark.parametrize("ids", [(-1, 0), (0, 70000)])
def test_ids_fit_into_mask_files(ids):
    with pytest.raises(ValueError, match="from 0 to 65535"):
        LabelSet(names=("a", "b"), ids=ids)
