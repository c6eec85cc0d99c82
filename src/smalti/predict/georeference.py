"""Georeferences that lie beside an image, or in a JPEG 2000: found without GDAL, in the first bytes of the files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from smalti.data.contract import DataError

XML_LIMIT = 2**24
"""Bytes of an .aux.xml that are looked at."""
PLACES_IN_XML = (b"<SRS", b"<GeoTransform", b"<GCPList", b"<GeodataXform", b'domain="RPC"')
"""Elements of an .aux.xml that say where the image lies; statistics alone do not."""
JP2_MAGIC = b"\0\0\0\x0cjP  \r\n\x87\n"
GEO_JP2 = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")
"""UUID of the box that holds a small GeoTIFF."""


def world_file(path: Path) -> Path | None:
    """The world file beside an image: photo.pgw, photo.pngw or photo.wld for photo.png, in lower or upper case."""
    ending = path.suffix.lower().removeprefix(".")
    if not ending:
        return None
    names = (f"{ending[0]}{ending[-1]}w", f"{ending}w", "wld")
    return _first_file(path.with_suffix(f".{way}") for name in names for way in (name, name.upper(), name.title()))


def read_world_file(path: Path) -> Any:
    """The transform from pixels to map coordinates in a world file, as an `affine.Affine`.

    Raises:
        DataError: If it is not six numbers; names the file.
    """
    from affine import loadsw  # noqa: PLC0415  # comes with rasterio, which is optional

    try:
        return loadsw(path.read_text(encoding="utf-8"))
    except Exception as error:  # ValueError of numbers, of text that is no UTF-8, and what affine raises
        raise DataError(f"{path}: not a world file, which has six numbers: {error}") from error


def georeference_beside(path: Path) -> Path | None:
    """The file that says where an image lies, or which of its pixels are valid, apart from the tags of a TIFF.

    A world file, an .aux.xml with a place, RPCs (`NAME.RPB`, `NAME_RPC.TXT`), GDAL's mask `NAME.tif.msk`, or the
    image itself if it is a georeferenced JPEG 2000; None if there is nothing.
    """
    found = world_file(path)
    if found is not None:
        return found
    for ending in (".aux.xml", ".AUX.XML"):
        xml = path.with_name(f"{path.name}{ending}")
        if xml.is_file() and _says_a_place(xml):
            return xml
    beside = [path.with_suffix(ending) for ending in (".rpb", ".RPB")]
    beside += [path.with_name(f"{path.stem}{ending}") for ending in ("_rpc.txt", "_RPC.TXT")]
    beside += [path.with_name(f"{path.name}{ending}") for ending in (".msk", ".MSK")]
    return _first_file(beside) or (path if _is_georeferenced_jp2(path) else None)


def unread_georeference(paths: Sequence[Path]) -> str:
    """A sentence for images that are read without rasterio."""
    where = georeference_beside(paths[0])
    first = f"{paths[0]}" if where in (None, paths[0]) else f"{paths[0]} with {where.name}"
    return (f"georeference and no data of {len(paths)} images are not kept ({first}): rasterio is missing: "
            'pip install "smalti[geo]"')  # fmt: skip


def _first_file(paths: Any) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _says_a_place(xml: Path) -> bool:
    try:
        with xml.open("rb") as file:
            content = file.read(XML_LIMIT)
    except OSError:
        return False
    return any(place in content for place in PLACES_IN_XML)


def _is_georeferenced_jp2(path: Path) -> bool:
    """Whether a JPEG 2000 has a GeoJP2 box, or an association box with GML."""
    try:
        with path.open("rb") as file:
            return file.read(len(JP2_MAGIC)) == JP2_MAGIC and _has_place_box(file)
    except OSError:
        return False


def _has_place_box(file: BinaryIO) -> bool:
    """Walks the boxes after the signature: length (4 bytes), type, and a length of 8 bytes where the first is 1."""
    while len(head := file.read(8)) == 8:
        start = file.tell() - 8
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if (kind == b"uuid" and file.read(16) == GEO_JP2) or (kind == b"asoc" and b"gml.data" in file.read(64)):
            return True
        if length < 8:  # 0: the box goes on to the end of the file
            return False
        file.seek(start + length)
    return False
