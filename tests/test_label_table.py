"""labels.json as people write it: every form is read rightly or refused with a sentence that says what to do."""

import json

import pytest

from smalti.label_table import parse_color
from smalti.labels import CAMVID, IGNORED, LabelSet


def write(folder, table, encoding="utf-8"):
    path = folder / "labels.json"
    path.write_bytes((table if isinstance(table, str) else json.dumps(table)).encode(encoding))
    return path


NAMES = {"classes": ["bg", "a", "b"]}


@pytest.mark.parametrize(
    ("table", "encoding", "ids", "ignored_ids"),
    [
        (NAMES, "utf-8", (0, 1, 2), (IGNORED,)),
        (NAMES, "utf-8-sig", (0, 1, 2), (IGNORED,)),
        (NAMES, "utf-16", (0, 1, 2), (IGNORED,)),
        (NAMES["classes"], "utf-8", (0, 1, 2), (IGNORED,)),
        ({"0": "bg", "1": "a", "2": "b"}, "utf-8", (0, 1, 2), (IGNORED,)),
        ({"classes": {"3": "bg", "1": "a", "2": "b"}, "ignored_ids": [0]}, "utf-8", (3, 1, 2), (0,)),
        ({"classes": [{"id": 2, "name": "bg"}, {"id": 0.0, "name": "a"}, {"id": 1, "name": "b"}], "ignored_ids": []},
         "utf-8", (2, 0, 1), ()),
    ],
)  # fmt: skip
def test_forms_that_say_the_same(tmp_path, table, encoding, ids, ignored_ids):
    labels = LabelSet.read(write(tmp_path, table, encoding))
    assert (labels.names, labels.ids, labels.ignored_ids) == (("bg", "a", "b"), ids, ignored_ids)


def entry(**options):
    return {"classes": [{"name": "sky"}, {"name": "car", **options}]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "is empty"),
        ('{"classes": ["a", "b",]}', "line 1, column 2.: remove the comma before the closing bracket"),
        ("{'classes': ['a']}", "JSON has double quotes only"),
        ('{"classes": [{"name": "a", "thing": True}]}', "JSON has true, false and null"),
        ('{"classes": ["a"]} // mine', "JSON has no comments"),
        ('{"classes": ["a"], "classes": ["b"]}', 'the key "classes" stands there twice'),
        ("[" * 100_000, "without end"),
        ({**NAMES, "ignore_ids": [2]}, 'unknown key "ignore_ids": did you mean "ignored_ids"'),
        ({**NAMES, "ignore_index": 0}, 'unknown key "ignore_index": did you mean "ignored_ids"'),
        ({**NAMES, "ignored": [0]}, 'unknown key "ignored": did you mean "ignored_ids"'),
        ({"classs": ["a"]}, r'unknown key "classs": did you mean "classes".*A class table is {"classes": \['),
        ({"sky": 0, "car": 1}, r'unknown key "sky".*A class table is {"classes": \['),
        ({}, 'needs the key "classes"'),
        (3, "classes: must be a list of values, got 3"),
        ({**NAMES, "ignored_ids": 0}, "ignored_ids: must be a list of values, got 0"),
        ({**NAMES, "ignored_ids": ["0"]}, r'ignored_ids\[0\]: must be a whole number, got "0": write 0 without quotes'),
        ({"classes": []}, "classes: the list is empty"),
        ({"classes": ["", "a"]}, r"classes\[0\]: the name is empty"),
        ({"classes": ["a", 3]}, r"classes\[1\]: must be an object .* name, id, color, thing, got 3"),
        ({"classes": ["a", "a", "b"]}, 'the class name "a" stands there 2 times'),
        ({"classes": [{"id": 1, "name": "a"}, "b"]}, 'the class "b" has no "id", others have one'),
        ({**NAMES, "ignored_ids": [0]}, 'the id 0 is that of the class "bg" .no class has an id.*and ignored'),
        ({"classes": [{"id": 255, "name": "a"}]}, 'the id 255 .* add "ignored_ids": \\[\\]'),
        (entry(isthing=1), r'classes\[1\]: unknown key "isthing": did you mean "thing"'),
        (entry(thing="false"), r'classes\[1\].thing: must be true or false, got "false": write false without quotes'),
        (entry(thing="no"), r'classes\[1\].thing: must be true or false, got "no": write false without quotes'),
        (entry(thing=1), r"classes\[1\].thing: must be true or false, got 1"),
        (entry(id="1"), r'classes\[1\].id: must be a whole number, got "1": write 1 without quotes'),
        (entry(id=0.6), r"classes\[1\].id: must be a whole number, got 0.6"),
        (entry(id=True), r"classes\[1\].id: must be a whole number, got true"),
        (entry(name=3), r"classes\[1\].name: must be text, got 3"),
        (entry(color="black"), r'classes\[1\]: the color "black" cannot be read: .*"#ff8000"'),
        (entry(color=[1, 2, 300]), r"classes\[1\]: the color \[1, 2, 300\] is out of range"),
    ],
)
def test_what_is_no_class_table_is_told_where_and_why(tmp_path, table, message):
    with pytest.raises(ValueError, match=rf"labels\.json: .*{message}"):
        LabelSet.read(write(tmp_path, table))


