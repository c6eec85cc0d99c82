"""Georeferences beside images, in JPEG 2000, RPCs; declared colours; polygons in map coordinates."""

import json
import sys

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rasterio.warp import transform

from smalti import checkpoint, create_model
from smalti.checkpoint import Card
from smalti.containers import ClassScores, Predictions
from smalti.labels import LabelSet
from smalti.predict.geotiff import is_raster, open_raster
from smalti.predict.label_tiff import writing_labels
from smalti.predict.options import Options
from smalti.predict.predictor import Predictor
from smalti.predict.raster import predict_raster
from smalti.predict.raster_polygons import write_raster_polygons
from smalti.predict.sources import Telling, predict_sources
from smalti.predict.tiling import Tiles
from smalti.recipe import DataRecipe, Recipe

TABLE = LabelSet(names=("red", "green", "blue"))
WORLD = "0.5\n0.1\n0.1\n-0.5\n500000.25\n5399999.75\n"
PLACE = Affine(0.5, 0.1, 500_000.25 - 0.3, 0.1, -0.5, 5_399_999.75 + 0.2)
"""That of `WORLD`, whose last two numbers are the middle of the first pixel."""
UTM = CRS.from_epsg(32632)
SIZE = (70, 90)
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def by_colour(picture):
    scores = ClassScores(picture.float())
    return Predictions(labels=TABLE, semantic=scores.most_probable(), scores=scores)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def blocks():
    """A class a block of ten pixels, in pure colours."""
    classes = np.kron(np.random.default_rng(0).integers(0, 3, (7, 9)), np.ones((10, 10), int))
    return classes, (np.eye(3, dtype=np.uint8)[classes] * 200)


def answer(path, out, bands=None):
    with open_raster(path, bands) as raster:
        predict_raster(by_colour, raster, out, TABLE, Tiles(size=64, overlap=16))
        return raster.notes


def write(path, bands, **profile):
    with rasterio.open(path, "w", count=len(bands), height=bands.shape[1], width=bands.shape[2], dtype=bands.dtype.name,
                       **{"driver": "GTiff", **profile}) as file:  # fmt: skip
        file.write(bands)
    return path


