import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import smalti
from smalti import create_model
from smalti.containers import Predictions
from smalti.predict.folder import find_files, predict_files
from smalti.predict.pictures import picture_values
from smalti.predict.predictor import Predictor
from smalti.predict.runtimes import TorchRuntime
from smalti.recipe import InputPolicy


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    model = create_model("sis_cnn", classes=4, encoder="resnet10t", widths=(8, 8, 8, 8))
    return Predictor(model, InputPolicy(), TorchRuntime(model, "float32", "cpu"))


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)


def test_every_way_to_hold_a_picture_gives_the_same(predictor, picture, tmp_path):
    path = tmp_path / "p.png"
    Image.fromarray(picture).save(path)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    forms = [path, str(path), path.read_bytes(), Image.fromarray(picture), picture, tensor]
    answers = [predictor(form) for form in forms]
    for answer in answers:
        assert answer.semantic.shape == (45, 61)
        assert torch.equal(answer.semantic, answers[0].semantic)


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (64, 64), (130, 20)])
@pytest.mark.parametrize("policy", [
    InputPolicy(), InputPolicy(size=(64, 64)),
    InputPolicy(fit="stretch", size=(32, 64)), InputPolicy(fit="crop", size=(32, 32)),
], ids=lambda p: f"{p.fit}-{p.size}")  # fmt: skip
def test_the_answer_is_in_the_pictures_own_pixels(predictor, policy, size):
    other = Predictor(predictor.model, policy, predictor.runtime)
    answer = other(np.zeros((*size, 3), np.uint8))
    assert answer.semantic.shape == answer.confidence.shape == size
    torch.testing.assert_close(answer.probabilities.sum(0), torch.ones(size))


def test_grey_and_alpha(predictor, picture):
    grey = picture[..., 0]
    same = np.repeat(grey[..., None], 3, 2)
    assert torch.equal(predictor(grey).semantic, predictor(same).semantic)
    assert torch.equal(predictor(Image.fromarray(grey)).semantic, predictor(same).semantic)
    alpha = Image.fromarray(picture).convert("RGBA")
    assert torch.equal(predictor(alpha).semantic, predictor(picture).semantic)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((4, 4, 3), np.complex64), "whole numbers or floats"),
        (np.zeros((4, 4, 5), np.uint8), "takes pictures with 3 channels, got 5"),
        (np.zeros((2, 4, 4, 3), np.uint8), "height x width x channels"),
        (np.zeros((0, 4, 3), np.uint8), "channels x height x width"),
        (b"", "."),
        (b"no picture", "."),
        ("missing.png", "missing.png"),
    ],
)
def test_what_is_no_picture_is_refused(predictor, bad, message):
    with pytest.raises(ValueError, match=message):
        predictor(bad)


def test_large_pictures_take_turns(predictor, monkeypatch):
    """Memory is asked for each as if it were alone."""
    working, most = [], {}

    def viewed(image):
        working.append(image)
        most[image.shape[-1]] = max(most.get(image.shape[-1], 0), len(working))
        time.sleep(0.05)
        working.pop()
        return Predictions(labels=predictor.labels)

    monkeypatch.setattr(predictor, "_viewed", viewed)
    monkeypatch.setattr("smalti.predict.predictor.choose_tiles", lambda size, per_pixel: None)
    for side in (64, 1040):
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(predictor, [np.zeros((side, side, 3), np.uint8)] * 4))
    assert most[64] > 1
    assert most[1040] == 1


def test_exif_orientation_is_honoured(predictor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(tmp_path / "p.jpg", exif=exif)
    assert predictor(tmp_path / "p.jpg").semantic.shape == (40, 20)


def test_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="is it a run folder"):
        smalti.load(tmp_path)
    with pytest.raises(ValueError, match="no such checkpoint"):
        smalti.load(tmp_path / "none.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"junk")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        smalti.load(tmp_path / "x.safetensors")


def test_one_bad_file_never_stops_the_rest(predictor, picture, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(picture).save(folder / "a.png")
    Image.fromarray(picture).save(folder / "deep" / "a.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not really")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    monkeypatch.setattr("smalti.predict.folder.load", lambda *_: predictor)
    monkeypatch.setattr("smalti.predict.folder._identity", str)
    files = find_files([folder], tmp_path / "out")
    assert len(files) == 4
    failed = predict_files(tmp_path, files, tmp_path / "out", "both")
    assert len(failed) == 2
    assert all("broken.jpg" in f or "empty.png" in f for f in failed)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"in_a.png", "in_a_overlay.jpg", "deep_a.png", "deep_a_overlay.jpg", "predictions.jsonl"}
    mask = np.array(Image.open(tmp_path / "out" / "in_a.png"))
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    assert np.array_equal(mask, predictor(buffer.getvalue()).semantic.numpy())


def test_paths_without_pictures(tmp_path):
    with pytest.raises(ValueError, match="no pictures"):
        find_files([tmp_path], tmp_path / "out")
    with pytest.raises(ValueError, match="no such picture"):
        find_files([tmp_path / "x.png"], tmp_path / "out")


def test_answers_never_replace_pictures(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr("smalti.predict.folder.load", lambda *_: predictor)
    monkeypatch.setattr("smalti.predict.folder._identity", str)
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(photo)
    before = photo.read_bytes()
    with pytest.raises(ValueError, match="would replace a picture"):
        predict_files(tmp_path, find_files([photo], tmp_path), tmp_path, "both")
    assert photo.read_bytes() == before


def test_answers_are_not_segmented_again(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr("smalti.predict.folder.load", lambda *_: predictor)
    monkeypatch.setattr("smalti.predict.folder._identity", str)
    out = tmp_path / "in" / "answers"
    out.parent.mkdir()
    for name in ("a.png", "a_overlay.jpg", "._a.png"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(out.parent / name)
    for _ in range(2):
        files = find_files([out.parent], out)
        assert [f.name for f in files] == ["a.png", "a_overlay.jpg"]
        assert predict_files(tmp_path, files, out, "both") == []
    assert len([p for p in out.iterdir() if p.suffix in (".png", ".jpg")]) == 4  # none took the place of another


def test_a_pil_image_is_read_as_its_file_would_be(tmp_path):
    deep = Image.fromarray((np.arange(600).reshape(20, 30) * 100).astype(np.uint16))
    deep.save(tmp_path / "deep.png")
    values, visible = picture_values(deep, channels=3)
    from_file, visible_in_file = picture_values(tmp_path / "deep.png", channels=3)
    assert values.dtype == np.uint16
    assert np.array_equal(values, from_file)
    assert visible is None
    assert visible_in_file is None