def test_a_table_in_another_encoding(tmp_path):
    with pytest.raises(ValueError, match=r"labels\.json: is not UTF-8 text .byte 0xdf at 16.: save it as UTF-8"):
        LabelSet.read(write(tmp_path, '{"classes": ["Straße"]}'.replace("Stra", "St"), "latin-1"))


@pytest.mark.parametrize(
    ("color", "expected"),
    [([255, 128, 0], (255, 128, 0)), ([255.0, 128, 0], (255, 128, 0)), ([255, 128, 0, 255], (255, 128, 0)),
     ("#ff8000", (255, 128, 0)), ("#FF8000", (255, 128, 0)), ("#f80", (255, 136, 0)), ("#ff8000ff", (255, 128, 0)),
     ([0, 0, 1], (0, 0, 1))],
)  # fmt: skip
def test_forms_of_colors(color, expected):
    assert parse_color(color) == expected


@pytest.mark.parametrize(
    ("color", "message"),
    [([0.0, 0.5, 1.0], r"scale from 0 to 1: write whole numbers from 0 to 255, here \[0, 128, 255\]"),
     ([1.0, 0.0, 0.0], "scale from 0 to 1"), ([12.5, 0, 0], "out of range"), ([-1, 0, 0], "out of range"),
     ([1, 2, 3, 0], r"alpha of 0.*write \[1, 2, 3\]"), ("#01020380", "alpha of 128"), ([1, 2], "cannot be read"),
     ([True, False, False], "cannot be read"), (["1", "2", "3"], "cannot be read"), ("ff8000", "cannot be read"),
     ("rgb(1,2,3)", "cannot be read"), ({"r": 1}, "cannot be read"), (7, "cannot be read")],
)  # fmt: skip
def test_what_is_no_color(color, message):
    with pytest.raises(ValueError, match=message):
        parse_color(color)


def test_colors_that_nobody_gave_are_known():
    labels = LabelSet.from_json({"classes": [{"name": "a", "color": "#010203"}, "b"]})
    assert labels.colors[0] == (1, 2, 3)
    assert labels.without_color == {"b"}
    assert LabelSet.of(2).without_color == {"class_0", "class_1"}
    assert LabelSet.of(["x", "y"]).without_color == {"x", "y"}
    assert CAMVID.without_color == frozenset()
    assert labels.with_ignored_as_class().without_color == {"b"}


def test_one_name_is_not_taken_for_its_letters():
    with pytest.raises(ValueError, match=r'write \["car"\]'):
        LabelSet.of("car")


@pytest.mark.parametrize(
    ("ids", "value", "first"), [((0, 1, 2), 3, 1), ((1, 2, 3), 0, 0), ((1, 2, 3), 4, 2), ((2, 0, 1), 3, 1)]
)
def test_shifted_ids_are_recognised(ids, value, first):
    hint = LabelSet(names=("a", "b", "c"), ids=ids).hint_for(value)
    assert "shifted by one" in hint
    assert f'"classes": [{{"id": {first}, "name": "a"}}, {{"id": {first + 1}, "name": "b"}}' in hint


@pytest.mark.parametrize(("ids", "value"), [((0, 1, 2), 7), ((0, 1, 5), 6), ((7, 8, 11), 12)])
def test_other_values_are_no_shift(ids, value):
    assert LabelSet(names=("a", "b", "c"), ids=ids).hint_for(value) == ""
