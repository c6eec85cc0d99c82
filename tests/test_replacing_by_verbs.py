"""Every verb that writes leaves files alone that this package did not write."""

import json

import pytest
from PIL import Image

from smalti import session
from smalti.data.dataset import open_dataset
from smalti.evaluation import run as evaluation_run
from smalti.evaluation.run import check_evaluation_replaceable
from smalti.recipe import Ablation, Variant
from smalti.session import EvaluationOptions
from smalti.studies import ablate, demo
from smalti.studies.data_summary import summarise
from smalti.training.resuming import is_unstarted

OWN_METRICS = json.dumps({"semantic.miou": 0.5, "protocol": {"version": "0.1.0", "recipe": "a"}})
OLD_REPORT = "<!doctype html><body><h2>How this was measured</h2>"
RECIPE = json.dumps({"name": "a", "model": "sis_cnn", "config": {}, "training": {}})


@pytest.mark.parametrize(("name", "content"), [
    ("metrics.json", "my notes"), ("metrics.json", "[1]"), ("metrics.json", '{"accuracy": 1}'),
    ("report.html", "<html>mine</html>"),
])  # fmt: skip
def test_evaluate_replaces_no_file_of_a_person(tmp_path, monkeypatch, name, content):
    monkeypatch.setattr(session, "evaluate_checkpoint", lambda *_, **__: pytest.fail("measured"))
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"1 file would be replaced that smalti did not write.*{name}.*--overwrite"):
        session.evaluate("run", out=tmp_path)
    with pytest.raises(pytest.fail.Exception, match="measured"):
        session.evaluate("run", out=tmp_path, options=EvaluationOptions(overwrite=True))
    with pytest.raises(ValueError, match="1 file would be replaced"):
        session.train("sis_cnn.quick", out=tmp_path, resume=True)
    assert (tmp_path / name).read_text() == content


def test_evaluate_replaces_its_own_files(tmp_path):
    (tmp_path / "metrics.json").write_text(OWN_METRICS)
    (tmp_path / "report.html").write_text(OLD_REPORT)
    check_evaluation_replaceable(tmp_path, overwrite=False)
    assert evaluation_run.is_report(tmp_path / "report.html")


def test_data_replaces_no_photograph(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for k in range(3):
            Image.new("L", (8, 8), k % 2).save(tmp_path / name / f"{k}.png")
    photograph = tmp_path / "images" / "0.png"
    before = photograph.read_bytes()
    with pytest.raises(ValueError, match=r"0\.png lies in the data set"):
        summarise(f"folder={tmp_path}", "all", photograph, print)
    assert photograph.read_bytes() == before
    with pytest.raises(ValueError, match=r"name a file that ends with \.png"):
        summarise(f"folder={tmp_path}", "all", tmp_path.parent / "look.jpg", print)
    (tmp_path.parent / "mine.png").write_bytes(before)
    with pytest.raises(ValueError, match=r"1 file would be replaced.*mine\.png"):
        summarise(f"folder={tmp_path}", "all", tmp_path.parent / "mine.png", print)
    for overwrite in (True, False):  # the second time it is a drawing of the package's own
        (tmp_path.parent / "look.png").touch()
        summarise(f"folder={tmp_path}", "all", tmp_path.parent / "look.png", print, overwrite=overwrite)


def test_train_takes_only_folders_of_its_own(tmp_path):
    assert is_unstarted(tmp_path)
    (tmp_path / "labels.json").write_text('{"classes": ["by", "hand"]}')
    assert not is_unstarted(tmp_path)
    (tmp_path / "recipe.json").write_text("pancakes")
    assert not is_unstarted(tmp_path)
    (tmp_path / "recipe.json").write_text(RECIPE)
    assert is_unstarted(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert not is_unstarted(tmp_path)


@pytest.mark.parametrize("name", ["ablation.md", "ablation.csv", "ablation.png"])
def test_ablate_replaces_no_table_of_a_person(tmp_path, monkeypatch, name):
    monkeypatch.setattr(ablate.session, "train", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr(ablate, "open_splits", lambda _: None)
    (tmp_path / name).write_text("mine")
    recipe = ablate.find_recipe("sis_cnn.quick")
    ablation = Ablation(name="a", recipe=recipe, rows=(Variant(name="plain", changes={}),), metrics=("semantic.miou",))
    with pytest.raises(ValueError, match=f"1 file would be replaced.*{name}"):
        ablate.run_ablation(ablation, tmp_path, ablate.Trial(), print)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("content", [{"notes.txt": "mine"}, {"recipe.json": RECIPE, "notes.txt": "mine"}])
def test_ablate_removes_no_file_of_a_person(tmp_path, content):
    """From the folder of a training that was stopped in its first epoch."""
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    job = ablate.Job(name="a", recipe=ablate.find_recipe("sis_cnn.quick"), folder=tmp_path, split=None)
    with pytest.raises(ValueError, match="exists already"):
        ablate.run_cell(job, print)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.fixture
def quick_demo(monkeypatch):
    """The demo without its training."""

    def train(recipe, out, reporting):
        assert not out.exists() or is_unstarted(out)
        for name in (*demo.session.RUN_FILES[:-1], "examples/epoch_001_0.png"):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(RECIPE)
        return {"a": 1}

    def evaluate(run, split, out):
        out.mkdir(exist_ok=True)
        (out / "report.html").write_text("a report")
        return {"semantic.miou": 0.5, "semantic.pixel_accuracy": 0.5}

    def predict_files(run, pictures, out, show):
        out.mkdir(exist_ok=True)
        assert [path.name for path in pictures] == [f"scene_{k}.png" for k in range(4)]
        for path in pictures:
            (out / path.name).write_bytes(b"an answer")

    scenes = open_dataset("scenes", root=None, split="test", options={"size": (64, 96)})
    monkeypatch.setattr(demo.session, "train", train)
    monkeypatch.setattr(demo.session, "evaluate", evaluate)
    monkeypatch.setattr(demo, "predict_files", predict_files)
    monkeypatch.setattr(demo, "open_dataset", lambda *_, **__: scenes)


MINE = ("notes.txt", "pictures/holiday.png", "answers/mine.png", "test/thesis.tex", "letters/a/b.txt")


@pytest.mark.parametrize("earlier", ["finished", "killed", "version 0.1.0"])
def test_the_demo_removes_only_its_own_files(quick_demo, tmp_path, earlier):
    out, lines = tmp_path / "demo", []
    assert demo.run_demo(out, lines.append)
    first = {p.relative_to(out).as_posix() for p in out.rglob("*")}
    if earlier != "finished":
        (out / ".smalti-demo").write_text("")
    for name in MINE:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    (out / "run" / "state.ckpt").touch() if earlier == "killed" else None
    assert demo.run_demo(out, lines.append)
    assert all((out / name).read_text() == "mine" for name in MINE)
    assert any("5 files" in line and "stay" in line for line in lines)
    for name in MINE:
        (out / name).unlink()
    assert {p.relative_to(out).as_posix() for p in out.rglob("*")} - {"letters", "letters/a"} == first


@pytest.mark.parametrize(("name", "message"), [
    ("test/report.html", r"1 file would be replaced.*report\.html"), ("run/notes.txt", "lies where the demo trains"),
])  # fmt: skip
def test_the_demo_stops_before_it_removes_anything(quick_demo, tmp_path, name, message):
    out = tmp_path / "demo"
    demo.run_demo(out, print)
    (out / name).write_text("with remarks of mine")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=message):
        demo.run_demo(out, print)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").touch()
    with pytest.raises(ValueError, match="no earlier demo"):
        demo.run_demo(tmp_path / "other", print)
