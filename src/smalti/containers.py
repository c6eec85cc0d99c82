"""What flows through the rooms: Sample -> Targets -> Batch -> Outputs -> Predictions.

Said once, for the whole package: sizes are (height, width); pictures are RGB, [channels, height, width], unsigned
integers until the model's first line; boxes are xyxy in float pixels; label ids start at 0 and 255 is "ignored or
unknown"; missing truth is a value (None, or 255), never an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int32, UInt, UInt8
from scipy.ndimage import find_objects
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

from smalti.labels import IGNORED, LabelSet

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Instances:
    """The objects of one picture, field by field in the same order; empty = looked for, and nothing there."""

    boxes: Float[Tensor, "objects 4"]
    labels: Int[Tensor, "objects"]
    masks: Bool[Tensor, "objects height width"] | None = None
    scores: Float[Tensor, "objects"] | None = None
    difficult: Bool[Tensor, "objects"] | None = None
    crowd: Bool[Tensor, "objects"] | None = None
    areas: Float[Tensor, "objects"] | None = None
    """Pixels by which COCO's metrics sort objects by size, where the data says them; None = those of the box."""

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def select(self, kept: Bool[Tensor, "objects"] | Int[Tensor, "selected"]) -> "Instances":
        """Some of the objects: those marked, or those at these places."""
        rows = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: dict[str, Any] = {name: None if value is None else value[kept] for name, value in rows.items()}
        return Instances(**chosen)

    def excused(self) -> Bool[Tensor, "objects"]:
        """Those that are neither to be found nor wrong to find: difficult ones and crowds."""
        none = torch.zeros(len(self), dtype=torch.bool, device=self.labels.device)
        return none if self.difficult is None and self.crowd is None else torch.stack(
            [none if flags is None else flags for flags in (self.difficult, self.crowd)]
        ).any(0)  # fmt: skip

    def ids(self) -> Int32[np.ndarray, "height width"]:
        """The objects as a map of their numbers, 1 to N (0 = none); where two overlap, the surer one stands.

        Raises:
            ValueError: If the objects have no masks.
        """
        if self.masks is None:
            raise ValueError("these objects have boxes only: they cannot be drawn into a map")
        masks = self.masks.cpu().numpy()
        drawn = np.zeros(masks.shape[1:], np.int32)
        order = range(len(self)) if self.scores is None else self.scores.argsort().tolist()
        for k in order:
            drawn[masks[k]] = k + 1
        return drawn

    @classmethod
    def from_ids(
        cls, ids: Int32[np.ndarray, "height width"], labels: Sequence[int], scores: Sequence[float] | None = None
    ) -> "Instances":
        """Objects from a map of their numbers, 1 to N (0 = none); one that has no pixel has an empty box."""
        numbers = torch.from_numpy(ids)
        boxes = torch.zeros((len(labels), 4))
        for k, window in enumerate(find_objects(ids, max_label=len(labels))):
            if window is not None:
                rows, columns = window
                boxes[k] = torch.tensor([columns.start, rows.start, columns.stop, rows.stop])
        return cls(
            boxes=boxes,
            labels=torch.tensor(labels, dtype=torch.int64),
            masks=numbers[None] == torch.arange(1, len(labels) + 1)[:, None, None],
            scores=None if scores is None else torch.tensor(scores, dtype=torch.float32),
        )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture and its truth, as read or as augmented; what is not annotated is None.

    `instance_ids` numbers the visible objects (0 = none). `instances` are objects annotated as boxes, which are
    torchvision's BoundingBoxes; None = boxes are what `instance_ids` shows. `padding` is 1 where no picture is, None =
    nowhere.
    `distances` and `distance_weights` are filled in from the instances where a model needs them. The tensors are
    tv_tensors, so that a torchvision transform of the whole sample moves picture and truth together.
    """

    image: Image
    semantic: Mask | None = None
    instance_ids: Mask | None = None
    instances: Instances | None = None
    distances: Mask | None = None
    distance_weights: Mask | None = None
    padding: Mask | None = None
    name: str = ""

    @property
    def size(self) -> Size:
        """(height, width) of the picture."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])


@dataclass(frozen=True, kw_only=True)
class Frame:
    """How a picture came into the network, so that `decode` can answer in the picture's own pixels.

    The picture of size `original` was resized to `resized` and then padded at its right and bottom to `padded`, the
    size of the network's input. With `fit="crop"` the picture was cut to `resized` around its centre instead.
    """

    original: Size
    resized: Size
    padded: Size
    cropped: bool = False

    @classmethod
    def whole(cls, size: Size) -> "Frame":
        """A picture that enters as it is."""
        return cls(original=size, resized=size, padded=size)


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The truth of a batch, derived after augmentation; only what the model's `needs` names is filled in.

    `instances` has one entry a picture: None = not annotated, empty = annotated and nothing there. `padding` is True
    where no picture is. `distance_weights` are above 0 on the pixels of objects only.
    """

    semantic: Int[Tensor, "batch height width"] | None = None
    edges: Int[Tensor, "batch height width"] | None = None
    distances: Float[Tensor, "batch height width"] | None = None
    distances_valid: Bool[Tensor, "batch height width"] | None = None
    distance_weights: Float[Tensor, "batch height width"] | None = None
    instances: tuple[Instances | None, ...] | None = None
    padding: Bool[Tensor, "batch height width"] | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures of one size, stacked, with their truth and where they came from."""

    images: UInt[Tensor, "batch channels height width"]
    targets: Targets
    frames: tuple[Frame, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.images.shape[0])


