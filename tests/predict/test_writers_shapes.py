"""Probabilities, panoptic maps and polygons, read again by others."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from PIL import Image
from rasterio.features import rasterize

from smalti.containers import ClassScores, Instances, Predictions
from smalti.data.sets.coco import Coco
from smalti.labels import LabelSet
from smalti.predict.writers import ENDINGS, WRITERS, NoSuchAnswerError, kinds_of
from smalti.predict.writers.polygons import feature_collection

LABELS = LabelSet(names=("road", "car", "sky"), ids=(7, 26, 23), things=frozenset({"car"}))
SIZE = (40, 60)


@pytest.fixture
def answer():
    ids = np.zeros(SIZE, np.int32)
    ids[5:15, 5:15], ids[20:35, 30:55] = 1, 2
    semantic = (ids > 0).astype(np.uint8)
    semantic[:5] = 2
    semantic[38:, 50:] = 1  # a car of no object: void
    semantic[39, 0] = 255
    probabilities = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0)).softmax(0)
    return Predictions(
        labels=LABELS,
        semantic=torch.from_numpy(semantic),
        scores=ClassScores.of(probabilities),
        instances=Instances.from_ids(ids, [1, 1], [0.9, 0.25]),
    )


def write(kind, answers, out, names):
    writer = WRITERS[kind](out)
    out.mkdir(exist_ok=True)
    picture = np.full((*SIZE, 3), 90, np.uint8)
    for answer in answers:
        writer.check(answer)
    entries = [writer.add(out / f"{n}.jpg", n, picture, a) for n, a in zip(names, answers, strict=True)]
    writer.finish([entry for entry in entries if entry is not None])
    return sorted(p.name for p in out.iterdir())


def test_probabilities_as_numpy(answer, tmp_path):
    assert write("probabilities", [answer], tmp_path, ["a"]) == ["a_probabilities.npy", "classes.json"]
    found = np.load(tmp_path / "a_probabilities.npy")
    assert found.dtype == np.float16
    assert np.abs(found - answer.probabilities.numpy()).max() <= 2**-12  # half of the last bit below 1
    assert LabelSet.read(tmp_path / "classes.json") == LABELS


def test_probabilities_as_zarr(answer, tmp_path):
    for _ in range(2):  # the second replaces the first
        assert write("zarr", [answer], tmp_path, ["a"]) == ["a_probabilities.zarr"]
    found = zarr.open_array(tmp_path / "a_probabilities.zarr", mode="r")
    assert np.array_equal(found[:], answer.probabilities.half().numpy())
    assert LabelSet.from_json(found.attrs["classes"]) == LABELS


def test_without_zarr(answer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(NoSuchAnswerError, match=r'pip install "smalti\[geo\]"'):
        write("zarr", [answer], tmp_path, ["a"])


def test_panoptic_files_are_read_as_cocos(answer, tmp_path):
    """Oracle: the reader of COCO's own files, which refuses segments that are not listed."""
    out = tmp_path / "out"
    names = ["000000000009", "12"]
    assert write("panoptic", [answer, answer], out, names) == [
        "000000000009_panoptic.png", "000000000009_panoptic_overlay.jpg",
        "12_panoptic.png", "12_panoptic_overlay.jpg", "panoptic.json",
    ]  # fmt: skip
    root = tmp_path / "coco"
    maps = root / "annotations" / "panoptic_train2017"
    maps.mkdir(parents=True)
    (root / "train2017").mkdir()
    (root / "annotations" / "panoptic_train2017.json").write_bytes((out / "panoptic.json").read_bytes())
    for name in names:
        (maps / f"{name}.png").write_bytes((out / f"{name}_panoptic.png").read_bytes())
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(root / "train2017" / f"{name}.jpg")
    dataset = Coco(root, semantic="panoptic")
    sample = dataset.read(1)
    void = (sample.semantic == 255).numpy()
    names_found = np.array(dataset.labels.names)[sample.semantic.numpy().clip(max=2)]
    names_wanted = np.array(LABELS.names)[answer.semantic.numpy().clip(max=2)]
    assert np.array_equal(names_found[~void], names_wanted[~void])
    left_out = np.zeros(SIZE, bool)
    left_out[38:, 50:] = left_out[39, 0] = True
    assert np.array_equal(void, left_out)
    assert len(np.unique(sample.instance_ids)) == 3  # none, and two cars


