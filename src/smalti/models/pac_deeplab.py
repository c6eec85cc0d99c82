"""PAC-DeepLab: DeepLabV3 with pyramid atrous convolution and boundary-aware loss.

D. Yu, "Semantic Image Segmentation with Pyramid Atrous Convolution and Boundary-aware Loss", POSTECH (spec 5). Sections
3.2 (loss), 3.3 (PAC), 3.4 (network) and 4 (training, on PASCAL VOC 2012) are followed; where the paper is silent,
DeepLabV3 is: Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017.

Deviations: the initial learning rate, printed as 0.00, is DeepLabV3's 0.007; the blurred border map is divided by its
maximum (`scale`), and made smaller by areas (`down_mode`), see `parts/losses/boundary.py`. A second stage of training
(frozen normalisation, output stride 8) is not in the paper and not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxtyping import Float, UInt
from torch import Tensor, nn

from smalti.containers import Frame, Outputs, Predictions, Targets
from smalti.labels import LabelSet
from smalti.models.contract import SegmentationModel, decode_semantic, resize, semantic_needs, semantic_term
from smalti.parts.context.aspp import AtrousSpatialPyramid
from smalti.parts.context.pyramid_atrous import PyramidAtrousConvolution
from smalti.parts.convolution import check_batch_norm, check_channels, conv_norm_relu, convolve_concatenation
from smalti.parts.encoders.timm_encoder import TimmEncoder
from smalti.parts.losses import BoundaryWeights, SemanticLoss
from smalti.recipe import Ablation, AugmentationRecipe, DataRecipe, InputPolicy, Recipe, TrainingRecipe, Variant

RATES = {"pac": (1, 3, 5, 7, 9), "aspp": (6, 12, 18), "none": ()}
"""At output stride 16; doubled at 8."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The network's shape; the defaults are the paper's."""

    encoder: str = "resnet101"
    in_channels: int = 3
    output_stride: Literal[16, 8] = 16
    """Size of the input / size of the last map. Weights trained at 16 also answer at 8: finer, and slower."""
    multi_grid: tuple[int, ...] | None = (1, 2, 4)
    """Factors on the dilation of a ResNet's last blocks; None for other encoders. UNCLEAR: DeepLabV3's best setting."""
    context: Literal["pac", "aspp", "none"] = "pac"
    rates: tuple[int, ...] | None = None
    """At output stride 16, doubled at 8; None = (1, 3, 5, 7, 9) for pac, (6, 12, 18) for aspp."""
    merge: Literal["sum", "concat"] | None = None
    """Of the answers at the rates; None = sum for pac, concat for aspp."""
    norm: Literal["per_rate", "post", "shared"] = "per_rate"
    """pac: where normalisation and ReLU stand, see `PyramidAtrousConvolution`."""
    width: int = 256
    """Channels of each branch."""
    project: int | Literal["auto"] | None = "auto"
    """Channels of a 1x1 convolution before the classifier; None = there is none; auto = DeepLabV3's 256 for aspp."""
    batch_norm: tuple[float, float] = (3e-4, 1e-5)
    """(momentum, eps); the momentum holds in the encoder, too. PAPER: decay 0.9997."""
    semantic_loss: SemanticLoss = SemanticLoss(boundary=BoundaryWeights())

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that make no network."""
        check_channels(self, "in_channels", "width", "project")
        check_batch_norm(self.batch_norm)
        unused = (
            [] if self.context != "none" else [name for name in ("rates", "merge") if getattr(self, name) is not None]
        )
        unused += [] if self.context == "pac" or self.norm == "per_rate" else ["norm"]
        if unused:
            raise ValueError(f"{unused[0]} means nothing with context={self.context}: leave it out")


class PacDeeplab(SegmentationModel):
    """A dilated encoder, three branches on its last map, and a 1x1 classifier over all of them (Fig. 3)."""

    config_type = Config

    def __init__(self, config: Config, labels: LabelSet, encoder_weights: str | Path | None = None) -> None:
        """`encoder_weights`: None = random, "imagenet", or a file.

        Raises:
            ValueError: For an encoder that does not exist or cannot do what the config asks, or rates that are none.
        """
        encoder = TimmEncoder(
            config.encoder,
            in_channels=config.in_channels,
            output_stride=config.output_stride,
            weights=encoder_weights,
            multi_grid=config.multi_grid,
        )
        super().__init__(config, labels, encoder.mean, encoder.std)
        self.needs = semantic_needs(config.semantic_loss)
        self.stride = 1
        self.encoder = encoder
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = config.batch_norm[0]
        self.head = Head(encoder.channels[-1], len(labels), config)

    def forward(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """Logits of the semantic classes."""
        maps = self.encoder(self.normalise(images))
        return Outputs(semantic=resize(self.head(maps[-1]), (images.shape[-2], images.shape[-1])))

    def loss(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Boundary-aware loss, Eq. 4."""
        assert outputs.semantic is not None
        return {"semantic": semantic_term(self.config.semantic_loss, outputs.semantic, targets)}

    def decode(self, outputs: Outputs, frames: Sequence[Frame]) -> list[Predictions]:
        """Softmax, and the most probable class of each pixel."""
        assert outputs.semantic is not None
        return decode_semantic(outputs.semantic, frames, self.labels)


