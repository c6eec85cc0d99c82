"""IvaNet: boxes and classes of all pixels from one pyramid of local top-down modules.

S. Huang and L. Wang, "IvaNet: Learning to Jointly Detect and Segment Objects with the Help of Local Top-Down Modules"
(spec 3). Where the paper is silent, its authors' definition of the modules, BlitzNet (Dvornik, Shmelkov, Mairal, Schmid
2017) and SSD (Liu et al. 2016) fill the gaps, each where it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image

from smalti.containers import Frame, Instances, Outputs, Predictions, Targets
from smalti.labels import LabelSet
from smalti.models.contract import (
    SegmentationModel,
    decode_semantic,
    resize,
    semantic_needs,
    semantic_term,
)
from smalti.parts.boxes.anchors import default_boxes, levels
from smalti.parts.boxes.matching import decode_boxes, encode_boxes, match_boxes
from smalti.parts.convolution import conv_norm_relu, convolve_resized
from smalti.parts.decoders.top_down import Path as TopDownPath
from smalti.parts.decoders.top_down import TopDown
from smalti.parts.encoders.timm_encoder import TimmEncoder
from smalti.parts.heads.box import BoxHead
from smalti.parts.losses import SemanticLoss
from smalti.parts.losses.box import box_loss
from smalti.recipe import AugmentationRecipe, DataRecipe, Recipe, TrainingRecipe

Task = Literal["boxes", "semantic"]
EXTRA = 512
"""Channels of the maps behind the encoder. DIFFERS: BlitzNet's are 2048 wide, too slow for the paper's speed."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Which boxes are answered; PAPER is silent, these are BlitzNet's numbers."""

    confidence: float = 0.01
    """Least probability of a box."""
    candidates: int = 400
    """Of each class, the most probable, before overlapping ones are removed."""
    overlap: float = 0.45
    """IoU from which the less probable of two boxes of a class is removed."""
    each_class: int = 50
    total: int = 200


@dataclass(frozen=True, kw_only=True)
class Config:
    """The network's shape; the defaults are the paper's."""

    tasks: tuple[Task, ...] = ("boxes", "semantic")
    size: Literal[300, 512] = 300
    """Number of maps (6 or 7) and sizes of default boxes. Pictures of any size can be answered: both follow."""
    encoder: str = "resnet50"
    in_channels: int = 3
    top_down: TopDownPath = "local"
    """`local`: from the next two coarser maps (PAPER); `one`: from the next; `full`: from all; `none` (IvaNet_NO)."""
    anchors: Literal["blitz", "ssd"] = "blitz"
    width: int = 384
    """Channels of each enriched map. PAPER."""
    pcm_width: int = 256
    """Channels of the pyramid context. UNCLEAR: chosen so that its time is what the paper's frame rates leave."""
    pcm_reduce: Literal[64] | None = None
    """1x1 convolutions to so many channels before the pyramid context, as in BlitzNet's head."""
    pcm_levels: int | None = None
    """How many maps, from the finest, the pyramid context joins; None = all."""
    segmentation_weight: float = 1.0
    segmentation_loss_size: Literal["input", "head"] = "input"
    """Where the pixels' loss is taken: at the picture's size, or at the head's with the nearest labels (BlitzNet)."""
    detection: Detection = Detection()
    semantic_loss: SemanticLoss = SemanticLoss()

    def __post_init__(self) -> None:
        """Raises ValueError for tasks or numbers that make no network."""
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f'tasks must be "boxes", "semantic" or both, got {self.tasks}')
        maps = len(levels(self.anchors, self.size))
        if self.pcm_levels is not None and not 1 <= self.pcm_levels <= maps:
            raise ValueError(f"pcm_levels must be 1 to {maps} at size {self.size}, got {self.pcm_levels}")