@pytest.mark.parametrize(("image", "world"), [
    ("a.png", "a.pgw"), ("a.png", "a.PGW"), ("a.png", "a.pngw"), ("a.png", "a.Wld"), ("a.PNG", "a.pgw"),
    ("a.jpg", "a.jgw"), ("a.jpeg", "a.jgw"), ("a.jpg", "a.jpgw"), ("a.tif", "a.tfw"), ("a.tif", "a.TFW"),
    ("a.tiff", "a.tiffw"), ("a.tif", "a.tifw"), ("a.tif", "a.wld"), ("a.jp2", "a.j2w"), ("a.webp", "a.wpw"),
    ("a.gif", "a.gfw"), ("a.bmp", "a.bpw"),
])  # fmt: skip
def test_world_files(tmp_path, image, world):
    Image.fromarray(blocks()[1]).save(tmp_path / image)
    assert not is_raster(tmp_path / image)
    (tmp_path / world).write_text(WORLD)
    assert is_raster(tmp_path / image)
    answer(tmp_path / image, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.transform.almost_equals(PLACE, 1e-6)
        assert (file.read(1) == blocks()[0]).mean() > 0.97  # JPEG
    with rasterio.open(tmp_path / image) as file:
        if not file.transform.is_identity:  # GDAL's own reading agrees, where it reads such a file
            assert file.transform.almost_equals(PLACE, 1e-6)


def test_a_world_file_that_is_none(tmp_path):
    Image.fromarray(blocks()[1]).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_text("not six numbers")
    with pytest.raises(ValueError, match=r"a\.pgw: not a world file, which has six numbers"):
        answer(tmp_path / "a.png", tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_aux_xml(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(blocks()[1]).save(path)
    xml = tmp_path / f"a.{ending}.aux.xml"
    xml.write_text("<PAMDataset><PAMRasterBand band='1'><Histograms/></PAMRasterBand></PAMDataset>")
    assert not is_raster(path)  # statistics are no place
    place = ", ".join(map(str, PLACE.to_gdal()))
    xml.write_text(f"<PAMDataset><SRS>{UTM.to_wkt()}</SRS><GeoTransform>{place}</GeoTransform></PAMDataset>")
    assert is_raster(path)
    answer(path, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.crs == UTM
        assert file.transform.almost_equals(PLACE, 1e-6)


def test_jpeg_2000(tmp_path):
    classes, pixels = blocks()
    for name, place in (("with.jp2", {"crs": UTM, "transform": PLACE}), ("without.jp2", {})):
        write(tmp_path / name, pixels.transpose(2, 0, 1), driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", **place)
    assert is_raster(tmp_path / "with.jp2")
    assert not is_raster(tmp_path / "without.jp2")
    answer(tmp_path / "with.jp2", tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.crs == UTM
        assert file.transform.almost_equals(PLACE, 1e-6)
        np.testing.assert_array_equal(file.read(1), classes)


RPCS = RPC(err_bias=-1.0, err_rand=-1.0, height_off=10, height_scale=500, lat_off=48.5, lat_scale=0.1,
           line_den_coeff=[1.0, *[0.0] * 19],
           line_num_coeff=[0.0, 0.0, -1.0, *[0.0] * 17], line_off=35, line_scale=35, long_off=9.5, long_scale=0.1,
           samp_den_coeff=[1.0, *[0.0] * 19], samp_num_coeff=[0.0, 1.0, *[0.0] * 18], samp_off=45,
           samp_scale=45)  # fmt: skip


@pytest.mark.parametrize("where", ["tag", "RPB", "xml"])
def test_rpcs(tmp_path, where):
    path = tmp_path / "a.tif"
    pixels = blocks()[1].transpose(2, 0, 1)
    options = {"tag": {}, "RPB": {"RPB": "YES", "PROFILE": "BASELINE"}, "xml": {"PROFILE": "BASELINE"}}[where]
    write(path, pixels, rpcs=RPCS, photometric="rgb", **options)
    assert is_raster(path)
    answer(path, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.rpcs == RPCS
        assert file.crs is None


def test_control_points_of_an_image(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(blocks()[1]).save(path)
    points = [GroundControlPoint(row, col, 9 + col / 90, 48 - row / 70) for row, col in ((0, 0), (0, 90), (70, 0))]
    xml = "".join(f'<GCP Id="{k}" Pixel="{p.col}" Line="{p.row}" X="{p.x}" Y="{p.y}"/>' for k, p in enumerate(points))
    (tmp_path / "a.png.aux.xml").write_text(f'<PAMDataset><GCPList Projection="EPSG:4326">{xml}</GCPList></PAMDataset>')
    assert is_raster(path)
    answer(path, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        kept, crs = file.gcps
    assert crs == CRS.from_epsg(4326)
    assert [(p.row, p.col, p.x, p.y) for p in kept] == [(p.row, p.col, p.x, p.y) for p in points]


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("extra", [0, 1])
def test_declared_colours(tmp_path, order, extra):
    """`order`: the colour of each band; a fourth band without a colour, such as infrared, is left out."""
    classes, pixels = blocks()
    bands = np.concatenate([pixels.transpose(2, 0, 1)[list(order)], noise(extra, *SIZE)])
    path = write(tmp_path / "a.tif", bands, crs=UTM, transform=PLACE, photometric="minisblack")
    with rasterio.open(path, "r+") as file:
        colors = (rasterio.enums.ColorInterp.red, rasterio.enums.ColorInterp.green, rasterio.enums.ColorInterp.blue)
        file.colorinterp = [*(colors[k] for k in order), *[rasterio.enums.ColorInterp.undefined] * extra]
    (note,) = answer(path, tmp_path / "out.tif")
    said = ",".join(str(order.index(k) + 1) for k in range(3))
    assert note == f"bands {said} are declared red, green and blue, and read as such; --bands reads others"
    with rasterio.open(tmp_path / "out.tif") as file:
        np.testing.assert_array_equal(file.read(1), classes)
    assert answer(path, tmp_path / "out.tif", (1, 2, 3)) == ()  # what is asked for goes first
    with rasterio.open(tmp_path / "out.tif") as file:
        np.testing.assert_array_equal(file.read(1), np.array([order.index(k) for k in range(3)])[classes])


def test_a_palette_of_16_bits(tmp_path):
    path = write(tmp_path / "a.tif", np.full((1, 9, 9), 300, np.uint16), photometric="palette", crs=UTM,
                 transform=PLACE)  # fmt: skip
    answer(path, tmp_path / "out.tif")
    assert (tmp_path / "out.tif").is_file()


def regions(path):
    info, _, geometry, fields = pyogrio.raw.read(path)
    return info, shapely.from_wkb(geometry), dict(zip(info["fields"], fields, strict=True))


def write_labels(path, labels, **place):
    with writing_labels(path, labels.shape, TABLE, place) as file:
        file.add(labels)


def rasterized(shapes, ids, transform_):
    from rasterio.features import rasterize

    return rasterize(zip(shapes, ids, strict=True), out_shape=SIZE, transform=transform_, fill=255, dtype="uint8")


def test_polygons_in_map_coordinates(tmp_path):
    labels = blocks()[0].astype(np.uint8)
    labels[20:30, 30:60] = 255
    write_labels(tmp_path / "labels.tif", labels, crs=UTM, transform=PLACE)
    files, note = write_raster_polygons(tmp_path / "labels.tif", tmp_path / "a.geojson", TABLE)
    assert ([file.name for file in files], note) == (["a.geojson", "a.gpkg"], None)
    info, shapes, fields = regions(tmp_path / "a.gpkg")
    assert CRS.from_string(info["crs"]) == UTM
    np.testing.assert_array_equal(rasterized(shapes, fields["category_id"], PLACE), labels)
    assert [TABLE.names[k] for k in fields["category_id"]] == list(fields["class"])
    assert fields["area"].sum() == (labels != 255).sum()
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert "crs" not in content  # RFC 7946 has none
    turned = [shapely.geometry.shape(feature["geometry"]) for feature in content["features"]]
    assert all(shape.exterior.is_ccw for shape in turned)
    assert [f["properties"]["area"] for f in content["features"]] == fields["area"].tolist()
    for shape, own in zip(turned, shapes, strict=True):
        assert 8 < shape.centroid.x < 10
        assert 47 < shape.centroid.y < 50
        corners = np.array(own.exterior.coords)
        expected = np.stack(transform(UTM, CRS.from_epsg(4326), *corners.T), 1)
        distances = np.abs(np.array(shape.exterior.coords)[:, None] - expected).max(-1)
        assert distances.min(0).max() < 1e-8  # degrees: a millimetre


def test_long_edges_bend_and_the_180th_meridian_cuts(tmp_path):
    labels = np.zeros((600, 600), np.uint8)
    place = Affine(1000, 0, 200_000, 0, -1000, 7_000_000)
    write_labels(tmp_path / "labels.tif", labels, crs=CRS.from_epsg(32601), transform=place)
    write_raster_polygons(tmp_path / "labels.tif", tmp_path / "a.geojson", TABLE)
    (feature,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
    shape = shapely.geometry.shape(feature["geometry"])
    assert shape.geom_type == "MultiPolygon"
    assert len(shape.geoms) == 2
    assert all(part.bounds[2] - part.bounds[0] < 20 for part in shape.geoms)
    assert sum(len(part.exterior.coords) for part in shape.geoms) >= 12


def test_polygons_without_coordinates_are_in_pixels(tmp_path):
    labels = blocks()[0].astype(np.uint8)
    for name, place, reason in (("none", {}, "no coordinate system"), ("world", {"crs": None, "transform": PLACE}, ""),
                                ("rpcs", {"rpcs": RPCS}, "control points or RPCs")):  # fmt: skip
        write_labels(tmp_path / f"{name}.tif", labels, **place)
        files, note = write_raster_polygons(tmp_path / f"{name}.tif", tmp_path / f"{name}.geojson", TABLE)
        assert [file.name for file in files] == [f"{name}.geojson"]
        assert f"the raster has {reason}" in note
        features = json.loads((tmp_path / f"{name}.geojson").read_text())["features"]
        shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features]
        ids = [feature["properties"]["category_id"] for feature in features]
        np.testing.assert_array_equal(rasterized(shapes, ids, Affine.identity()), labels)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    network = create_model("sis_cnn", classes=TABLE, encoder="resnet10t", widths=(8, 8, 8, 8)).eval()
    recipe = Recipe(name="tiny", model="sis_cnn", config=network.config, data=DataRecipe(set="scenes"))
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    checkpoint.save(network, Card(recipe=recipe, labels=TABLE, metrics={}), path)
    return path


def run(model, sources, out, show="both", **options):
    from contextlib import nullcontext

    lines = []
    telling = Telling(line=lines.append, bar=lambda _: nullcontext(lambda done, total: None))
    return predict_sources(
        model, list(map(str, sources)), out, show, telling=telling, options=Options(**options)
    ), lines


def test_the_command_keeps_the_place_and_says_things_once(tmp_path, model, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(blocks()[1]).save(folder / f"{name}.png")
        (folder / f"{name}.pgw").write_text(WORLD)
        write(folder / f"{name}_bgr.tif", blocks()[1].transpose(2, 0, 1), crs=UTM, transform=PLACE)
        with rasterio.open(folder / f"{name}_bgr.tif", "r+") as file:
            file.colorinterp = file.colorinterp[::-1] if len(set(file.colorinterp)) == 3 else [
                rasterio.enums.ColorInterp.blue, rasterio.enums.ColorInterp.green, rasterio.enums.ColorInterp.red,
            ]  # fmt: skip
    outcome, lines = run(model, [folder], tmp_path / "out", "polygons")
    assert (outcome.answered, outcome.failed) == (4, [])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {
        "a_labels.tif",
        "a.geojson",
        "a_bgr_labels.tif",
        "a_bgr_preview.jpg",
        "a_bgr.geojson",
        "b_bgr.gpkg",
    }
    assert "a.gpkg" not in names
    assert sum("are declared red, green and blue" in line for line in lines) == 1
    assert sum("its polygons are in pixels" in line for line in lines) == 1
    (tmp_path / "out" / "b_bgr.gpkg").unlink()
    _, lines = run(model, [folder], tmp_path / "out", "polygons", resume=True)
    assert sum("answered already" in line for line in lines) == 3
    assert (tmp_path / "out" / "b_bgr.gpkg").is_file()
    outcome, _ = run(model, [folder], tmp_path / "out", "instances")
    assert all("of rasters labels and polygons are written, not instances" in text for text in outcome.failed)


def test_without_rasterio_an_image_stays_an_image(tmp_path, model, monkeypatch, caplog):
    Image.fromarray(blocks()[1]).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_text(WORLD)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    outcome, lines = run(model, [tmp_path / "a.png"], tmp_path / "out")
    assert (outcome.answered, outcome.failed) == (1, [])
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"a.png", "a_overlay.jpg"}
    (line,) = [line for line in lines if "rasterio" in line]
    assert line == (f"georeference and no data of 1 images are not kept ({tmp_path / 'a.png'} with a.pgw): rasterio is "
                    'missing: pip install "smalti[geo]"')  # fmt: skip
    network, card = checkpoint.load(model)
    assert Predictor(network, card.recipe.input)(tmp_path / "a.png").semantic.shape == SIZE
    assert "rasterio is missing" in caplog.text


def test_an_image_and_a_raster_of_one_name(tmp_path, model):
    Image.fromarray(blocks()[1]).save(tmp_path / "a.png")
    write(tmp_path / "a.tif", blocks()[1].transpose(2, 0, 1), crs=UTM, transform=PLACE)
    sources = [tmp_path / "a.png", tmp_path / "a.tif"]
    with pytest.raises(ValueError, match=r"an image and a raster would both be answered in .*a\.geojson"):
        run(model, sources, tmp_path / "out", "polygons")
    assert run(model, sources, tmp_path / "out")[0].answered == 2


def test_a_damaged_raster_never_stops_the_rest(tmp_path, model):
    """GDAL's own errors, which are none of rasterio's: a GeoTIFF that lost a tag (one bit)."""
    for name in "abc":
        write(tmp_path / f"{name}.tif", np.full((3, 64, 64), 90, np.uint8), crs=UTM, transform=PLACE)
    content = bytearray((tmp_path / "b.tif").read_bytes())
    start = int.from_bytes(content[4:8], "little")
    for k in range(int.from_bytes(content[start : start + 2], "little")):
        at = start + 2 + 12 * k
        tag = int.from_bytes(content[at : at + 2], "little")
        content[at : at + 2] = {34737: 34738, 33550: 33551}.get(tag, tag).to_bytes(2, "little")
    (tmp_path / "b.tif").write_bytes(content)
    outcome, _ = run(model, [tmp_path / f"{name}.tif" for name in "abc"], tmp_path / "out")
    assert outcome.asked == 3
    assert outcome.answered >= 2
    assert all("b.tif" in text for text in outcome.failed)
