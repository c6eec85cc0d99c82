"""Reading pictures in parts: TIFF of any layout and size, with its place on the earth."""

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Shaped, UInt8
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from torch import Tensor

from smalti.containers import Size
from smalti.data.contract import DataError
from smalti.data.deep_images import TIFF_MAGIC
from smalti.data.pictures import picture_size, read_picture
from smalti.data.value_range import ValueRange, ValueSample, measure_range, to_8_bit
from smalti.predict.windows import Window

LARGE = 2**26
"""Pixels (8192 x 8192): what has more is read and written in parts."""
BIG_TIFF = 43
WIDTH, HEIGHT, ORIENTATION, BANDS = 256, 257, 274, 277
GEOREFERENCES = (33550, 33922, 34264, 34735)
"""TIFF's tags for pixel scale, tie points, transformation and the directory of GeoTIFF's keys."""
CACHE_MIB = 256
"""GDAL's, so that the rows of blocks that a row of tiles needs are decoded once."""
SAMPLED_WINDOWS, SAMPLED_SIDE = 4, 1024
"""Windows along each side, and pixels of their sides, that a range of values is measured on."""
Place = dict[str, Any]
log = logging.getLogger("smalti")


def is_raster(path: Path) -> bool:
    """Whether a picture is to be read and written in parts; looks at the header only, and is False for broken files.

    True for a TIFF with a georeference, with more bands than a picture has, or of a layout that only GDAL knows, and
    for any picture above `LARGE`.
    """
    tags = _tiff_tags(path) or {}
    if WIDTH not in tags:
        return count_pixels(path) > LARGE
    special = any(tag in tags for tag in GEOREFERENCES) or tags.get(BANDS, 1) > 4
    return special or count_pixels(path) > LARGE or not _is_picture(path)


def count_pixels(path: Path) -> int:
    """By the header; 0 for broken files."""
    tags = _tiff_tags(path)
    if tags is not None:
        return int(tags.get(WIDTH, 0) * tags.get(HEIGHT, 0))
    try:
        height, width = picture_size(path)
    except DataError:
        return 0
    return height * width


def _is_picture(path: Path) -> bool:
    try:
        picture_size(path)
    except DataError:
        return False
    return True


def _tiff_tags(path: Path) -> dict[int, Any] | None:
    """Of the first picture in it; None if it is no TIFF that can be read."""
    try:
        with path.open("rb") as file:
            header = file.read(8)
            if header[:4] not in TIFF_MAGIC:
                return None
            if BIG_TIFF in header[2:4]:
                header += file.read(8)
            tags = ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
            return {tag: tags[tag] for tag in (WIDTH, HEIGHT, ORIENTATION, BANDS, *GEOREFERENCES) if tag in tags}
    except Exception:  # whatever a broken header makes Pillow raise
        return None


class Raster(ABC):
    """A picture of which parts can be had."""

    size: Size
    place: Place
    """What rasterio's writer takes to put a file at the same place on the earth; empty where there is none."""

    @abstractmethod
    def read(self, window: Window) -> tuple[UInt8[Tensor, "3 height width"], Bool[Tensor, "height width"] | None]:
        """A part as 8-bit RGB, and where it is valid (None = everywhere).

        Raises:
            DataError: If it is broken there; names the file.
        """

    @abstractmethod
    def reduced(self, size: Size) -> UInt8[Tensor, "3 height width"]:
        """The whole, smaller."""


