"""The commands as a user types them, on tiny data."""

import fnmatch
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import smalti
from smalti.cli import app, main
from smalti.session import RUN_FILES

TINY = [
    "config.encoder=resnet10t", "config.widths=8,8,8,8,8", "weights=none", "data.options.size=[64, 96]",
    "data.options.length=8", "data.workers=0", "training.epochs=1", "training.steps_per_epoch=2", "training.batch=4",
]  # fmt: skip


def smalti_command(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    settings = [part for setting in TINY for part in ("--set", setting)]
    result = smalti_command("train", "sis_cnn.quick", "--out", out, *settings)
    assert result.exit_code == 0, result.output
    return out, result.output


def test_help_answers_at_once():
    """A new process each time; the limit is 0.3 s on a free machine, three times that while tests share it."""
    taken = []
    for _ in range(5):
        begin = time.perf_counter()
        result = subprocess.run([sys.executable, "-m", "smalti", "--help"], capture_output=True, text=True, check=True)
        taken.append(time.perf_counter() - begin)
    assert min(taken) < 0.9
    assert "smalti train sis_cnn.quick --out runs/first" in result.stdout


def test_help_imports_no_heavy_library():
    code = "import sys, smalti.cli; print([m for m in ('torch', 'numpy', 'lightning', 'timm') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", ["demo", "list", "train", "evaluate", "ablate", "predict", "data"])
def test_every_verb_shows_examples(verb):
    result = smalti_command(verb, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"smalti {verb}" in result.output


def test_train_writes_a_whole_run_folder(trained):
    out, output = trained
    assert all(any(fnmatch.fnmatch(str(p.relative_to(out)), known) for known in RUN_FILES)
               for p in out.rglob("*") if p.is_file())  # fmt: skip
    names = {p.name for p in out.iterdir()}
    assert names == {
        "recipe.json", "labels.json", "history.csv", "best.safetensors", "last.safetensors", "state.ckpt",
        "metrics.json", "curves.png", "report.html", "examples", "used_images.json",
    }  # fmt: skip
    metrics = json.loads((out / "metrics.json").read_text())
    assert 0 <= metrics["semantic.miou"] <= 1
    assert metrics["semantic.iou.road"] is None or 0 <= metrics["semantic.iou.road"] <= 1
    protocol = metrics["protocol"]
    assert protocol["data"] == "scenes version 1"
    assert protocol["split"] == "val"
    assert protocol["version"] == smalti.__version__
    assert {"classes", "ignored", "input_size", "views", "weights"} <= protocol.keys()
    assert "semantic.miou" in output
    assert str(out / "report.html") in output


def test_evaluate_and_predict(trained, tmp_path):
    out, _ = trained
    result = smalti_command("evaluate", out, "--split", "test", "--out", tmp_path / "test")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "test" / "report.html").is_file()
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    (tmp_path / "bad.png").write_bytes(b"")
    result = smalti_command(
        "predict", tmp_path / "photo.png", tmp_path / "bad.png", "--model", out, "--out", tmp_path / "a"
    )
    assert result.exit_code == 1
    assert "1 of 2 segmented" in result.output
    with Image.open(tmp_path / "a" / "photo.png") as mask:
        assert mask.size == (70, 50)
    assert (tmp_path / "a" / "photo_overlay.jpg").is_file()


def test_evaluated_otherwise_than_trained(trained):
    found = smalti.evaluate(trained[0], split="test", changes={"input.size": "32,48"})
    assert found["protocol"]["input_size"] == "pad 32x48"
    assert found["protocol"]["changed_since_training"] == "input.size=32,48"
    assert "changed_since_training" not in smalti.evaluate(trained[0], split="test", max_objects=7)["protocol"]
    with pytest.raises(ValueError, match="1 or more, got -1"):
        smalti.evaluate(trained[0], split="test", max_objects=-1)
    result = smalti_command("evaluate", trained[0], "--split", "test", "--set", "input.size=32,48")
    assert result.exit_code == 0, result.output
    for key in ("weights", "data.root", "config.semantic_loss.boundary.size"):
        with pytest.raises(ValueError, match=f"{key} cannot be changed after training"):
            smalti.evaluate(trained[0], changes={key: "1"})
    with pytest.raises(ValueError, match="this checkpoint is of another network"):
        smalti.evaluate(trained[0], changes={"config.widths": "16,16,16,16,16"})


