"""What is written of objects, edges and distances, read again by others."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from faster_coco_eval import mask as rle
from PIL import Image

from smalti.containers import Instances, Predictions
from smalti.labels import LabelSet
from smalti.predict.folder import predict_files
from smalti.predict.writers import ENDINGS, WRITERS, NoSuchAnswerError

LABELS = LabelSet(names=("road", "car"), ids=(7, 26), things=frozenset({"car"}))


@pytest.fixture
def answer():
    ids = np.zeros((40, 60), np.int32)
    ids[5:15, 5:15], ids[20:35, 30:55], ids[0:3, 0:3] = 1, 2, 3
    return Predictions(
        labels=LABELS,
        semantic=torch.from_numpy((ids > 0).astype(np.uint8)),
        edges=torch.full((40, 60), 0.25),
        distances=torch.full((40, 60), 0.75),
        instances=Instances.from_ids(ids, [1, 1, 1], [0.9, 0.5, 0.25]),
    )


def write(kind, answer, out, name="17"):
    writer = WRITERS[kind](out)
    writer.check(answer)
    entry = writer.add(out / "in" / f"{name}.jpg", name, np.full((40, 60, 3), 90, np.uint8), answer)
    writer.finish([] if entry is None else [entry])
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


def test_objects_as_numbers_and_coco_results(answer, tmp_path):
    files = ["17_instances.png", "17_objects.jpg", "images.json", "instances.json"]
    assert write("instances", answer, tmp_path) == files
    image = Image.open(tmp_path / "17_instances.png")
    assert image.mode == "I;16"
    ids = np.array(image)
    assert np.array_equal(ids, answer.instances.ids())
    results = json.loads((tmp_path / "instances.json").read_text())
    assert [r["score"] for r in results] == [0.9, 0.5, 0.25]
    assert {(r["image_id"], r["category_id"]) for r in results} == {(17, 26)}
    assert results[1]["bbox"] == [30, 20, 25, 15]
    for number, result in enumerate(results, start=1):
        assert np.array_equal(rle.decode(result["segmentation"]).astype(bool), ids == number)


@pytest.mark.parametrize("kind", ["instances", "boxes", "panoptic"])
@pytest.mark.parametrize(
    ("names", "ids"),
    [(["street_1"], [1]), (["²"], [1]), (["12"], [12]), (["000000006818", "7"], [6818, 7]), (["0"], [0]),
     (["1", "01", "001", "dog"], [1, 2, 3, 4]), (["5", "dog"], [1, 2]), (["1", "01"], [1, 2]),
     (["9007199254740992"], [1])],
)  # fmt: skip
def test_images_are_numbered_by_one_rule(answer, tmp_path, kind, names, ids):
    """COCO's files are named by their number, with zeros in front; else ids count from 1, and a table explains them."""
    if kind == "boxes":
        answer = dataclasses.replace(answer, instances=dataclasses.replace(answer.instances, masks=None))
    writer = WRITERS[kind](tmp_path)
    image = np.full((40, 60, 3), 90, np.uint8)
    writer.finish([writer.add(tmp_path / "in" / f"{name}.jpg", name, image, answer) for name in names])
    content = json.loads((tmp_path / f"{kind}.json").read_text())
    table = content if kind == "panoptic" else json.loads((tmp_path / "images.json").read_text())
    results = content["annotations"] if kind == "panoptic" else content
    assert list(dict.fromkeys(result["image_id"] for result in results)) == ids
    assert {type(result["image_id"]) for result in results} == {int}
    assert table["images"] == [
        {"id": k, "file_name": f"{name}.jpg", "height": 40, "width": 60} for k, name in zip(ids, names, strict=True)
    ]
    assert [(c["id"], c["name"]) for c in table["categories"]] == [(7, "road"), (26, "car")]


def test_equal_file_names_of_two_folders_are_told_apart(answer, tmp_path):
    writer, image = WRITERS["instances"](tmp_path), np.full((40, 60, 3), 90, np.uint8)
    writer.finish([writer.add(tmp_path / folder / "1.jpg", f"{folder}_1", image, answer) for folder in "ab"])
    table = json.loads((tmp_path / "images.json").read_text())
    assert [(i["id"], i["file_name"]) for i in table["images"]] == [(1, "a/1.jpg"), (2, "b/1.jpg")]