class IvaNet(SegmentationModel):
    """An encoder's last three maps, three or four smaller ones, local top-down modules, and two heads on them."""

    config_type = Config
    training_only = SegmentationModel.training_only | {"segmentation_weight", "segmentation_loss_size"}

    def __init__(self, config: Config, labels: LabelSet, encoder_weights: str | Path | None = None) -> None:
        """`encoder_weights`: None = random, "imagenet", or a file.

        Raises:
            ValueError: For an encoder that does not exist or has too few maps, or boxes without things in the labels.
        """
        encoder = TimmEncoder(config.encoder, in_channels=config.in_channels, weights=encoder_weights)
        super().__init__(config, labels, encoder.mean, encoder.std)
        if encoder.reductions[-3:] != (8, 16, 32):
            raise ValueError(f'IvaNet needs maps of strides 8, 16 and 32; "{config.encoder}" has {encoder.reductions}')
        self.things = tuple(k for k, name in enumerate(labels.names) if name in labels.things)
        if "boxes" in config.tasks and not self.things:
            raise ValueError('boxes are of things, and no class of the data is one: "thing": true in its labels.json')
        own = {"boxes": frozenset({"instances", "padding"}), "semantic": semantic_needs(config.semantic_loss)}
        self.needs = frozenset().union(*(own[task] for task in config.tasks))
        self.stride = 1
        self.encoder = encoder
        self.levels = levels(config.anchors, config.size)
        extras = len(self.levels) - 4  # behind the encoder's three maps, and before the last, which is one pixel
        inputs = (encoder.channels[-1], *[EXTRA] * (extras - 1))
        self.extras = nn.ModuleList(_smaller(into) for into in inputs)
        self.top_down = TopDown(
            (*encoder.channels[-3:], *[EXTRA] * (extras + 1)), path=config.top_down, width=config.width
        )
        if "boxes" in config.tasks:
            self.box_head = BoxHead(config.width, 1 + len(self.things), [level.count for level in self.levels])
        if "semantic" in config.tasks:
            self.context = PyramidContext(config, len(labels))

    def forward(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """Classes and offsets of the default boxes; classes of the pixels."""
        maps = self.encoder(self.normalise(images))[-3:]
        for smaller in self.extras:
            maps.append(smaller(maps[-1]))
        maps.append(maps[-1].mean((2, 3), keepdim=True))
        pyramid = self.top_down(maps)
        outputs = Outputs()
        if "boxes" in self.config.tasks:
            logits, offsets = self.box_head(pyramid)
            outputs = outputs._replace(box_logits=logits, box_offsets=offsets)
        if "semantic" in self.config.tasks:
            size = (int(images.shape[-2]), int(images.shape[-1]))
            semantic = self.context(pyramid)
            small = self.training and self.config.segmentation_loss_size == "head"
            outputs = outputs._replace(semantic=semantic if small else resize(semantic, size))
        return outputs

    def default_boxes(self, size: tuple[int, int]) -> Float[Tensor, "boxes 4"]:
        """Of a picture of that size, in shares of it."""
        sizes, one = [], (1, 1)
        height, width = size
        for k in range(len(self.levels) + 1):
            height, width = -(-height // 2), -(-width // 2)
            if k >= 2:
                sizes.append((height, width))
        return default_boxes(self.levels, (*sizes[: len(self.levels) - 1], one))

    def loss(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Classes and offsets of the boxes (spec 3.4), and W times the classes of the pixels."""
        terms: dict[str, Tensor] = {}
        if outputs.box_logits is not None:
            terms |= self._box_terms(outputs, targets)
        if outputs.semantic is not None:
            assert targets.semantic is not None
            head = tuple(outputs.semantic.shape[-2:])
            if head != tuple(targets.semantic.shape[-2:]):
                nearest = F.interpolate(targets.semantic[:, None].float(), head, mode="nearest-exact")[:, 0].long()
                targets = replace(targets, semantic=nearest, padding=None)
            term = semantic_term(self.config.semantic_loss, outputs.semantic, targets)
            terms["semantic"] = self.config.segmentation_weight * term
        return terms

    def _box_terms(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        assert outputs.box_logits is not None
        assert outputs.box_offsets is not None
        assert targets.instances is not None
        device = outputs.box_logits.device
        known = torch.tensor([one is not None for one in targets.instances], device=device)
        size = _input_size(targets)
        defaults = self.default_boxes(size).to(device)
        objects, classes, there = self._objects(targets.instances, size, device)
        owner = match_boxes(defaults, objects, there)
        rows = torch.arange(len(owner), device=device)[:, None]
        matched = owner.clamp(min=0)
        true_offsets = encode_boxes(objects[rows, matched], defaults)
        true_classes = torch.where(owner >= 0, classes[rows, matched], 0)
        surprise, distance = box_loss(outputs.box_logits, outputs.box_offsets, true_classes, true_offsets, known)
        return {"box_classes": surprise, "box_offsets": distance}

    def _objects(
        self, instances: Sequence[Instances | None], size: tuple[int, int], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes in shares of the picture, classes from 1 (0 = none), and which are there; as many for each picture."""
        table = torch.zeros(256, dtype=torch.int64)
        table[list(self.things)] = torch.arange(1, len(self.things) + 1)
        most = max((len(one) for one in instances if one is not None), default=0)
        boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(instances), max(most, 1), 1)
        classes = torch.zeros(len(instances), max(most, 1), dtype=torch.int64)
        share = torch.tensor([size[1], size[0], size[1], size[0]])
        for k, one in enumerate(instances):
            if one is not None and len(one):
                boxes[k, : len(one)] = one.boxes.cpu() / share
                classes[k, : len(one)] = table[one.labels.cpu()]
        return boxes.to(device), classes.to(device), (classes > 0).to(device)

    def decode(self, outputs: Outputs, frames: Sequence[Frame]) -> list[Predictions]:
        """Classes of the pixels, and boxes with classes and scores; both in the picture's own pixels."""
        if outputs.semantic is not None:
            answers = decode_semantic(outputs.semantic, frames, self.labels)
        else:
            answers = [Predictions(labels=self.labels) for _ in frames]
        if outputs.box_logits is None or outputs.box_offsets is None:
            return answers
        defaults = self.default_boxes(frames[0].padded).to(outputs.box_logits.device)
        return [
            replace(answer, instances=self._found(logits.float(), offsets.float(), defaults, frame))
            for answer, logits, offsets, frame in zip(
                answers, outputs.box_logits, outputs.box_offsets, frames, strict=True
            )
        ]

    def _found(self, logits: Tensor, offsets: Tensor, defaults: Tensor, frame: Frame) -> Instances:
        rules = self.config.detection
        scores = logits.softmax(-1)[:, 1:].T
        best, places = scores.topk(min(rules.candidates, scores.shape[1]), dim=1)
        kind, rank = (best > rules.confidence).nonzero(as_tuple=True)
        best, places = best[kind, rank], places[kind, rank]
        boxes = to_picture(decode_boxes(offsets[places], defaults[places]), frame)
        kept = batched_nms(boxes, best, kind, rules.overlap)  # the most probable first
        earlier = torch.cumsum(F.one_hot(kind[kept], len(self.things)), 0).gather(1, kind[kept, None])[:, 0]
        kept = kept[earlier <= rules.each_class][: rules.total]
        labels = torch.tensor(self.things, device=logits.device)[kind[kept]]
        return Instances(boxes=boxes[kept], labels=labels, scores=best[kept])


def to_picture(boxes: Float[Tensor, "boxes 4"], frame: Frame) -> Float[Tensor, "boxes 4"]:
    """Corners in shares of the network's input as pixels of the picture, cut at its edges."""
    height, width = frame.padded
    pixels = boxes * boxes.new_tensor([width, height, width, height])
    if frame.cropped:
        down, right = ((o - r) // 2 for o, r in zip(frame.original, frame.resized, strict=True))
        pixels = pixels + pixels.new_tensor([right, down, right, down])
    else:
        by_row, by_column = (o / r for o, r in zip(frame.original, frame.resized, strict=True))
        pixels = pixels * pixels.new_tensor([by_column, by_row, by_column, by_row])
    inside: Tensor = clip_boxes_to_image(pixels, frame.original)
    return inside


def _input_size(targets: Targets) -> tuple[int, int]:
    """Of the pictures of a batch, which `padding` has."""
    assert targets.padding is not None
    return int(targets.padding.shape[-2]), int(targets.padding.shape[-1])


class PyramidContext(nn.Module):
    """All maps at the size of the first, a 3x3 convolution of them, and one to the classes."""

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        count = config.pcm_levels or len(levels(config.anchors, config.size))
        reduce = config.pcm_reduce
        self.reduce = nn.ModuleList()
        if reduce is not None:
            self.reduce.extend(conv_norm_relu(config.width, reduce) for _ in range(count))
        joint = count * (config.pcm_reduce or config.width)
        self.count = count
        self.join = nn.Conv2d(joint, config.pcm_width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(config.pcm_width)
        self.classify = nn.Conv2d(config.pcm_width, classes, 3, padding=1)

    def forward(self, pyramid: Sequence[Float[Tensor, "batch _ _ _"]]) -> Float[Tensor, "batch classes _ _"]:
        """Logits at the size of the first map."""
        maps = list(pyramid[: self.count])
        if self.reduce:
            maps = [reduce(m) for reduce, m in zip(self.reduce, maps, strict=True)]
        size = (int(maps[0].shape[-2]), int(maps[0].shape[-1]))
        joined = F.relu(self.norm(convolve_resized(self.join.weight, maps, size)))
        answer: Tensor = self.classify(joined)
        return answer


def _smaller(into: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm_relu(into, EXTRA // 2),
        nn.Conv2d(EXTRA // 2, EXTRA, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(EXTRA),
        nn.ReLU(inplace=True),
    )


def scenes() -> Recipe:
    """Procedural street scenes on two cores: boxes and classes from one network. Not measured yet."""
    return Recipe(
        name="ivanet.scenes",
        model="ivanet",
        config=Config(encoder="tf_efficientnet_lite0", width=128, pcm_width=96),
        data=DataRecipe(set="scenes", options={"train_length": 2048}),
        weights="imagenet",
        augmentation=AugmentationRecipe(scale=(0.75, 1.5), brightness=0.3, contrast=0.3, saturation=0.3),
        training=TrainingRecipe(
            epochs=4, batch=8, learning_rate=1e-3, encoder_learning_rate=5e-4, warmup=100, clip=5.0, ema=0.99,
            validate_every=2,
        ),
    )  # fmt: skip


REPORTED: dict[str, dict[str, float]] = {}
"""The paper's tables belong to recipes for VOC and COCO, which are not here yet."""
