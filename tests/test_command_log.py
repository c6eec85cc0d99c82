"""`--log FILE` and `--version --json`: what people send with a report."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import smalti
from smalti import command_log, session
from smalti.cli import app, main

LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} +\d+\.\d{3} (out|err|trace|end) ?.*")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The command in this process, in an empty folder; gives its exit code."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["smalti", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code

    return command


def test_an_error_is_one_line_for_the_user_and_a_traceback_in_the_log(run, capsys, tmp_path):
    streams = sys.stdout, sys.stderr
    assert run("predict", "道路.jpg", "--log", "run.log") == 1
    assert (sys.stdout, sys.stderr) == streams
    assert capsys.readouterr().err == "error: 道路.jpg: no such picture or folder\n"
    lines = (tmp_path / "run.log").read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if line.startswith("# ")]
    assert lines[: len(head)] == head
    assert "# command: smalti predict '道路.jpg' --log run.log" in head
    assert any(f"smalti {smalti.__version__}, python " in line and ", torch 2" in line for line in head)
    body = lines[len(head) :]
    assert all(LINE.fullmatch(line) for line in body)
    assert any("trace Traceback (most recent call last):" in line for line in body)
    assert any(line.endswith("trace ValueError: 道路.jpg: no such picture or folder") for line in body)
    assert body[-2].endswith("err error: 道路.jpg: no such picture or folder")
    assert re.search(r" end exit code 1 after \d+\.\d s$", body[-1])


def test_errors_of_single_pictures_keep_their_tracebacks(run, capsys, tmp_path):
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"x")
    assert run("predict", "good.png", "bad.png", "--runtime", "torch", "--log", "run.log") == 1
    said = capsys.readouterr()
    log = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert "Traceback" not in said.out + said.err
    assert " trace PIL.UnidentifiedImageError: " in log
    for line in (said.out + said.err).splitlines():
        assert line in log


def test_a_log_is_continued_and_other_files_are_not_touched(run, capsys, tmp_path):
    run("data", "folder=/nowhere", "--log", "run.log")
    run("list", "models", "--log", "run.log")
    log = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert log.count("# command: smalti ") == 2
    assert " out sis_cnn" in log
    assert "exit code 0 after" in log
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    capsys.readouterr()
    assert run("list", "--log", "photo.jpg") == 1
    assert "photo.jpg exists and is no log" in capsys.readouterr().err
    assert (tmp_path / "photo.jpg").read_bytes() == b"precious"
    assert run("list", "--log", "missing/run.log") == 1
    assert "a folder that exists" in capsys.readouterr().err


def test_a_fault_of_the_package_is_in_the_log(run, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "evaluate", lambda *_, **__: {}["a fault"])
    with pytest.raises(KeyError):
        run("evaluate", "runs/x", "--log", "run.log")
    log = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert " trace KeyError: 'a fault'" in log
    assert "exit code 1" in log


@pytest.mark.parametrize("verb", ["demo", "list", "train", "evaluate", "ablate", "predict", "data", "export"])
def test_every_verb_has_a_log(verb):
    assert "--log FILE" in CliRunner().invoke(app, [verb, "--help"]).output


def test_bars_passwords_and_other_processes(monkeypatch, tmp_path, capsys):
    path = tmp_path / "run.log"
    with command_log.finishing_log():
        command_log.start_log(path)
        sys.stdout.write("1/3\r2/3\r\x1b[2K3/3 pictures\n")
        sys.stderr.write("rtsp://me:secret@camera/1 and no end of line")
        code = "from smalti import command_log; command_log.join_log(); print('from a training')"
        subprocess.run([sys.executable, "-c", code], check=True)
    log = path.read_text(encoding="utf-8")
    assert [line.split(" ", 1)[1].lstrip().split(" ", 1)[1] for line in log.splitlines() if LINE.fullmatch(line)][
        :3
    ] == ["out 3/3 pictures", "out from a training", "err rtsp://me:***@camera/1 and no end of line"]
    assert command_log.LOG_VARIABLE not in os.environ


def test_the_environment_as_json(monkeypatch):
    monkeypatch.setenv("SMALTI_DATA", "/home/somebody/data")
    result = CliRunner().invoke(app, ["--version", "--json"], catch_exceptions=False)
    found = json.loads(result.output)
    assert found["smalti"] == smalti.__version__
    packages = {"torch", "torchvision", "timm", "lightning", "numpy", "pillow", "opencv", "onnxruntime", "openvino"}
    assert found["packages"].keys() == packages | {"rasterio", "av"}
    assert found["packages"]["numpy"] == np.__version__
    assert found["cpu_count"] >= 1
    assert found["memory_bytes"] > 2**28
    assert found.keys() >= {"python", "platform", "cpu", "accelerator", "bfloat16", "cache_folder"}
    assert found["smalti_data_is_set"] is True
    assert "somebody" not in result.output
    assert CliRunner().invoke(app, ["--json"]).exit_code == 2


def test_packages_that_are_missing_are_null(monkeypatch):
    monkeypatch.setattr(command_log, "PACKAGES", {"opencv": ("no-such-package", "numpy"), "av": ("no-such-package",)})
    assert command_log.versions() == {"opencv": np.__version__, "av": None}


def test_names_are_said_on_streams_without_their_letters():
    command = [sys.executable, "-m", "smalti", "list", "--log", "道路/x.log"]
    for encoding in ("ascii", "latin-1"):
        result = subprocess.run(
            command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, check=False
        )
        assert result.returncode == 1
        assert b"a folder that exists" in result.stderr
        assert b"Traceback" not in result.stderr