def test_panoptic_lists_areas_and_boxes(answer, tmp_path):
    """By hand."""
    write("panoptic", [answer], tmp_path, ["b"])
    content = json.loads((tmp_path / "panoptic.json").read_text())
    assert [(c["id"], c["isthing"]) for c in content["categories"]] == [(7, 0), (26, 1), (23, 0)]
    (annotation,) = content["annotations"]
    assert content["images"] == [{"id": 1, "file_name": "b.jpg", "height": 40, "width": 60}]
    assert annotation["image_id"] == 1
    found = {(s["category_id"], s["area"], tuple(s["bbox"])) for s in annotation["segments_info"]}
    road = 40 * 60 - 5 * 60 - 10 * 10 - 15 * 25 - 2 * 10 - 1
    assert found == {
        (7, road, (0, 5, 60, 35)), (23, 300, (0, 0, 60, 5)), (26, 100, (5, 5, 10, 10)), (26, 375, (30, 20, 25, 15)),
    }  # fmt: skip
    assert {s["iscrowd"] for s in annotation["segments_info"]} == {0}


@pytest.mark.parametrize("objects", [True, False])
def test_polygons_filled_again_are_the_answer(answer, tmp_path, objects):
    """Oracle: GDAL."""
    if not objects:
        answer = Predictions(labels=LABELS, semantic=answer.semantic)
    assert write("polygons", [answer], tmp_path, ["a"]) == ["a.geojson"]
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert "y down" in content["properties"]["coordinates"]
    features = content["features"]
    back = rasterize([(f["geometry"], f["properties"]["category_id"]) for f in features], out_shape=SIZE, fill=0)
    wanted = np.array([*LABELS.ids, 0])[np.minimum(answer.semantic.numpy(), 3)]
    if objects:
        wanted[38:, 50:] = 0
    assert np.array_equal(back, wanted)
    for feature in features:
        assert feature["properties"]["area"] == rasterize([feature["geometry"]], out_shape=SIZE).sum()
    said = [(f["properties"]["class"], f["properties"]["object"], f["properties"]["score"]) for f in features]
    if objects:
        road, sky = (pytest.approx(float(answer.confidence[answer.semantic == k].mean()), abs=1e-5) for k in (0, 2))
        assert said == [("road", None, road), ("car", 1, 0.9), ("car", 2, 0.25), ("sky", None, sky)]
    else:
        assert said == [("road", None, None), ("car", None, None), ("sky", None, None)]


@pytest.mark.parametrize("transform", [None, (2, 0, 500, 0, -2, 9000), (0, 3, 1, 3, 0, 2)])
def test_rings_turn_as_the_standard_says(answer, transform):
    """RFC 7946: outer rings counterclockwise. Oracle: the shoelace formula, and areas by the map's scale."""
    content = feature_collection(answer, transform=transform, crs=None if transform is None else "EPSG:32633")
    scale = 1 if transform is None else abs(transform[0] * transform[4] - transform[1] * transform[3])
    assert content["properties"]["coordinates"].startswith("pixels" if transform is None else "EPSG:32633")
    for feature in content["features"]:
        found, geometry = 0.0, feature["geometry"]
        for polygon in geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]:
            for k, ring in enumerate(polygon):
                (x, y), points = np.array(ring[:-1]).T, len(ring) - 1
                assert ring[0] == ring[-1]
                area = sum(x[i] * y[(i + 1) % points] - x[(i + 1) % points] * y[i] for i in range(points)) / 2
                assert area < 0 if k else area > 0
                found += area
        assert found == pytest.approx(feature["properties"]["area"] * scale)


def test_what_a_network_must_know(answer, tmp_path):
    plain = Predictions(labels=LABELS, semantic=answer.semantic)
    for kind in ("probabilities", "zarr", "panoptic"):
        with pytest.raises(NoSuchAnswerError, match="does not know"):
            write(kind, [plain], tmp_path, ["a"])


def test_kinds_by_name():
    assert kinds_of("both") == ("labels", "overlay")
    assert kinds_of("overlay, edges,both") == kinds_of(["overlay", "edges", "labels"]) == ("overlay", "edges", "labels")
    with pytest.raises(ValueError, match='"panoptik" is not known .did you mean "panoptic"'):
        kinds_of("overlay,panoptik")
    with pytest.raises(ValueError, match='"" is not known; known: both, labels'):
        kinds_of("")
    assert len(set(ENDINGS)) == sum(len(make(Path()).endings) for make in WRITERS.values())  # none is of two kinds
