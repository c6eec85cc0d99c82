"""Label maps of any size as GeoTIFF: written row by row, in colour, whole or not there."""

import json
import logging
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from smalti.containers import Size
from smalti.data.masks import to_labels
from smalti.draw.overlay import file_values
from smalti.files import replacing
from smalti.labels import LabelSet
from smalti.predict.gdal import gdal_errors, needed_rasterio, quiet, reading
from smalti.predict.geotiff import Place

BLOCK = 256


@dataclass
class LabelWriter:
    """Takes the rows of a label map from top to bottom; writes whole rows of blocks, which are compressed once."""

    target: Any
    values: np.ndarray
    waiting: np.ndarray
    written: int = 0
    checksum: int = 0
    """CRC-32 of all rows written so far."""

    def add(self, labels: UInt8[np.ndarray, "rows width"]) -> None:
        """The next rows, as label ids."""
        self.waiting = np.concatenate([self.waiting, self.values[labels]])
        self.flush(len(self.waiting) // BLOCK * BLOCK)

    def flush(self, rows: int) -> None:
        """Writes as many of the rows that wait."""
        where = needed_rasterio().windows.Window(0, self.written, self.waiting.shape[1], rows)
        if rows:
            self.target.write(self.waiting[:rows], 1, window=where)
            self.checksum = zlib.crc32(self.waiting[:rows].data, self.checksum)
        self.waiting, self.written = self.waiting[rows:].copy(), self.written + rows


@contextmanager
def writing_labels(out: Path, size: Size, labels: LabelSet, place: Place) -> Iterator[LabelWriter]:
    """A GeoTIFF for label ids: tiled, deflated, in colour, with overviews; whole at the end or not there.

    Its values are the class table's file ids, `LabelSet.no_class_value` being "no data"; above 255 they have 16 bits
    and no colours. The tag `LABELS` is the table as JSON, the tags `CLASS_<value>` are the names. The file is read back
    before it takes its place, because GDAL closes a file on a full disk without an error.

    Raises:
        ValueError: If rasterio is missing.
        OSError: If it cannot be written, or read back as it was written.
    """
    rasterio = needed_rasterio()
    values = file_values(labels)
    place = dict(place)
    gcps, rpcs = place.pop("gcps", None), place.pop("rpcs", None)
    with replacing(out) as part, _checked_writing(out), quiet():
        target = rasterio.open(
            part, "w", driver="GTiff", height=size[0], width=size[1], count=1, dtype=values.dtype.name, tiled=True,
            blockxsize=BLOCK, blockysize=BLOCK, compress="deflate", bigtiff="IF_SAFER", nodata=labels.no_class_value,
            **({} if gcps else place),
        )  # fmt: skip
        with target:
            if gcps:
                target.gcps = (gcps, place["crs"])
            if rpcs:
                target.rpcs = rpcs
            if values.dtype == np.uint8:
                colors = zip((labels.no_class_value, *labels.ids), (labels.no_class_color, *labels.colors), strict=True)
                target.write_colormap(1, {value: (*color, 255) for value, color in colors})
            target.update_tags(LABELS=json.dumps(labels.to_json(), ensure_ascii=False))
            target.update_tags(**{f"CLASS_{i}": name for i, name in zip(labels.ids, labels.names, strict=True)})
            writer = LabelWriter(target, values, np.zeros((0, size[1]), values.dtype))
            yield writer
            writer.flush(len(writer.waiting))
        with rasterio.open(part, "r+") as target:
            target.build_overviews(_factors(size), rasterio.enums.Resampling.nearest)
        _read_back(part, out, writer.checksum, len(_factors(size)))


def _factors(size: Size) -> list[int]:
    """Until the whole fits into a block."""
    return [2**k for k in range(1, 32) if max(size) > BLOCK * 2 ** (k - 1)]


@contextmanager
def _checked_writing(out: Path) -> Iterator[None]:
    """Turns GDAL's errors, those that it only logs as well, into an OSError that names the file.

    Raises:
        OSError: If GDAL raised or logged an error in this thread.
    """
    logged = _ErrorLog(threading.get_ident())
    logger = logging.getLogger("rasterio")
    logger.addHandler(logged)
    try:
        yield
    except gdal_errors() as error:
        reason = "; ".join(dict.fromkeys([*logged.messages, str(error.__cause__ or error)]))
        raise OSError(f"{out}: cannot be written: {reason}") from error
    finally:
        logger.removeHandler(logged)
    if logged.messages:
        raise OSError(f"{out}: cannot be written: {'; '.join(logged.messages)}")


class _ErrorLog(logging.Handler):
    """Keeps the error messages of one thread."""

    def __init__(self, thread: int) -> None:
        super().__init__(logging.ERROR)
        self.thread = thread
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.messages.append(record.getMessage())


def _read_back(path: Path, out: Path, checksum: int, overviews: int) -> None:
    """Reads every block of a file that was just written, at `path` until it becomes `out`.

    Raises:
        OSError: If a block is missing, broken, or another one than was written; names `out`.
    """
    rasterio = needed_rasterio()
    problem = f"{out}: what was written cannot be read back: is the disk full?"
    with rasterio.open(path, driver="GTiff") as source:
        found = 0
        for top in range(0, source.height, BLOCK):
            rows = rasterio.windows.Window(0, top, source.width, min(BLOCK, source.height - top))
            found = zlib.crc32(source.read(1, window=rows).data, found)
        if found != checksum or len(source.overviews(1)) != overviews:
            raise OSError(problem)
    for level in range(overviews):
        with rasterio.open(path, driver="GTiff", overview_level=level) as source:
            for (row, column), window in source.block_windows(1):
                if source.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", dm="TIFF", bidx=1) is None:
                    raise OSError(problem)  # GDAL reads a block that is missing as no data
                source.read(1, window=window)


def read_reduced_labels(path: Path, size: Size, labels: LabelSet) -> UInt8[np.ndarray, "height width"]:
    """Label ids out of a file of `writing_labels`, smaller; from its overviews.

    Raises:
        DataError: If it cannot be read, or holds values outside the class table; names the file.
    """
    with reading(path) as source:
        values = source.read(1, out_shape=size)
    return to_labels(values.astype(np.int32), labels, path)
