"""IvaNet: boxes and classes of all pixels from one pyramid of local top-down modules.

S. Huang and L. Wang, "IvaNet: Learning to Jointly Detect and Segment Objects with the Help of Local Top-Down Modules"
(spec 3). Where the paper is silent, its authors' definition of the modules, BlitzNet (Dvornik, Shmelkov, Mairal, Schmid
2017) and SSD (Liu et al. 2016) fill the gaps, each where it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, UInt
from torch import Tensor, nn

from smalti.containers import Frame, Instances, Outputs, Predictions, Targets
from smalti.labels import LabelSet
from smalti.models.contract import (
    ObjectLimits,
    SegmentationModel,
    decode_semantic,
    resize,
    semantic_needs,
    semantic_term,
    to_picture,
)
from smalti.parts.boxes.anchors import Layout, default_boxes, levels
from smalti.parts.boxes.matching import corners, decode_boxes, encode_boxes, inside_any, match_boxes
from smalti.parts.boxes.select import STANDARD, Detection, select_boxes
from smalti.parts.context.pyramid_context import PyramidContext
from smalti.parts.context.pyramid_pooling import PyramidPooling
from smalti.parts.decoders.top_down import Path as TopDownPath
from smalti.parts.decoders.top_down import TopDown
from smalti.parts.encoders.smaller_maps import SmallerMaps
from smalti.parts.encoders.timm_encoder import TimmEncoder
from smalti.parts.heads.box import BoxHead
from smalti.parts.losses import SemanticLoss
from smalti.parts.losses.box import box_loss
from smalti.recipe import Ablation, AugmentationRecipe, DataRecipe, InputPolicy, Recipe, TrainingRecipe, Variant

Task = Literal["boxes", "semantic"]
EXTRA = 512
"""Channels of the maps behind the encoder. DIFFERS: BlitzNet's are 2048 wide, too slow for the paper's speed."""


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
    anchors: Layout = "blitz"
    """`ssd`: Liu et al.'s for VOC, `ssd_coco` for COCO at 300."""
    width: int = 384
    """Channels of each enriched map. PAPER."""
    context: Literal["levels", "pooling"] = "levels"
    """What the pixels' head sees: all levels joined (PAPER), or the first one and pooled regions of it (PSPNet)."""
    pcm_width: int = 256
    """Channels of the context. UNCLEAR: chosen so that its time is what the paper's frame rates leave."""
    pcm_reduce: Literal[64] | None = None
    """1x1 convolutions to so many channels before the pyramid context, as in BlitzNet's head."""
    pcm_levels: int | None = None
    """How many maps, from the finest, the pyramid context joins; None = all."""
    segmentation_stride: Literal[8, 4] = 8
    """Of the pixels' head; only where it joins levels."""
    segmentation_weight: float = 1.0
    segmentation_loss_size: Literal["input", "head"] = "input"
    """Where the pixels' loss is taken: at the picture's size, or at the head's with the nearest labels (BlitzNet)."""
    detection: Detection = STANDARD
    semantic_loss: SemanticLoss = SemanticLoss()

    def __post_init__(self) -> None:
        """Raises ValueError for tasks or numbers that make no network."""
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f'tasks must be "boxes", "semantic" or both, got {self.tasks}')
        if self.context == "pooling" and self.segmentation_stride != 8:
            raise ValueError('segmentation_stride=4 is for context="levels"')
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
            raise ValueError('boxes are of things, and no class is one: "thing": true in labels.json of your data, or '
                             'classes=LabelSet(names=…, things=…)')  # fmt: skip
        own = {"boxes": frozenset({"instances", "padding"}), "semantic": semantic_needs(config.semantic_loss)}
        self.needs = frozenset().union(*(own[task] for task in config.tasks))
        limit = config.detection
        self.object_limits = ObjectLimits(limit.total, min(limit.each_class, limit.candidates), "config.detection")
        self.stride = 1
        self.encoder = encoder
        self.levels = levels(config.anchors, config.size)
        extras = len(self.levels) - 4  # behind the encoder's three maps, and before the last, which is one pixel
        self.extras = SmallerMaps(encoder.channels[-1], EXTRA, extras)
        self.top_down = TopDown(
            (*encoder.channels[-3:], *[EXTRA] * (extras + 1)), path=config.top_down, width=config.width
        )
        if "boxes" in config.tasks:
            self.box_head = BoxHead(config.width, 1 + len(self.things), [level.count for level in self.levels])
        if "semantic" in config.tasks:
            self.context = _context(config, len(self.levels))
            self.classify = nn.Conv2d(config.pcm_width, len(labels), 3, padding=1)

    def forward(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """Classes and offsets of the default boxes; classes of the pixels."""
        maps = self.encoder(self.normalise(images))[-3:]
        pyramid = self.top_down([*maps, *self.extras(maps[-1])])
        outputs = Outputs()
        if "boxes" in self.config.tasks:
            logits, offsets = self.box_head(pyramid)
            outputs = outputs._replace(box_logits=logits, box_offsets=offsets)
        if "semantic" in self.config.tasks:
            semantic = self.classify(self.context(pyramid if self.config.context == "levels" else pyramid[0]))
            small = self.training and self.config.segmentation_loss_size == "head"
            outputs = outputs._replace(
                semantic=semantic if small else resize(semantic, (images.shape[-2], images.shape[-1]))
            )
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

    def _defaults_of(self, outputs: Outputs, size: tuple[int, int]) -> Float[Tensor, "boxes 4"]:
        """The default boxes that the answers are about."""
        assert outputs.box_logits is not None
        defaults = self.default_boxes(size)
        if len(defaults) != outputs.box_logits.shape[1]:
            raise ValueError(f"the maps of {self.config.encoder} at {size[0]}x{size[1]} are smaller than their strides "
                             "say: multiples of 32 fit, --set input.fit=stretch --set input.size=320,320")  # fmt: skip
        return defaults.to(outputs.box_logits.device)

    def loss(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Classes and offsets of the boxes (spec 3.4), and W times the classes of the pixels."""
        terms: dict[str, Tensor] = {}
        if outputs.box_logits is not None:
            terms |= self._box_terms(outputs, targets)
        if outputs.semantic is not None:
            weight = self.config.segmentation_weight
            terms["semantic"] = weight * semantic_term(self.config.semantic_loss, outputs.semantic, targets)
        return terms

    def loss_in_words(self) -> str:
        """For reports."""
        pixels = f"{self.config.segmentation_weight:g} pixels; of pixels: {super().loss_in_words()}"
        boxes = "1 classes of boxes + 1 offsets of boxes"
        return " + ".join(text for task, text in (("boxes", boxes), ("semantic", pixels)) if task in self.config.tasks)

    def _box_terms(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        assert outputs.box_logits is not None
        assert outputs.box_offsets is not None
        assert targets.instances is not None
        device = outputs.box_logits.device
        assert targets.padding is not None  # which is as large as the pictures
        size = (int(targets.padding.shape[-2]), int(targets.padding.shape[-1]))
        defaults = self._defaults_of(outputs, size)
        objects, classes, there = self._objects(targets.instances, size, device)
        owner = match_boxes(defaults, objects, there)
        picture, box = (owner >= 0).nonzero(as_tuple=True)
        matched = owner[picture, box]
        true_classes = torch.zeros_like(owner)
        true_classes[picture, box] = classes[picture, matched]
        true_offsets = encode_boxes(objects[picture, matched], defaults[box])
        counted = self._counted(targets.instances, corners(defaults), size)
        class_loss, offset_loss = box_loss(outputs.box_logits, outputs.box_offsets, true_classes, true_offsets, counted)
        return {"box_classes": class_loss, "box_offsets": offset_loss}

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
                boxes[k, : len(one)] = one.boxes.as_subclass(Tensor).cpu() / share
                classes[k, : len(one)] = table[one.labels.cpu()]
                if one.crowd is not None:
                    classes[k, : len(one)] *= ~one.crowd.cpu()
        return boxes.to(device), classes.to(device), (classes > 0).to(device)

    def _counted(
        self, instances: Sequence[Instances | None], defaults: Float[Tensor, "boxes 4"], size: tuple[int, int]
    ) -> Bool[Tensor, "batch boxes"]:
        """Where it is known that nothing is if nothing is annotated: in annotated pictures, outside crowds."""
        counted = torch.ones(len(instances), len(defaults), dtype=torch.bool, device=defaults.device)
        for k, one in enumerate(instances):
            if one is None:
                counted[k] = False
            elif one.crowd is not None and one.crowd.any():
                crowds = one.boxes.as_subclass(Tensor)[one.crowd].to(defaults.device)
                counted[k] = ~inside_any(defaults, crowds / defaults.new_tensor([size[1], size[0]] * 2))
        return counted

    def decode(self, outputs: Outputs, frames: Sequence[Frame]) -> list[Predictions]:
        """Classes of the pixels, and boxes with classes and scores; both in the picture's own pixels."""
        answers = [Predictions(labels=self.labels) for _ in frames]
        if outputs.semantic is not None:
            answers = decode_semantic(outputs.semantic, frames, self.labels)
        if outputs.box_logits is None or outputs.box_offsets is None:
            return answers
        defaults = self._defaults_of(outputs, frames[0].padded)
        return [
            replace(answer, instances=self._found(logits.float(), offsets.float(), defaults, frame))
            for answer, logits, offsets, frame in zip(
                answers, outputs.box_logits, outputs.box_offsets, frames, strict=True
            )
        ]

    def _found(self, logits: Tensor, offsets: Tensor, defaults: Tensor, frame: Frame) -> Instances:
        probabilities = logits.softmax(-1)[:, 1:].T.contiguous()
        boxes = to_picture(decode_boxes(offsets, defaults), frame)
        places, kinds = select_boxes(boxes, probabilities, self.config.detection)
        labels = torch.tensor(self.things, device=logits.device)[kinds]
        return Instances(boxes=boxes[places], labels=labels, scores=probabilities[kinds, places])


def _context(config: Config, maps: int) -> PyramidContext | PyramidPooling:
    if config.context == "pooling":
        return PyramidPooling(config.width, config.pcm_width, config.width // 4, kernel=3)
    finer = 8 // config.segmentation_stride
    return PyramidContext(
        config.width, config.pcm_levels or maps, config.pcm_width, reduce=config.pcm_reduce, finer=finer
    )


def _paper(
    name: str, data: DataRecipe, *, size: Literal[300, 512], steps: int, drops: tuple[int, ...], **config: Any
) -> Recipe:
    """Section 4: Adam with beta1 0.5 and 1e-4, a tenth after so many steps, batches of 32 (300) or 16 (512).

    # UNCLEAR: the weight decay and the ranges of the colours are BlitzNet's.
    # DIFFERS: the crop is SSD's as torchvision has it (by IoU, sides of 0.3 to 1), BlitzNet's is by coverage and area.
    """
    return Recipe(
        name=f"ivanet.{name}",
        model="ivanet",
        config=Config(size=size, **config),
        data=data,
        weights="imagenet",
        augmentation=AugmentationRecipe(
            zoom_out=0.5, object_crop=True, brightness=0.125, contrast=0.5, saturation=0.5, hue=0.07,
        ),
        input=InputPolicy(fit="stretch", size=(size, size)),
        training=TrainingRecipe(
            epochs=steps // 1000, steps_per_epoch=1000, batch=32 if size == 300 else 16, optimizer="adam",
            learning_rate=1e-4, momentum=0.5, weight_decay=5e-5, schedule="step", step_factor=0.1,
            step_at=tuple(drop / steps for drop in drops), validate_every=5,
            monitor="validation_loss" if config.get("tasks") == ("boxes",) else None,
        ),
    )  # fmt: skip


def _voc(name: str, train: str, size: Literal[300, 512], **config: Any) -> Recipe:
    steps, drops = (65_000, (35_000, 50_000)) if size == 300 else (75_000, (45_000, 60_000))
    return _paper(name, DataRecipe(set="voc", train=train), size=size, steps=steps, drops=drops, **config)


def voc2012_300() -> Recipe:
    """Table 1: both tasks, VOC 2012 with SBD's masks, validated on its val split; for a GPU, as all of the paper's."""
    return _voc("voc2012_300", "train_aug", 300)


def voc2012_no_300() -> Recipe:
    """Table 1: both tasks without top-down modules (IvaNet_NO)."""
    return _voc("voc2012_no_300", "train_aug", 300, top_down="none")


def voc2012_det_300() -> Recipe:
    """Table 1: boxes alone (IvaNet_det)."""
    return _voc("voc2012_det_300", "train_aug", 300, tasks=("boxes",))


def voc2012_seg_300() -> Recipe:
    """Table 1: pixels alone (IvaNet_seg)."""
    return _voc("voc2012_seg_300", "train_aug", 300, tasks=("semantic",))


def voc0712_300() -> Recipe:
    """The boxes of VOC 2007 trainval, and boxes and masks of VOC 2012 with SBD's."""
    return _voc("voc0712_300", "trainval_0712", 300)


def voc0712_512() -> Recipe:
    """The same at 512."""
    return _voc("voc0712_512", "trainval_0712", 512)


def coco_300() -> Recipe:
    """COCO: trainval35k, which is train2017, validated on minival, which is val2017."""
    return _paper("coco_300", DataRecipe(set="coco"), size=300, steps=700_000, drops=(400_000, 500_000))


def scenes() -> Recipe:
    """Procedural street scenes on two cores: boxes and classes from one network."""
    return Recipe(
        name="ivanet.scenes",
        model="ivanet",
        config=Config(encoder="tf_efficientnet_lite0", width=128, pcm_width=96),
        data=DataRecipe(set="scenes", options={"train_length": 2048}),
        weights="imagenet",
        augmentation=AugmentationRecipe(scale=(0.75, 1.5), brightness=0.3, contrast=0.3, saturation=0.3),
        training=TrainingRecipe(
            epochs=4, batch=4, learning_rate=1e-3, encoder_learning_rate=5e-4, warmup=0.0977, clip=5.0,
            ema=0.995,
            validate_every=2,
        ),
    )  # fmt: skip


def scenes_short() -> Recipe:
    """The same in a fifth of the time: what the ablations are made with."""
    recipe = scenes()
    return replace(
        recipe,
        name="ivanet.scenes_short",
        data=DataRecipe(set="scenes", options={"train_length": 1200}),
        training=replace(recipe.training, epochs=1, warmup=0.167, ema=0.98, validate_every=1),
    )


def tasks() -> Ablation:
    """Table 1: does each task help the other?"""
    rows = (
        Variant(name="both tasks", changes={}),
        Variant(name="boxes alone", changes={"config.tasks": ("boxes",)}),
        Variant(name="pixels alone", changes={"config.tasks": ("semantic",)}),
    )
    return Ablation(name="ivanet.tasks", recipe=scenes_short(), rows=rows, metrics=ABLATED)


def top_down() -> Ablation:
    """Table 1 and spec 3.8: from how many coarser maps each map is enriched."""
    rows = (
        Variant(name="none", changes={"config.top_down": "none"}),
        Variant(name="the next", changes={"config.top_down": "one"}),
        Variant(name="the next two (local)", changes={"config.top_down": "local"}),
        Variant(name="all (full path)", changes={"config.top_down": "full"}),
    )
    return Ablation(name="ivanet.top_down", recipe=scenes_short(), rows=rows, metrics=ABLATED)


def parts() -> Ablation:
    """Spec 3.8: weights, default boxes, and what the pixels' head sees."""
    rows = (
        Variant(name="as it is", changes={}),
        *(Variant(name=f"pixels weigh {w:g}", changes={"config.segmentation_weight": w}) for w in (0.1, 10.0)),
        Variant(name="SSD's boxes", changes={"config.anchors": "ssd"}),
        *(Variant(name=f"context of {k} levels", changes={"config.pcm_levels": k}) for k in (3, 4)),
        Variant(name="pyramid pooling", changes={"config.context": "pooling"}),
        Variant(name="pixels at stride 4", changes={"config.segmentation_stride": 4}),
        Variant(name="levels reduced to 64", changes={"config.pcm_reduce": 64}),
        Variant(name="loss at the head's size", changes={"config.segmentation_loss_size": "head"}),
    )
    return Ablation(name="ivanet.parts", recipe=scenes_short(), rows=rows, metrics=ABLATED)


ABLATED = ("boxes.map50", "boxes.ap", "semantic.miou", "boundary.miou_3")
REPORTED = {
    "voc2012_300": {"boxes.map50": 0.762, "semantic.miou": 0.759},
    "voc2012_no_300": {"boxes.map50": 0.703, "semantic.miou": 0.729},
    "voc2012_det_300": {"boxes.map50": 0.762},
    "voc2012_seg_300": {"semantic.miou": 0.742},
    "coco_300": {"boxes.ap": 0.297, "semantic.miou": 0.550},
}
"""Table 1 (VOC 2012 val) and Table 3 (COCO minival). Of Table 2 (VOC 2007 test) only the claim is left: boxes are as
BlitzNet's, pixels 1.1 points better."""
