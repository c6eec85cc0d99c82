import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fake_datasets import picture, save
from smalti.data.contract import DataError
from smalti.data.pictures import picture_size, read_any, read_mask, read_picture, to_rgb


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def decode(content):
    return to_rgb(read_any(content, "image")[0])


def hwc(tensor):
    return tensor.numpy().transpose(1, 2, 0)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_lossless_formats_are_exact(tmp_path, suffix):
    array = picture(0)
    Image.fromarray(array).save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    found = read_picture(tmp_path / f"a.{suffix}")
    assert np.array_equal(hwc(found), array)
    assert found.is_contiguous()


def test_grey_is_repeated_and_alpha_dropped():
    grey, rgb = picture(0)[..., 0], picture(1)
    assert np.array_equal(hwc(decode(encoded(Image.fromarray(grey)))), np.repeat(grey[..., None], 3, 2))
    alpha = Image.fromarray(np.dstack([rgb, grey]))
    assert np.array_equal(hwc(decode(encoded(alpha))), rgb)


def test_16_bit_grey_is_divided_by_257():
    values = np.array([[0, 128, 129, 257, 65535, 32768]], np.uint16)
    found = decode(encoded(Image.fromarray(values)))
    assert found[0].tolist() == [[round(v / 257) for v in values[0].tolist()]]


def test_palette_pictures_become_their_colours():
    image = Image.fromarray(picture(0)).quantize(16)
    image.info["transparency"] = bytes(16)
    assert np.array_equal(hwc(decode(encoded(image))), np.asarray(image.convert("RGBA"))[..., :3])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(orientation):
    array = np.kron(picture(0, (3, 4)), np.ones((16, 16, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = hwc(decode(encoded(Image.fromarray(array), format="JPEG", quality=95, exif=exif)))
    # The eight cases of the EXIF standard: which way stored rows and columns have to be turned.
    upright = {
        1: array, 2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1], 5: array.transpose(1, 0, 2),
        6: np.rot90(array, -1), 7: array[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(array, 1),
    }[orientation]  # fmt: skip
    assert found.shape == upright.shape
    assert np.abs(found[8::16, 8::16].astype(int) - upright[8::16, 8::16]).max() < 40


@pytest.mark.parametrize("fmt", ["PNG", "JPEG"])
def test_truncated_files_are_named(tmp_path, fmt):
    path = tmp_path / "cut.bin"
    whole = encoded(Image.fromarray(picture(0, (64, 64))), format=fmt)
    path.write_bytes(whole[: len(whole) // 2])
    for read in (read_picture, read_mask):
        with pytest.raises(DataError, match=r"cut\.bin: broken or cut off"):
            read(path)


def test_every_truncation_is_an_error_of_ours_or_a_whole_picture():
    whole = encoded(Image.fromarray(picture(0, (8, 8))))
    for length in range(len(whole)):
        try:
            assert decode(whole[:length]).shape == (3, 8, 8)
        except DataError:
            continue


def test_empty_missing_and_other_files(tmp_path):
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture at all")
    for name, message in (("zero", "empty"), ("text", "no known picture format"), ("gone", "cannot be read")):
        with pytest.raises(DataError, match=rf"{name}\.png: .*{message}"):
            read_picture(tmp_path / f"{name}.png")


def test_a_tiff_of_an_unknown_kind_is_called_so(tmp_path):
    (tmp_path / "t.tif").write_bytes(b"II*\0" + bytes(60))
    for read in (read_picture, picture_size):
        with pytest.raises(DataError, match=r"t\.tif: not a picture .*: a TIFF, but cut off or not grey"):
            read(tmp_path / "t.tif")


def test_masks_with_floats_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"f\.tif"):
        read_mask(tmp_path / "f.tif")


def test_large_pictures_are_no_bombs(tmp_path):
    """9,600 x 10,000 one-bit pixels: beyond Pillow's limit for warnings, a few kilobytes on the disk."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 10_000, 9_600, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(9_600 * (1 + 1_250)), 1)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path = tmp_path / "large.png"
    path.write_bytes(content)
    limit = Image.MAX_IMAGE_PIXELS
    assert read_mask(path).values.shape == (9_600, 10_000)
    assert limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(DataError, match="9600 x 10000 pixels are more than 1000000"):
        read_any(content, "image", max_pixels=1_000_000)


def test_masks_keep_their_values(tmp_path):
    values = np.array([[0, 1, 2, 255]])
    assert read_mask(save(tmp_path / "l.png", values.astype(np.uint8))).values.tolist() == values.tolist()
    assert (
        read_mask(save(tmp_path / "i.png", values.astype(np.uint16) * 200)).values.tolist() == (values * 200).tolist()
    )
    assert (
        read_mask(save(tmp_path / "i.tif", values.astype(np.uint16) * 200)).values.tolist() == (values * 200).tolist()
    )
    assert read_mask(save(tmp_path / "1.png", values > 0)).values.tolist() == [[0, 1, 1, 1]]
    colours = picture(0)
    assert np.array_equal(read_mask(save(tmp_path / "c.png", colours)).values, colours)
    assert np.array_equal(read_mask(save(tmp_path / "a.png", np.dstack([colours, colours[..., 0]]))).values, colours)


def test_palette_masks_are_indices(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 128, 0, 0, 224, 224, 192])
    image.putpixel((0, 0), 2)
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png")
    mask = read_mask(tmp_path / "p.png")
    assert mask.values.tolist() == [[2, 1]]
    assert mask.palette[2].tolist() == [224, 224, 192]
    assert read_mask(save(tmp_path / "l.png", np.zeros((2, 2), np.uint8))).palette is None
