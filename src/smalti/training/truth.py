"""Whether the training images have the truth that a network learns from: looked up before the first step."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.containers import Sample
from smalti.data.contract import Dataset
from smalti.data.derive import Things, sample_objects
from smalti.labels import IGNORED
from smalti.models.contract import SegmentationModel


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a task learns from."""

    task: str
    is_made_of: frozenset[str]
    """Fields of `Sample`, one of which is needed."""
    what: str
    remedy: str
    is_in: Callable[[Sample, Things], bool]


def _has_classes(sample: Sample, _things: Things) -> bool:
    return sample.semantic is not None and bool((sample.semantic.as_subclass(Tensor) != IGNORED).any())


def _has_numbered_things(sample: Sample, things: Things) -> bool:
    if sample.semantic is None or sample.instance_ids is None:
        return False
    is_object = sample.instance_ids.as_subclass(Tensor) > 0
    return bool((torch.from_numpy(things)[sample.semantic.as_subclass(Tensor).long()] & is_object).any())


def _has_objects(sample: Sample, things: Things) -> bool:
    objects = sample_objects(sample, things)
    return objects is not None and (len(objects) > 0 if objects.crowd is None else not bool(objects.crowd.all()))


CLASSES = Truth(
    task="semantic",
    is_made_of=frozenset({"semantic"}),
    what="classes of pixels",
    remedy="put masks into masks/ or polygons into boxes/",
    is_in=_has_classes,
)
TRUTHS = {
    "semantic": CLASSES,
    "edges": CLASSES,
    "distances": Truth(
        task="distances",
        is_made_of=frozenset({"instance_ids"}),
        what="numbered objects of a class of things",
        remedy="put object numbers into instances/ or polygons into boxes/",
        is_in=_has_numbered_things,
    ),
    "instances": Truth(
        task="boxes",
        is_made_of=frozenset({"instances", "instance_ids"}),
        what="objects of a class of things",
        remedy="put COCO files into boxes/ or object numbers into instances/",
        is_in=_has_objects,
    ),
}
"""By the field of `Targets` that a network needs."""


def check_truth(model: SegmentationModel, train: Dataset, write: Callable[[str], None]) -> None:
    """Refuses a network none of whose tasks has any truth; says which tasks will learn nothing.

    Raises:
        ValueError: If the network learns objects and no class has any, or if all that it needs is missing.
    """
    if model.needs & {"distances", "instances"} and not train.labels.things:
        raise ValueError('this network learns objects, and no class of the data is one of things: mark them with '
                         '"thing": true in labels.json, or train without these tasks (config.tasks)')  # fmt: skip
    needed = [TRUTHS[field] for field in TRUTHS if field in model.needs]
    missing = _missing(needed, train)
    lines = {truth.task: f"no {truth.what} ({truth.remedy})" for truth in needed if truth in missing}
    if needed and all(truth in missing for truth in needed):
        raise ValueError(f"nothing to learn: none of the {len(train)} training images has what this network needs: "
                         f"{'; '.join(lines.values())}")  # fmt: skip
    for task, line in lines.items():
        write(f"note: the task {task} learns nothing, as the {len(train)} training images have {line}; or train "
              "without it (config.tasks)")  # fmt: skip


def _missing(needed: Collection[Truth], train: Dataset) -> list[Truth]:
    """Those in none of the images.

    Images are read in a shuffled order, since sets often begin with those of one kind; mostly one or two suffice.
    """
    things, missing = train.labels.is_thing(), list(dict.fromkeys(needed))
    for index in torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).tolist():
        if not missing:
            break
        annotated = train.annotated(index)
        if any(truth.is_made_of & annotated for truth in missing):
            sample = train.read(index)
            missing = [truth for truth in missing if not truth.is_in(sample, things)]
    return missing
