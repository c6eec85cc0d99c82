"""The job of exporting: the file is run beside the network, and must agree."""

import dataclasses
import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

import smalti
from smalti import checkpoint, exporting
from smalti.checkpoint import Card
from smalti.cli import main
from smalti.evaluation.agreement import Agreement, compare, odd_sizes, verdict
from smalti.exporting import Wish, export
from smalti.predict.loading import CONVERTED, Execution, _forget_oldest, exported_card, load, load_with_card
from smalti.predict.predictor import Predictor
from smalti.recipe import DataRecipe, InputPolicy, Recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A checkpoint of a network for the eleven classes of drawn scenes."""
    torch.manual_seed(0)
    names = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
    model = smalti.create_model("sis_cnn", classes=names, encoder="resnet10t", widths=(8, 8, 8, 8)).eval()
    recipe = Recipe(name="tiny", model="sis_cnn", config=model.config, data=DataRecipe(set="scenes", cache=False))
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    checkpoint.save(model, Card(recipe=recipe, labels=model.labels, metrics={}), path)
    return path


def test_the_file_tells_how_it_agrees(run, tmp_path):
    written = export(run, Wish(to="onnx", out=tmp_path / "net.onnx"))
    assert written.agrees
    _, card = load_with_card(tmp_path / "net.onnx")
    seen = card.export["agreement"]
    assert seen["equal_labels"] > 0.999
    assert seen["maximum_difference"] < 1e-3 * max(1, seen["scale"])
    assert seen["pictures"] == 8
    assert len(seen["sizes"]) == 8
    assert all(int(side) % 2 for size in seen["sizes"] for side in size.split("x"))
    assert seen["pictures_of"] == "drawn scenes, cut to odd sizes"


def test_a_file_that_answers_otherwise_fails_the_command(run, tmp_path, monkeypatch, capsys):
    plain = exporting.to_program

    def other(model, policy):
        twin = smalti.create_model("sis_cnn", classes=model.labels, encoder="resnet10t", widths=(8, 8, 8, 8))
        return plain(twin.eval(), policy)

    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as yesterday:
        card = checkpoint.read_card(run)
        yesterday.writestr("net/extra/smalti.json", json.dumps(exported_card(card, "torch", ("semantic",)).to_json()))
    before = (tmp_path / "net.pt2").read_bytes()
    monkeypatch.setattr(exporting, "to_program", other)
    monkeypatch.setattr("sys.argv", ["smalti", "export", str(run), "--to", "torch", "--out", str(tmp_path / "net.pt2")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert "do not use it in its place" in capsys.readouterr().err
    assert load(tmp_path / "net.refused.pt2", Execution(trust=True)).runtime.name.startswith(
        "torch.export"
    )  # to be looked at
    assert (tmp_path / "net.pt2").read_bytes() == before


@pytest.mark.parametrize(("name", "to", "theirs"), [
    ("net.onnx", "onnx", "net.onnx"), ("net.xml", "openvino", "net.xml"), ("net.xml", "openvino", "net.bin"),
    ("net.pt2", "torch", "net.pt2"), ("net.pt2", "torch", "net.refused.pt2"),
    ("net.xml", "openvino", "net.refused.bin"),
])  # fmt: skip
def test_a_file_of_another_maker_is_not_replaced(run, tmp_path, monkeypatch, name, to, theirs):  # noqa: PLR0917
    monkeypatch.setattr(checkpoint, "load", lambda *_: pytest.fail("something was computed"))
    (tmp_path / theirs).write_bytes(b"weights of mine")
    with pytest.raises(ValueError, match=f"1 file would be replaced that smalti did not write.*{theirs}.*--overwrite"):
        export(run, Wish(to=to, out=tmp_path / name))
    assert (tmp_path / theirs).read_bytes() == b"weights of mine"
    with pytest.raises(pytest.fail.Exception, match="was computed"):
        export(run, Wish(to=to, out=tmp_path / name, overwrite=True))


def test_pt2_files_are_loaded_only_on_trust(tmp_path, monkeypatch, capsys):
    (tmp_path / "net.pt2").write_bytes(b"PK")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("was loaded"))
    message = r"net\.pt2: a \.pt2 file may run any code when it is loaded.*--trust.*trust=True"
    for call in (smalti.load, lambda path: smalti.evaluate(path, data="scenes")):
        with pytest.raises(ValueError, match=message):
            call(tmp_path / "net.pt2")
    for verb in (["evaluate"], ["predict", str(tmp_path / "photo.png"), "--out", str(tmp_path / "out"), "--model"]):
        for trust, said in (([], "--trust"), (["--trust"], "cannot be read as .pt2")):
            monkeypatch.setattr("sys.argv", ["smalti", *verb, str(tmp_path / "net.pt2"), *trust])
            with pytest.raises(SystemExit):
                main()
            assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(0)
    model = smalti.create_model("sis_cnn", classes=2, encoder="resnet10t", widths=(8, 8, 8, 8)).eval()
    return Predictor(model, InputPolicy())


def altered(plain, alter):
    """A predictor whose logits are changed in place by `alter`."""

    class Altered:
        name = precision = ""

        def __call__(self, images):
            outputs = plain.runtime(images)
            logits = outputs.semantic.clone()
            alter(logits)
            return outputs._replace(semantic=logits)

    return Predictor(plain.model, plain.policy, Altered())


BLACK = torch.zeros((3, 32, 48), dtype=torch.uint8)


def test_agreement_by_hand(plain):
    """Oracle: two networks whose logits differ by a known constant at known pixels."""

    def first_row_is_second_class(logits):
        logits[..., :1, :] = torch.tensor([0.0, 1000.0])[:, None, None]

    logits = plain.runtime(BLACK[None]).semantic
    first_row_is_first_class = float((logits[0, :, 0].argmax(0) == 0).float().mean())
    seen = compare(plain, altered(plain, first_row_is_second_class), [BLACK])
    assert seen.maximum_difference == pytest.approx(1000 - float(logits[0, 1, 0].min()))
    assert seen.equal_labels == pytest.approx(1 - first_row_is_first_class / 32)


def test_what_is_no_number_never_agrees(plain):
    seen = compare(plain, altered(plain, lambda logits: logits[..., 0, 0].fill_(torch.nan)), [BLACK])
    assert seen.maximum_difference == float("inf")
    assert not verdict(dataclasses.replace(seen, equal_labels=None), "float32", None)[0]


@pytest.mark.slow
def test_exported_files_are_measured_like_checkpoints(run, tmp_path):
    written = export(run, Wish(to="onnx", out=tmp_path / "net.onnx", data="scenes"))
    assert written.agrees
    metrics = written.card.export["agreement"]["metrics"]["semantic.miou"]
    assert abs(metrics["network"] - metrics["file"]) < 1e-3
    assert written.card.export["agreement"]["runtime"].startswith("ONNX Runtime")
    found = smalti.evaluate(tmp_path / "net.onnx", data="scenes")
    assert found["semantic.miou"] == pytest.approx(metrics["file"], abs=1e-4)
    assert found["protocol"]["runtime"].startswith(("OpenVINO", "ONNX Runtime"))


@pytest.mark.parametrize(("precision", "metrics", "labels", "good"), [
    ("float32", (0.5, 0.4991), 0.5, True), ("float32", (0.5, 0.4989), 1.0, False),
    ("int8", (0.5, 0.4951), 0.5, True), ("int8", (0.5, 0.4949), 1.0, False), ("int8", (0.5, 0.9), 0.0, True),
    ("float32", None, 0.9991, True), ("float32", None, 0.9989, False), ("int8", None, 0.5, True),
])  # fmt: skip
def test_the_gate(precision, metrics, labels, good):
    seen = Agreement(pictures=1, sizes=("1x1",), maximum_difference=0.0, scale=1.0, equal_labels=labels)
    found = None if metrics is None else tuple({"semantic.miou": value} for value in metrics)
    assert verdict(seen, precision, found)[0] is good


def test_boxes_alone_are_judged_by_their_answers():
    seen = Agreement(pictures=1, sizes=("1x1",), maximum_difference=0.002, scale=10.0, equal_labels=None)
    assert verdict(seen, "float32", None)[0]
    assert not verdict(dataclasses.replace(seen, maximum_difference=0.02), "float32", None)[0]


def test_odd_sizes_are_odd():
    pictures = [torch.zeros((3, 360, 480), dtype=torch.uint8)] * 6
    sizes = {tuple(p.shape[1:]) for p in odd_sizes(pictures)}
    assert len(sizes) == 6
    assert all(side % 2 for size in sizes for side in size)


@pytest.mark.parametrize(("wish", "message"), [
    ({"to": "onnx", "out": "a.xml"}, r"ends with \.onnx"),
    ({"to": "tflite", "out": "a.onnx"}, "--to is one of onnx, openvino, torch"),
    ({"to": "onnx", "out": "a.onnx", "int8": True}, "name the data set with --data"),
])  # fmt: skip
def test_wishes_that_cannot_be_met(wish, message):
    with pytest.raises(ValueError, match=message):
        Wish(**{**wish, "out": Path(wish["out"])})


def test_folders_are_not_written_to_and_exported_files_not_exported(tmp_path):
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(ValueError, match="a.onnx is a folder"):
        Wish(to="onnx", out=tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="b.onnx is exported already"):
        export(tmp_path / "b.onnx", Wish(to="openvino", out=tmp_path / "c.xml"))


def test_converted_networks_are_forgotten_but_the_last(tmp_path, monkeypatch):
    """And what was compiled of them."""
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path))
    networks = [f"converted/net{k}{ending}" for k in range(CONVERTED + 2) for ending in (".xml", ".bin")]
    compiled = [f"openvino/{k}.blob" for k in range(2 * CONVERTED + 3)]
    for name in (*networks, *compiled):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        number = int("".join(filter(str.isdigit, name)))
        os.utime(tmp_path / name, (number, number))
    _forget_oldest()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert left == {*networks[4:], *compiled[3:]}


@pytest.mark.slow
def test_auto_converts_where_it_is_worth_it_and_then_keeps_to_it(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert load(run).runtime.name.startswith("torch")
    assert load(run, Execution(pictures=100)).runtime.name.startswith("OpenVINO")
    assert load(run).runtime.name.startswith("OpenVINO")  # from the cache now
    assert load(run, Execution(runtime="torch")).runtime.name.startswith("torch")
    assert load(run, Execution(device="cpu")).runtime.name.startswith("torch")
    assert load(run, changes={"config.upsample": "bilinear"}).runtime.name.startswith("torch")  # another network