def test_cityscapes_files(answer, tmp_path):
    files = write("cityscapes", answer, tmp_path, "a  city")
    assert files == ["a_city.txt", "a_city_masks/000.png", "a_city_masks/001.png", "a_city_masks/002.png"]
    lines = [line.split() for line in (tmp_path / "a_city.txt").read_text().splitlines()]
    assert [(label, score) for _, label, score in lines] == [("26", "0.900000"), ("26", "0.500000"), ("26", "0.250000")]
    for number, (path, _, _) in enumerate(lines, start=1):
        assert np.array_equal(np.array(Image.open(tmp_path / path)) > 0, answer.instances.ids() == number)


def test_nothing_of_anybody_is_removed(answer, tmp_path):
    (tmp_path / "a_masks").mkdir()
    (tmp_path / "a_masks" / "mine.png").write_bytes(b"precious")
    write("cityscapes", answer, tmp_path, "a")
    assert (tmp_path / "a_masks" / "mine.png").read_bytes() == b"precious"
    photos = [tmp_path / "a.jpg", tmp_path / "a_masks" / "mine.png"]
    with pytest.raises(ValueError, match="lies where answers of a may be written"):
        predict_files(tmp_path, photos, tmp_path, "cityscapes")


def test_boxes(answer, tmp_path):
    found = dataclasses.replace(answer.instances, masks=None)
    boxes_only = Predictions(labels=LABELS, instances=found)
    assert write("boxes", boxes_only, tmp_path) == ["17_boxes.jpg", "boxes.json", "boxes_car.txt", "images.json"]
    results = json.loads((tmp_path / "boxes.json").read_text())
    assert results[1] == {"image_id": 17, "category_id": 26, "bbox": [30, 20, 25, 15], "score": 0.5}
    assert (tmp_path / "boxes_car.txt").read_text().splitlines()[1] == "17 0.500000 31.0 21.0 55.0 35.0"
    with pytest.raises(NoSuchAnswerError, match="boxes only"):
        write("instances", boxes_only, tmp_path)
    with pytest.raises(NoSuchAnswerError, match="classes of pixels"):
        write("labels", boxes_only, tmp_path)


def test_maps_are_drawn(answer, tmp_path):
    assert write("edges", answer, tmp_path) == ["17_edges.jpg"]
    assert "17_distances.jpg" in write("distances", answer, tmp_path)


def test_what_the_network_does_not_know(answer, tmp_path):
    plain = Predictions(labels=LABELS, semantic=answer.semantic)
    for kind in ("difficulty", "edges", "distances", "instances", "cityscapes"):
        with pytest.raises(NoSuchAnswerError, match="does not know"):
            write(kind, plain, tmp_path)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_is_refused_before_it_writes(kind, tmp_path):
    with pytest.raises(NoSuchAnswerError, match="does not know"):
        WRITERS[kind](tmp_path).check(Predictions(labels=LABELS))


def test_more_objects_than_sixteen_bits(answer, tmp_path):
    many = Instances(boxes=torch.zeros(65536, 4), labels=torch.ones(65536, dtype=torch.int64),
                     masks=torch.zeros(65536, 1, 1, dtype=torch.bool))  # fmt: skip
    with pytest.raises(ValueError, match="65536 objects are more than the 65535"):
        write("instances", Predictions(labels=LABELS, semantic=answer.semantic, instances=many), tmp_path)


def test_where_objects_overlap_the_surer_stands():
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, :3], masks[1, 1:] = True, True
    for scores, upper in (([0.9, 0.5], 1), ([0.5, 0.9], 2)):
        found = Instances(boxes=torch.zeros(2, 4), labels=torch.ones(2, dtype=torch.int64), masks=masks,
                          scores=torch.tensor(scores))  # fmt: skip
        assert found.ids()[:, 0].tolist() == [1, upper, upper, 2]
    with pytest.raises(ValueError, match="boxes only"):
        Instances(boxes=torch.zeros(1, 4), labels=torch.ones(1, dtype=torch.int64)).ids()


def test_every_kind_says_what_it_writes():
    assert {".png", "_overlay.jpg", "_instances.png", "_masks", ".txt"} <= set(ENDINGS)
