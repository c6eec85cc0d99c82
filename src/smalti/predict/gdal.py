"""The way to rasterio, which is optional: whether it is there, how it opens files, and what it raises."""

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smalti.data.contract import DataError
from smalti.data.opening import TIFF_MAGIC

DRIVERS = {
    **dict.fromkeys(TIFF_MAGIC, "GTiff"),
    b"\0\0\0\x0c": "JP2OpenJPEG", b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"RIFF": "WEBP", b"GIF8": "GIF", b"BM": "BMP",
    **{b"P%d" % kind: "PNM" for kind in (2, 3, 5, 6)},
}  # fmt: skip
"""GDAL's reader by a file's first bytes: of single images only, none that follows links to other files or addresses."""


def magic_of(path: Path) -> bytes:
    """The first four bytes of a file, which tell its format.

    Raises:
        DataError: If it cannot be read; names the file.
    """
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def has_rasterio() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("rasterio") is not None


def needed_rasterio() -> Any:
    """The module.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import rasterio  # noqa: PLC0415  # optional, and slow to import
    except ImportError:
        raise ValueError('rasters are read and written by rasterio: pip install "smalti[geo]"') from None
    return rasterio


@contextmanager
def quiet() -> Iterator[None]:
    """Without rasterio's warnings of files without a place on the earth, and of alpha beside no data (both count)."""
    from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.simplefilter("ignore", NodataShadowWarning)
        yield


def gdal_errors() -> tuple[type[Exception], ...]:
    """What rasterio raises: errors of its own, and GDAL's, which it hands on as they are from some calls."""
    from rasterio._err import CPLE_BaseError  # noqa: PLC0415
    from rasterio.errors import RasterioError  # noqa: PLC0415

    return RasterioError, CPLE_BaseError


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """A file as rasterio opens it, with the one of `DRIVERS` that its first bytes ask for.

    Raises:
        DataError: If it cannot be opened; names the file.
        ValueError: If rasterio is missing.
    """
    rasterio = needed_rasterio()
    magic = magic_of(path)
    driver = next((name for start, name in DRIVERS.items() if magic.startswith(start)), "GTiff")
    try:
        with quiet():
            source = rasterio.open(path, driver=driver)
    except gdal_errors() as error:
        kind = "a TIFF" if driver == "GTiff" else "an image"
        raise DataError(f"{path}: not {kind} that can be read ({path.stat().st_size} bytes): {error}") from error
    with source:
        yield source
