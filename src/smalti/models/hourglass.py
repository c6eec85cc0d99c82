"""Hourglass: semantics, edges and distances from one encoder and half a decoder, and objects from the three.

"Semantic Segmentation on Image Using Multi-task Hourglass Networks", anonymous draft (spec 1). Section 2: a VGG
encoder, and a decoder that unpools with the encoder's pool indices; at each level the encoder's map is merged in;
everything but the last four convolutions is shared between the tasks. The paper names neither losses nor numbers:
SegNet (Badrinarayanan, Kendall, Cipolla 2017), HED (Xie and Tu 2015) and Deep Watershed Transform (Bai and Urtasun
2017) fill the gaps, each where it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt
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
    to_original,
)
from smalti.parts.decoders.unpooling import Merge, UnpoolingStage
from smalti.parts.encoders.indexed_vgg import CONVOLUTIONS, IndexedVGG
from smalti.parts.encoders.timm_encoder import TimmEncoder
from smalti.parts.grouping import STANDARD, Grouping, group_objects
from smalti.parts.losses import SemanticLoss
from smalti.parts.losses.balance import UncertaintyWeights
from smalti.parts.losses.distance import distance_loss
from smalti.parts.losses.edge import balanced_edge_loss, edges_by_class
from smalti.recipe import Ablation, AugmentationRecipe, DataRecipe, Recipe, TrainingRecipe, Variant

Task = Literal["semantic", "edges", "distances"]
DEEP_WEIGHT = 0.4
SEEDS = {"instance": 0.5, "truncate": 1.5 / 32, "dwt": 1.5 / 15}
"""Distance above which a pixel is a seed. Where distances are in pixels no share is the middle of all objects: all but
their rims are seeds, and the edges part them."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The network's shape; the defaults are the paper's."""

    tasks: tuple[Task, ...] = ("semantic", "edges", "distances")
    encoder: str = "vgg16_bn"
    """With upsample="unpool" a VGG with batch normalisation, else any timm network with five maps."""
    in_channels: int = 3
    skip: Merge = "concat"
    """How the encoder's map is merged in. PAPER: "merge"; SegNet has none."""
    shared_stages: Literal[0, 1, 2, 3, 4] = 3
    """Of the decoder's five stages, from the coarsest. PAPER: "half of the decoder", all but the last four layers."""
    upsample: Literal["unpool", "bilinear"] = "unpool"
    widths: tuple[int, ...] | None = None
    """Channels that the stages answer, from coarse to fine, for encoders other than VGG. With four stages the answers
    have half the picture's size and are brought up bilinearly: half the cost of five. None = (128, 96, 48, 32)."""
    edge_mode: Literal["binary", "per_class"] = "binary"
    distance_norm: Literal["instance", "truncate", "dwt"] = "instance"
    task_weights: Literal["fixed", "uncertainty"] = "fixed"
    deep_supervision: bool = False
    """The shared stages answer classes, too, each with a loss of weight 0.4. UNCLEAR: "dense prediction maps at
    different levels" may mean this, or feature maps only."""
    semantic_loss: SemanticLoss = SemanticLoss()
    grouping: Grouping = STANDARD

    def __post_init__(self) -> None:
        """Raises ValueError for tasks or widths that make no network."""
        if "semantic" not in self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f'tasks must contain "semantic", and each task once, got {self.tasks}')
        if self.widths is not None and (len(self.widths) not in (4, 5) or min(self.widths) < 1):
            raise ValueError(f"widths must be four or five positive numbers, one a stage, got {self.widths}")


Level = tuple[Tensor | None, tuple[int, int], Tensor | None]
"""The encoder's map, the size to come up to, and the pool's indices."""
TASK_NEEDS = {
    "edges": frozenset({"edges"}),
    "distances": frozenset({"distances", "distance_weights", "distances_valid"}),
}
LIGHT_WIDTHS = (128, 96, 48, 32)
LIGHT_RATES: dict[str, Any] = {"learning_rate": 2e-3, "encoder_learning_rate": 1e-3, "ema": 0.99, "validate_every": 1}


