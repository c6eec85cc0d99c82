"""Label maps of any size as GeoTIFF: written row by row, in colour, whole or not there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from smalti.containers import Size
from smalti.draw.overlay import file_values
from smalti.files import replacing
from smalti.labels import IGNORED, LabelSet
from smalti.predict.geotiff import Place, needed_rasterio, quiet, reading

BLOCK = 256


@dataclass
class LabelWriter:
    """Takes the rows of a label map from top to bottom; writes whole rows of blocks, which are compressed once."""

    target: Any
    values: np.ndarray
    waiting: np.ndarray
    written: int = 0

    def add(self, labels: UInt8[np.ndarray, "rows width"]) -> None:
        """The next rows, as label ids."""
        self.waiting = np.concatenate([self.waiting, self.values[labels]])
        self.flush(len(self.waiting) // BLOCK * BLOCK)

    def flush(self, rows: int) -> None:
        """Writes as many of the rows that wait."""
        where = needed_rasterio().windows.Window(0, self.written, self.waiting.shape[1], rows)
        if rows:
            self.target.write(self.waiting[:rows], 1, window=where)
        self.waiting, self.written = self.waiting[rows:].copy(), self.written + rows


@contextmanager
def writing_labels(out: Path, size: Size, labels: LabelSet, place: Place) -> Iterator[LabelWriter]:
    """A GeoTIFF for label ids: tiled, deflated, in colour, with overviews; whole at the end or not there.

    Its values are the class table's file ids, the ignored one being "no data"; above 255 they have 16 bits and no
    colours. The tag `LABELS` is the table as JSON, the tags `CLASS_<value>` are the names.

    Raises:
        ValueError: If rasterio is missing.
        OSError: If it cannot be written.
    """
    rasterio = needed_rasterio()
    values = file_values(labels)
    place = dict(place)
    gcps = place.pop("gcps", None)
    with replacing(out) as part:
        with quiet():
            target = rasterio.open(
                part, "w", driver="GTiff", height=size[0], width=size[1], count=1, dtype=values.dtype.name, tiled=True,
                blockxsize=BLOCK, blockysize=BLOCK, compress="deflate", bigtiff="IF_SAFER", nodata=int(values[-1]),
                **({} if gcps else place),
            )  # fmt: skip
        with target:
            if gcps:
                target.gcps = (gcps, place["crs"])
            if values.dtype == np.uint8:
                target.write_colormap(1, {i: (*c, 255) for i, c in zip(labels.ids, labels.colors, strict=True)})
            target.update_tags(LABELS=json.dumps(labels.to_json(), ensure_ascii=False))
            target.update_tags(**{f"CLASS_{i}": name for i, name in zip(labels.ids, labels.names, strict=True)})
            writer = LabelWriter(target, values, np.zeros((0, size[1]), values.dtype))
            yield writer
            writer.flush(len(writer.waiting))
        with quiet(), rasterio.open(part, "r+") as target:
            target.build_overviews(_factors(size), rasterio.enums.Resampling.nearest)


def _factors(size: Size) -> list[int]:
    """Until the whole fits into a block."""
    return [2**k for k in range(1, 32) if max(size) > BLOCK * 2 ** (k - 1)]


def read_reduced_labels(path: Path, size: Size, labels: LabelSet) -> UInt8[np.ndarray, "height width"]:
    """Label ids out of a file of `writing_labels`, smaller; from its overviews."""
    with reading(path) as source:
        values = source.read(1, out_shape=size)
    table = np.full(int(np.iinfo(values.dtype).max) + 1, IGNORED, np.uint8)
    table[list(labels.ids)] = np.arange(len(labels))
    found: np.ndarray = table[values]
    return found
