"""From samples to the truth that a model asks for; nothing of it is ever stored on the disk."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from skimage.measure import label as label_components
from torch import Tensor
from torchvision.tv_tensors import Mask

from smalti.containers import Instances, Sample, Size, Targets, stack_padding, stack_semantic
from smalti.data.boxes import without_small
from smalti.data.contract import Dataset, View
from smalti.geometry.boxes import object_boxes, object_classes
from smalti.geometry.distances import Norm, distance_weights, instance_distances
from smalti.geometry.edges import label_edges
from smalti.labels import IGNORED

Things = Bool[np.ndarray, "256"]
SMALLEST = 2
"""Pixels on a side of a box that is learned."""
DERIVED = frozenset({"semantic", "padding", "edges", "distances", "distances_valid", "distance_weights", "instances"})


def derive_targets(samples: Sequence[Sample], needs: frozenset[str], is_thing: Things | None = None) -> Targets:
    """Targets of samples of one size; only what `needs` names is filled in. A missing mask is ignored everywhere.

    `is_thing` is the table of the classes, for the objects, see `sample_objects`.
    """
    assert needs <= DERIVED, f"no rule derives {sorted(needs - DERIVED)}"
    assert len({sample.size for sample in samples}) == 1, "samples of one batch have one size"
    size = samples[0].size
    rules: dict[str, Callable[[], Any]] = {
        "semantic": lambda: stack_semantic([sample.semantic for sample in samples], size),
        "padding": lambda: stack_padding([sample.padding for sample in samples], size),
        "edges": lambda: torch.stack([_edges(sample) for sample in samples]),
        "distances": lambda: torch.stack([_floats(sample.distances, size) for sample in samples]),
        "distance_weights": lambda: torch.stack([_floats(sample.distance_weights, size) for sample in samples]),
        "distances_valid": lambda: torch.stack([_valid(sample) for sample in samples]),
        "instances": lambda: tuple(_learned(sample, is_thing) for sample in samples),
    }
    return Targets(**{name: rules[name]() for name in needs})


def _edges(sample: Sample) -> Tensor:
    """After augmentation, at the size of the labels: always two pixels wide (spec 1.4)."""
    if sample.semantic is None:
        return torch.full(sample.size, IGNORED, dtype=torch.int64)
    ids = None if sample.instance_ids is None else sample.instance_ids.numpy()
    edges = torch.from_numpy(label_edges(sample.semantic.numpy(), ids)).to(torch.int64)
    if sample.distances is not None:  # things that are not told apart may have edges anywhere
        edges[(edges == 0) & sample.distances.as_subclass(Tensor).isnan()] = IGNORED
    return edges


def sample_objects(sample: Sample, is_thing: Things | None = None) -> Instances | None:
    """The annotated objects; where none are, what is visible of each, as its box; None if objects are not known.

    With `is_thing` numbered pixels of other classes are no objects, and things that have no number are crowds.
    """
    if sample.instances is not None:
        return sample.instances
    if sample.instance_ids is None or sample.semantic is None:
        return None
    ids, classes = sample.instance_ids.numpy(), sample.semantic.numpy()
    boxes, labels = object_boxes(ids).boxes, object_classes(ids, classes)
    kept = labels != IGNORED if is_thing is None else is_thing[labels]
    boxes, labels, crowds = boxes[kept], labels[kept], 0
    if is_thing is not None and (untold := is_thing[classes] & (ids == 0)).any():
        regions = label_components((classes + np.int32(1)) * untold, background=0)  # type: ignore[no-untyped-call]
        crowd_boxes = object_boxes(regions).boxes
        crowds = len(crowd_boxes)
        boxes = np.concatenate([boxes, crowd_boxes])
        labels = np.concatenate([labels, object_classes(regions, classes)])
    return Instances(
        boxes=torch.from_numpy(boxes[:, [1, 0, 3, 2]]).float(),
        labels=torch.from_numpy(labels),
        crowd=torch.arange(len(labels)) >= len(labels) - crowds if crowds else None,
    )


def _learned(sample: Sample, is_thing: Things | None) -> Instances | None:
    """Not those of less than two pixels on a side."""
    objects = sample_objects(sample, is_thing)
    return None if objects is None else without_small(objects, SMALLEST - 1e-3)


def _floats(maps: Mask | None, size: Size) -> Tensor:
    found: Tensor = torch.zeros(size) if maps is None else maps.as_subclass(Tensor).nan_to_num()
    return found


def _valid(sample: Sample) -> Tensor:
    """Where a distance is known."""
    if sample.distances is None or sample.semantic is None:
        return torch.zeros(sample.size, dtype=torch.bool)
    known: Tensor = sample.semantic.as_subclass(Tensor) != IGNORED
    known &= ~sample.distances.as_subclass(Tensor).isnan()
    return known


class WithDistances(View):
    """Samples with the distances of their things, taken on the whole picture, so that no crop changes them.

    NaN = unknown: things that are not told apart, and objects too small for the norm.

    # DIFFERS: augmentation resizes distances to the nearest pixel like all truth, not bilinearly inside the object
    (spec 1.4); against distances taken anew at the new size the error is the same. Those in pixels (`truncate`, `dwt`)
    stay in pixels of the picture as it was read.
    """

    def __init__(self, dataset: Dataset, norm: Norm) -> None:
        super().__init__(dataset)
        self.norm = norm
        self.is_thing = self.labels.is_thing()

    def read(self, index: int) -> Sample:
        """See `Dataset`."""
        sample = self.dataset.read(index)
        if sample.semantic is None:
            return sample
        things = self.is_thing[sample.semantic.numpy()]
        ids = things * (np.zeros_like(things, np.int32) if sample.instance_ids is None else sample.instance_ids.numpy())
        distances = instance_distances(ids, self.norm)
        weights = distance_weights(ids, distances, self.norm)
        distances[things & (weights == 0)] = np.nan
        maps = (Mask(torch.from_numpy(m)) for m in (distances, weights))
        return replace(sample, **dict(zip(("distances", "distance_weights"), maps, strict=True)))
