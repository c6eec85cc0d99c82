"""Ablations: every row with every seed, once; tables with paired differences worked out by hand."""

import csv
import dataclasses
import json
import math

import pytest
from PIL import Image

from smalti.files import claimed
from smalti.models.create import ablations, find_ablation, find_recipe
from smalti.recipe import Ablation, Variant
from smalti.settings import override
from smalti.studies import ablate
from smalti.studies.ablate import Trial, choose_ablation, run_ablation
from smalti.studies.ablation_table import Cell, markdown, write_tables

TINY = {
    "config.encoder": "resnet10t", "config.widths": (8, 8, 8, 8, 8), "weights": None, "data.workers": 0,
    "data.options": {"size": (64, 96), "length": 4}, "training.epochs": 1, "training.steps_per_epoch": 2,
    "training.batch": 2, "training.examples": 0,
}  # fmt: skip


@pytest.fixture
def ablation():
    rows = (
        Variant(name="plain", changes={"config.semantic_loss.lovasz": 0.0}),
        Variant(name="fast", changes={"training.learning_rate": 0.01}, reported=0.5),
        Variant(name="slow/er", changes={"training.learning_rate": 0.0001}),
    )
    return Ablation(name="test", recipe=override(find_recipe("sis_cnn.quick"), TINY), rows=rows, source="Table 9")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is broken JSON"), ("[]", "not the numbers of a run"), ('{"metrics": {"a": "1"}}', "needs the key"),
     ('{"metrics": {"a": "1"}, "protocol": {}, "seconds": 1}', "metrics.a: must be a number")],
)  # fmt: skip
def test_damaged_numbers_of_a_run_are_named(ablation, tmp_path, text, message):
    file = tmp_path / "plain" / "seed_0" / "ablation.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"seed_0/ablation\.json: .*{message}"):
        run_ablation(ablation, tmp_path, Trial(repeats=1), print)


def test_runs_every_row_once_and_goes_on(ablation, tmp_path, monkeypatch):
    said = []
    assert run_ablation(ablation, tmp_path, Trial(repeats=1, only=("fast",)), said.append)
    assert [line for line in said if line.startswith("[")] == ["[1/2] plain, seed 0", "[2/2] fast, seed 0"]
    said.clear()
    assert run_ablation(ablation, tmp_path, Trial(repeats=1), said.append)
    assert [line for line in said if line.startswith("[")] == ["[1/1] slow/er, seed 0"]
    table = (tmp_path / "ablation.md").read_text()
    assert [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")][1:] == [
        "| plain", "| fast", "| slow/er",
    ]  # fmt: skip
    assert "loss of fast: 1 cross entropy" in table
    rows = list(csv.DictReader((tmp_path / "ablation.csv").read_text().splitlines()))
    assert [(row["variant"], row["seed"]) for row in rows] == [("plain", "0"), ("fast", "0"), ("slow/er", "0")]
    assert 0 <= float(rows[0]["boundary.miou_3"]) <= 1
    with Image.open(tmp_path / "ablation.png") as plot:
        assert plot.size[0] > 300
    # Nothing is left to do; what was done with other settings is not mixed in.
    monkeypatch.setattr(ablate.session, "train", lambda *_, **__: pytest.fail("was trained again"))
    assert run_ablation(ablation, tmp_path, Trial(repeats=1), said.append)
    with pytest.raises(ValueError, match="was made with other settings"):
        run_ablation(ablation, tmp_path, Trial(repeats=1, changes={"training.clip": 1.0}), said.append)


