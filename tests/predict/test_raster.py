import json
import sys
import warnings

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine

from smalti.containers import ClassScores, Predictions
from smalti.data.pictures import read_picture
from smalti.labels import LabelSet
from smalti.predict import geotiff, raster
from smalti.predict.geotiff import is_raster, open_raster
from smalti.predict.raster import predict_raster, write_preview
from smalti.predict.tiling import Tiles, predict_tiled

LABELS = LabelSet(names=("red", "green", "blue"), colors=((200, 0, 0), (0, 200, 0), (0, 0, 200)), ids=(1, 2, 7),
                  ignored_ids=(0,))  # fmt: skip
IDS = np.array(LABELS.ids)
SMALL = Tiles(size=64, overlap=16)
PLACE = {"crs": CRS.from_epsg(32632), "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)}
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def by_colour(picture):
    """The class is the strongest colour."""
    scores = ClassScores(picture.float() / 16)
    return Predictions(labels=LABELS, semantic=scores.most_probable(), scores=scores)


def noise(*shape, most=256, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, most, shape, dtype=dtype)


def write(path, values, **profile):
    bands = values if values.ndim == 3 else values[None]
    profile = {"driver": "GTiff", "photometric": "rgb" if len(bands) == 3 else "minisblack", **profile}
    with rasterio.open(path, "w", count=len(bands), height=bands.shape[1], width=bands.shape[2], dtype=bands.dtype,
                       **profile) as file:  # fmt: skip
        file.write(bands)
    return path


def predict(path, out, bands=None, predictor=by_colour, tiles=SMALL, **options):
    with open_raster(path, bands) as source:
        predict_raster(predictor, source, out, LABELS, tiles, **options)
        return out


def values_of(path):
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.mark.parametrize("layout", [
    {"tiled": True, "blockxsize": 64, "blockysize": 32, "compress": "deflate"},
    {"tiled": False, "compress": "lzw"},
    {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "pixel", "bigtiff": "yes"},
], ids=["tiled", "stripes", "big"])  # fmt: skip
def test_a_tiff_of_any_layout(tmp_path, layout):
    picture = noise(3, 303, 117)
    path = write(tmp_path / "in.tif", picture, **PLACE, **layout)
    done = []
    out = predict(path, tmp_path / "out.tif", progress=lambda *counts: done.append(counts))
    assert np.array_equal(values_of(out), IDS[picture.argmax(0)])
    total = len(done)
    assert done == [(k, total) for k in range(1, total + 1)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tif", "out.tif"]
    assert is_raster(path)


def test_blends_as_tiles_in_memory_do(tmp_path):
    torch.manual_seed(0)
    convolve = torch.nn.Conv2d(3, 3, 9, padding=4)

    @torch.inference_mode()
    def network(picture):
        return by_colour(1000 * convolve(picture[None].float() / 255)[0])

    picture = noise(3, 150, 130)
    out = predict(write(tmp_path / "in.tif", picture, **PLACE), tmp_path / "out.tif", predictor=network)
    expected = predict_tiled(network, torch.from_numpy(picture), SMALL).semantic.numpy()
    assert np.array_equal(values_of(out), IDS[expected])


def test_what_the_file_says_of_itself(tmp_path):
    out = predict(write(tmp_path / "in.tif", noise(3, 600, 700), **PLACE), tmp_path / "out.tif", tiles=Tiles())
    with rasterio.open(out) as file:
        assert (file.dtypes, file.nodata, file.shape) == (("uint8",), 0, (600, 700))
        assert (file.crs, file.transform) == (PLACE["crs"], PLACE["transform"])
        assert file.block_shapes == [(256, 256)]
        assert file.compression.name == "deflate"
        assert [file.colormap(1)[value][:3] for value in LABELS.ids] == list(LABELS.colors)
        assert file.overviews(1) == [2, 4]
        tags = file.tags()
        smaller = file.read(1, out_shape=(300, 350))
    assert json.loads(tags["LABELS"]) == LABELS.to_json()
    assert {tags[f"CLASS_{value}"] for value in LABELS.ids} == set(LABELS.names)
    assert set(np.unique(smaller)) <= set(LABELS.ids)
    with Image.open(out) as image:  # any other reader sees a picture with a palette
        assert image.mode == "P"


def test_control_points_are_kept(tmp_path):
    points = [GroundControlPoint(0, 0, 10.0, 50.0), GroundControlPoint(0, 99, 11.0, 50.0),
              GroundControlPoint(99, 0, 10.0, 49.0)]  # fmt: skip
    path = write(tmp_path / "in.tif", noise(3, 100, 100))
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, CRS.from_epsg(4326))
    assert is_raster(path)
    with rasterio.open(predict(path, tmp_path / "out.tif")) as file:
        kept, crs = file.gcps
    assert crs == CRS.from_epsg(4326)
    assert [(p.row, p.col, p.x, p.y) for p in kept] == [(p.row, p.col, p.x, p.y) for p in points]


def hole(shape):
    inside = np.zeros(shape, bool)
    inside[20:130, 30:140] = True
    return inside


@pytest.mark.parametrize("kind", ["nodata", "alpha", "mask"])
def test_what_is_not_valid_is_ignored(tmp_path, kind):
    picture, holes = noise(3, 150, 160), hole((150, 160))
    picture[:, 0, 0] = (0, 9, 0)  # one band may have the value
    seen = []
    if kind == "nodata":
        picture[:, ~holes & (picture == 0).all(0)] = 1
        picture[:, holes] = 0
        path = write(tmp_path / "in.tif", picture, nodata=0)
    elif kind == "alpha":
        alpha = np.where(holes, 0, 255).astype(np.uint8)
        path = write(tmp_path / "in.tif", np.concatenate([picture, alpha[None]]), photometric="rgb", alpha="yes")
    else:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            path = write(tmp_path / "in.tif", picture)
            with rasterio.open(path, "r+") as file:
                file.write_mask(~holes)
    out = predict(path, tmp_path / "out.tif", predictor=lambda p: seen.append(p) or by_colour(p))
    expected = np.where(holes, 0, IDS[picture.argmax(0)])
    assert np.array_equal(values_of(out), expected)
    assert len(seen) == 16 - 4  # of the tiles at 0, 32, 64 and 96 either way, the four in the middle have nothing


def test_nothing_valid(tmp_path):
    path = write(tmp_path / "in.tif", np.zeros((3, 90, 90), np.uint8), nodata=0)
    out = predict(path, tmp_path / "out.tif", predictor=lambda _: pytest.fail("there is nothing to predict"))
    assert not values_of(out).any()


def test_sixteen_bits_are_divided_by_257(tmp_path):
    picture = noise(3, 100, 90, most=65536, dtype=np.uint16)
    seen = []
    predict(
        write(tmp_path / "in.tif", picture), tmp_path / "out.tif", predictor=lambda p: seen.append(p) or by_colour(p)
    )
    assert np.array_equal(seen[0].numpy(), np.floor(picture[:, :64, :64] / 257 + 0.5).astype(np.uint8))


def test_grey_and_palette(tmp_path):
    grey = noise(70, 60)
    with open_raster(write(tmp_path / "grey.tif", grey)) as source:
        part, valid = source.read(geotiff.Window(3, 4, 50, 40))
    assert valid is None
    assert np.array_equal(part.numpy(), np.repeat(grey[None, 3:50, 4:40], 3, 0))
    indexed = Image.fromarray(grey % 4)
    indexed.putpalette([1, 2, 3, 40, 50, 60, 7, 8, 9, 250, 251, 252])
    indexed.save(tmp_path / "palette.tif")
    with open_raster(tmp_path / "palette.tif") as source:
        part, _ = source.read(geotiff.Window(0, 0, 70, 60))
        assert source.reduced((7, 6)).shape == (3, 7, 6)
    assert np.array_equal(part.permute(1, 2, 0).numpy(), np.asarray(indexed.convert("RGB")))


def test_bands_are_picked(tmp_path):
    picture = noise(5, 80, 90)
    path = write(tmp_path / "in.tif", picture)
    assert is_raster(path)
    out = predict(path, tmp_path / "out.tif", (5, 1, 2))
    assert np.array_equal(values_of(out), IDS[picture[[4, 0, 1]].argmax(0)])
    with pytest.raises(ValueError, match=r"in.tif: 5 bands: say which are red, green and blue, such as --bands 1,2,3"):
        predict(path, tmp_path / "no.tif")
    for wrong in ((1, 2, 6), (0, 1, 2), (1, 2), ()):
        with pytest.raises(ValueError, match="bands are one or three from 1 to 5, got"):
            predict(path, tmp_path / "no.tif", wrong)
    assert not (tmp_path / "no.tif").exists()


def test_a_layout_that_only_gdal_knows(tmp_path):
    """Three bands of 16 bits that are not called colours, as many programs write them; Pillow knows no such thing."""
    picture = noise(3, 80, 90, dtype=np.uint16)
    assert not is_raster(write(tmp_path / "plain.tif", picture.astype(np.uint8)))
    path = write(tmp_path / "in.tif", picture * 257, photometric="minisblack")
    assert is_raster(path)
    assert np.array_equal(values_of(predict(path, tmp_path / "out.tif")), IDS[picture.argmax(0)])


def test_a_broken_tiff_is_a_picture_that_is_called_broken(tmp_path):
    """Its directory, at the end, is gone: GDAL, and advice to install it, would be of no help."""
    Image.fromarray(noise(80, 90, 3)).save(tmp_path / "in.tif")
    whole = (tmp_path / "in.tif").read_bytes()
    place = len(whole) - 200
    (tmp_path / "in.tif").write_bytes(whole[:4] + place.to_bytes(4, "little") + whole[8:place])
    assert not is_raster(tmp_path / "in.tif")
    with pytest.raises(ValueError, match=r"in\.tif: not a picture that can be decoded"):
        read_picture(tmp_path / "in.tif")


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_other_pictures_are_decoded_as_a_whole(tmp_path, ending):
    Image.fromarray(noise(90, 130, 3)).save(tmp_path / f"in.{ending}")
    decoded = read_picture(tmp_path / f"in.{ending}").numpy()
    out = predict(tmp_path / f"in.{ending}", tmp_path / "out.tif")
    assert np.array_equal(values_of(out), IDS[decoded.argmax(0)])
    out = predict(tmp_path / f"in.{ending}", tmp_path / "out.tif", (3, 1, 2))
    assert np.array_equal(values_of(out), IDS[decoded[[2, 0, 1]].argmax(0)])


@pytest.mark.parametrize("size", [(1, 1), (40_000, 10)])
def test_odd_sizes(tmp_path, size):
    picture = noise(3, *size)
    path = write(tmp_path / "in.tif", picture, **PLACE)
    with open_raster(path) as source:
        predict_raster(by_colour, source, tmp_path / "out.tif", LABELS, Tiles())
        write_preview(source, tmp_path / "out.tif", tmp_path / "out.jpg", LABELS)
    assert np.array_equal(values_of(tmp_path / "out.tif"), IDS[picture.argmax(0)])
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.height <= 2048 + 200


def test_preview(tmp_path, monkeypatch):
    monkeypatch.setattr(raster, "PREVIEW", 100)
    picture = np.zeros((3, 400, 200), np.uint8)
    picture[1, :200], picture[2, 200:] = 100, 100
    with open_raster(write(tmp_path / "in.tif", picture, **PLACE)) as source:
        predict_raster(by_colour, source, tmp_path / "out.tif", LABELS, SMALL)
        write_preview(source, tmp_path / "out.tif", tmp_path / "out.jpg", LABELS)
    with Image.open(tmp_path / "out.jpg") as image:
        drawn = np.asarray(image).astype(int)
    # Half of the picture's colour and half of the class's; JPEG is not exact.
    assert abs(drawn[20, 25] - (0, 150, 0)).max() < 12
    assert abs(drawn[80, 25] - (0, 0, 150)).max() < 12


def test_class_ids_above_255(tmp_path):
    wide = LabelSet(names=("a", "b", "c"), ids=(1000, 2000, 3))
    picture = noise(3, 100, 100)
    with open_raster(write(tmp_path / "in.tif", picture)) as source:
        predict_raster(by_colour, source, tmp_path / "out.tif", wide, SMALL)
        write_preview(source, tmp_path / "out.tif", tmp_path / "out.jpg", wide)
    assert np.array_equal(values_of(tmp_path / "out.tif"), np.array(wide.ids)[picture.argmax(0)])


def cut_off(path):
    write(path, noise(3, 400, 400), **PLACE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def turned(path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(20, 20, 3)).save(path, exif=exif)


BAD = {
    "cut off": (cut_off, "rows .* columns .*: broken or cut off: copy it again"),
    "empty": (lambda path: path.write_bytes(b""), r"the file is empty \(0 bytes\)"),
    "header only": (lambda path: path.write_bytes(b"II*\0\x08\0\0\0"), "not a TIFF that can be read"),
    "complex": (lambda path: write(path, noise(3, 9, 9).astype(np.complex64)), "band 1 has values of complex64: save"),
    "four bits": (lambda path: write(path, noise(3, 9, 9, most=16), nbits=4), "values of 4 bits: scale it"),
    "on its side": (turned, "its orientation tag is 6: turn the pixels upright"),
    "four bands": (lambda path: write(path, noise(4, 9, 9)), "4 bands: say which"),
    "missing": (lambda _: None, "cannot be read: No such file"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files(tmp_path, what):
    make, message = BAD[what]
    make(tmp_path / "in.tif")
    (tmp_path / "out.tif").write_text("of an earlier run")
    with pytest.raises(ValueError, match=f"in.tif.*{message}"):
        predict(tmp_path / "in.tif", tmp_path / "out.tif")
    assert (tmp_path / "out.tif").read_text() == "of an earlier run"
    assert {p.name for p in tmp_path.iterdir()} <= {"in.tif", "out.tif"}


def test_a_network_without_classes(tmp_path):
    path = write(tmp_path / "in.tif", noise(3, 80, 80))
    with pytest.raises(ValueError, match="does not know the classes"):
        predict(path, tmp_path / "out.tif", predictor=lambda _: Predictions(labels=LABELS))
    assert not (tmp_path / "out.tif").exists()


def test_without_rasterio(tmp_path, monkeypatch):
    path = write(tmp_path / "in.tif", noise(3, 80, 80), **PLACE)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert is_raster(path)
    with pytest.raises(ValueError, match=r'pip install "smalti\[geo\]"'):
        predict(path, tmp_path / "out.tif")


def test_what_is_read_in_parts(tmp_path, monkeypatch):
    assert not is_raster(write(tmp_path / "plain.tif", noise(3, 50, 50)))
    Image.fromarray(noise(50, 50, 3)).save(tmp_path / "small.png")
    assert not is_raster(tmp_path / "small.png")
    for name, content in (("broken.tif", b"II*\0"), ("empty.tif", b""), ("broken.png", b"\x89PNG")):
        (tmp_path / name).write_bytes(content)
        assert not is_raster(tmp_path / name)
    assert not is_raster(tmp_path / "missing.tif")
    monkeypatch.setattr(geotiff, "LARGE", 2499)
    write(tmp_path / "big.tif", noise(3, 50, 50), bigtiff="yes")
    assert all(is_raster(tmp_path / name) for name in ("plain.tif", "small.png", "big.tif"))


def test_no_warning_of_files_without_a_place(tmp_path):
    path = write(tmp_path / "in.tif", noise(3, 80, 80))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(path, tmp_path / "out.tif")
