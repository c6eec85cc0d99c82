"""Pictures of any size in constant memory: read, predicted and written tile by tile."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from smalti.containers import ClassScores, Size
from smalti.draw.image_files import save_drawing
from smalti.draw.legend import legend_entries, with_legend
from smalti.draw.overlay import overlay
from smalti.labels import IGNORED, LabelSet
from smalti.predict.geotiff import Raster
from smalti.predict.label_tiff import read_reduced_labels, writing_labels
from smalti.predict.tiling import Blend, Tile, Tiles, all_tiles
from smalti.predict.views import Predict

PREVIEW = 2048
"""Pixels of its longer side."""


def predict_raster(
    predict: Predict,
    raster: Raster,
    out: Path,
    labels: LabelSet,
    tiles: Tiles,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes the most probable classes of a raster as a GeoTIFF, `out`; needs the memory of a tile and of some rows.

    The rows are classes x overlap x width probabilities and one row of tiles as labels. What is not valid is ignored;
    tiles without any valid pixel are not predicted. `progress` is called with (tiles done, tiles in all).

    Raises:
        ValueError: If the raster is broken (nothing is left behind), or the network answers no classes.
    """
    places = all_tiles(raster.size, tiles)
    blend = Blend(raster.size[1], tiles)
    with writing_labels(out, raster.size, labels, raster.place) as file:
        rows = np.zeros((0, 0), np.uint8)
        for done, tile in enumerate(places, start=1):
            finished = tile.finished
            if finished.left == 0:
                rows = np.empty((finished.height, raster.size[1]), np.uint8)
            rows[:, finished.left : finished.right] = _labels(predict, raster, tile, blend, len(labels))
            if finished.right == raster.size[1]:
                file.add(rows)
            if progress is not None:
                progress(done, len(places))


def _labels(predict: Predict, raster: Raster, tile: Tile, blend: Blend, classes: int) -> np.ndarray:
    """Those of the part that this tile finishes."""
    picture, valid = raster.read(tile.window)
    if valid is None or bool(valid.any()):
        probabilities = predict(picture).probabilities
        if probabilities is None:
            raise ValueError("this network does not know the classes of pixels, which are all that is written of a "
                             "picture this large: choose another network, or cut the picture into parts")  # fmt: skip
        maps = tile.touched.inside(tile.window).of(probabilities).to("cpu", torch.float32, copy=True)
    else:
        maps = torch.zeros(classes, tile.touched.height, tile.touched.width)
    labels = ClassScores.of(blend.add(tile, maps)).most_probable()
    if valid is not None:
        labels[~tile.finished.inside(tile.window).of(valid)] = IGNORED
    return labels.numpy()


def write_preview(raster: Raster, written: Path, out: Path, labels: LabelSet) -> None:
    """A small overlay as JPEG, so that a person can look at what `predict_raster` wrote."""
    size = preview_size(raster.size)
    picture = raster.reduced(size).permute(1, 2, 0).numpy()
    ids = read_reduced_labels(written, size, labels)
    drawing = with_legend(overlay(picture, ids, labels), legend_entries(ids, labels))
    save_drawing(drawing, out)


def preview_size(size: Size) -> Size:
    """At most `PREVIEW` pixels a side, in the picture's proportions."""
    factor = min(1.0, PREVIEW / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