@contextmanager
def open_raster(
    path: Path, bands: Sequence[int] | None = None, value_range: ValueRange | None = None
) -> Iterator[Raster]:
    """A raster to read from: a TIFF in windows; any other picture is decoded as a whole, which takes its memory.

    Values deeper than 8 bits become 0 to 255 by `value_range`; one band is grey. Outside of a mask, where alpha is 0,
    and where all bands have the value that stands for no data, a pixel is not valid.

    Args:
        path: The file.
        bands: One or three, counted from 1. None = all but alpha, if these are one or three.
        value_range: Of values deeper than 8 bits; None = measured on this raster.

    Raises:
        DataError: If it cannot be read, has complex values or whole numbers of less than 8 bits, lies on its side by
            its orientation tag, or has other bands; names the file.
        ValueError: If rasterio is missing.
    """
    if not _is_tiff(path):
        yield _Decoded(path, bands, value_range)
        return
    with needed_rasterio().Env(GDAL_CACHEMAX=CACHE_MIB), reading(path) as source:
        raster = _Windowed(path, source, bands)
        raster.value_range = value_range
        if raster.is_deep and value_range is None:
            raster.value_range = measure_range([raster.sample()])
            log.warning("%s: values %s become 0 to 255 (measured on it alone)", path, raster.value_range)
        yield raster


def sample_raster(path: Path, bands: Sequence[int] | None = None) -> ValueSample:
    """A sample of a TIFF's valid values.

    Raises:
        DataError: As `open_raster`.
    """
    with needed_rasterio().Env(GDAL_CACHEMAX=CACHE_MIB), reading(path) as source:
        return _Windowed(path, source, bands).sample()