class Head(nn.Module):
    """Fig. 3: the map itself, its mean and its context, each of `width` channels; then the classifier.

    DeepLabV3's ASPP with its three filters is `context="aspp"`.
    """

    def __init__(self, channels: int, classes: int, config: Config) -> None:
        super().__init__()
        self.pixel = conv_norm_relu(channels, config.width, batch_norm=config.batch_norm)
        self.image = conv_norm_relu(channels, config.width, batch_norm=config.batch_norm)
        self.context = _context(channels, config)
        joined = 2 * config.width + (0 if self.context is None else self.context.out_channels)
        project = config.project
        if project == "auto":
            project = 256 if config.context == "aspp" else None
        self.project = None if project is None else nn.Conv2d(joined, project, 1, bias=False)
        if project is not None:
            momentum, eps = config.batch_norm
            self.project_norm = nn.Sequential(nn.BatchNorm2d(project, eps, momentum), nn.ReLU(inplace=True))
        self.classify = nn.Conv2d(project or joined, classes, 1)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes height width"]:  # noqa: D102
        maps = [self.pixel(x), self.image(x.mean((2, 3), keepdim=True))]
        if self.context is not None:
            maps.append(self.context(x))
        if self.project is None:
            return convolve_concatenation(self.classify, maps)  # PAPER: 1x1 to the number of classes at once
        logits: Tensor = self.classify(self.project_norm(convolve_concatenation(self.project, maps)))
        return logits


def _context(channels: int, config: Config) -> PyramidAtrousConvolution | AtrousSpatialPyramid | None:
    finer = 16 // config.output_stride
    rates = tuple(finer * rate for rate in (RATES[config.context] if config.rates is None else config.rates))
    match config.context:
        case "pac":
            merge = config.merge or "sum"
            norms = {"norm": config.norm, "batch_norm": config.batch_norm}
            return PyramidAtrousConvolution(channels, config.width, rates, merge, **norms)  # type: ignore[arg-type]
        case "aspp":
            merge = config.merge or "concat"
            return AtrousSpatialPyramid(channels, config.width, rates, merge, batch_norm=config.batch_norm)
        case "none":
            return None


