"""Image files deeper than 8 bits keep all their bits."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image

from smalti.data.contract import DataError
from smalti.data.dataset import open_dataset
from smalti.data.deep_images import deep_kind
from smalti.data.pictures import read_any, read_picture, sample_picture
from smalti.data.value_range import ValueRange
from smalti.data.value_survey import MAX_SAMPLED_IMAGES, survey_values

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 4096, (14, 18, 3), dtype=np.uint16)
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def read_values(path, **options):
    return read_any(path.read_bytes(), str(path), **options)[0]


def write_png(path, values, colour_type):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
                     + chunk(b"IEND", b""))  # fmt: skip


def write_tiff(path, values, **profile):
    bands = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    profile = {"photometric": "rgb" if len(bands) >= 3 else "minisblack", **profile}
    with rasterio.open(path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
                       dtype=bands.dtype, **profile) as file:  # fmt: skip
        file.write(bands)


WRITERS = {
    "rgb.png": lambda path: write_png(path, RGB, 2),
    "rgba.png": lambda path: write_png(path, np.dstack([RGB, RGB[..., :1]]), 6),
    "rgb.ppm": lambda path: cv2.imwrite(str(path), np.ascontiguousarray(RGB[..., ::-1])),
    "rgb.tif": lambda path: write_tiff(path, RGB),
    "lzw.tif": lambda path: write_tiff(path, RGB, compress="lzw"),
    "deflate.tif": lambda path: write_tiff(path, RGB, compress="deflate", predictor=2),
    "bands.tif": lambda path: write_tiff(path, RGB, interleave="band"),
    "uncalled.tif": lambda path: write_tiff(path, RGB, photometric="minisblack"),
    "rgba.tif": lambda path: write_tiff(path, np.dstack([RGB, RGB[..., :1]])),
    "signed.tif": lambda path: write_tiff(path, RGB.astype(np.int16)),
    "floats.tif": lambda path: write_tiff(path, RGB.astype(np.float32), compress="lzw"),
    "doubles.tif": lambda path: write_tiff(path, RGB.astype(np.float64)),
    "long.tif": lambda path: write_tiff(path, RGB.astype(np.uint32)),
    "big.tif": lambda path: write_tiff(path, RGB, bigtiff="yes"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_colours_keep_their_bits(tmp_path, name, capfd):
    WRITERS[name](tmp_path / name)
    assert np.array_equal(read_values(tmp_path / name).transpose(1, 2, 0), RGB)
    assert deep_kind(tmp_path / name).bands == 3
    found = read_picture(tmp_path / name, value_range=ValueRange(0, 4080))
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.clip((RGB + 8) // 16, 0, 255))
    assert capfd.readouterr().err == ""


GREY = {
    "grey.png": lambda path, a: Image.fromarray(a).save(path),
    "alpha.png": lambda path, a: write_png(path, np.dstack([a, a[::-1]]), 4),
    "grey.tif": lambda path, a: Image.fromarray(a).save(path),
    "packed.tif": lambda path, a: write_tiff(path, a, nbits=12),
    "signed.tif": lambda path, a: write_tiff(path, a.astype(np.int16) - 2000),
    "floats.tif": lambda path, a: write_tiff(path, a.astype(np.float32) / 7),
    "long.tif": lambda path, a: write_tiff(path, a.astype(np.uint32) * 2**20),
    "small.tif": lambda path, a: write_tiff(path, (a % 200 - 100).astype(np.int8)),
}


@pytest.mark.parametrize("name", GREY)
def test_grey_keeps_its_bits(tmp_path, name):
    values = RGB[..., 0]
    GREY[name](tmp_path / name, values)
    expected = {"signed.tif": values.astype(int) - 2000, "floats.tif": values.astype(np.float32) / 7,
                "long.tif": values.astype(np.int64) * 2**20,
                "small.tif": (values % 200 - 100).astype(np.int8)}.get(name, values)  # fmt: skip
    assert np.array_equal(read_values(tmp_path / name)[0], expected)
    assert read_picture(tmp_path / name).shape == (3, 14, 18)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiff_is_turned_upright(tmp_path, orientation, compression):
    write_tiff(tmp_path / "a.tif", RGB, compress=compression)
    content = (tmp_path / "a.tif").read_bytes()
    tifffile.imwrite(tmp_path / "o.tif", RGB, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    if compression:  # the tag that every such file has before: PlanarConfiguration = 1
        planar = struct.pack("<HHII", 284, 3, 1, 1)
        assert content.count(planar) == 1
        content = content.replace(planar, struct.pack("<HHII", 274, 3, 1, orientation))
        (tmp_path / "o.tif").write_bytes(content)
    upright = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1), 7: RGB[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(RGB, 1),
    }[orientation]  # fmt: skip
    assert np.array_equal(read_values(tmp_path / "o.tif").transpose(1, 2, 0), upright)


@pytest.mark.parametrize("name", ["rgb.png", "rgb.tif", "lzw.tif", "deflate.tif", "floats.tif", "bands.tif"])
def test_cut_off_files_are_named(tmp_path, name, capfd):
    WRITERS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_values(tmp_path / name)
    assert capfd.readouterr().err == ""


def test_deep_tiff_is_no_bomb(tmp_path):
    write_tiff(tmp_path / "a.tif", RGB)
    with pytest.raises(DataError, match="14 x 18 pixels are more than 100"):
        read_values(tmp_path / "a.tif", max_pixels=100)


def test_two_bands_are_refused(tmp_path):
    write_tiff(tmp_path / "a.tif", RGB[..., :2].astype(np.float32))
    with pytest.raises(DataError, match=r"a\.tif: 2 bands, expected one .* or three"):
        read_values(tmp_path / "a.tif")


def test_pixels_without_data_are_not_measured(tmp_path):
    values = RGB[..., 0].astype(np.float32)
    values[:4] = -9999
    write_tiff(tmp_path / "a.tif", values, nodata=-9999)
    assert sample_picture(tmp_path / "a.tif").lowest >= 0


def test_grey_with_alpha_is_refused_where_bits_would_be_lost(tmp_path):
    """Compressed with LZW, OpenCV returns 8 bits of it and no alpha."""
    write_tiff(tmp_path / "a.tif", RGB[..., :2], compress="lzw", alpha="yes")
    with pytest.raises(DataError, match=r"a\.tif: 16-bit values compressed by LZW cannot be read"):
        read_picture(tmp_path / "a.tif")


def test_pnm_above_the_limit_of_pillow_keeps_its_bits(tmp_path, monkeypatch):
    """Pillow raises above twice its limit; such an image counted as one of 8 bits, and was darkened."""
    WRITERS["rgb.ppm"](tmp_path / "a.ppm")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", RGB[..., 0].size // 3)
    assert deep_kind(tmp_path / "a.ppm").values == "16 bits"
    assert np.array_equal(read_values(tmp_path / "a.ppm").transpose(1, 2, 0), RGB)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "gif", "webp", "ppm", "pgm"])
def test_8_bit_images_are_not_deep(tmp_path, suffix):
    image = Image.fromarray((RGB // 16).astype(np.uint8))
    path = tmp_path / f"a.{suffix}"
    (image.convert("L") if suffix == "pgm" else image).save(path)
    assert deep_kind(path) is None
    assert survey_values([path], ValueRange(0, 10)) is None


def test_files_that_cannot_be_read_are_not_deep(tmp_path):
    for name, content in (("a.png", b"\x89PNG\r\n\x1a\n"), ("b.tif", b"II*\0"), ("c.ppm", b"P6 x"), ("d.png", b"")):
        (tmp_path / name).write_bytes(content)
        assert deep_kind(tmp_path / name) is None
    assert deep_kind(tmp_path / "none.png") is None
    assert survey_values([tmp_path / "a.png"]) is None


def test_broken_headers_are_quiet(tmp_path, capfd, caplog):
    write_tiff(tmp_path / "a.tif", RGB)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    for place in range(8, len(content) - RGB.nbytes, 7):
        content[place] ^= 0xFF
        (tmp_path / "b.tif").write_bytes(content)
        deep_kind(tmp_path / "b.tif")
    assert capfd.readouterr().err == caplog.text == ""


def test_deep_images_that_cannot_be_read_have_no_range(tmp_path):
    write_png(tmp_path / "a.png", RGB, 2)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    assert deep_kind(tmp_path / "a.png") is not None
    assert survey_values([tmp_path / "a.png"]) is None


def test_a_survey_looks_at_some_images_evenly_spread(tmp_path):
    files = [tmp_path / f"{k:03}.png" for k in range(70)]
    for k, file in enumerate(files):
        Image.fromarray(np.full((2, 2), 100 + k, np.uint8 if k == 3 else np.uint16)).save(file)
    seen = []

    def sample(file):
        seen.append(file)
        return sample_picture(file)

    scaling = survey_values(files, sample=sample)
    assert len(seen) == MAX_SAMPLED_IMAGES
    assert {files[0], files[-1]} <= set(seen)
    said = scaling.sentence("--x")
    assert said.startswith("69 of 70 images (16 bits): values 0 to 255 become 0 to 255 (measured on 32 of them")
    assert said.endswith("images of 8 bits stay as they are")


def test_no_image_is_decoded_where_the_range_is_given(tmp_path):
    write_png(tmp_path / "a.png", RGB, 2)
    decoded = []

    def sample(file):
        decoded.append(file)
        return sample_picture(file)

    assert survey_values([tmp_path / "a.png"], ValueRange(0, 10), sample=sample).value_range == ValueRange(0, 10)
    assert decoded == []
    said = survey_values([tmp_path / "a.png"], ValueRange(0, 10), sample=sample, compare_values=True).sentence("--x")
    assert "values seen: " in said
    assert decoded == [tmp_path / "a.png"]


@pytest.fixture
def deep_folder(tmp_path):
    for k in range(6):
        values = RNG.integers(0, 200 + 10 * k, (20, 24)).astype(np.uint16)
        values[0, 0] = 3504 if k == 2 else 0
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / "images" / f"{k}.png")
        Image.fromarray((values > 100).astype(np.uint8)).save(tmp_path / "masks" / f"{k}.png")
    return tmp_path


def test_the_images_of_a_data_set_share_one_range(deep_folder):
    def read(value_range=None):
        return open_dataset("folder", root=deep_folder, split="all", options={}, value_range=value_range)

    dataset, given = read(), read((0, 500))
    assert dataset.scaling.value_range.low == 0
    values = read_values(deep_folder / "images" / "5.png")
    for found in (dataset, given):
        expected = found.scaling.value_range.to_8_bit(values)
        assert np.array_equal(found.read(5).image.numpy()[:1], expected)
    assert given.scaling.value_range == ValueRange(0, 500)
    assert given.content_key(5) != dataset.content_key(5)


def test_values_of_different_types_have_no_range_in_common(deep_folder):
    Image.fromarray(np.ones((20, 24), np.float32)).save(deep_folder / "images" / "5.tif")
    (deep_folder / "images" / "5.png").unlink()
    with pytest.raises(DataError, match="5 of 16 bits and 1 of 32-bit floats in one data set"):
        open_dataset("folder", root=deep_folder, split="all", options={})
    assert len(open_dataset("folder", root=deep_folder, split="all", options={}, value_range=(0, 9))) == 6