class Hourglass(SegmentationModel):
    """An encoder, shared decoder stages, and for each task the remaining stages and a 3x3 convolution."""

    config_type = Config
    training_only = SegmentationModel.training_only | {"distance_norm"}

    def __init__(self, config: Config, labels: LabelSet, encoder_weights: str | Path | None = None) -> None:
        """`encoder_weights`: None = random, "imagenet", or a file.

        Raises:
            ValueError: For an encoder that does not exist or cannot do what the config asks.
        """
        encoder: IndexedVGG | TimmEncoder
        if config.upsample == "unpool" or config.encoder in CONVOLUTIONS:
            encoder = IndexedVGG(config.encoder, config.in_channels, encoder_weights)
        else:
            encoder = TimmEncoder(config.encoder, in_channels=config.in_channels, weights=encoder_weights)
        super().__init__(config, labels, encoder.mean, encoder.std)
        self.needs = semantic_needs(config.semantic_loss).union(*(TASK_NEEDS.get(task, ()) for task in config.tasks))
        self.object_limits = ObjectLimits(config.grouping.most, config.grouping.most, "config.grouping.most")
        self.stride = 1
        self.encoder = encoder
        plan = _plan(config, encoder)
        if config.shared_stages >= len(plan):
            raise ValueError(
                f"shared_stages={config.shared_stages} of {len(plan)} leaves the tasks no stage of their own"
            )
        self.stages = len(plan)
        common, own = plan[: config.shared_stages], plan[config.shared_stages :]
        self.shared = nn.ModuleList(stage.build(config) for stage in common)
        outputs = {"semantic": len(labels), "edges": len(labels) if config.edge_mode == "per_class" else 1,
                   "distances": 1}  # fmt: skip
        self.branches = nn.ModuleDict({task: Branch(own, outputs[task], config) for task in config.tasks})
        if config.deep_supervision:
            self.deep = nn.ModuleList(nn.Conv2d(stage.widths[-1], len(labels), 1) for stage in common)
        if config.task_weights == "uncertainty":
            self.weights = UncertaintyWeights(config.tasks, regressions=("distances",))

    def forward(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """Logits of classes, edges and distances."""
        x, levels = self._encode(self.normalise(images))
        deep = []
        for number, stage in enumerate(_stages(self.shared)):
            x = stage(stage.join(x, *levels[number]))
            if self.config.deep_supervision and self.training:
                deep.append(self.deep[number](x))
        rest = levels[len(self.shared) :]
        first = _stages(next(iter(self.branches.values())).stages)[0]
        joint = first.join(x, *rest[0]) if first.match is None else None  # once for all tasks
        answers = {task: resize(branch(x, joint, rest), _size(images)) for task, branch in self.branches.items()}
        return Outputs(**answers, deep=tuple(deep) or None)

    def _encode(self, x: Float[Tensor, "batch channels height width"]) -> tuple[Tensor, list[Level]]:
        """The coarsest map, and what each stage of the decoder merges in: the encoder's map, its size, the indices."""
        if isinstance(self.encoder, IndexedVGG):
            bottom, maps, indices = self.encoder(x)
            unpool = self.config.upsample == "unpool"
            levels = [(m, _size(m), where if unpool else None) for m, where in zip(maps, indices, strict=True)]
            return bottom, levels[::-1]
        *maps, bottom = self.encoder(x)
        levels = [*((m, _size(m), None) for m in reversed(maps)), (None, _size(x), None)]
        return bottom, levels[: self.stages]

    def loss(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """One term a task (spec 1.5), with fixed or learned weights; and those of the shared stages, if supervised."""
        assert outputs.semantic is not None
        terms = {"semantic": semantic_term(self.config.semantic_loss, outputs.semantic, targets)}
        if outputs.edges is not None:
            terms["edges"] = self._edge_term(outputs.edges, targets)
        if outputs.distances is not None:
            assert targets.distances is not None
            assert targets.distance_weights is not None
            assert targets.distances_valid is not None
            terms["distances"] = distance_loss(
                outputs.distances[:, 0].float().sigmoid(),
                targets.distances,
                targets.distance_weights,
                targets.distances_valid,
            )
        if self.config.task_weights == "uncertainty":
            terms = self.weights(terms)
        if outputs.deep is not None:
            deep = [semantic_term(self.config.semantic_loss, logits, targets) for logits in outputs.deep]
            terms["deep"] = DEEP_WEIGHT * torch.stack(deep).sum()
        return terms

    def _edge_term(self, logits: Tensor, targets: Targets) -> Tensor:
        assert targets.edges is not None
        if self.config.edge_mode == "binary":
            return balanced_edge_loss(logits, targets.edges[:, None])
        assert targets.semantic is not None
        return balanced_edge_loss(logits, edges_by_class(targets.edges, targets.semantic, len(self.labels)))

    def decode(self, outputs: Outputs, frames: Sequence[Frame]) -> list[Predictions]:
        """Classes; with edges and distances also these as probabilities, and the objects that they make (spec 1.7)."""
        assert outputs.semantic is not None
        answers = decode_semantic(outputs.semantic, frames, self.labels)
        for k, frame in enumerate(frames):
            edges, distances = (
                None if maps is None else _probability(maps[k], frame) for maps in (outputs.edges, outputs.distances)
            )
            answers[k] = replace(answers[k], edges=edges, distances=distances)
            if distances is not None and self.labels.things:
                answers[k] = replace(answers[k], instances=self._objects(answers[k]))
        return answers

    def _objects(self, answer: Predictions) -> Instances:
        assert answer.semantic is not None
        assert answer.distances is not None
        rules = self.config.grouping
        if rules.seed_distance is None:
            rules = replace(rules, seed_distance=SEEDS[self.config.distance_norm])
        found = group_objects(
            answer.semantic.cpu().numpy(),
            {k: name for k, name in enumerate(self.labels.names) if name in self.labels.things},
            answer.distances.cpu().numpy(),
            edges=None if answer.edges is None else answer.edges.cpu().numpy(),
            confidence=None if answer.confidence is None else answer.confidence.cpu().numpy(),
            rules=rules,
        )
        return Instances.from_ids(found.ids, found.labels, found.scores)


def _probability(logits: Float[Tensor, "maps _ _"], frame: Frame) -> Float[Tensor, "height width"]:
    """Of the most probable map, where there is one a class."""
    return to_original(logits, frame).amax(0).sigmoid()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the decoder, as it is to be built."""

    below: int
    skip: int
    widths: tuple[int, ...]

    def build(self, config: Config) -> UnpoolingStage:
        """Each task gets its own."""
        return UnpoolingStage(self.below, self.skip, self.widths, config.skip)


def _plan(config: Config, encoder: IndexedVGG | TimmEncoder) -> list[Stage]:
    """The five stages from coarse to fine."""
    if isinstance(encoder, IndexedVGG):
        if config.widths is not None:
            raise ValueError("widths are for encoders other than VGG, whose decoder has the encoder's channels")
        # SegNet: as many convolutions as in the encoder's stage, the last of which leads to the next stage's channels;
        # the very last is the classifier.
        channels = encoder.channels[::-1]
        counts = CONVOLUTIONS[config.encoder][::-1]
        stages = [
            Stage(below=own, skip=own, widths=(own,) * (count - 1) + (after,))
            for own, after, count in zip(channels, channels[1:], counts, strict=False)
        ]
        return [*stages, Stage(below=channels[-1], skip=channels[-1], widths=(channels[-1],) * max(counts[-1] - 1, 1))]
    if len(encoder.channels) != 5:
        count = len(encoder.channels)
        raise ValueError(f'the hourglass needs an encoder with five maps, "{config.encoder}" has {count}')
    widths = config.widths or LIGHT_WIDTHS
    *skips, bottom = encoder.channels
    return [
        Stage(below=below, skip=skip, widths=(width, width) if skip else (width,))
        for below, skip, width in zip((bottom, *widths), (*reversed(skips), 0), widths, strict=False)
    ]


class Branch(nn.Module):
    """What a task has for itself: the last stages and the 3x3 convolution to its maps."""

    def __init__(self, stages: Sequence[Stage], outputs: int, config: Config) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stage.build(config) for stage in stages)
        self.classify = nn.Conv2d(stages[-1].widths[-1], outputs, 3, padding=1)

    def forward(
        self,
        x: Float[Tensor, "batch channels _ _"],
        joint: Float[Tensor, "batch joint _ _"] | None,
        levels: Sequence[Level],
    ) -> Float[Tensor, "batch outputs height width"]:
        """Logits at the size of the last level; `joint` is what the first stage's `join` would answer, if known."""
        for stage, level in zip(_stages(self.stages), levels, strict=True):
            x = stage(stage.join(x, *level) if joint is None else joint)
            joint = None
        answer: Tensor = self.classify(x)
        return answer


def _stages(modules: Any) -> list[UnpoolingStage]:
    """As what they are, which a ModuleList does not tell."""
    return list(modules)


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]


def _recipe(name: str, data: DataRecipe, **parts: Any) -> Recipe:
    return Recipe(name=f"hourglass.{name}", model="hourglass", data=data, weights="imagenet", **parts)


def cityscapes() -> Recipe:
    """Cityscapes: 60,000 steps of 8, crops of 300 x 500 (spec 1.6); for a GPU."""
    return _recipe(
        "cityscapes",
        DataRecipe(set="cityscapes"),
        config=Config(semantic_loss=SemanticLoss(class_weights="median_frequency")),
        augmentation=AugmentationRecipe(
            scale=(0.5, 2.0), crop=(300, 500), brightness=0.4, contrast=0.4, saturation=0.4,
        ),
        training=TrainingRecipe(
            epochs=60, steps_per_epoch=1000, batch=8, optimizer="sgd", learning_rate=0.01, momentum=0.9,
            weight_decay=5e-4, schedule="poly", poly_power=0.9,
        ),
    )  # fmt: skip


def kitti() -> Recipe:
    """KITTI: 10,000 steps of 8, for a GPU; from ImageNet weights unless others are named.

    Meant to go on from a run of `hourglass.cityscapes`: `--set weights=RUN/best.safetensors`.
    """
    recipe = cityscapes()
    training = replace(recipe.training, epochs=10, learning_rate=0.001)
    return replace(recipe, name="hourglass.kitti", data=DataRecipe(set="kitti"), training=training)


def _light() -> Config:
    """The same tasks on an EfficientNet-Lite encoder, for two cores.

    The balanced loss of the edges makes them too probable. The rules of grouping were chosen on validation scenes.
    """
    rules = Grouping(seed_edge=0.85, join_below=0.8, least_confidence=0.6)
    return Config(encoder="tf_efficientnet_lite0", upsample="bilinear", grouping=rules)


def kitti_light() -> Recipe:
    """KITTI on two cores, from ImageNet's weights alone."""
    recipe = scenes()
    crops = replace(recipe.augmentation, scale=(0.5, 2.0), crop=(300, 500))
    training = replace(recipe.training, epochs=20, steps_per_epoch=40, warmup=0.125, **LIGHT_RATES)
    return replace(
        recipe, name="hourglass.kitti_light", data=DataRecipe(set="kitti"), augmentation=crops, training=training
    )


def scenes() -> Recipe:
    """Procedural street scenes on two cores: semantics, edges, distances and objects."""
    return _recipe(
        "scenes",
        DataRecipe(set="scenes", options={"train_length": 2048}),
        config=_light(),
        augmentation=AugmentationRecipe(scale=(0.75, 1.5), brightness=0.3, contrast=0.3, saturation=0.3),
        training=TrainingRecipe(
            epochs=6, batch=4, learning_rate=1.5e-3, encoder_learning_rate=7.5e-4, warmup=0.065, clip=5.0,
            ema=0.995,
            validate_every=3,
        ),
    )  # fmt: skip


def scenes_short() -> Recipe:
    """The same in a fifth of the time: what the ablations are made with."""
    recipe = scenes()
    return replace(
        recipe,
        name="hourglass.scenes_short",
        data=DataRecipe(set="scenes", options={"train_length": 1200}),
        training=replace(
            recipe.training, epochs=1, batch=8, warmup=0.333, ema_span=0.34, **LIGHT_RATES | {"ema": 0.98}
        ),
    )


def tasks() -> Ablation:
    """Spec 1.8: does each task help the others?"""
    rows = (
        Variant(name="semantics", changes={"config.tasks": ("semantic",)}),
        Variant(name="+ edges", changes={"config.tasks": ("semantic", "edges")}),
        Variant(name="+ distances", changes={"config.tasks": ("semantic", "distances")}),
        Variant(name="+ edges + distances", changes={"config.tasks": ("semantic", "edges", "distances")}),
    )
    return Ablation(name="hourglass.tasks", recipe=scenes_short(), rows=rows, metrics=ABLATED)


def parts() -> Ablation:
    """Spec 1.8: what the network is made of."""
    rows = (
        Variant(name="as it is", changes={}),
        Variant(name="no skip", changes={"config.skip": "none"}),
        Variant(name="skip summed", changes={"config.skip": "sum"}),
        *(Variant(name=f"{k} stages shared", changes={"config.shared_stages": k}) for k in (0, 1, 2)),
        Variant(name="learned task weights", changes={"config.task_weights": "uncertainty"}),
        Variant(name="distances cut at 32", changes={"config.distance_norm": "truncate"}),
        Variant(name="distances in 16 levels", changes={"config.distance_norm": "dwt"}),
        Variant(name="edges by class", changes={"config.edge_mode": "per_class"}),
        Variant(name="stages supervised", changes={"config.deep_supervision": True}),
        Variant(name="VGG11, unpooling", changes={**VGG, "config.upsample": "unpool"}),
        Variant(name="VGG11, bilinear", changes={**VGG, "config.upsample": "bilinear"}),
    )
    return Ablation(name="hourglass.parts", recipe=scenes_short(), rows=rows, metrics=ABLATED)


ABLATED = (
    "semantic.miou", "boundary.miou_3", "edges.ods_f", "distances.mae", "panoptic.pq_things", "instances.ap50",
)  # fmt: skip
VGG = {"config.encoder": "vgg11_bn", "weights": None}
"""Its ImageNet weights are not to be had everywhere: both rows begin at random."""
REPORTED: dict[str, dict[str, float]] = {}
"""The paper shows pictures only."""
