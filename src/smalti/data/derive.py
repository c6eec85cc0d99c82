"""From samples to the truth that a model asks for; nothing of it is ever stored on the disk."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.tv_tensors import Mask

from smalti.containers import Sample, Size, Targets, stack_padding, stack_semantic
from smalti.data.contract import Dataset, View
from smalti.geometry.distances import Norm, distance_weights, instance_distances
from smalti.geometry.edges import label_edges
from smalti.labels import IGNORED

DERIVED = frozenset({"semantic", "padding", "edges", "distances", "distances_valid", "distance_weights"})


def derive_targets(samples: Sequence[Sample], needs: frozenset[str]) -> Targets:
    """Targets of samples of one size; only what `needs` names is filled in. A missing mask is ignored everywhere."""
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
    }
    return Targets(**{name: rules[name]() for name in needs})


def _edges(sample: Sample) -> Tensor:
    """After augmentation, at the size of the labels: always two pixels wide (spec 1.4)."""
    if sample.semantic is None:
        return torch.full(sample.size, IGNORED, dtype=torch.int64)
    ids = None if sample.instance_ids is None else sample.instance_ids.numpy()
    return torch.from_numpy(label_edges(sample.semantic.numpy(), ids)).to(torch.int64)


def _floats(maps: Mask | None, size: Size) -> Tensor:
    found: Tensor = torch.zeros(size) if maps is None else maps.as_subclass(Tensor)
    return found


def _valid(sample: Sample) -> Tensor:
    """Where a distance is known: nowhere without instances, and not at ignored pixels."""
    if sample.distances is None or sample.semantic is None:
        return torch.zeros(sample.size, dtype=torch.bool)
    known: Tensor = sample.semantic.as_subclass(Tensor) != IGNORED
    return known


class WithDistances(View):
    """Samples with the distances of their things, taken on the whole picture, so that no crop changes them."""

    def __init__(self, dataset: Dataset, norm: Norm) -> None:
        super().__init__(dataset)
        self.norm = norm
        self.key = f"distances-{norm}"
        self.is_thing = np.zeros(IGNORED + 1, bool)
        self.is_thing[: len(self.labels)] = [name in self.labels.things for name in self.labels.names]

    def read(self, index: int) -> Sample:
        """See `Dataset`."""
        sample = self.dataset.read(index)
        if sample.instance_ids is None or sample.semantic is None:
            return sample
        ids = sample.instance_ids.numpy() * self.is_thing[sample.semantic.numpy()]
        distances = instance_distances(ids, self.norm)
        weights = distance_weights(ids, distances, self.norm)
        maps = (Mask(torch.from_numpy(m)) for m in (distances, weights))
        return replace(sample, **dict(zip(("distances", "distance_weights"), maps, strict=True)))