class Outputs(NamedTuple):
    """What a network answers: logits, or None where it has no such head; dense maps at the size of its input.

    New kinds of output are added here and nowhere else; the field names are the names of losses, exported outputs,
    JSON keys and metric prefixes.
    """

    semantic: Float[Tensor, "batch classes height width"] | None = None
    edges: Float[Tensor, "batch edge_classes height width"] | None = None
    distances: Float[Tensor, "batch 1 height width"] | None = None
    box_logits: Float[Tensor, "batch boxes classes"] | None = None
    box_offsets: Float[Tensor, "batch boxes 4"] | None = None
    coarse: Float[Tensor, "batch classes height width"] | None = None
    fine: Float[Tensor, "batch classes height width"] | None = None
    attention: Float[Tensor, "batch 1 height width"] | None = None
    deep: tuple[Float[Tensor, "batch classes _ _"], ...] | None = None
    """Classes from inner stages, each at its own size; in training only."""


class ClassScores:
    """How probable each class is at each pixel. Worked out when it is asked for: many want to know the labels only.

    On CPUs by NumPy, class after class: half the time of torch's operations on one core (a thirtieth of its `argmax`),
    and without threads of its own, so that pictures can be decoded side by side.
    """

    def __init__(self, logits: Float[Tensor, "classes height width"]) -> None:
        self._logits: Tensor | None = logits.float()
        self._probabilities: Tensor | None = None

    @classmethod
    def of(cls, probabilities: Float[Tensor, "classes height width"]) -> "ClassScores":
        """Those that are known already, say an average."""
        scores = cls(probabilities)
        scores._logits, scores._probabilities = None, probabilities
        return scores

    def most_probable(self) -> UInt8[Tensor, "height width"]:
        """Each pixel's class, the first of equal ones."""
        logits = self._logits
        maps = self.probabilities if logits is None else logits
        if maps.is_cuda:
            return maps.argmax(0).to(torch.uint8)
        scores = maps.numpy(force=True)
        highest, labels = scores[0].copy(), np.zeros(scores.shape[1:], np.uint8)
        higher = np.empty(highest.shape, bool)
        for k in range(1, len(scores)):
            np.greater(scores[k], highest, out=higher)
            np.maximum(labels, higher.view(np.uint8) * np.uint8(k), out=labels)
            np.maximum(highest, scores[k], out=highest)
        return torch.from_numpy(labels)

    @property
    def probabilities(self) -> Float[Tensor, "classes height width"]:
        """Of all classes; they sum to 1."""
        logits = self._logits
        if self._probabilities is None:
            assert logits is not None
            self._probabilities = _softmax(logits)
            self._logits = None  # not both in memory
        return self._probabilities

    @cached_property
    def confidence(self) -> Float[Tensor, "height width"]:
        """The probability of the most probable class."""
        return self.probabilities.amax(0)


def _softmax(logits: Float[Tensor, "classes height width"]) -> Float[Tensor, "classes height width"]:
    if logits.is_cuda:
        return logits.softmax(0)
    scores = logits.numpy(force=True)
    with np.errstate(invalid="ignore"):  # infinite logits
        shares = scores - scores.max(0)
        np.exp(shares, out=shares)
        shares *= np.reciprocal(shares.sum(0))
    return torch.from_numpy(shares)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The answer for one picture, in that picture's own pixels; None where the model does not know the task.

    Of a cascade: `coarse` and `fine` are the classes that either branch answers by itself, and `difficulty` is the
    probability that `coarse` is wrong.
    """

    labels: LabelSet
    semantic: UInt8[Tensor, "height width"] | None = None
    scores: ClassScores | None = None
    edges: Float[Tensor, "height width"] | None = None
    distances: Float[Tensor, "height width"] | None = None
    coarse: UInt8[Tensor, "height width"] | None = None
    fine: UInt8[Tensor, "height width"] | None = None
    difficulty: Float[Tensor, "height width"] | None = None
    instances: Instances | None = None

    @property
    def probabilities(self) -> Float[Tensor, "classes height width"] | None:
        """Of the classes."""
        return None if self.scores is None else self.scores.probabilities

    @property
    def confidence(self) -> Float[Tensor, "height width"] | None:
        """The probability of the most probable class."""
        return None if self.scores is None else self.scores.confidence


def stack_semantic(masks: Sequence[Mask | None], size: Size) -> Int[Tensor, "batch height width"]:
    """Label maps as one int64 tensor; a picture without a mask is ignored everywhere."""
    missing = torch.full(size, IGNORED, dtype=torch.int64)
    return torch.stack([missing if m is None else m.as_subclass(Tensor).to(torch.int64) for m in masks])


def stack_padding(masks: Sequence[Mask | None], size: Size) -> Bool[Tensor, "batch height width"]:
    """Padding masks as one boolean tensor; a picture without one has no padding."""
    nowhere = torch.zeros(size, dtype=torch.bool)
    return torch.stack([nowhere if m is None else m.as_subclass(Tensor).to(torch.bool) for m in masks])


for _container in (Sample, Instances, Targets, Batch):
    # Without this, torchvision's v2 transforms pass a dataclass through untouched and say nothing.
    torch.export.register_dataclass(_container, serialized_type_name=f"smalti.{_container.__name__}")
