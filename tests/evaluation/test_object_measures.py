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
