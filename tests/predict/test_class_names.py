"""Class names of any script where answers are written."""

import json

import numpy as np
import pytest
import rasterio
import torch

from smalti.containers import Instances, Predictions
from smalti.labels import LabelSet
from smalti.predict.label_tiff import writing_labels
from smalti.predict.writers import WRITERS
from smalti.predict.writers.contract import class_file_stems

NAMES = ("道路", "Straße", "طريق", "a/b", "a_b", "A_B", "w" * 300, "道" * 100, 'x:<>|"?*', "dot.")


def test_a_file_of_boxes_for_each_class(tmp_path):
    labels = LabelSet(names=NAMES, things=frozenset(NAMES))
    ids = np.zeros((40, 60), np.int32)
    for k in range(len(NAMES)):
        ids[2:8, 6 * k : 6 * k + 4] = k + 1
    answer = Predictions(
        labels=labels, semantic=torch.zeros(40, 60, dtype=torch.uint8),
        instances=Instances.from_ids(ids, list(range(len(NAMES))), [0.1 * (k + 1) for k in range(len(NAMES))]),
    )  # fmt: skip
    writer = WRITERS["boxes"](tmp_path)
    writer.finish([writer.add(tmp_path / "p.jpg", "p", np.full((40, 60, 3), 90, np.uint8), answer)])
    files = {path.stem.removeprefix("boxes_"): path.read_text() for path in tmp_path.glob("boxes_*.txt")}
    assert sorted(float(text.split()[1]) for text in files.values()) == pytest.approx(
        [0.1 * (k + 1) for k in range(len(NAMES))]
    )
    assert {"道路", "Straße", "طريق", "a_b", "a_b_2", "A_B_3", "dot"} <= files.keys()


def test_plain_names_stay_as_they_are():
    names = ["car", "traffic light", "Straße", "道路"]
    assert class_file_stems(names) == dict(zip(names, names, strict=True))


def test_names_in_a_geotiff(tmp_path):
    labels = LabelSet(names=NAMES)
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(1, 0, 0, 0, -1, 0)}
    with writing_labels(tmp_path / "a.tif", (30, 30), labels, place) as writer:
        writer.add(np.zeros((30, 30), np.uint8))
    with rasterio.open(tmp_path / "a.tif") as source:
        tags = source.tags()
    assert [tags[f"CLASS_{k}"] for k in range(len(NAMES))] == list(NAMES)
    assert LabelSet.from_json(json.loads(tags["LABELS"])).names == NAMES
