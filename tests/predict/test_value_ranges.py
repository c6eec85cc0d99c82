"""Deep images are predicted like the 8-bit images that they are multiples of, and which range was used is said."""

import logging

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
from smalti.data.value_range import ValueRange
from smalti.labels import LabelSet
from smalti.predict.folder import predict_files
from smalti.predict.geotiff import Window, open_raster, sample_raster
from smalti.predict.options import parse_value_range
from smalti.recipe import DataRecipe, InputPolicy, Recipe

RNG = np.random.default_rng(2)
RGB = RNG.integers(0, 256, (70, 90, 3), dtype=np.uint8)
RGB[0, 0], RGB[0, 1] = 0, 255
GREY = RGB[..., 0]
PLACE = {"crs": CRS.from_epsg(32632), "transform": Affine(2, 0, 500_000, 0, -2, 5_400_000)}


def write_raster(path, values, **profile):
    bands = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    with rasterio.open(path, "w", driver="GTiff", count=len(bands), height=70, width=90, dtype=bands.dtype, **PLACE,
                       **profile) as file:  # fmt: skip
        file.write(bands)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    labels = LabelSet(names=("sky", "road", "car"))
    return smalti.create_model("sis_cnn", classes=labels, encoder="resnet10t", widths=(8, 8, 8, 8)).eval()


@pytest.fixture
def save(network, tmp_path):
    def saved(value_range=None):
        recipe = Recipe(name="tiny", model="sis_cnn", config=network.config, data=DataRecipe(set="scenes"),
                        input=InputPolicy(value_range=value_range))  # fmt: skip
        path = tmp_path / "model.safetensors"
        checkpoint.save(network, Card(recipe=recipe, labels=network.labels, metrics={}), path)
        return path

    return saved


@pytest.fixture
def predict(monkeypatch, capsys, tmp_path):
    def run(model, *words, out="out"):
        monkeypatch.setattr("sys.argv", ["smalti", "predict", *map(str, words), "--model", str(model), "--out",
                                         str(tmp_path / out), "--show", "labels"])  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert ended.value.code == 0, said.err
        return said.out + said.err

    return run


def labels(path):
    return np.asarray(Image.open(path))


def test_pairs_have_the_same_labels(save, predict, tmp_path):
    Image.fromarray(GREY).save(tmp_path / "eight.png")
    Image.fromarray(GREY.astype(np.uint16) * 16).save(tmp_path / "twelve.png")
    write_raster(tmp_path / "plain.tif", RGB)
    write_raster(tmp_path / "reflectance.tif", RGB.astype(np.uint16) * 12)
    write_raster(tmp_path / "floats.tif", RGB.astype(np.float32) / 255)
    names = ("eight.png", "twelve.png", "plain.tif", "reflectance.tif", "floats.tif")
    said = predict(save(), *(tmp_path / name for name in names))
    out = tmp_path / "out"
    assert len(np.unique(labels(out / "eight.png"))) > 1
    assert np.array_equal(labels(out / "eight.png"), labels(out / "twelve.png"))
    for name in ("reflectance", "floats"):
        assert np.array_equal(labels(out / "plain_labels.tif"), labels(out / f"{name}_labels.tif"))
    for kind, values in (("16 bits, PNG, 1 band", "0 to 4080"), ("16 bits, TIFF, 3 bands", "0 to 3060"),
                         ("32-bit floats, TIFF, 3 bands", "0 to 1")):  # fmt: skip
        line = f"1 of 5 images ({kind}): values {values} become 0 to 255 (measured on 1 of them; "
        assert said.count(line) == 1
        assert "--scale LOW,HIGH changes it)" in said


