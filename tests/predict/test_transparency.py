"""What is transparent, or no data, has no class, however the image comes."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import rasterio
import tifffile
import torch
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import Affine

from smalti.containers import ClassScores, Outputs, Predictions
from smalti.data.pictures import read_picture, read_transparent_picture
from smalti.labels import LabelSet
from smalti.models.contract import SegmentationModel
from smalti.predict import folder
from smalti.predict.folder import answer_files, open_journal, picture_jobs
from smalti.predict.geotiff import open_raster
from smalti.predict.options import Options
from smalti.predict.pictures import picture_values
from smalti.predict.predictor import Predictor
from smalti.predict.runtimes import TorchRuntime
from smalti.predict.tiling import Tiles
from smalti.predict.windows import Window
from smalti.recipe import InputPolicy

SIZE = (24, 40)
TABLE = LabelSet(names=("dark", "bright"))


class Bright(SegmentationModel):
    """Whether a pixel is bright."""

    needs, stride = frozenset({"semantic"}), 1

    def __init__(self):
        super().__init__(None, TABLE, (0, 0, 0), (1, 1, 1))

    def forward(self, images):
        light = images.float().mean(1) - 127.5
        return Outputs(semantic=torch.stack([-light, light], 1))

    def loss(self, outputs, targets):
        return {}

    def decode(self, outputs, frames):
        scores = ClassScores(outputs.semantic[0])
        labels = scores.most_probable()
        return [Predictions(labels=TABLE, semantic=labels, coarse=labels, scores=scores)]


@pytest.fixture
def predictor():
    return Predictor(Bright(), InputPolicy(), TorchRuntime(Bright(), "float32", "cpu"))


@pytest.fixture
def rgba():
    pixels = np.random.default_rng(0).choice(np.array([10, 240], np.uint8), (*SIZE, 1)).repeat(4, 2)
    pixels[..., 3] = 255
    pixels[3:9, 5:20, 3], pixels[12:14, :, 3] = 0, 1  # 1 is nearly transparent: it counts as visible
    return pixels


def expected(rgba):
    return np.where(rgba[..., 3] == 0, 255, rgba[..., 0] > 127)


def paletted(rgba):
    image = Image.fromarray(np.where(rgba[..., 3] == 0, 2, rgba[..., 0] > 127).astype(np.uint8))
    image.putpalette([10, 10, 10, 240, 240, 240, 99, 99, 99])
    return image


def write_png(path, values, colour_type, transparent=()):
    """16 bits, which Pillow does not write with alpha or in colour."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", *values.shape[1::-1], 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    if transparent:
        chunks.insert(1, chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def save_deep(path, rgba):
    """Alpha is 0, 1 or the highest value of the type."""
    colors, alpha = rgba[..., :3].astype(np.uint16) * 257, np.where(rgba[..., 3:] == 255, 65535, rgba[..., 3:])
    values = np.concatenate([colors, alpha], axis=2, dtype=np.uint16)
    match path.name:
        case "grey_alpha16.png":
            write_png(path, values[..., [0, 3]], colour_type=4)
        case "color16.png":
            values[rgba[..., 3] == 0] = 2570, 2571, 2572, 0
            write_png(path, values[..., :3], colour_type=2, transparent=(2570, 2571, 2572))
        case "rgba16.png":
            cv2.imwrite(str(path), values[..., [2, 1, 0, 3]])
        case "lzw16.tif":
            with rasterio.open(path, "w", driver="GTiff", height=SIZE[0], width=SIZE[1], count=4, dtype="uint16",
                               photometric="rgb", alpha="yes", compress="lzw") as file:  # fmt: skip
                file.write(values.transpose(2, 0, 1))
        case "bands16.tif":
            tifffile.imwrite(path, values.transpose(2, 0, 1), photometric="rgb", planarconfig="separate",
                             extrasamples=["assocalpha"])  # fmt: skip
        case "floats.tif":
            tifffile.imwrite(path, np.concatenate([rgba[..., :3] / 255, alpha / 65535], axis=2, dtype=np.float32),
                             photometric="rgb", extrasamples=["unassalpha"])  # fmt: skip
        case _:
            extra = "unspecified" if path.stem == "unspecified" else "unassalpha"
            tifffile.imwrite(path, values, photometric="rgb", extrasamples=[extra])


def save(path, rgba):
    """Under the name of each kind of transparency."""
    image = Image.fromarray(rgba)
    match path.stem:
        case "palette":
            paletted(rgba).save(path, transparency=2)
        case "palette_alpha":
            paletted(rgba).save(path, transparency=bytes([255, 3, 0]))
        case "grey":
            image.convert("LA").save(path)
        case "grey16":
            grey = np.where(rgba[..., 3] == 0, 777, rgba[..., 0].astype(np.uint16) * 257)
            Image.fromarray(grey.astype(np.uint16)).save(path, transparency=777)
        case "color":
            pixels = np.where(rgba[..., 3:] == 0, np.array([1, 2, 3], np.uint8), rgba[..., :3])
            Image.fromarray(pixels.astype(np.uint8)).save(path, transparency=(1, 2, 3))
        case "grey_alpha16" | "rgba16" | "lzw16" | "bands16" | "color16" | "floats" | "unspecified":
            save_deep(path, rgba)
        case _:
            image.save(path, **({"lossless": True, "exact": True} if path.suffix == ".webp" else {}))
    return path


FILES = ["rgba.png", "rgba.webp", "rgba.tif", "rgba.jp2", "grey.png", "grey.tif", "grey16.png", "color.png",
         "palette.png", "palette.gif", "palette_alpha.png"]  # fmt: skip
DEEP_FILES = ["grey_alpha16.png", "color16.png", "rgba16.png", "rgba16.tif", "lzw16.tif", "bands16.tif", "floats.tif"]
"""Of which Pillow keeps the high bytes, or opens none."""


@pytest.mark.parametrize("name", [*FILES, *DEEP_FILES])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_files(tmp_path, predictor, rgba, name):
    path = save(tmp_path / name, rgba)
    images = [path, str(path), path.read_bytes()]
    if name in FILES:
        with Image.open(path) as opened:
            opened.load()
        images.append(opened)
    for image in images:
        np.testing.assert_array_equal(predictor(image).semantic.numpy(), expected(rgba))
    assert len(read_transparent_picture(path)) == 4
    assert torch.equal(read_transparent_picture(path)[:3], read_picture(path))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_other_extra_samples_are_not_alpha(tmp_path, predictor, rgba):
    path = save(tmp_path / "unspecified.tif", rgba)
    assert np.array_equal(read_transparent_picture(path).numpy(), rgba[..., :3].transpose(2, 0, 1))
    for image in (path, path.read_bytes()):
        np.testing.assert_array_equal(predictor(image).semantic.numpy(), rgba[..., 0] > 127)


def test_images_that_are_read_in_parts(tmp_path, rgba):
    """As those above 67 megapixels are."""
    with open_raster(save(tmp_path / "rgba.png", rgba)) as raster:
        part, valid = raster.read(Window(2, 3, 20, 30))
    np.testing.assert_array_equal(part.numpy(), rgba[2:20, 3:30, :3].transpose(2, 0, 1))
    np.testing.assert_array_equal(valid.numpy(), rgba[2:20, 3:30, 3] > 0)


def test_arrays_and_tensors(predictor, rgba):
    tensor = torch.from_numpy(rgba.transpose(2, 0, 1).copy())
    for image in (rgba, tensor, rgba[..., 2:], tensor[2:], Image.fromarray(rgba)):
        answer = predictor(image)
        np.testing.assert_array_equal(answer.semantic.numpy(), expected(rgba))
        np.testing.assert_array_equal(answer.coarse.numpy(), expected(rgba))
        assert torch.equal(answer.probabilities, predictor(rgba[..., :3].copy()).probabilities)
    colors, visible = picture_values(tensor.to(torch.uint16), 3)
    assert colors.shape == (3, *SIZE)
    np.testing.assert_array_equal(visible, rgba[..., 3] > 0)
    predictor.tiles = Tiles(size=64, overlap=16)
    large = np.tile(rgba, (4, 3, 1))
    np.testing.assert_array_equal(predictor(large).semantic.numpy(), expected(large))


def test_what_is_not_transparent_stays_as_it_was(tmp_path, predictor, rgba):
    rgba[..., 3] = 255
    for name in FILES[:4]:
        path = save(tmp_path / name, rgba)
        assert len(read_transparent_picture(path)) == 3
        np.testing.assert_array_equal(predictor(path).semantic.numpy(), expected(rgba))
    with pytest.raises(ValueError, match="takes pictures with 3 channels, got 5"):
        predictor(np.zeros((9, 9, 5), np.uint8))


def test_turned_by_exif(tmp_path, predictor, rgba):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(rgba).save(tmp_path / "turned.png", exif=exif)
    turned = np.rot90(rgba, -1)
    np.testing.assert_array_equal(predictor(tmp_path / "turned.png").semantic.numpy(), expected(turned))


@pytest.mark.parametrize("kind", ["nodata", "alpha", "alpha and nodata", "mask", "mask and nodata"])
@pytest.mark.parametrize("place", [{}, {"crs": CRS.from_epsg(32632), "transform": Affine(1, 0, 5, 0, -1, 9)}])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_geotiffs(tmp_path, predictor, rgba, kind, place):
    """GDAL's own masks heed alpha or a value for no data, never both."""
    pixels = rgba[..., :3].transpose(2, 0, 1).copy()
    pixels[0, 20, 30] = 7  # a value for no data in one band of three is data
    hidden, missing = rgba[..., 3] == 0, np.zeros(SIZE, bool)
    if "nodata" in kind:
        missing[20:, :10] = True
        pixels[:, missing] = 7
    if kind == "nodata":
        pixels[:, hidden] = 7
    if "alpha" in kind:
        pixels = np.concatenate([pixels, rgba[None, ..., 3]])
    path = tmp_path / "in.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", height=SIZE[0], width=SIZE[1], count=len(pixels), dtype="uint8",
                      photometric="rgb", nodata=7 if "nodata" in kind else None,
                      **({"alpha": "yes"} if "alpha" in kind else {}), **place) as file,
    ):  # fmt: skip
        file.write(pixels)
        if "mask" in kind:
            file.write_mask(~hidden)
    answer = predictor(path).semantic.numpy()
    np.testing.assert_array_equal(answer == 255, hidden | missing)


def test_folders_say_it_once(tmp_path, predictor, rgba, caplog, monkeypatch):
    files = [save(tmp_path / name, rgba) for name in ("rgba.png", "palette.gif")]
    Image.fromarray(rgba[..., :3].copy()).save(tmp_path / "plain.png")
    files.append(tmp_path / "plain.png")
    monkeypatch.setattr(folder, "_identity", lambda _: "a network")
    out = tmp_path / "out"
    with open_journal(tmp_path, ["labels", "overlay"], out, Options()) as journal:
        jobs = picture_jobs(files, ["labels", "overlay"])
        failed = answer_files(
            lambda *_: predictor, jobs, ["labels", "overlay"], journal=journal, value_ranges={}, progress=None
        )
    assert failed == []
    for name in ("rgba", "palette"):
        np.testing.assert_array_equal(np.asarray(Image.open(out / f"{name}.png")), expected(rgba))
    assert (np.asarray(Image.open(out / "plain.png")) < 2).all()
    assert [record.message for record in caplog.records if "transparent" in record.message] == [
        f"transparent pixels (alpha 0) of 2 images get no class: {tmp_path / 'palette.gif'}"
    ]