def _voc2012(name: str, config: Config) -> Recipe:
    """Section 4: 30,000 steps of 16, poly 0.9, crops of 513, scales 0.5 to 2.0 in steps of 0.25."""
    return Recipe(
        name=f"pac_deeplab.{name}",
        model="pac_deeplab",
        config=config,
        data=DataRecipe(set="voc", train="train_aug"),
        weights="imagenet",
        augmentation=AugmentationRecipe(scale=(0.5, 2.0), scale_step=0.25, crop=(513, 513)),
        # UNCLEAR: the initial learning rate is printed as 0.00; DeepLabV3's.
        training=TrainingRecipe(
            epochs=30, steps_per_epoch=1000, batch=16, optimizer="sgd", learning_rate=0.007, momentum=0.9,
            weight_decay=1e-4, schedule="poly", poly_power=0.9,
        ),
    )  # fmt: skip


def voc2012() -> Recipe:
    """The paper's best: PAC and boundary-aware loss."""
    return _voc2012("voc2012", Config())


def voc2012_pac_only() -> Recipe:
    """The paper's PAC with plain cross-entropy."""
    return _voc2012("voc2012_pac_only", Config(semantic_loss=SemanticLoss()))


def voc2012_aspp() -> Recipe:
    """The paper's baseline: DeepLabV3 with plain cross-entropy."""
    return _voc2012("voc2012_aspp", Config(context="aspp", semantic_loss=SemanticLoss()))


def voc2012_aspp_bal() -> Recipe:
    """DeepLabV3 with boundary-aware loss."""
    return _voc2012("voc2012_aspp_bal", Config(context="aspp"))


def _camvid(name: str, training: TrainingRecipe, input_: InputPolicy) -> Recipe:
    """An EfficientNet-Lite encoder; its normalisation follows faster, because the training is short (spec 5.4)."""
    return Recipe(
        name=f"pac_deeplab.{name}",
        model="pac_deeplab",
        config=Config(encoder="tf_efficientnet_lite0", multi_grid=None, width=128, batch_norm=(0.01, 1e-5)),
        data=DataRecipe(set="camvid"),
        weights="imagenet",
        augmentation=AugmentationRecipe(scale=(0.5, 2.0), brightness=0.4, contrast=0.4, saturation=0.4),
        input=input_,
        training=training,
    )


def camvid() -> Recipe:
    """CamVid at full size on two cores; not measured yet."""
    training = TrainingRecipe(
        epochs=33, batch=8, learning_rate=1e-3, encoder_learning_rate=3e-4, warmup=0.0673, clip=5.0, ema=0.99,
        validate_every=3,
    )  # fmt: skip
    return _camvid("camvid", training, InputPolicy())


def camvid_half() -> Recipe:
    """CamVid at half size in about five minutes on two cores: what the ablations are made with."""
    training = TrainingRecipe(
        epochs=12, batch=8, learning_rate=1e-3, encoder_learning_rate=3e-4, warmup=0.0926, clip=5.0, ema=0.98,
        validate_every=3,
    )  # fmt: skip
    return _camvid("camvid_half", training, InputPolicy(fit="pad", size=(180, 240)))


BAL_ROWS = (
    ("linear", 1, 15, None, 0.3, -0.35),
    ("linear", 2, 15, None, 0.3, -0.12),
    ("linear", 2, 15, None, 0.5, 0.15),
    ("linear", 4, 15, None, 0.5, 0.32),
    ("linear", 4, 25, None, 0.5, 0.58),
    ("linear", 4, 35, None, 0.5, 0.68),
    ("gaussian", 1, 15, 1.0, 0.3, -0.82),
    ("gaussian", 2, 15, 1.0, 0.3, -0.43),
    ("gaussian", 4, 15, 1.0, 0.3, -0.14),
    ("gaussian", 4, 25, 1.0, 0.3, 0.13),
    ("gaussian", 4, 35, 1.0, 0.3, 0.24),
    ("gaussian", 4, 35, 1.0, 0.5, 0.62),
    ("gaussian", 4, 35, 2.0, 0.5, 0.81),
    ("gaussian", 4, 35, 3.0, 0.5, 0.96),
)
"""Table 1: kernel, down, size, sigma, beta, and the gain in mIoU over DeepLabV3, in points."""
PAC_ROWS = (
    ((6, 12, 18), "concat", -0.12),
    ((6, 12, 18, 24), "concat", -0.18),
    ((6, 12, 18), "sum", 0.10),
    ((1, 3, 5), "concat", 0.14),
    ((1, 3, 5, 7, 9), "concat", 0.21),
    ((1, 3, 5, 7, 9, 11), "concat", 0.11),
    ((1, 3, 5, 7, 9), "sum", 0.29),
)
"""Table 2: rates, merge, and the gain in mIoU over DeepLabV3, in points."""
DEEPLAB = Variant(name="DeepLabV3", changes={"config.context": "aspp", "config.semantic_loss.boundary": None})


