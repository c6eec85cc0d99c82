"""Time and peak memory over the area of a raster: `python benchmarks/huge.py RUN --sides 1000 2000`, or `--stub`.

Each raster is predicted in a process of its own, with overviews and preview; --stub puts a trivial answer in the
network's place, so that reading, blending and writing are measured by themselves. Seconds are of the clock, and of the
CPU, which count on a shared machine.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

import smalti
from smalti.containers import ClassScores, Predictions
from smalti.labels import LabelSet
from smalti.predict.geotiff import open_raster
from smalti.predict.raster import predict_raster, write_preview
from smalti.predict.tiling import Tiles

BLOCK = 512
CLASSES = LabelSet.of(11)


def stub(picture: torch.Tensor) -> Predictions:
    """Eleven classes of brightness."""
    levels = torch.linspace(0, 255, len(CLASSES))[:, None, None]
    return Predictions(labels=CLASSES, scores=ClassScores(-(picture[1].float() - levels).abs() / 20))


def draw(path: Path, side: int) -> None:
    """Coloured discs, a few blocks of them again and again; deflated and tiled."""
    rng, profile = np.random.default_rng(0), {"crs": CRS.from_epsg(32632), "transform": Affine(1, 0, 5e5, 0, -1, 54e5)}
    blocks = [disc_block(rng) for _ in range(16)]
    with rasterio.open(path, "w", driver="GTiff", count=3, height=side, width=side, dtype="uint8", tiled=True,
                       blockxsize=BLOCK, blockysize=BLOCK, compress="deflate", zlevel=1, interleave="pixel",
                       photometric="rgb", **profile) as file:  # fmt: skip
        for top in range(0, side, BLOCK):
            for left in range(0, side, BLOCK):
                height, width = min(BLOCK, side - top), min(BLOCK, side - left)
                part = blocks[rng.integers(len(blocks))][:, :height, :width]
                file.write(part, window=Window(left, top, width, height))


def disc_block(rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[:BLOCK, :BLOCK]
    block = np.broadcast_to(rng.integers(0, 256, (3, 1, 1)), (3, BLOCK, BLOCK)).astype(np.uint8)
    for middle in rng.integers(0, BLOCK, (9, 2)):
        inside = np.hypot(rows - middle[0], columns - middle[1]) < rng.integers(20, 90)
        block[:, inside] = rng.integers(0, 256, (3, 1))
    return block


def measure(source: Path, run: str, size: int) -> None:
    torch.set_num_threads(1)
    predict = stub if run == "stub" else smalti.load(run)
    labels = CLASSES if run == "stub" else predict.labels
    out = source.with_name("out.tif")
    start, before = time.perf_counter(), time.process_time()
    with open_raster(source) as raster:
        predict_raster(predict, raster, out, labels, Tiles(size=size, overlap=size // 8))
        write_preview(raster, out, out.with_suffix(".jpg"), labels)
    seconds = time.perf_counter() - start
    pixels = raster.size[0] * raster.size[1] / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    cpu = time.process_time() - before
    print(f"| {raster.size[0]} | {seconds:.1f} | {cpu:.1f} | {cpu / pixels:.3f} | {peak:.0f} |", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("run", nargs="?", default="stub")
    arguments.add_argument("--stub", action="store_true")
    arguments.add_argument("--sides", type=int, nargs="+", default=[5000, 10000, 20000])
    arguments.add_argument("--tile", type=int, default=1024)
    arguments.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    run = "stub" if options.stub else options.run
    if options.measure is not None:
        measure(options.measure, run, options.tile)
        return
    print("| side | s | CPU s | CPU s per megapixel | peak MiB |\n|---|---|---|---|---|", flush=True)
    for side in options.sides:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "in.tif"
            draw(source, side)
            command = [sys.executable, __file__, run, "--tile", str(options.tile), "--measure", str(source)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
