"""Each source goes its way: pictures, rasters and videos, in one command."""

import logging
import os
import pickle
import signal

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import Affine

import smalti
from smalti import checkpoint
from smalti.checkpoint import Card
from smalti.cli import main
from smalti.labels import LabelSet
from smalti.predict.options import Options, parse_bands, parse_tiles
from smalti.predict.predictor import Predictor
from smalti.predict.tiling import Tiles, predict_tiled
from smalti.predict.views import Views, predict_views
from smalti.recipe import DataRecipe, InputPolicy, Recipe


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    labels = LabelSet(names=("sky", "road", "car"))
    return smalti.create_model("sis_cnn", classes=labels, encoder="resnet10t", widths=(8, 8, 8, 8)).eval()


@pytest.fixture
def run(network, tmp_path):
    recipe = Recipe(name="tiny", model="sis_cnn", config=network.config, data=DataRecipe(set="scenes"))
    checkpoint.save(network, Card(recipe=recipe, labels=network.labels, metrics={}), tmp_path / "best.safetensors")
    return tmp_path / "best.safetensors"


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)


def command(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["smalti", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def write_raster(path, pixels):
    place = {"crs": CRS.from_epsg(32632), "transform": Affine(2, 0, 500_000, 0, -2, 5_400_000)}
    with rasterio.open(path, "w", driver="GTiff", count=3, height=90, width=130, dtype="uint8", **place) as file:
        file.write(pixels.transpose(2, 0, 1))


def write_video(path, pixels):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 130, 90, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())


def test_all_kinds_in_one_command(run, pixels, tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "photo.png")
    write_raster(tmp_path / "in" / "map.tif", pixels)
    write_video(tmp_path / "clip.mp4", pixels)
    out = tmp_path / "out"
    code = command(monkeypatch, "predict", tmp_path / "in", tmp_path / "clip.mp4", "--model", run, "--out", out)
    assert code == 0, capsys.readouterr().err
    assert {path.name for path in out.iterdir()} >= {
        "photo.png", "photo_overlay.jpg", "map_labels.tif", "map_preview.jpg", "clip_overlay.mp4",
    }  # fmt: skip
    said = capsys.readouterr()
    assert "3 of 3 segmented" in said.out
    with rasterio.open(out / "map_labels.tif") as file:  # the same pixels: the raster's labels are the picture's
        assert file.crs == CRS.from_epsg(32632)
        np.testing.assert_array_equal(file.read(1), np.asarray(Image.open(out / "photo.png")))


def test_what_is_answered_is_passed_over(run, pixels, tmp_path, monkeypatch, capsys):
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    write_raster(tmp_path / "map.tif", pixels)
    write_video(tmp_path / "clip.mp4", pixels)
    loads = []
    monkeypatch.setattr(checkpoint, "load", lambda *a, real=checkpoint.load: loads.append(a) or real(*a))
    names = ("photo.png", "map.tif", "clip.mp4")
    words = ["predict", *(tmp_path / name for name in names), "--model", run, "--out", tmp_path / "out", "--resume"]
    answers = [tmp_path / "out" / name for name in ("photo.png", "map_labels.tif", "clip_overlay.mp4")]

    def written():
        assert command(monkeypatch, *words) == 0
        assert "3 of 3 segmented" in capsys.readouterr().out
        return [answer.stat().st_mtime_ns for answer in answers]

    first = written()
    assert len(loads) == 1  # for all of them
    assert written() == first
    assert len(loads) == 1  # none was needed
    answers[1].unlink()  # what is not there is made again
    photo, map_, clip = written()
    assert (photo, clip) == (first[0], first[2])
    assert map_ > first[1]
    write_video(tmp_path / "clip.mp4", pixels[::-1])  # and so is what was another file
    assert written()[:2] == [photo, map_]
    words.extend(["--smoothing", "0.5"])
    assert all(now > then for now, then in zip(written(), first, strict=True))


def test_being_told_to_end_is_as_ctrl_c(run, pixels, tmp_path, monkeypatch, capsys):
    """What is begun is finished: a video until there is a file that plays."""
    monkeypatch.setattr("smalti.predict.sources.predict_sources", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert command(monkeypatch, "predict", tmp_path / "photo.png", "--model", run, "--out", tmp_path / "out") == 130
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_card_keeps_paths_to_itself(network, tmp_path):
    recipe = Recipe(name="tiny", model="sis_cnn", config=network.config, data=DataRecipe(set="scenes", root="/my/data"),
                    weights="/home/me/runs/first/best.safetensors")  # fmt: skip
    checkpoint.save(network, Card(recipe=recipe, labels=network.labels, metrics={}), tmp_path / "net.safetensors")
    kept = checkpoint.read_card(tmp_path / "net.safetensors").recipe
    assert (kept.weights, kept.data.root) == ("first/best.safetensors", None)
    assert b"/my/" not in (tmp_path / "net.safetensors").read_bytes()


def test_one_bad_source_never_stops_the_rest(run, pixels, tmp_path, monkeypatch, capsys):
    write_raster(tmp_path / "map.tif", pixels)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    words = [tmp_path / "broken.mp4", tmp_path / "map.tif", "--model", run, "--out", out, "--show", "overlay,labels"]
    assert command(monkeypatch, "predict", *words) == 1
    said = capsys.readouterr()
    assert "1 of 2 segmented" in said.out
    assert "broken.mp4" in said.err
    assert (out / "map_labels.tif").is_file()


@pytest.mark.parametrize("error", [RuntimeError("no memory left"), MemoryError()])
def test_memory_or_runtime_may_fail_for_one_source(error, run, tmp_path, monkeypatch, capsys):
    pixels = np.zeros((90, 130, 3), np.uint8)
    write_raster(tmp_path / "map.tif", pixels)
    write_video(tmp_path / "clip.mp4", pixels)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("smalti.predict.sources.predict_raster", fail)
    words = [tmp_path / "map.tif", tmp_path / "clip.mp4", "--model", run, "--out", tmp_path / "out"]
    assert command(monkeypatch, "predict", *words) == 1
    said = capsys.readouterr()
    assert "1 of 2 segmented" in said.out
    assert f"map.tif: {error or 'MemoryError'}" in said.err


def test_what_fails_at_once_leaves_the_journal_to_the_run_before(run, pixels, tmp_path, monkeypatch, capsys):
    photo, out = tmp_path / "photo.png", tmp_path / "out"
    Image.fromarray(pixels).save(photo)
    assert command(monkeypatch, "predict", photo, "--model", run, "--out", out) == 0
    before = (out / "predictions.jsonl").read_text()
    write_raster(tmp_path / "map.tif", pixels)
    (tmp_path / "map.tif").write_bytes((tmp_path / "map.tif").read_bytes()[:3000])
    (tmp_path / "clip.mp4").write_text("no video")
    words = ["predict", tmp_path / "map.tif", tmp_path / "clip.mp4", "--model", run, "--out", out]
    assert command(monkeypatch, *words) == 1
    assert "0 of 2 segmented\n" in capsys.readouterr().out
    assert (out / "predictions.jsonl").read_text() == before


def test_an_interrupted_video_is_not_answered(run, pixels, tmp_path, monkeypatch, capsys):
    """Not even if it was whole in an earlier run, of which the journal is carried on."""
    write_video(tmp_path / "clip.mp4", pixels)
    answer = tmp_path / "out" / "clip_overlay.mp4"
    words = ["predict", tmp_path / "clip.mp4", "--model", run, "--out", tmp_path / "out", "--resume"]
    assert command(monkeypatch, *words) == 0
    answer.unlink()
    whole, seen = Predictor.__call__, []

    def stopped(predictor, picture):
        seen.append(picture)
        if len(seen) > 1:
            raise KeyboardInterrupt
        return whole(predictor, picture)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "__call__", stopped)
        assert command(monkeypatch, *words) == 130
    capsys.readouterr()
    assert answer.is_file()
    assert command(monkeypatch, *words) == 0
    said = capsys.readouterr().out
    assert "3 frames in" in said
    assert "answered already" not in said


def test_going_on_in_another_way_is_said(run, pixels, tmp_path, monkeypatch, caplog):
    photo = tmp_path / "photo.png"
    Image.fromarray(pixels).save(photo)
    words = ["predict", photo, "--model", run, "--out", tmp_path / "out", "--resume"]
    for show, said in (("both", False), ("overlay,labels", False), ("labels", True)):
        caplog.clear()
        assert command(monkeypatch, *words, "--show", show) == 0
        assert ("made otherwise (show), so nothing is passed over" in caplog.text) == said


def test_bands_are_for_rasters(run, pixels, tmp_path, monkeypatch, capsys):
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    words = ["predict", tmp_path / "photo.png", "--model", run, "--out", tmp_path / "out", "--bands", "3,2,1"]
    assert command(monkeypatch, *words) == 0
    assert "--bands is for rasters: 1 pictures are taken in their own colours" in capsys.readouterr().out


def test_kinds_that_a_video_has_not(run, pixels, tmp_path, monkeypatch, capsys):
    write_video(tmp_path / "clip.mp4", pixels)
    assert command(monkeypatch, "predict", tmp_path / "clip.mp4", "--model", run, "--show", "edges") == 1
    assert "of videos the overlay or the labels are written, not edges" in capsys.readouterr().err


def test_kinds_that_a_raster_has_not(run, pixels, tmp_path, monkeypatch, capsys):
    write_raster(tmp_path / "map.tif", pixels)
    assert command(monkeypatch, "predict", tmp_path / "map.tif", "--model", run, "--show", "instances,labels") == 1
    assert "of rasters labels and polygons are written, not instances" in capsys.readouterr().err


def test_the_runtime_is_named(run, pixels, tmp_path, monkeypatch, caplog):
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    with caplog.at_level(logging.INFO, "smalti"):
        command(monkeypatch, "predict", tmp_path / "photo.png", "--model", run, "--out", tmp_path / "out", "--runtime",
                "torch", "--set", "training.precision=float32")  # fmt: skip
    assert any("computed by torch (cpu), float32" in record.message for record in caplog.records)


def test_terms_are_said_once(network, pixels, tmp_path, caplog):
    recipe = Recipe(name="tiny", model="sis_cnn", config=network.config, data=DataRecipe(set="scenes"))
    card = Card(recipe=recipe, labels=network.labels, metrics={}, terms=f"not for {tmp_path}")
    checkpoint.save(network, card, tmp_path / "best.safetensors")
    for _ in range(2):
        smalti.load(tmp_path)
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [f"not for {tmp_path}"]


def test_half_precision_is_half_the_size_and_read_again(network, tmp_path):
    recipe = Recipe(name="tiny", model="sis_cnn", config=network.config, data=DataRecipe(set="scenes"))
    card = Card(recipe=recipe, labels=network.labels, metrics={})
    for half in (False, True):
        checkpoint.save(network, card, tmp_path / f"{half}.safetensors", half=half)
    large, small = ((tmp_path / f"{half}.safetensors").stat().st_size for half in (False, True))
    assert 0.5 < small / large < 0.55
    again, _ = checkpoint.load(tmp_path / "True.safetensors")
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
        assert again.state_dict()[name].dtype == tensor.dtype


def test_the_predictor_uses_its_views_and_tiles(network, pixels):
    predictor = Predictor(network, InputPolicy())
    picture = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    plain = predictor(pixels)
    predictor.views = Views(flip=True)
    wanted = predict_views(predictor._plain, picture, Views(flip=True))
    torch.testing.assert_close(predictor(pixels).probabilities, wanted.probabilities)
    assert not torch.equal(predictor(pixels).probabilities, plain.probabilities)
    predictor.views, predictor.tiles = Views(), Tiles(size=64, overlap=16)
    wanted = predict_tiled(predictor._plain, picture, Tiles(size=64, overlap=16))
    torch.testing.assert_close(predictor(pixels).probabilities, wanted.probabilities)


def test_a_predictor_can_be_sent_to_another_process(network, pixels):
    predictor = Predictor(network, InputPolicy())
    answer = pickle.loads(pickle.dumps(predictor))(pixels)
    torch.testing.assert_close(answer.probabilities, predictor(pixels).probabilities)


def test_memory_decides_about_tiles(network, monkeypatch):
    predictor = Predictor(network, InputPolicy())
    asked = []
    monkeypatch.setattr("smalti.predict.predictor.choose_tiles", lambda *given: asked.append(given))
    predictor._tiles_for(torch.zeros((3, 1000, 1000), dtype=torch.uint8))
    assert not asked  # small: nobody asks
    predictor._tiles_for(torch.zeros((3, 2000, 1000), dtype=torch.uint8))
    assert asked[0][0] == (2000, 1000)
    fixed = Predictor(network, InputPolicy(fit="stretch", size=(64, 64)))
    assert fixed._tiles_for(torch.zeros((3, 2000, 1000), dtype=torch.uint8)) is None


@pytest.mark.parametrize(("text", "tiles"), [("auto", "auto"), ("none", None), ("512", Tiles(size=512, overlap=64))])
def test_tiles_in_words(text, tiles):
    assert parse_tiles(text) == tiles


@pytest.mark.parametrize(("parse", "text"), [
    (parse_tiles, "big"), (parse_tiles, "-5"), (parse_tiles, "100"), (parse_bands, "1,b"), (parse_bands, "0"),
])  # fmt: skip
def test_words_that_say_nothing(parse, text):
    with pytest.raises(ValueError, match="tiles|bands"):
        parse(text)


def test_what_decides_is_remembered():
    assert Options().deciding() != Options(views=Views(flip=True)).deciding()
    assert Options().deciding() != Options(tiles=Tiles()).deciding()
    assert Options().deciding() != Options(smoothing=0.5).deciding()
    assert Options().deciding() == Options(resume=True).deciding()


def test_answers_never_replace_a_source_or_each_other(run, pixels, tmp_path, monkeypatch, capsys):
    (tmp_path / "a").mkdir()
    for clip in (tmp_path / "clip.mp4", tmp_path / "a" / "clip.mp4"):
        write_video(clip, pixels)
    words = [tmp_path / "clip.mp4", tmp_path / "a" / "clip.mp4", "--model", run, "--out", tmp_path / "out"]
    assert command(monkeypatch, "predict", *words) == 1
    assert "two sources would both be answered in" in capsys.readouterr().err
    for name in ("map.tif", "map_labels.tif"):
        write_raster(tmp_path / name, pixels)
    before = (tmp_path / "map_labels.tif").read_bytes()
    words = [tmp_path / "map.tif", tmp_path / "map_labels.tif", "--model", run, "--out", tmp_path]
    assert command(monkeypatch, "predict", *words) == 1
    assert "would replace a source" in capsys.readouterr().err
    assert (tmp_path / "map_labels.tif").read_bytes() == before


def test_answers_of_rasters_never_replace_a_picture_beside_them(run, pixels, tmp_path, monkeypatch, capsys):
    write_raster(tmp_path / "tile.tif", pixels)
    for name in ("tile_preview.jpg", "tile_labels.tif"):
        Image.fromarray(pixels).save(tmp_path / name)
        before = (tmp_path / name).read_bytes()
        files = (tmp_path / "tile.tif", tmp_path / name)
        assert command(monkeypatch, "predict", *files, "--model", run, "--out", tmp_path) == 1
        assert "would replace a source" in capsys.readouterr().err
        assert (tmp_path / name).read_bytes() == before
        (tmp_path / name).unlink()


@pytest.mark.parametrize("words", [("--smoothing", "5"), ("--every", "0")])
def test_options_of_videos_are_checked_for_all_sources(words, run, tmp_path, monkeypatch, capsys):
    Image.new("RGB", (90, 60)).save(tmp_path / "photo.png")
    out = tmp_path / "out"
    assert command(monkeypatch, "predict", tmp_path / "photo.png", "--model", run, "--out", out, *words) == 1
    assert f"{words[0][2:]} is" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("device", ["cuda:77", "toaster"])
def test_devices_that_are_not_there(device, run, tmp_path, monkeypatch, capsys):
    Image.new("RGB", (90, 60)).save(tmp_path / "photo.png")
    words = ["predict", tmp_path / "photo.png", "--model", run, "--out", tmp_path / "out", "--device", device]
    assert command(monkeypatch, *words) == 1
    assert f"error: device {device}: " in capsys.readouterr().err


def test_scales_that_change_nothing_are_refused(network, pixels):
    predictor = Predictor(network, InputPolicy(size=(64, 64)))
    predictor.views = Views(scales=(1.0, 2.0))
    with pytest.raises(ValueError, match="brings every picture to 64 pixels"):
        predictor(pixels)
    predictor.views = Views(flip=True)
    assert predictor(pixels).semantic.shape == (90, 130)