def test_ablate(tmp_path):
    settings = [part for setting in TINY for part in ("--set", setting)]
    variant = "training.learning_rate=1e-3 training.ema=none"
    arguments = ["ablate", "sis_cnn.quick", "--variant", variant, "--seeds", "1"]
    result = smalti_command(*arguments, "--split", "test", "--out", tmp_path / "a", *settings)
    assert result.exit_code == 0, result.output
    assert f"| {variant} | 1 |" in result.output
    assert "* split: test" in result.output
    assert (tmp_path / "a" / "ablation.csv").is_file()
    with pytest.raises(ValueError, match="was measured on the split test"):
        smalti_command(*arguments, "--out", tmp_path / "a", *settings)


def test_evaluation_of_other_classes_is_refused(trained, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for k in range(8):
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "images" / f"{k}.png")
        Image.fromarray((np.arange(1600).reshape(40, 40) % 2).astype(np.uint8)).save(tmp_path / "masks" / f"{k}.png")
    with pytest.raises(ValueError, match="cannot be compared"):
        smalti.evaluate(trained[0], data=f"folder={tmp_path}", split="val")


def test_an_own_folder_is_trained_on(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for k in range(12):
        picture = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "data" / "images" / f"{k}.jpg")
        Image.fromarray((picture[..., 0] > 128).astype(np.uint8)).save(tmp_path / "data" / "masks" / f"{k}.png")
    settings = [part for setting in TINY if "options" not in setting for part in ("--set", setting)]
    data = f"folder={tmp_path / 'data'}"
    result = smalti_command("train", "sis_cnn.quick", "--data", data, "--out", tmp_path / "run", *settings)
    assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "run" / "labels.json").read_text())["classes"]) == 2
    result = smalti_command("data", data, "--out", tmp_path / "look.png")
    assert result.exit_code == 0, result.output
    assert "12 pictures" not in result.output  # split into train, val and test
    assert "% of pixels" in result.output
    assert (tmp_path / "look_train.png").is_file()


def test_list():
    assert "sis_cnn.paper_resnet50_pspnet" in smalti_command("list").output
    assert "camvid" in smalti_command("list", "datasets").output
    assert "pac_deeplab.bal" in smalti_command("list", "ablations").output
    assert "sis_cnn" in smalti_command("list", "models").output
    assert "resnet50\n" in smalti_command("list", "encoders").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "sis_cnn.camvit", "--out", "x"], 'did you mean "sis_cnn.camvid"'),
        (["train", "sis_cnn.quick", "--out", "x", "--set", "training.epoch=1"], 'did you mean "epochs"'),
        (["train", "sis_cnn.quick", "--out", "x", "--set", "training.epochs"], "KEY=VALUE"),
        (["train", "sis_cnn.quick", "--out", "x", "--data", "camvit=/nowhere"], 'did you mean "camvid"'),
        (["evaluate", "nowhere"], "no such checkpoint or run folder"),
        (["predict", "nowhere.jpg", "--model", "nowhere"], "no such picture"),
        (["data", "folder=/nowhere"], "/nowhere"),
    ],
)
def test_what_a_user_can_mend_is_one_line(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["smalti", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_public_functions_stay_functions(trained):
    """Rooms of the package must not take the place of functions when they are imported."""
    import smalti.evaluation.run
    import smalti.training.run

    for name in smalti.__all__:
        assert callable(getattr(smalti, name)), name
