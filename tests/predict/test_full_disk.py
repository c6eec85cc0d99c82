"""Writes that fail part of the way, as on a full disk: an error, and nothing at the file's place."""

import dataclasses
import resource
from contextlib import contextmanager

import numpy as np
import pytest
import rasterio
import torch
from rasterio.crs import CRS
from rasterio.transform import Affine

from smalti.containers import ClassScores, Instances, Predictions
from smalti.labels import LabelSet
from smalti.predict.folder import _Work
from smalti.predict.geotiff import open_raster
from smalti.predict.journal import Job, Journal
from smalti.predict.label_tiff import writing_labels
from smalti.predict.raster import write_preview
from smalti.predict.raster_polygons import write_raster_polygons
from smalti.predict.video import predict_video
from smalti.predict.video_options import VideoOptions
from smalti.predict.writers import WRITERS, names_written

TABLE = LabelSet(names=("road", "car"), things=frozenset({"car"}))
PLACE = {"crs": CRS.from_epsg(32632), "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)}
SIZE = (120, 160)


@contextmanager
def no_file_above(size):
    """Of this process; Python ignores the signal, so that a write fails after a part of it, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def noise(*shape, most=256):
    return np.random.default_rng(0).integers(0, most, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def answer():
    semantic = torch.from_numpy(np.kron(noise(12, 16, most=2), np.ones((10, 10), np.uint8)))
    ids = np.zeros(SIZE, np.int32)
    ids[10:60, 10:60] = 1
    ids[70:100, 20:150] = 2
    maps = torch.from_numpy(noise(*SIZE).astype(np.float32) / 255)
    return Predictions(
        labels=TABLE, semantic=semantic, scores=ClassScores(torch.stack([maps, 1 - maps])), edges=maps, distances=maps,
        difficulty=maps, instances=Instances.from_ids(ids, [1, 1], [0.9, 0.5]),
    )  # fmt: skip


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_for_images(tmp_path, answer, kind):
    """One byte is missing of the largest file: no file of that name, the image is not done, and is written again."""
    job = Job(file=tmp_path / "in.png", name="in", state=(1, 1), answers=tuple(names_written("in", [kind])))
    picture = torch.from_numpy(noise(3, *SIZE))

    def write(out):
        out.mkdir(exist_ok=True)
        with Journal(out, {}, resume=True) as journal:
            work = _Work([job], {kind: WRITERS[kind](out)}, journal, value_ranges={}, progress=None)
            left = work.left()
            for waiting in left:
                work.settle(waiting, work.write(waiting, picture, answer))
            work.finish()
            return left

    write(tmp_path / "whole")
    sizes = {name: size for name, size in files_in(tmp_path / "whole").items() if name != "predictions.jsonl"}
    largest = max(sizes, key=sizes.get)
    with no_file_above(sizes[largest] - 1), pytest.raises(OSError, match="too large"):
        write(tmp_path / "full")
    left_over = files_in(tmp_path / "full")
    assert largest not in left_over
    assert not any(".part" in name for name in left_over)
    write(tmp_path / "full")
    again = files_in(tmp_path / "full")
    assert {name: again[name] for name in sizes} == sizes


@pytest.fixture(scope="module")
def label_map():
    return noise(1500, 1500, most=2)


def write_labels(out, labels):
    with writing_labels(out, labels.shape, TABLE, PLACE) as file:
        for top in range(0, len(labels), 500):
            file.add(labels[top : top + 500])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.9, 0.99, "a byte"])
def test_label_geotiffs_are_read_back(tmp_path, label_map, share):
    """On the base, GDAL closed some of them without an error: blocks, or overviews, were missing."""
    write_labels(tmp_path / "whole.tif", label_map)
    size = (tmp_path / "whole.tif").stat().st_size
    out = tmp_path / "out" / "labels.tif"
    with (
        no_file_above(size - 1 if share == "a byte" else int(share * size)),
        pytest.raises(OSError, match=r"labels\.tif"),
    ):
        write_labels(out, label_map)
    assert list(out.parent.iterdir()) == []
    write_labels(out, label_map)
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.read(1), label_map)


def test_a_block_that_reads_as_no_data_is_noticed(tmp_path, monkeypatch, label_map):
    monkeypatch.setattr(rasterio.io.DatasetWriter, "build_overviews", lambda *_: None)
    with pytest.raises(OSError, match="cannot be read back"):
        write_labels(tmp_path / "labels.tif", label_map)
    assert list(tmp_path.iterdir()) == []


def test_previews_and_polygons(tmp_path, label_map):
    values = np.stack([noise(1500, 1500)] * 3)[:, :400, :400]
    with rasterio.open(tmp_path / "in.tif", "w", driver="GTiff", count=3, height=400, width=400, dtype="uint8",
                       **PLACE) as file:  # fmt: skip
        file.write(values)
    labels = np.kron(label_map[:40, :40], np.ones((10, 10), np.uint8))
    write_labels(tmp_path / "labels.tif", labels)

    def preview(out):
        with open_raster(tmp_path / "in.tif") as raster:
            write_preview(raster, tmp_path / "labels.tif", out / "preview.jpg", TABLE)

    def polygons(out):
        write_raster_polygons(tmp_path / "labels.tif", out / "polygons.geojson", TABLE)

    for name, write in (("preview.jpg", preview), ("polygons.geojson", polygons), ("polygons.gpkg", polygons)):
        out = tmp_path / name
        out.mkdir()
        write(out)
        size = files_in(out)[name]
        for file in out.iterdir():
            file.unlink()
        with no_file_above(size - 1), pytest.raises(OSError, match="too large|cannot be"):
            write(out)
        assert name not in files_in(out)
        assert not any(".part" in left for left in files_in(out))
        write(out)
        assert files_in(out)[name] == size


@pytest.mark.parametrize("show", ["overlay", "labels"])
@pytest.mark.parametrize("share", [0.0, 0.5, "its end"])
def test_videos(tmp_path, answer, show, share):
    import av

    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise(*SIZE, 3))))
        container.mux(stream.encode())
    name = {"overlay": "out.mp4", "labels": "out.mkv"}[show]

    def write(folder):
        plain = dataclasses.replace(answer, instances=None)
        options = VideoOptions(show=show)
        return predict_video(lambda _: plain, tmp_path / "in.mp4", tmp_path / folder / name, TABLE, options)

    write("whole")
    size = files_in(tmp_path / "whole")[name]
    limit = size - 16 if share == "its end" else int(share * size)  # x264's threads make a few bytes more or less
    with no_file_above(limit), pytest.raises(OSError, match="written"):
        write("full")
    assert files_in(tmp_path / "full") == {}


def test_an_image_that_is_no_jpeg_is_an_error(tmp_path, monkeypatch):
    """On the base, what OpenCV answered was not looked at."""
    from smalti.draw import image_files

    monkeypatch.setattr(image_files.cv2, "imencode", lambda *_: (False, np.zeros(0, np.uint8)))
    with pytest.raises(OSError, match="cannot be encoded as JPEG"):
        image_files.save_drawing(np.zeros((9, 9, 3), np.uint8), tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []
