"""Files that would start a program, or take all memory, when they are opened."""

import io
import struct
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from smalti.data import opening
from smalti.data.contract import DataError
from smalti.data.pictures import picture_size, read_any, read_mask, read_palette, read_picture
from smalti.data.voc_xml import read_voc_boxes
from smalti.labels import LabelSet
from smalti.predict.geotiff import is_raster

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 10\n%%EndComments\nshowpage\n%%EOF\n"
WMF = b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<4hH", 0, 0, 100, 100, 72) + bytes(4) + struct.pack("<H", 0) + \
    b"\x01\0\x09\0" + bytes(40)  # fmt: skip


@pytest.mark.parametrize("content", [EPS, WMF, b"8BPS\0\1" + bytes(40)], ids=["eps", "wmf", "psd"])
@pytest.mark.parametrize("read", [read_picture, read_mask, read_palette, picture_size,
                                  lambda path: read_any(path.read_bytes(), "image")])  # fmt: skip
def test_only_the_documented_formats_are_opened(tmp_path, monkeypatch, read, content):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    for name in ("EPS", "WMF", "PSD"):
        Image.init()
        monkeypatch.setitem(Image.OPEN, name, (lambda *_: pytest.fail("was opened"), Image.OPEN[name][1]))
    (tmp_path / "photo.png").write_bytes(content)
    with pytest.raises(DataError, match="no known picture format"):
        read(tmp_path / "photo.png")
    assert not is_raster(tmp_path / "photo.png")


@pytest.mark.parametrize(("kind", "name"), [
    ("PNG", "a.png"), ("JPEG", "a.jpg"), ("TIFF", "a.tif"), ("WEBP", "a.webp"), ("BMP", "a.bmp"), ("GIF", "a.gif"),
    ("PPM", "a.ppm"), ("MPO", "a.jpg"), ("JPEG2000", "a.png"), ("TGA", "a.png"),
])  # fmt: skip
def test_pictures_are_still_opened(tmp_path, kind, name):
    Image.new("RGB", (6, 4), (200, 100, 50)).save(tmp_path / name, kind)
    assert tuple(read_picture(tmp_path / name).shape) == (3, 4, 6)


def animation(frame=(32, 24), **options):
    buffer = io.BytesIO()
    frames = [Image.fromarray(np.full((frame[1], frame[0], 3), k * 100, np.uint8)) for k in range(3)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], **options)
    return bytearray(buffer.getvalue())


@pytest.mark.parametrize("canvas", [(8_388_640, 24), (16_384, 24), (12_000, 12_000), (3_000, 3_000)])
def test_a_canvas_that_no_frame_could_fill_is_refused_before_decoding(tmp_path, canvas):
    """Of 492 bytes: 3.4 GiB and a minute."""
    content, path = animation(), tmp_path / "a.webp"
    content[24:27], content[27:30] = ((side - 1).to_bytes(3, "little") for side in canvas)
    path.write_bytes(content)
    begin = time.process_time()
    tracemalloc.start()
    for read in (read_picture, picture_size):
        with pytest.raises(DataError, match=f"a WebP animation of {canvas[1]} x {canvas[0]} pixels"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    assert time.process_time() - begin < 2


def test_honest_animations_are_read(tmp_path):
    """Also one whose later frames change a corner only."""
    (tmp_path / "a.webp").write_bytes(animation())
    assert tuple(read_picture(tmp_path / "a.webp").shape) == (3, 24, 32)
    large = Image.new("RGB", (2400, 1800), (1, 2, 3))
    corner = large.copy()
    corner.paste((250, 0, 0), (0, 0, 8, 8))
    large.save(tmp_path / "b.webp", "WEBP", save_all=True, append_images=[corner], quality=1, method=0)
    assert tuple(read_picture(tmp_path / "b.webp").shape) == (3, 1800, 2400)


@pytest.mark.parametrize("cut", [0, 12, 29, 30, 45, 60])
def test_cut_animations_are_refused(tmp_path, cut):
    (tmp_path / "a.webp").write_bytes(bytes(animation()[:cut]))
    with pytest.raises(DataError, match="a.webp"):
        read_picture(tmp_path / "a.webp")


def test_formats_that_pillow_lacks_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "FORMATS", (*opening.FORMATS, "NO_SUCH_FORMAT"))
    Image.new("L", (6, 4)).save(tmp_path / "a.png")
    assert picture_size(tmp_path / "a.png") == (4, 6)


@pytest.mark.parametrize("content", [
    '<!DOCTYPE a [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>',
    '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>',
    '<?xml version="1.0" encoding="no-such"?><annotation/>', '<?xml version="1.0" encoding="utf-32"?><annotation/>',
])  # fmt: skip
def test_entities_and_odd_encodings_of_annotations_are_refused(tmp_path, content):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(DataError, match=r"a\.xml: cannot be read as XML"):
        read_voc_boxes(tmp_path / "a.xml", LabelSet(names=("cat",), things=frozenset({"cat"})), (10, 10))