def _is_tiff(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in TIFF_MAGIC
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


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
    """Rasterio warns of every file that has no place on the earth."""
    from rasterio.errors import NotGeoreferencedWarning  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """A TIFF as rasterio opens it.

    Raises:
        DataError: If it cannot be opened; names the file.
        ValueError: If rasterio is missing.
    """
    rasterio = needed_rasterio()
    try:
        with quiet():
            source = rasterio.open(path, driver="GTiff")
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{path}: not a TIFF that can be read ({path.stat().st_size} bytes): {error}") from error
    with source:
        yield source


class _Decoded(Raster):
    def __init__(self, path: Path, bands: Sequence[int] | None, value_range: ValueRange | None) -> None:
        picture = read_picture(path, value_range=value_range)
        chosen = _checked_bands(path, (1, 2, 3) if bands is None else bands, 3)
        self.picture = picture if chosen == (1, 2, 3) else _as_rgb(picture[[band - 1 for band in chosen]].numpy())
        self.size = (int(picture.shape[1]), int(picture.shape[2]))
        self.place = {}

    def read(self, window: Window) -> tuple[Tensor, None]:
        return window.of(self.picture), None

    def reduced(self, size: Size) -> Tensor:
        rows, columns = (torch.arange(new) * old // new for new, old in zip(size, self.size, strict=True))
        return self.picture[:, rows][:, :, columns]


class _Windowed(Raster):
    def __init__(self, path: Path, source: Any, bands: Sequence[int] | None) -> None:
        from rasterio.enums import ColorInterp, MaskFlags  # noqa: PLC0415

        self.path, self.source = path, source
        self.value_range: ValueRange | None = None
        self.size = (source.height, source.width)
        if bands is None:
            bands = [k for k, use in enumerate(source.colorinterp, start=1) if use != ColorInterp.alpha]
            if len(bands) not in (1, 3):
                raise DataError(f"{path}: {len(bands)} bands: say which are red, green and blue, such as --bands 1,2,3")
        self.bands = _checked_bands(path, bands, source.count)
        self._check_values()
        self.masked = any(source.mask_flag_enums[band - 1] != [MaskFlags.all_valid] for band in self.bands)
        self.colors: np.ndarray | None = None
        if len(self.bands) == 1 and source.colorinterp[self.bands[0] - 1] == ColorInterp.palette:
            self.colors = np.zeros((256, 3), np.uint8)
            for value, color in source.colormap(self.bands[0]).items():
                self.colors[value] = color[:3]
        gcps, crs = source.gcps
        self.place = {"crs": crs, "gcps": gcps} if gcps else {}
        if source.crs is not None or not source.transform.is_identity:
            self.place = {"crs": source.crs, "transform": source.transform}

    def _check_values(self) -> None:
        orientation = (_tiff_tags(self.path) or {}).get(ORIENTATION, 1)
        if orientation != 1:
            raise DataError(f"{self.path}: its orientation tag is {orientation}: turn the pixels upright, tag 1")
        for band in self.bands:
            kind = self.source.dtypes[band - 1]
            bits = self.source.tags(band, ns="IMAGE_STRUCTURE").get("NBITS")
            if kind == "uint8" and bits is not None:
                raise DataError(f"{self.path}: band {band} has values of {bits} bits: scale it to uint8 or uint16")
            if np.dtype(kind).kind not in "uif":
                raise DataError(f"{self.path}: band {band} has values of {kind}: save whole numbers or floats")

    def read(self, window: Window) -> tuple[Tensor, Tensor | None]:
        values, valid = self._values(window)
        return self._rgb(values), None if valid is None else torch.from_numpy(valid)

    @property
    def is_deep(self) -> bool:
        """Whether values are deeper than 8 bits."""
        return any(self.source.dtypes[band - 1] != "uint8" for band in self.bands)

    def sample(self) -> ValueSample:
        """Valid values of the whole, or of windows that are evenly spread."""
        rows, columns = map(_sampled_spans, self.size)
        windows = [Window(top, left, bottom, right) for top, bottom in rows for left, right in columns]
        return ValueSample.joined([ValueSample.of(*self._values(window)) for window in windows])

    def _values(self, window: Window) -> tuple[Shaped[np.ndarray, "bands _ _"], Bool[np.ndarray, "_ _"] | None]:
        rasterio = needed_rasterio()
        where = rasterio.windows.Window(window.left, window.top, window.width, window.height)
        try:
            values = self.source.read(self.bands, window=where)
            valid = self.source.read_masks(self.bands, window=where).any(0) if self.masked else None
        except rasterio.errors.RasterioError as error:
            where_it_is = f"rows {window.top} to {window.bottom}, columns {window.left} to {window.right}"
            reason = error.__cause__ or error  # GDAL's own words, where rasterio only points at them
            raise DataError(f"{self.path}: {where_it_is}: broken or cut off: copy it again ({reason})") from error
        return values, valid

    def reduced(self, size: Size) -> Tensor:
        rasterio = needed_rasterio()
        way = rasterio.enums.Resampling
        how = way.average if self.colors is None else way.nearest
        return self._rgb(self.source.read(self.bands, out_shape=(len(self.bands), *size), resampling=how))

    def _rgb(self, values: Shaped[np.ndarray, "_ _ _"]) -> UInt8[Tensor, "3 _ _"]:
        if self.colors is not None:
            return _as_rgb(self.colors[values[0]].transpose(2, 0, 1))
        return _as_rgb(to_8_bit(values, self.value_range))


def _sampled_spans(length: int) -> list[tuple[int, int]]:
    """(start, end) of up to `SAMPLED_WINDOWS` windows along an axis, evenly spread; all of a short one."""
    count = min(SAMPLED_WINDOWS, -(-length // SAMPLED_SIDE))
    starts = [round(k * max(0, length - SAMPLED_SIDE) / max(1, count - 1)) for k in range(count)]
    return [(start, min(length, start + SAMPLED_SIDE)) for start in starts]


def _checked_bands(path: Path, bands: Sequence[int], count: int) -> tuple[int, ...]:
    if len(bands) not in (1, 3) or not all(1 <= band <= count for band in bands):
        said = ",".join(str(band) for band in bands)
        raise DataError(f"{path}: bands are one or three from 1 to {count}, got {said}")
    return tuple(bands)


def _as_rgb(values: UInt8[np.ndarray, "bands height width"]) -> UInt8[Tensor, "3 height width"]:
    picture = torch.from_numpy(np.ascontiguousarray(values))
    return picture if len(picture) == 3 else picture.repeat(3, 1, 1)
