"""Reading images in parts: TIFF of any layout and size, and whatever else has a place on the earth."""

import logging
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
from smalti.data.opening import TIFF_MAGIC
from smalti.data.pictures import picture_size, read_transparent_picture
from smalti.data.value_range import ValueRange, ValueSample, measure_range, to_8_bit
from smalti.predict.gdal import gdal_errors, magic_of, needed_rasterio, quiet, reading
from smalti.predict.georeference import georeference_beside, read_world_file, world_file
from smalti.predict.windows import Window

LARGE = 2**26
"""Pixels (8192 x 8192): what has more is read and written in parts."""
BIG_TIFF = 43
SUBFILE_TYPE, MASK = 254, 4
"""TIFF's tag for what an image is to others of the file, and its bit for a mask of pixels that are valid."""
WIDTH, HEIGHT, ORIENTATION, BANDS = 256, 257, 274, 277
GDAL_TAGS = (33550, 33922, 34264, 34735, 50844, 42113)
"""TIFF's tags for pixel scale, tie points, transformation, the directory of GeoTIFF's keys, RPCs, and no data."""
CACHE_MIB = 256
"""GDAL's, so that the rows of blocks that a row of tiles needs are decoded once."""
SAMPLED_WINDOWS, SAMPLED_SIDE = 4, 1024
"""Windows along each side, and pixels of their sides, that a range of values is measured on."""
Place = dict[str, Any]
log = logging.getLogger("smalti")


def is_raster(path: Path) -> bool:
    """Whether an image is to be read and written in parts, with its georeference; looks at headers only.

    True for what `needs_gdal`, and for any image with a georeference or a mask beside it (`georeference_beside`).
    """
    return needs_gdal(path) or georeference_beside(path) is not None


def needs_gdal(path: Path) -> bool:
    """Whether only rasterio can answer an image as it is; False for broken files.

    True for a TIFF with a georeference, with a mask or a value for no data, with more bands than a picture has, or of
    a layout that only GDAL knows, and for any image above `LARGE`.
    """
    tags = _tiff_tags(path) or {}
    if WIDTH not in tags:
        return count_pixels(path) > LARGE
    has_mask = bool(tags.get(SUBFILE_TYPE, 0) & MASK)
    special = has_mask or any(tag in tags for tag in GDAL_TAGS) or tags.get(BANDS, 1) > 4
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
    """Of the first image in it, but `SUBFILE_TYPE` of the second; None if it is no TIFF that can be read."""
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
            found = {tag: tags[tag] for tag in (WIDTH, HEIGHT, ORIENTATION, BANDS, *GDAL_TAGS) if tag in tags}
            if tags.next:
                second = ImageFileDirectory_v2(header)
                file.seek(tags.next)
                second.load(file)
                found[SUBFILE_TYPE] = second.get(SUBFILE_TYPE, 0)
            return found
    except Exception:  # whatever a broken header makes Pillow raise
        return None


class Raster(ABC):
    """A picture of which parts can be had."""

    size: Size
    place: Place
    """What rasterio's writer takes to put a file at the same place on the earth; empty where there is none."""
    notes: tuple[str, ...] = ()
    """What was decided about this file without being asked for, to be said to the user."""

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
    """A raster to read from: a TIFF, or an image with a georeference, in windows; any other is decoded as a whole.

    Values deeper than 8 bits become 0 to 255 by `value_range`; one band is grey. Outside of a mask, where alpha is 0,
    and where all bands that are read have their value for no data, a pixel is not valid.

    Args:
        path: The file.
        bands: One or three, counted from 1. None = those declared red, green and blue, in whatever order they come;
            else all but alpha, if these are one or three.
        value_range: Of values deeper than 8 bits; None = measured on this raster.

    Raises:
        DataError: If it cannot be read, has complex values or whole numbers of less than 8 bits, lies on its side by
            its orientation tag, or has other bands; names the file.
        ValueError: If rasterio is missing.
    """
    if magic_of(path) not in TIFF_MAGIC and georeference_beside(path) is None:
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