@pytest.mark.slow
def test_side_by_side_is_as_one_by_one(ablation, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    trial = Trial(repeats=1, only=("fast",), changes={"training.precision": "float32"})
    said = []
    assert run_ablation(ablation, two, dataclasses.replace(trial, jobs=2), said.append)
    assert sorted(said) == ["[1/2] plain, seed 0: done", "[2/2] fast, seed 0: done"]
    assert run_ablation(ablation, one, trial, lambda _: None)
    for row in ("plain", "fast"):
        a, b = (
            json.loads((folder / row / "seed_0" / "ablation.json").read_text())["metrics"]["semantic.pixel_accuracy"]
            for folder in (one, two)
        )
        assert a == pytest.approx(b, abs=1e-3)  # other numbers of threads round otherwise
    # A job that cannot be done says why, here too.
    broken = dataclasses.replace(ablation, recipe=override(ablation.recipe, {"data.options": {"length": 0}}))
    with pytest.raises(ValueError, match="length"):
        run_ablation(broken, tmp_path / "broken", Trial(repeats=1, only=("fast",), jobs=2), said.append)


def test_an_interrupted_row_is_not_counted(ablation, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate.session, "train", lambda *_, **__: {})
    assert not run_ablation(ablation, tmp_path, Trial(repeats=2), lambda _: None)
    assert not (tmp_path / "ablation.md").exists()


def test_the_rows_that_are_wanted_must_exist(ablation, tmp_path):
    with pytest.raises(ValueError, match="no row of test has nothing in its name; the rows are: fast; slow/er"):
        run_ablation(ablation, tmp_path, Trial(only=("nothing",)), lambda _: None)


def test_variants_belong_to_recipes():
    with pytest.raises(ValueError, match="pac_deeplab.bal has rows of its own: .* such as pac_deeplab.camvid_half"):
        choose_ablation("pac_deeplab.bal", None, [{"training.clip": 1.0}])


def test_any_recipe_and_any_changes():
    ablation = choose_ablation("sis_cnn.quick", None, [{"training.ema": "none"}, {"a": "1", "b": "2"}])
    assert [row.name for row in ablation.rows] == ["as it is", "training.ema=none", "a=1 b=2"]
    other = choose_ablation("pac_deeplab.bal", "pac_deeplab.voc2012", [])
    assert other.recipe.name == "pac_deeplab.voc2012"
    with pytest.raises(ValueError, match='unknown ablation "pac_deeplab.ball".*did you mean "pac_deeplab.bal"'):
        choose_ablation("pac_deeplab.ball", None, [])


PROTOCOL = dict.fromkeys(
    ("data", "split", "pictures", "input_size", "measured_at", "boundary", "weights", "version"), "x"
)


def cells(values):
    return {
        key: Cell(metrics=dict.fromkeys(Ablation.metrics, value), protocol={**PROTOCOL, "loss": "l"}, seconds=60.0)
        for key, value in values.items()
    }


def test_differences_are_paired_by_seed(ablation):
    values = {("plain", 0): 0.50, ("plain", 1): 0.60, ("plain", 2): 0.40}
    values |= {("fast", 0): 0.51, ("fast", 1): 0.62, ("fast", 2): 0.42, ("slow/er", 0): 0.55}
    lines = {line.split(" | ")[0]: line.split(" | ") for line in markdown(ablation, cells(values)).splitlines()}
    # By hand: 51, 62, 42 have the mean 51.67 and the deviation 10.02; the differences 1, 2, 2 have 1.67 and 0.58.
    assert lines["| fast"][1:6] == ["3", "51.67 ± 10.02", "+1.67 ± 0.58", "yes", "+0.50"]
    assert lines["| slow/er"][1:5] == ["1", "55.00", "+5.00", "no"]
    assert lines["| plain"][1:5] == ["3", "50.00 ± 10.00", "", ""]


def test_one_run_without_a_baseline_says_so(ablation, tmp_path):
    found = cells({("fast", 3): 0.5})
    write_tables(ablation, found, tmp_path)
    assert "| fast | 1 | 50.00 | – | no |" in (tmp_path / "ablation.md").read_text()


def test_cells_are_read_as_they_were_written():
    (cell,) = cells({("plain", 0): 0.5}).values()
    assert Cell(**json.loads(json.dumps(vars(cell)))) == cell


def test_changes_of_all_rows_may_not_touch_what_a_row_is_about(ablation, tmp_path):
    with pytest.raises(ValueError, match=r'--set training.learning_rate changes what the row "fast" is about'):
        run_ablation(ablation, tmp_path, Trial(changes={"training.learning_rate": 1.0}), lambda _: None)
    bal = choose_ablation("pac_deeplab.pac", None, [])
    with pytest.raises(ValueError, match="would mix two causes"):
        run_ablation(bal, tmp_path, Trial(changes={"config.semantic_loss.boundary.size": 35}), lambda _: None)


@pytest.mark.parametrize("names", [("a b", "a_b"), ("a", "a"), ("..", "x"), ("", "x")])
def test_rows_need_folders_of_their_own(ablation, tmp_path, names):
    rows = (ablation.rows[0], *(Variant(name=name, changes={}) for name in names))
    with pytest.raises(ValueError, match="rows need names that differ"):
        run_ablation(dataclasses.replace(ablation, rows=rows), tmp_path, Trial(), lambda _: None)


def test_every_protocol_that_occurs_is_named(ablation):
    both = cells({("plain", 0): 0.5, ("fast", 0): 0.5})
    both["fast", 0].protocol["weights"] = "random"
    assert "* weights: x or, in other runs, random" in markdown(ablation, both)


def test_no_difference_is_never_clear(ablation):
    values = {(name, seed): 0.5 for name in ("plain", "fast") for seed in range(3)}
    assert "| fast | 3 | 50.00 ± 0.00 | +0.00 ± 0.00 | no |" in markdown(ablation, cells(values))


def test_a_recipe_alone_over_the_folds_of_its_set(ablation, tmp_path, monkeypatch):
    wanted = []

    def train(recipe, **_):
        wanted.append(recipe.data.options["fold"])
        return {"semantic.miou": 0.5 + wanted[-1] / 100, "protocol": {**PROTOCOL, "split": "val", "loss": "l"}}

    monkeypatch.setattr(ablate.session, "train", train)
    monkeypatch.setattr(ablate, "open_splits", lambda _: None)
    (only,) = choose_ablation("sis_cnn.quick", None, []).rows
    alone = dataclasses.replace(ablation, rows=(only,), metrics=ablate.ANY_RECIPE)
    assert run_ablation(alone, tmp_path, Trial(repeats=3, over="fold"), lambda _: None)
    assert wanted == [1, 2, 3]
    assert (tmp_path / "as_it_is" / "fold_2" / "ablation.json").is_file()
    lines = (tmp_path / "ablation.md").read_text().splitlines()
    assert lines[2:5] == ["| variant | folds | mIoU |", "|---|---|---|", "| as it is | 3 | 52.00 ± 1.00 |"]
    assert "standard deviation over folds." in lines[6]
    assert not (tmp_path / "ablation.png").exists()


def test_a_metric_that_only_some_rows_have_is_no_obstacle(ablation):
    found = cells({(name, seed): 0.5 for name in ("plain", "fast") for seed in range(2)})
    for (name, _), cell in found.items():
        cell.metrics.update({"difficulty.auc": 0.9} if name == "fast" else {})
    other = dataclasses.replace(ablation, metrics=("semantic.miou", "difficulty.auc"))
    assert "| plain | 2 | 50.00 ± 0.00 |  |  |  | – |  |" in markdown(other, found)


def test_what_the_runs_differ_by_is_not_to_be_set(ablation, tmp_path):
    with pytest.raises(ValueError, match="what the runs of a row differ by"):
        run_ablation(ablation, tmp_path, Trial(changes={"training.seed": 3}), lambda _: None)


def test_missing_folds_are_known_before_the_first_training(ablation, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate.session, "train", lambda *_, **__: pytest.fail("was trained"))
    with pytest.raises(ValueError, match='no option "fold"'):
        run_ablation(ablation, tmp_path, Trial(repeats=2, over="fold"), lambda _: None)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_missing_split_is_known_before_the_first_training(jobs, ablation, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate.session, "train", lambda *_, **__: pytest.fail("was trained"))
    with pytest.raises(ValueError, match='no split "tset"'):
        run_ablation(ablation, tmp_path, Trial(split="tset", jobs=jobs), lambda _: None)
    assert not list(tmp_path.iterdir())


def test_a_training_that_is_alive_is_left_alone(ablation, tmp_path):
    folder = tmp_path / "plain" / "seed_0"
    with claimed(folder):
        recipe = {"name": "a", "model": "sis_cnn", "config": {}, "training": {}}
        (folder / "recipe.json").write_text(json.dumps(recipe))  # in its first epoch
        with pytest.raises(ValueError, match="seed_0 is in use: another command or thread"):
            run_ablation(ablation, tmp_path, Trial(), lambda _: None)
        assert (folder / "recipe.json").is_file()


def test_metrics_of_an_ablation_lead_its_table(ablation):
    found = cells({("plain", 0): 0.5, ("fast", 0): 0.75})
    for cell in found.values():
        cell.metrics["difficulty.auc"] = 0.9
    other = dataclasses.replace(ablation, metrics=("semantic.miou", "difficulty.auc", "semantic.class_accuracy"))
    table = markdown(other, found).splitlines()
    assert table[2] == "| variant | seeds | mIoU | Δ | Δ clear? | paper's Δ | difficulty AUC | Δ |"
    assert table[5] == "| fast | 1 | 75.00 | +25.00 | no | +0.50 | 90.00 | +0.00 |"


@pytest.mark.parametrize("name", sorted(ablations()))
def test_the_rows_of_every_ablation_differ(name):
    ablate._check(find_ablation(name), Trial())


def test_two_rows_of_one_training_are_refused(ablation, tmp_path):
    rows = (
        Variant(name="few", changes={"training.batch": 2}),
        Variant(name="as it is", changes={}),
        Variant(name="many", changes={"training.batch": 4}),
    )
    with pytest.raises(ValueError, match='the rows "few" and "as it is" are the same training'):
        run_ablation(dataclasses.replace(ablation, rows=rows), tmp_path, Trial(), lambda _: None)


@pytest.mark.parametrize("values", [{"boxes.map50": 0.25}, {"boxes.map50": 0.25, "semantic.miou": math.nan}])
def test_the_table_shows_what_was_measured(ablation, tmp_path, values):
    """Boxes without masks: no column of a metric that no run has, and no "nan" in the file of numbers."""
    found = cells({("plain", 0): 0.5, ("fast", 0): 0.5})
    for cell in found.values():
        cell.metrics.clear()
        cell.metrics.update(values)
    other = dataclasses.replace(ablation, metrics=("semantic.miou", "boxes.map50"))
    write_tables(other, found, tmp_path)
    table = (tmp_path / "ablation.md").read_text().splitlines()
    assert table[2] == "| variant | seeds | box mAP at 0.50 | Δ | Δ clear? | paper's Δ |"
    assert table[5] == "| fast | 1 | 25.00 | +0.00 | no |  |"
    assert "nan" not in (tmp_path / "ablation.csv").read_text()
    assert (tmp_path / "ablation.png").is_file()


def test_metrics_that_no_run_has_give_way_to_those_that_one_has(ablation):
    found = cells({("plain", 0): 0.5})
    found["plain", 0].metrics.clear()
    found["plain", 0].metrics["boxes.ap"] = 0.25
    assert "| variant | seeds | box AP |" in markdown(dataclasses.replace(ablation, rows=ablation.rows[:1]), found)