def bal() -> Ablation:
    """Table 1: kernels, sizes, sigmas, betas and down-sampling of the boundary-aware loss, on DeepLabV3."""
    rows = [
        Variant(
            name=f"{kernel} {size}" + (f" sigma {sigma:g}" if sigma else "") + f" beta {beta:g} down {down}",
            changes={"config.semantic_loss.boundary": BoundaryWeights(
                kernel=kernel, down=down, size=size, sigma=sigma or 3.0, beta=beta)},  # type: ignore[arg-type]
            reported=gain,
        )
        for kernel, down, size, sigma, beta, gain in BAL_ROWS
    ]  # fmt: skip
    return Ablation(name="pac_deeplab.bal", source="Table 1", recipe=camvid_half(), rows=(DEEPLAB, *rows))


def pac() -> Ablation:
    """Table 2: rates and merging of pyramid atrous convolution, beside DeepLabV3."""
    rows = [
        Variant(
            name=f"pac {','.join(map(str, rates))} {merge}",
            changes={"config.context": "pac", "config.rates": rates, "config.merge": merge},
            reported=gain,
        )
        for rates, merge, gain in PAC_ROWS
    ]
    return Ablation(name="pac_deeplab.pac", source="Table 2", recipe=camvid_half(), rows=(DEEPLAB, *rows))


def parts() -> Ablation:
    """Table 3: each idea alone and both together, with both readings of the loss' scale.

    The literal scale makes the loss larger as well, which matters where gradients are clipped: 31 times on CamVid at
    half size, the mean of its weights. So that much plain cross-entropy is a row, and the same weights with a mean of
    1.
    """
    pac_, literal = {"config.context": "pac"}, BoundaryWeights(scale="none")
    mean = BoundaryWeights(scale="none", weight_norm="mean")
    bal_ = {"config.semantic_loss.boundary": BoundaryWeights()}
    rows = (
        DEEPLAB,
        Variant(name="DeepLabV3 + BAL", changes=bal_, reported=0.96),
        Variant(name="DeepLabV3 + BAL, scale none", changes={"config.semantic_loss.boundary": literal}, reported=0.96),
        Variant(name="DeepLabV3 + BAL, scale none, mean 1", changes={"config.semantic_loss.boundary": mean}),
        Variant(name="DeepLabV3, 31 times the loss", changes={"config.semantic_loss.cross_entropy": 31.0}),
        Variant(name="PAC", changes=pac_, reported=0.29),
        Variant(name="PAC + BAL", changes={**pac_, **bal_}, reported=1.25),
    )
    return Ablation(name="pac_deeplab.parts", source="Table 3", recipe=camvid_half(), rows=rows)


REPORTED = {
    "voc2012_aspp": {"semantic.miou": 0.7668},
    "voc2012_pac_only": {"semantic.miou": 0.7697},
    "voc2012_aspp_bal": {"semantic.miou": 0.7764},
    "voc2012": {"semantic.miou": 0.7793},
}
"""Table 3, VOC 2012 val; no spread is given. The abstract says 1.24 points of gain, the table 1.25."""