class _Decoded(Raster):
    def __init__(self, path: Path, bands: Sequence[int] | None, value_range: ValueRange | None) -> None:
        decoded = read_transparent_picture(path, value_range)
        picture, self.valid = decoded[:3], decoded[3] > 0 if len(decoded) > 3 else None
        chosen = _checked_bands(path, (1, 2, 3) if bands is None else bands, 3)
        self.picture = picture if chosen == (1, 2, 3) else _as_rgb(picture[[band - 1 for band in chosen]].numpy())
        self.size = (int(picture.shape[1]), int(picture.shape[2]))
        self.place = {}

    def read(self, window: Window) -> tuple[Tensor, Tensor | None]:
        return window.of(self.picture), None if self.valid is None else window.of(self.valid)

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
            bands = self._declared_bands()
        self.bands = _checked_bands(path, bands, source.count)
        self._check_values()
        self._check_exif()
        self.masked = any(source.mask_flag_enums[band - 1] != [MaskFlags.all_valid] for band in self.bands)
        self.alpha = next((k for k, use in enumerate(source.colorinterp, start=1) if use == ColorInterp.alpha), None)
        self.no_data = [source.nodatavals[band - 1] for band in self.bands]
        self.colors: np.ndarray | None = None
        self.hidden: np.ndarray | None = None
        if len(self.bands) == 1 and source.colorinterp[self.bands[0] - 1] == ColorInterp.palette:
            table = np.zeros((np.iinfo(source.dtypes[self.bands[0] - 1]).max + 1, 4), np.uint8)
            for value, color in source.colormap(self.bands[0]).items():
                table[value] = color
            self.colors, self.hidden = table[:, :3], table[:, 3] == 0
        self.place = _place_of(path, source)

    def _declared_bands(self) -> list[int]:
        """The bands declared red, green and blue, in this order; else all but alpha.

        Raises:
            DataError: If these are neither one nor three; names the file.
        """
        from rasterio.enums import ColorInterp  # noqa: PLC0415

        uses = list(self.source.colorinterp)
        colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        plain = [k for k, use in enumerate(uses, start=1) if use != ColorInterp.alpha]
        is_declared = all(uses.count(color) == 1 for color in colors)
        bands = [uses.index(color) + 1 for color in colors] if is_declared else plain
        if len(bands) not in (1, 3):
            said = f"{len(bands)} bands: say which are red, green and blue, such as --bands 1,2,3"
            raise DataError(f"{self.path}: {said}")
        if bands != plain:
            order = ",".join(map(str, bands))
            self.notes = (f"bands {order} are declared red, green and blue, and read as such; --bands reads others",)
        return bands

    def _check_exif(self) -> None:
        orientation = self.source.tags().get("EXIF_Orientation", "1")
        if orientation != "1":
            raise DataError(f"{self.path}: its EXIF orientation is {orientation}, and a georeference is for pixels as "
                            "they are stored: turn the pixels upright, orientation 1")  # fmt: skip

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
        """Whether values are deeper than 8 bits, and no numbers of a palette."""
        return self.colors is None and any(self.source.dtypes[band - 1] != "uint8" for band in self.bands)

    def sample(self) -> ValueSample:
        """Valid values of the whole, or of windows that are evenly spread."""
        rows, columns = map(_sampled_spans, self.size)
        windows = [Window(top, left, bottom, right) for top, bottom in rows for left, right in columns]
        return ValueSample.joined([ValueSample.of(*self._values(window)) for window in windows])

    def _values(self, window: Window) -> tuple[Shaped[np.ndarray, "bands _ _"], Bool[np.ndarray, "_ _"] | None]:
        where = needed_rasterio().windows.Window(window.left, window.top, window.width, window.height)
        with self._naming(f"rows {window.top} to {window.bottom}, columns {window.left} to {window.right}: "):
            values = self.source.read(self.bands, window=where)
            return values, self._valid(values, where)

    def _valid(self, values: Shaped[np.ndarray, "_ _ _"], where: Any) -> np.ndarray | None:
        """Where all of them say so: mask or value for no data, alpha, and palette. None = everywhere.

        GDAL's masks heed one of them only: a mask before alpha, and a value for no data before both.
        """
        masks = []
        if self.masked:
            with quiet():
                masks.append(self.source.read_masks(self.bands, window=where).any(0))
        if self.masked and all(value is not None for value in self.no_data):
            masks.append((values != np.array(self.no_data)[:, None, None]).any(0))
        if self.alpha is not None:
            masks.append(self.source.read(self.alpha, window=where) > 0)
        if self.hidden is not None and self.hidden[values[0]].any():
            masks.append(~self.hidden[values[0]])
        return np.logical_and.reduce(masks) if masks else None

    @contextmanager
    def _naming(self, where: str) -> Iterator[None]:
        """Errors of reading name the file.

        Raises:
            DataError: If GDAL cannot read it there.
        """
        try:
            yield
        except gdal_errors() as error:
            reason = error.__cause__ or error  # GDAL's own words, where rasterio only points at them
            raise DataError(f"{self.path}: {where}broken or cut off: copy it again ({reason})") from error

    def reduced(self, size: Size) -> Tensor:
        rasterio = needed_rasterio()
        way = rasterio.enums.Resampling
        how = way.average if self.colors is None else way.nearest
        with self._naming(""):
            values = self.source.read(self.bands, out_shape=(len(self.bands), *size), resampling=how)
        return self._rgb(values)

    def _rgb(self, values: Shaped[np.ndarray, "_ _ _"]) -> UInt8[Tensor, "3 _ _"]:
        if self.colors is not None:
            return _as_rgb(self.colors[values[0]].transpose(2, 0, 1))
        return _as_rgb(to_8_bit(values, self.value_range))


def _sampled_spans(length: int) -> list[tuple[int, int]]:
    """(start, end) of up to `SAMPLED_WINDOWS` windows along an axis, evenly spread; all of a short one."""
    count = min(SAMPLED_WINDOWS, -(-length // SAMPLED_SIDE))
    starts = [round(k * max(0, length - SAMPLED_SIDE) / max(1, count - 1)) for k in range(count)]
    return [(start, min(length, start + SAMPLED_SIDE)) for start in starts]


def _place_of(path: Path, source: Any) -> Place:
    """Transform or control points, and RPCs; a world file that GDAL passes over counts, too."""
    gcps, crs = source.gcps
    place = {"crs": crs, "gcps": gcps} if gcps else {}
    transform = source.transform
    if transform.is_identity and not gcps and (world := world_file(path)) is not None:
        transform = read_world_file(world)
    if source.crs is not None or not transform.is_identity:
        place = {"crs": source.crs, "transform": transform}
    return place | ({"rpcs": source.rpcs} if source.rpcs else {})


def _checked_bands(path: Path, bands: Sequence[int], count: int) -> tuple[int, ...]:
    if len(bands) not in (1, 3) or not all(1 <= band <= count for band in bands):
        said = ",".join(str(band) for band in bands)
        raise DataError(f"{path}: bands are one or three from 1 to {count}, got {said}")
    return tuple(bands)


def _as_rgb(values: UInt8[np.ndarray, "bands height width"]) -> UInt8[Tensor, "3 height width"]:
    picture = torch.from_numpy(np.ascontiguousarray(values))
    return picture if len(picture) == 3 else picture.repeat(3, 1, 1)
