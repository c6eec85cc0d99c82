"""Nothing is reported to anybody: no connection leaves the machine, and no id is written into the home."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smalti.telemetry import OPT_OUTS, disable_telemetry

GUARD = """
import os, socket

def note(address):
    host = address[0] if isinstance(address, tuple) else address
    if host not in (None, "", "localhost", "127.0.0.1", "::1") and not str(host).startswith(("/", "\\0")):
        with open(os.environ["GUARD_LOG"], "a") as log:
            log.write(f"{host}\\n")
        raise OSError("this test allows no connections")

def guarded(function, place):
    def call(*arguments, **options):
        note(arguments[place])
        return function(*arguments, **options)
    return call

socket.getaddrinfo = guarded(socket.getaddrinfo, 0)
socket.gethostbyname = guarded(socket.gethostbyname, 0)
class Guarded(socket.socket):
    connect = guarded(socket.socket.connect, 1)
    connect_ex = guarded(socket.socket.connect_ex, 1)
    sendto = guarded(socket.socket.sendto, -1)
socket.socket = Guarded
"""
HARMLESS = ("matplotlib",)
"""Folders in the home that other packages compute again when they are missing: matplotlib's list of fonts."""
SILENT = {"CI", "TF_BUILD", "JENKINS_URL", "GITHUB_ACTIONS", "GITLAB_CI", "BUILD_ID", "NNCF_CI", *OPT_OUTS}
"""Variables under which the packages report nothing, which the watched process gets from nobody but the package."""
TINY = [part for setting in (
    "config.encoder=resnet10t", "config.widths=8,8,8,8,8", "weights=none", "data.options.size=[64, 96]",
    "data.options.length=8", "data.workers=1", "training.epochs=1", "training.steps_per_epoch=2", "training.batch=4",
) for part in ("--set", setting)]  # fmt: skip


@pytest.fixture
def watched(tmp_path):
    """Runs Python in a process of its own; gives the hosts that it asked for and the files that it left in the home."""
    guard, home, log = tmp_path / "guard", tmp_path / "home", tmp_path / "log"
    guard.mkdir()
    home.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    log.touch()
    environment = {key: value for key, value in os.environ.items() if key not in SILENT}
    environment |= {
        "HOME": str(home), "GUARD_LOG": str(log), "SMALTI_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(guard), str(Path(__file__).parents[1] / "src")]),
    }  # fmt: skip
    for folder in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        environment.pop(folder, None)

    def run(*arguments):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        left = {p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()}
        return log.read_text().split(), {name for name in left if not any(word in name for word in HARMLESS)}

    return run


def test_the_guard_sees_what_other_packages_do(watched):
    """Without the package's switch: OpenVINO asks for an analytics host and ONNX Runtime writes a device id."""
    hosts, files = watched("-c", "import openvino, onnxruntime, time; time.sleep(1)")
    assert any("analytics" in host for host in hosts)
    assert any(name.endswith("deviceid") for name in files)


def test_imports_report_nothing(watched):
    code = "import smalti, openvino, onnxruntime, huggingface_hub.constants as hub, time; time.sleep(1); "
    assert watched("-c", code + "assert hub.HF_HUB_DISABLE_TELEMETRY") == ([], set())


def test_a_variable_of_the_user_is_left_as_it_is(monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    disable_telemetry()
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "0"


VERBS = [
    ["list", "encoders"],
    ["data", "scenes", "--split", "val", "--out", "scenes.png"],
    ["train", "sis_cnn.quick", "--out", "run", *TINY],
    ["evaluate", "run", "--out", "measured"],
    ["export", "run", "--to", "onnx", "--out", "net.onnx"],
    ["export", "run", "--to", "openvino", "--out", "net.xml", "--int8", "--data", "scenes", "--split", "val"],
    ["ablate", "sis_cnn.quick", "--out", "rows", "--seeds", "1", "--jobs", "2", "--variant", "training.clip=1", *TINY],
    ["demo", "--out", "demo"],
    ["predict", "photo.png", "--model", "run", "--runtime", "torch", "--out", "t"],
    ["predict", "photo.png", "--model", "net.onnx", "--runtime", "onnx", "--out", "a"],
    ["predict", "photo.png", "--model", "net.onnx", "--runtime", "openvino", "--out", "b"],
]
ALL_VERBS = """
import sys
from smalti.cli import main
from smalti.models.create import find_recipe
from smalti.settings import override
from smalti.studies import demo

# `smalti demo` has no options that make it small.
demo.RECIPE = override(find_recipe(demo.RECIPE), dict(setting.split("=", 1) for setting in {settings}))
for verb in {verbs}:
    sys.argv = ["smalti", *verb]
    try:
        main()
    except SystemExit as ended:  # 8 bits of an untrained network may be refused
        assert not ended.code or "--int8" in verb, verb
"""


@pytest.mark.slow
def test_no_verb_reports_anything(watched, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    assert watched("-c", ALL_VERBS.format(verbs=VERBS, settings=TINY[1::2])) == ([], set())