def test_8_bit_images_are_not_touched_and_nothing_is_said(save, predict, tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    said = predict(save((0, 4080)), tmp_path / "a.png", "--scale", "0,10")
    assert "become" not in said
    predict(save(), tmp_path / "a.png", out="plain")
    assert np.array_equal(labels(tmp_path / "out" / "a.png"), labels(tmp_path / "plain" / "a.png"))


def test_the_range_of_the_training_is_used_unless_another_is_given(save, predict, tmp_path):
    Image.fromarray(GREY.astype(np.uint16) * 4).save(tmp_path / "a.png")
    Image.fromarray(GREY // 4).save(tmp_path / "dark.png")
    model = save((0, 4080))
    said = predict(model, tmp_path / "a.png", tmp_path / "dark.png")
    assert "values 0 to 4080 become 0 to 255 (as the model was trained; values seen: 0 to 1020; --scale" in said
    said = predict(model, tmp_path / "a.png", "--scale", "0,1020", out="given")
    assert "values 0 to 1020 become 0 to 255 (as --scale says; --scale" in said
    assert not np.array_equal(labels(tmp_path / "out" / "a.png"), labels(tmp_path / "given" / "a.png"))


def test_a_range_of_other_units_is_not_used(save, predict, tmp_path):
    write_raster(tmp_path / "plain.tif", RGB)
    write_raster(tmp_path / "floats.tif", RGB.astype(np.float32) / 255)
    said = predict(save((0, 4080)), tmp_path / "plain.tif", tmp_path / "floats.tif")
    line = "values 0 to 1 become 0 to 255 (measured: the range that the model was trained with, 0 to 4080, does not fit"
    assert said.count(line) == 1
    assert np.array_equal(labels(tmp_path / "out" / "plain_labels.tif"), labels(tmp_path / "out" / "floats_labels.tif"))


def test_resuming_keeps_the_range_and_notices_another_scale(save, predict, tmp_path):
    model, files = save(), tmp_path / "in"
    files.mkdir()
    Image.fromarray(GREY.astype(np.uint16) * 16).save(files / "a.png")
    predict(model, files)
    Image.fromarray(GREY.astype(np.uint16) * 32).save(files / "b.png")
    said = predict(model, files, "--resume")
    assert "values 0 to 4080 become 0 to 255 (as in the run that is continued; values seen: 0 to 8160" in said
    assert "made otherwise" not in said
    said = predict(model, files, "--resume", "--scale", "0,8160")
    assert "made otherwise (scale)" in said


def test_files_from_python_share_one_range(save, tmp_path, caplog):
    for name, factor in (("a", 1), ("b", 16)):
        Image.fromarray(GREY.astype(np.uint16) * factor).save(tmp_path / f"{name}.png")
    Image.fromarray(GREY // 16).save(tmp_path / "dark.png")
    files = [tmp_path / f"{name}.png" for name in ("a", "b", "dark")]
    with caplog.at_level(logging.WARNING, "smalti"):
        assert predict_files(save(), files, tmp_path / "out", "labels") == []
    assert "2 of 3 images (16 bits, PNG, 1 band): values 0 to 4080 become 0 to 255 (measured on 2" in caplog.text


@pytest.mark.parametrize(("factor", "dtype"), [(16, np.uint16), (257, np.uint16), (1 / 255, np.float32), (1, np.int64)])
def test_arrays_are_scaled_like_files(save, factor, dtype, caplog):
    predictor = smalti.load(save(), runtime="torch", device="cpu")
    same = predictor(RGB).semantic
    assert "become" not in caplog.text
    deep = (RGB * np.float64(factor)).astype(dtype)
    for form in (deep, torch.from_numpy(deep).permute(2, 0, 1), deep):
        assert torch.equal(predictor(form).semantic, same)
    assert caplog.text.count("become 0 to 255, measured on this picture alone") == 1


def test_the_predictor_has_the_range_of_the_training_or_a_given_one(save, caplog):
    model = save((0, 4080))
    predictor = smalti.load(model, runtime="torch", device="cpu")
    assert predictor.value_range == (0, 4080)
    dark = RGB.astype(np.uint16) * 4
    assert torch.equal(predictor(dark).semantic, predictor(RGB // 4 + (RGB % 4 >= 2)).semantic)
    given = smalti.load(model, runtime="torch", device="cpu", value_range=(0, 1020))
    assert torch.equal(given(dark).semantic, given(RGB).semantic)
    assert "measured" not in caplog.text


def test_pixels_without_data_of_a_raster_are_not_measured(tmp_path):
    heights = GREY.astype(np.float32) * 10
    heights[:7] = -9999
    heights[30, 30] = np.nan
    write_raster(tmp_path / "a.tif", heights, nodata=-9999)
    assert sample_raster(tmp_path / "a.tif").lowest == 0
    with open_raster(tmp_path / "a.tif") as raster:
        picture, valid = raster.read(Window(0, 0, 70, 90))
        assert raster.value_range == ValueRange(0, 2550)
        assert raster.reduced((35, 45)).shape == (3, 35, 45)
    expected = GREY.copy()
    expected[:7], expected[30, 30] = 0, 0
    assert np.array_equal(picture[0].numpy(), expected)
    assert not valid[:7].any()


def test_of_large_rasters_windows_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("smalti.predict.geotiff.SAMPLED_SIDE", 16)
    write_raster(tmp_path / "a.tif", GREY.astype(np.uint16) * 16)
    assert len(sample_raster(tmp_path / "a.tif").values) == 16 * 16**2


@pytest.mark.parametrize("text", ["bright", "1", "1,2,3", "5,5", "9,1", "0,inf", ""])
def test_scales_that_are_none(text):
    with pytest.raises(ValueError, match="scale|range"):
        parse_value_range(text)
