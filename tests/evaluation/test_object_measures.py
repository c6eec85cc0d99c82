"""Objects, edges and distances as they are measured of a split."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.tv_tensors import Image, Mask

from smalti.containers import Instances, Predictions, Sample
from smalti.data.boxes import annotated_boxes
from smalti.evaluation.objects import ObjectMeasures
from smalti.geometry.distances import instance_distances
from smalti.geometry.edges import label_edges
from smalti.labels import LabelSet
from smalti.models.contract import ObjectLimits

LABELS = LabelSet(names=("road", "car"), things=frozenset({"car"}))


def street():
    ids = np.zeros((60, 80), np.int32)
    ids[5:25, 5:35], ids[30:55, 40:75] = 70000, 3
    return ids, (ids > 0).astype(np.uint8)


def sample(ids, classes):
    return Sample(
        image=Image(torch.zeros(3, 60, 80, dtype=torch.uint8)), semantic=Mask(torch.from_numpy(classes)),
        instance_ids=None if ids is None else Mask(torch.from_numpy(ids)), name="a",
    )  # fmt: skip


def perfect(ids, classes):
    return Predictions(
        labels=LABELS, semantic=torch.from_numpy(classes),
        edges=torch.from_numpy(label_edges(classes, ids)).float(),
        distances=torch.from_numpy(instance_distances(ids)),
        instances=Instances.from_ids(np.select([ids == 3, ids > 0], [1, 2]).astype(np.int32), [1, 1], [0.9, 0.8]),
    )  # fmt: skip


def test_perfect_answers():
    ids, classes = street()
    measures = ObjectMeasures(LABELS, "instance")
    measures.update(perfect(ids, classes), sample(ids, classes))
    found = measures.metrics()
    for key in ("edges.ods_f", "instances.ap", "instances.ap50", "instances.cityscapes_ap", "panoptic.pq_things"):
        assert found[key] == pytest.approx(1, abs=1e-6), key
    assert found["distances.mae"] == 0


def many(count, size=(60, 250)):
    """A row of cars after another, without a pixel between two objects' numbers that is not road."""
    ids = np.zeros(size, np.int32)
    for k in range(count):
        top, left = 4 * (k // 60), 4 * (k % 60)
        ids[top : top + 3, left : left + 3] = k + 1
    return ids, (ids > 0).astype(np.uint8)


@pytest.mark.parametrize(("count", "max_objects", "limit"), [(130, None, 130), (3, None, 100), (130, 50, 50)])
def test_the_protocol_names_how_many_objects_count(count, max_objects, limit):
    ids, classes = many(count)
    measures = ObjectMeasures(LABELS, "instance", max_objects)
    assert measures.counted() is None
    answer = Predictions(
        labels=LABELS, semantic=torch.from_numpy(classes),
        instances=Instances.from_ids(ids, [1] * count, np.linspace(0.5, 1, count).tolist()),
    )  # fmt: skip
    truth = replace(sample(ids, classes), image=Image(torch.zeros(3, *ids.shape, dtype=torch.uint8)))
    measures.update(answer, truth)
    counts = measures.counted()
    assert counts.limit == limit
    assert f"at most {limit} objects an image" in counts.protocol()
    assert f"up to {count} true objects" in counts.protocol()
    assert measures.metrics()["instances.ap"] == pytest.approx(min(1, limit / count), abs=0.01)
    assert any("--max-objects raises the limit" in note for note in counts.notes(None)) == (limit < count)
    for network, is_said in ((ObjectLimits(129, 500, "x"), count > 129), (ObjectLimits(500, 50, "x"), count > 50)):
        assert any("1 images have more: raise x" in note for note in counts.notes(network)) == is_said


def test_boxes_that_are_annotated_count_and_not_those_of_the_pixels():
    """Also in a picture without classes; difficult ones are excused."""
    ids, classes = street()
    true = annotated_boxes([(5, 5, 35, 25), (0, 0, 9, 9)], [1, 1], (60, 80), difficult=[False, True])
    answer = Predictions(labels=LABELS, instances=Instances(
        boxes=torch.tensor([[5.0, 5, 35, 25], [0.0, 0, 9, 9]]), labels=torch.tensor([1, 1]),
        scores=torch.tensor([0.8, 0.9]),
    ))  # fmt: skip
    for semantic in (classes, None):
        measures = ObjectMeasures(LABELS, "instance")
        measures.update(answer, replace(sample(ids, classes), instances=true, **({} if semantic is not None else {
            "semantic": None, "instance_ids": None})))  # fmt: skip
        assert measures.metrics()["boxes.map50"] == measures.metrics()["boxes.ap"] == pytest.approx(1)
        drawn = measures.drawings(
            np.zeros((60, 80, 3), np.uint8), answer, replace(sample(ids, classes), instances=true)
        )
        assert [caption for caption, _ in drawn] == ["true boxes: 2", "boxes found of at least 50 %: 2"]


def test_objects_of_stuff_and_things_without_number():
    """A number on the road is no object; a car without one is a crowd, and finding it is not wrong."""
    ids, classes = street()
    answer = perfect(ids, classes)
    ids[58:], ids[30:55, 40:75] = 9, 0
    measures = ObjectMeasures(LABELS, "instance")
    measures.update(answer, sample(ids, classes))
    assert measures.metrics()["instances.ap"] == pytest.approx(1)
    true = measures.true_objects(sample(ids, classes))
    assert true.classes == [1]
    assert np.array_equal(true.ids > 0, ids == 70000)


def test_truth_without_objects_and_answers_without_tasks():
    ids, classes = street()
    measures = ObjectMeasures(LABELS, "instance")
    measures.update(Predictions(labels=LABELS, semantic=torch.from_numpy(classes)), sample(ids, classes))
    assert measures.metrics() == {}
    measures.update(perfect(ids, classes), sample(None, classes))
    assert measures.metrics().keys() == {"edges.ods_f", "edges.precision", "edges.recall", "edges.threshold"}
    assert measures.true_objects(sample(None, classes)) is None
