"""CCFNet: a coarse answer, a map of how likely it is right, and a finer answer where it is not.

Wang, Deng, Wang, "Attention to Difficult Pixels: A Cascade Coarse to Fine Network Architecture for Semantic
Segmentation", Tsinghua University (spec 4). Section 3.1 (network) and 3.2 (attention) are followed. The paper's section
4 (experiments) is empty: widths, dropout and training protocol are PSPNet's (Zhao et al. 2017).

Beyond the paper: the attention map is an answer of its own (`Predictions.difficulty`), and at prediction the fine
branch may be evaluated only where the coarse answer is least trusted (`refine_budget`, `refine_below`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt, UInt8
from torch import Tensor, nn

from smalti.containers import ClassScores, Frame, Outputs, Predictions, Targets
from smalti.labels import LabelSet
from smalti.models.contract import (
    SegmentationModel,
    decode_semantic,
    resize,
    semantic_needs,
    semantic_term,
    to_original,
)
from smalti.parts.context.pyramid_pooling import PyramidPooling
from smalti.parts.convolution import check_batch_norm, check_channels, conv_norm_relu
from smalti.parts.decoders.feature_pyramid import FeaturePyramid
from smalti.parts.encoders.timm_encoder import TimmEncoder
from smalti.parts.gate import attention_loss, chosen_tiles, coarse_is_right, mix
from smalti.parts.losses import SemanticLoss
from smalti.recipe import Ablation, AugmentationRecipe, DataRecipe, Recipe, TrainingRecipe, Variant


@dataclass(frozen=True, kw_only=True)
class Config:
    """The network's shape; the defaults are the paper's, and PSPNet's where it is silent."""

    encoder: str = "resnet50"
    in_channels: int = 3
    output_stride: Literal[4, 8, 16, 32] = 8
    """Size of the input / size of the map that the three branches read."""
    features: Literal["dilated", "pyramid"] = "dilated"
    """How that map gets its size: the encoder's last strides become dilation (PAPER), or a feature pyramid joins the
    encoder's maps, which costs a fraction and allows stride 4."""
    width: int = 512
    """Channels within each branch, of each pool, and of the feature pyramid where there is one."""
    bins: tuple[int, ...] = (1, 2, 3, 6)
    dropout: float = 0.1
    gate: Literal["attention", "average", "coarse", "fine"] = "attention"
    """What the answer is: attention = the paper's; average = the mean of coarse and fine; coarse or fine = that branch
    alone, the others do not exist (fine is PSPNet)."""
    mix: Literal["logits", "probabilities"] = "logits"
    """What the gate weighs and adds. UNCLEAR: the paper says weighted summation of branches, not of what."""
    attention_input: Literal["features", "features+coarse"] = "features"
    """What the attention branch reads. UNCLEAR: "cascaded one by one" may mean that it sees the coarse answer."""
    coarse_loss: float = 1.0
    attention_loss: float = 1.0
    """Weights of the coarse and the attention branch's own losses. UNCLEAR: the paper names none."""
    fine_loss: float = 0.0
    """Weight of a loss of the fine branch's own; PAPER: none, it learns through the gate only."""
    balance_difficulty: bool = False
    """Right and wrong pixels weigh the same in the attention's loss, however rare the wrong ones are."""
    detach_attention: bool = False
    """The final loss does not move the attention branch; PAPER: it does, "end-to-end"."""
    detach_coarse: bool = False
    """The final loss does not move the coarse branch; PAPER: it does."""
    refine_budget: float | None = None
    """At prediction, the fine branch is evaluated on this share of the tiles, the least trusted first; None = all."""
    refine_below: float | None = None
    """At prediction, it is evaluated on the tiles whose mean attention is below this; None = all."""
    refine_tile: int = 4
    """Side of a tile in pixels of the branches' map."""
    batch_norm: tuple[float, float] = (0.1, 1e-5)
    """(momentum, eps) of the branches."""
    semantic_loss: SemanticLoss = SemanticLoss()

    def __post_init__(self) -> None:
        """Raises ValueError for numbers out of their range."""
        for name in ("refine_budget", "refine_below", "dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {value}")
        for name in ("coarse_loss", "attention_loss", "fine_loss"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number >= 0, got {getattr(self, name)}")
        if self.dropout == 1:
            raise ValueError("dropout=1 would leave nothing of the features")
        if self.refine_tile < 1:
            raise ValueError(f"refine_tile must be 1 or more, got {self.refine_tile}")
        check_channels(self, "in_channels", "width")
        check_batch_norm(self.batch_norm)
        if self.features == "dilated" and self.output_stride == 4:
            raise ValueError('output_stride=4 needs features="pyramid": encoders begin with stride 4')
        if self.refine_budget is not None and self.refine_below is not None:
            raise ValueError("give refine_budget or refine_below, not both: each says which tiles are refined")
        sparse = self.refine_budget is not None or self.refine_below is not None
        if sparse and self.gate != "attention":
            raise ValueError(f'refining in part needs gate="attention", this is gate="{self.gate}"')


class CCFNet(SegmentationModel):
    """Three branches on one map: coarse classes, attention (is coarse right?), and fine classes with pyramid pooling.

    The final logits are A * coarse + (1 - A) * fine, A being the probability that coarse is right.
    """

    config_type = Config
    training_only = SegmentationModel.training_only | {
        "coarse_loss", "attention_loss", "fine_loss", "balance_difficulty", "detach_attention", "detach_coarse",
        "dropout",
    }  # fmt: skip

    def __init__(self, config: Config, labels: LabelSet, encoder_weights: str | Path | None = None) -> None:
        """`encoder_weights`: None = random, "imagenet", or a file.

        Raises:
            ValueError: For an encoder that does not exist or cannot do what the config asks, or a config that
                contradicts itself.
        """
        dilated = config.features == "dilated"
        encoder = TimmEncoder(
            config.encoder,
            in_channels=config.in_channels,
            output_stride=config.output_stride if dilated else 32,
            weights=encoder_weights,
        )
        super().__init__(config, labels, encoder.mean, encoder.std)
        self.needs = semantic_needs(config.semantic_loss)
        self.stride = 1
        self.encoder = encoder
        if not dilated and config.output_stride not in encoder.reductions:
            raise ValueError(f'the encoder "{config.encoder}" has maps of strides {encoder.reductions}, none of '
                             f"output_stride={config.output_stride}")  # fmt: skip
        self.levels = [k for k, reduction in enumerate(encoder.reductions) if reduction >= config.output_stride]
        channels = encoder.channels[-1] if dilated else config.width
        classes = len(labels)
        if not dilated:
            self.pyramid = FeaturePyramid([encoder.channels[k] for k in self.levels], config.width, config.batch_norm)
        if config.gate != "fine":
            self.coarse = _branch(channels, classes, config)
        if config.gate == "attention":
            seen = channels + (classes if config.attention_input == "features+coarse" else 0)
            self.attention = _branch(seen, 2, config)
        if config.gate != "coarse":
            self.fine = FineBranch(channels, classes, config)

    def forward(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """Logits of the final, the coarse and the fine answer, and the log-odds that the coarse one is right."""
        size = (images.shape[-2], images.shape[-1])
        maps = self.encoder(self.normalise(images))
        features = maps[-1] if self.config.features == "dilated" else self.pyramid([maps[k] for k in self.levels])
        match self.config.gate:
            case "coarse":
                return Outputs(semantic=resize(self.coarse(features), size))
            case "fine":
                return Outputs(semantic=resize(self.fine(features), size))
            case "average":
                coarse, fine = resize(self.coarse(features), size), resize(self.fine(features), size)
                even = coarse.new_zeros((images.shape[0], 1, *size))  # log-odds 0: as likely right as wrong
                return Outputs(semantic=mix(coarse, fine, even, self.config.mix), coarse=coarse, fine=fine)
        coarse = self.coarse(features)
        trust = self._trust(features, coarse)
        if self._sparse():
            return self._refined_in_part(features, coarse, trust, size)
        coarse, attention, fine = (resize(m.float(), size) for m in (coarse, trust, self.fine(features)))
        semantic = mix(
            coarse.detach() if self.config.detach_coarse else coarse,
            fine,
            attention.detach() if self.config.detach_attention else attention,
            self.config.mix,
        )
        return Outputs(semantic=semantic, coarse=coarse, fine=fine, attention=attention)

    def _trust(self, features: Tensor, coarse: Tensor) -> Float[Tensor, "batch 1 height width"]:
        """Log-odds that the coarse answer is right; the softmax of two logits depends on their difference only."""
        if self.config.attention_input == "features+coarse":
            features = torch.cat([features, coarse.detach().softmax(1).to(features.dtype)], 1)
        wrong, right = self.attention(features).split(1, dim=1)
        trust: Tensor = right - wrong
        return trust

    def _sparse(self) -> bool:
        """Training needs the whole fine map; an answer may do with parts of it (and so does a validation's loss)."""
        return not self.training and (self.config.refine_budget is not None or self.config.refine_below is not None)

    def _refined_in_part(self, features: Tensor, coarse: Tensor, trust: Tensor, size: tuple[int, int]) -> Outputs:
        config = self.config
        refined = chosen_tiles(
            trust.float().sigmoid(), config.refine_tile, budget=config.refine_budget, below=config.refine_below
        )
        coarse, attention = resize(coarse.float(), size), resize(trust.float(), size)
        semantic = coarse
        graph = torch.compiler.is_exporting()  # no sizes that depend on the picture's content: all is refined there
        if graph or refined.any():
            # Bilinear resizing reads one neighbour on each side.
            needed = F.max_pool2d(refined[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
            fine = resize((self.fine(features) if graph else self.fine.at(features, needed)).float(), size)
            pixels = F.interpolate(refined[:, None].float(), size, mode="nearest") > 0
            semantic = torch.where(pixels, mix(coarse, fine, attention, self.config.mix), semantic)
        return Outputs(semantic=semantic, coarse=coarse, attention=attention)

    def loss(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """L = L_refine + L_coarse + L_attention, and L_fine if it has a weight (spec 4.3)."""
        config, judge = self.config, self.config.semantic_loss
        assert outputs.semantic is not None
        terms = {"semantic": semantic_term(judge, outputs.semantic, targets)}
        if outputs.coarse is not None and config.coarse_loss:
            terms["coarse"] = config.coarse_loss * semantic_term(judge, outputs.coarse, targets)
        if outputs.coarse is not None and outputs.attention is not None and config.attention_loss:
            assert targets.semantic is not None
            right = coarse_is_right(outputs.coarse, targets.semantic)
            terms["attention"] = config.attention_loss * attention_loss(
                outputs.attention, right, balanced=config.balance_difficulty
            )
        if outputs.fine is not None and config.fine_loss:
            terms["fine"] = config.fine_loss * semantic_term(judge, outputs.fine, targets)
        return terms

    def loss_in_words(self) -> str:
        """For reports."""
        config = self.config
        if config.gate in ("coarse", "fine"):
            return super().loss_in_words()
        terms = ["1 final", f"{config.coarse_loss:g} coarse", f"{config.fine_loss:g} fine"]
        if config.gate == "attention":
            terms.append(f"{config.attention_loss:g} attention{' (balanced)' if config.balance_difficulty else ''}")
        return f"{' + '.join(terms)}; of classes: {super().loss_in_words()}"

    def decode(self, outputs: Outputs, frames: Sequence[Frame]) -> list[Predictions]:
        """The final classes; with the attention gate also those of both branches, and how likely coarse is wrong."""
        assert outputs.semantic is not None
        answers = decode_semantic(outputs.semantic, frames, self.labels)
        if outputs.attention is None:
            return answers
        return [
            replace(
                answer,
                coarse=None if outputs.coarse is None else _classes(outputs.coarse[k], frame),
                fine=None if outputs.fine is None else _classes(outputs.fine[k], frame),
                difficulty=(-to_original(outputs.attention[k], frame)[0]).sigmoid(),
            )
            for k, (answer, frame) in enumerate(zip(answers, frames, strict=True))
        ]


def _classes(logits: Float[Tensor, "classes _ _"], frame: Frame) -> UInt8[Tensor, "height width"]:
    return ClassScores(to_original(logits, frame)).most_probable()


class FineBranch(nn.Module):
    """PSPNet's head: pyramid pooling, a 3x3 convolution over the map and its pools, and the classifier."""

    def __init__(self, channels: int, classes: int, config: Config) -> None:
        super().__init__()
        self.pool = PyramidPooling(channels, config.width, config.width, config.bins, config.batch_norm, kernel=3)
        self.classify = nn.Sequential(nn.Dropout2d(config.dropout), nn.Conv2d(config.width, classes, 1))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes height width"]:  # noqa: D102
        logits: Tensor = self.classify(self.pool(x))
        return logits

    def at(
        self, x: Float[Tensor, "batch channels height width"], cells: Bool[Tensor, "batch height width"]
    ) -> Float[Tensor, "batch classes height width"]:
        """`forward` where `cells` is True and 0 elsewhere, at the cost of those places."""
        rows: Tensor = self.classify(self.pool.at(x, cells))[0, :, :, 0].T
        logits = rows.new_zeros((*cells.shape, rows.shape[1]))
        logits[cells] = rows
        return logits.permute(0, 3, 1, 2)


def _branch(channels: int, outputs: int, config: Config) -> nn.Sequential:
    """Section 3.1: two convolutions."""
    first = conv_norm_relu(channels, config.width, 3, batch_norm=config.batch_norm)
    return nn.Sequential(first, nn.Dropout2d(config.dropout), nn.Conv2d(config.width, outputs, 1))


def _pspnet_protocol(epochs: int) -> TrainingRecipe:
    """Spec 4.4: PSPNet's, in epochs of 1,000 steps of 16; the paper's section 4 is empty."""
    return TrainingRecipe(
        epochs=epochs, steps_per_epoch=1000, batch=16, optimizer="sgd", learning_rate=0.1, encoder_learning_rate=0.01,
        momentum=0.9, weight_decay=1e-4, schedule="poly", poly_power=0.9, validate_every=None,
    )  # fmt: skip


def paper_stanford_background() -> Recipe:
    """The paper's network on Stanford Background, one fold of five; for a GPU."""
    return Recipe(
        name="ccfnet.paper_stanford_background",
        model="ccfnet",
        config=Config(),
        data=_stanford(),
        weights="imagenet",
        augmentation=AugmentationRecipe(scale=(0.5, 2.0), crop=(240, 240)),
        training=_pspnet_protocol(epochs=20),
    )


def paper_sift_flow() -> Recipe:
    """The paper's network on SIFT Flow; for a GPU."""
    return Recipe(
        name="ccfnet.paper_sift_flow",
        model="ccfnet",
        config=Config(),
        data=DataRecipe(set="sift_flow", train="train", validation="test"),
        weights="imagenet",
        augmentation=AugmentationRecipe(scale=(0.5, 2.0), crop=(256, 256)),
        training=_pspnet_protocol(epochs=30),
    )


def _stanford() -> DataRecipe:
    """The set has no validation pictures. The test's are looked at once, at the end: nothing is chosen by them."""
    return DataRecipe(set="stanford_background", train="trainval", validation="test")


SMALL = Config(
    encoder="tf_efficientnet_lite2", features="pyramid", output_stride=8, width=128, fine_loss=0.4,
)  # fmt: skip
"""For two cores. The fine branch has a loss of its own: short trainings end before the gate lets much through to it."""


def _two_cores(
    name: str, data: DataRecipe, crop: tuple[int, int], *, epochs: int, warmup: float, ema_span: float = 0.2
) -> Recipe:
    return Recipe(
        name=f"ccfnet.{name}",
        model="ccfnet",
        config=SMALL,
        data=data,
        weights="imagenet",
        augmentation=AugmentationRecipe(
            scale=(0.5, 2.0), crop=crop, brightness=0.3, contrast=0.3, saturation=0.3,
        ),
        training=TrainingRecipe(
            epochs=epochs, batch=8, learning_rate=1e-3, encoder_learning_rate=3e-4, warmup=warmup, clip=5.0, ema=0.99,
            ema_span=ema_span, validate_every=None,
        ),
    )  # fmt: skip


def stanford_background() -> Recipe:
    """Stanford Background, one fold of five, on two cores."""
    return _two_cores("stanford_background", _stanford(), (240, 320), epochs=16, warmup=0.088)


def stanford_background_short() -> Recipe:
    """Stanford Background, one fold of five, in a third of the time: what the ablations are made with."""
    return _two_cores("stanford_background_short", _stanford(), (240, 320), epochs=5, warmup=0.282, ema_span=0.3)


def sift_flow() -> Recipe:
    """SIFT Flow on two cores; not measured."""
    data = DataRecipe(set="sift_flow", train="train", validation="test")
    return _two_cores("sift_flow", data, (256, 256), epochs=10, warmup=0.0322)


def parts() -> Ablation:
    """Spec 4.6: each branch alone, their average, the gate, and what its variants do."""
    ohem = SemanticLoss(cross_entropy=0.0, ohem=1.0, ohem_keep=1 / 16, ohem_threshold=0.7)
    rows = (
        Variant(name="attention", changes={}),
        Variant(name="coarse only", changes={"config.gate": "coarse"}),
        Variant(name="fine only (PSPNet)", changes={"config.gate": "fine"}),
        Variant(name="fine only, OHEM", changes={"config.gate": "fine", "config.semantic_loss": ohem}),
        Variant(name="average", changes={"config.gate": "average"}),
        Variant(name="attention, no fine loss", changes={"config.fine_loss": 0.0}),
        Variant(name="attention, probabilities", changes={"config.mix": "probabilities"}),
        Variant(name="attention, balanced", changes={"config.balance_difficulty": True}),
        Variant(name="attention, detached", changes={"config.detach_attention": True}),
        Variant(name="attention sees coarse", changes={"config.attention_input": "features+coarse"}),
    )
    metrics = (
        "semantic.pixel_accuracy", "semantic.class_accuracy", "semantic.miou", "boundary.miou_3", "difficulty.auc",
        "oracle_gate.pixel_accuracy",
    )  # fmt: skip
    return Ablation(name="ccfnet.parts", recipe=stanford_background_short(), rows=rows, metrics=metrics)


REPORTED = {
    "paper_stanford_background": {"semantic.pixel_accuracy": 0.897},
    "paper_sift_flow": {"semantic.pixel_accuracy": 0.916},
    "stanford_background": {"semantic.pixel_accuracy": 0.897},
    "sift_flow": {"semantic.pixel_accuracy": 0.916},
}
"""The abstract's accuracies; no table of the paper survives."""
