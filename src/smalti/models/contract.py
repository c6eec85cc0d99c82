"""What every network of the package promises to the other rooms."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped, UInt
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from smalti.containers import ClassScores, Frame, Outputs, Predictions, Targets
from smalti.labels import LabelSet
from smalti.parts.losses import SemanticLoss


class ObjectLimits(NamedTuple):
    """How many objects of an image a network returns at most, in all and of one class, and the settings of that."""

    total: int
    each_class: int
    settings: str


class SegmentationModel(nn.Module, ABC):
    """A network from unsigned-integer pictures to `Outputs`, with its loss and its decoding.

    `needs` are the fields of `Targets` that `loss` reads; `stride`: pictures are padded to multiples of it before they
    come in, 1 where any size works as it is; `in_channels`: of the pictures.
    """

    config_type: ClassVar[type[Any]]
    training_only: ClassVar[frozenset[str]] = frozenset({"semantic_loss"})
    """Fields of the config that mean nothing once the network is trained."""
    needs: frozenset[str]
    stride: int
    object_limits: ObjectLimits | None = None
    """Of `decode`; None if it returns no objects, or any number of them."""

    def __init__(self, config: Any, labels: LabelSet, mean: Sequence[float], std: Sequence[float]) -> None:
        """`mean` and `std` per channel, for pictures scaled to 0..1; they are saved with the weights."""
        super().__init__()
        self.config = config
        self.labels = labels
        self.in_channels = len(mean)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(tuple(std)).view(1, -1, 1, 1))

    def normalise(
        self, images: Shaped[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The pictures as the encoder's weights expect them: the only place of the package that does this.

        Raises:
            ValueError: If the pictures have another number of channels than the network, or are not unsigned integers.
        """
        if images.shape[1] != self.in_channels:
            raise ValueError(f"this network takes pictures with {self.in_channels} channels, got {images.shape[1]}")
        if images.dtype not in (torch.uint8, torch.uint16):
            raise ValueError(f"pictures come in as uint8 or uint16, got {images.dtype}")
        full = 255.0 if images.dtype == torch.uint8 else 65535.0
        return (images.to(self.mean.dtype) / full - self.mean) / self.std

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The pretrained part, which may learn at a rate of its own: those of `self.encoder`; empty without one."""
        encoder = getattr(self, "encoder", None)
        return list(encoder.parameters()) if isinstance(encoder, nn.Module) else []

    @abstractmethod
    def forward(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """Logits for each task the network knows."""

    @abstractmethod
    def loss(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """The weighted terms, by name; their sum is minimised."""

    def loss_in_words(self) -> str:
        """The loss, for reports."""
        return str(self.config.semantic_loss)

    @abstractmethod
    def decode(self, outputs: Outputs, frames: Sequence[Frame]) -> list[Predictions]:
        """The answer for each picture in the picture's own pixels; reads the config, never weights."""


def to_original(maps: Float[Tensor, "channels height width"], frame: Frame) -> Float[Tensor, "channels height_ width_"]:
    """A dense map of the network brought back to its picture: padding cut off, size undone, bilinear.

    The map may be of the input's size or smaller (SIS-CNN's paper mode answers at its head's size). What a centre crop
    left out is filled with the nearest pixels of the answer.
    """
    height, width = (-(-m * r // p) for m, r, p in zip(maps.shape[-2:], frame.resized, frame.padded, strict=True))
    maps = maps[None, :, :height, :width].float()
    if not frame.cropped:
        return resize(maps, frame.original)[0]
    inside = (min(frame.resized[0], frame.original[0]), min(frame.resized[1], frame.original[1]))
    inner = resize(maps, frame.resized)[..., : inside[0], : inside[1]]
    top, left = (frame.original[0] - inside[0]) // 2, (frame.original[1] - inside[1]) // 2
    bottom, right = frame.original[0] - inside[0] - top, frame.original[1] - inside[1] - left
    return F.pad(inner, [left, right, top, bottom], mode="replicate")[0]


def resize(maps: Float[Tensor, "batch channels _ _"], size: tuple[int, int]) -> Float[Tensor, "batch channels _ _"]:
    """Bilinear, `align_corners=False`, no antialias: the package's convention (spec 0); no work if nothing changes."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def semantic_needs(loss: SemanticLoss) -> frozenset[str]:
    """The fields of `Targets` that `semantic_term` reads for this loss."""
    return frozenset({"semantic"}) if loss.boundary is None else frozenset({"semantic", "padding"})


def semantic_term(
    loss: SemanticLoss, logits: Float[Tensor, "batch classes height width"], targets: Targets
) -> Float[Tensor, ""]:
    """The recipe's semantic loss; where the logits are smaller than the labels, these are brought to their size."""
    assert targets.semantic is not None
    size = tuple(logits.shape[-2:])
    labels, padding = (None if m is None else _nearest(m, size) for m in (targets.semantic, targets.padding))
    assert labels is not None
    return loss(logits, labels, padding)


def _nearest(labels: Shaped[Tensor, "batch _ _"], size: tuple[int, ...]) -> Shaped[Tensor, "batch height width"]:
    if tuple(labels.shape[-2:]) == size:
        return labels
    return F.interpolate(labels[:, None].float(), size, mode="nearest")[:, 0].to(labels.dtype)


def decode_semantic(
    logits: Float[Tensor, "batch classes height width"], frames: Sequence[Frame], labels: LabelSet
) -> list[Predictions]:
    """The most probable class at each picture's size, and how probable the classes are."""
    answers = []
    for one, frame in zip(logits, frames, strict=True):
        scores = ClassScores(to_original(one, frame))
        answers.append(Predictions(labels=labels, semantic=scores.most_probable(), scores=scores))
    return answers


def to_picture(boxes: Float[Tensor, "boxes 4"], frame: Frame) -> Float[Tensor, "boxes 4"]:
    """Corners in shares of the network's input as pixels of the picture, cut at its edges."""
    height, width = frame.padded
    pixels = boxes * boxes.new_tensor([width, height, width, height])
    if frame.cropped:
        down, right = (max(0, o - r) // 2 for o, r in zip(frame.original, frame.resized, strict=True))
        pixels = pixels + pixels.new_tensor([right, down, right, down])
    else:
        by_row, by_column = (o / r for o, r in zip(frame.original, frame.resized, strict=True))
        pixels = pixels * pixels.new_tensor([by_column, by_row, by_column, by_row])
    inside: Tensor = clip_boxes_to_image(pixels, frame.original)
    return inside
