"""SIS-CNN: any ImageNet encoder x U-Net or PSPNet decoder.

M. A. A. Tahir, F. Xiao, "SIS-CNN: Semantic Image Segmentation Using Convolutional Neural Networks", whose networks are
those of the library image-segmentation-keras (spec 2). Sections III (method) and IV (training) are followed.

Paper mode (`paper_*` recipes): the library's shapes and sizes, answers at the head's size, void counted as a class.
Our default mode: any picture size, logits brought to full resolution, void ignored, no vertical flip.

Deviations: the ResNet is timm's (no convolution biases, first tap after its ReLU, padded pool instead of a padded map);
torchvision's mean and standard deviation instead of BGR means; the PSP pooling is adaptive, which equals the library's
when the map's size is a multiple of the bins and lifts its rule that sizes be multiples of 192; Keras' momentum and eps
of batch normalisation hold in the decoder, the encoder keeps timm's; bfloat16 where it is fast (training.precision =
float32 does without). The default mode pads to the stride that the taps need: with four, CamVid's 360 rows to 368.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtyping import UInt
from torch import Tensor, nn

from smalti.containers import Frame, Outputs, Predictions, Targets
from smalti.labels import LabelSet
from smalti.models.contract import SegmentationModel, decode_semantic, resize, semantic_needs, semantic_term
from smalti.parts.context.pyramid_pooling import PyramidPooling
from smalti.parts.decoders.pspnet import PSPDecoder
from smalti.parts.decoders.unet import ConvBlock, ConvOrder, UNetDecoder
from smalti.parts.encoders.timm_encoder import TimmEncoder
from smalti.parts.losses import SemanticLoss
from smalti.recipe import AugmentationRecipe, DataRecipe, InputPolicy, Recipe, TrainingRecipe
from smalti.settings import override


@dataclass(frozen=True, kw_only=True)
class Config:
    """The network's shape; the defaults are the paper's, at full resolution."""

    encoder: str = "resnet50"
    decoder: Literal["unet", "pspnet"] = "unet"
    in_channels: int = 3
    output_stride: Literal[8, 16, 32] = 32
    """Of the encoder; the paper's is 32."""
    widths: tuple[int, ...] = (512, 256, 128, 64)
    """U-Net: channels from coarse to fine, one a tap of the encoder. PAPER: f1..f4, the fifth tap does not exist."""
    convolutions: int = 1
    """U-Net: 3x3 convolutions a level."""
    context: Literal["none", "pyramid_pooling"] = "none"
    """U-Net: what the coarsest map goes through; the paper's U-Net has a convolution only."""
    conv_order: ConvOrder = "conv_relu_bn"
    upsample: Literal["nearest", "bilinear"] = "nearest"
    psp_width: int = 512
    output_size: Literal["input", "head"] = "input"
    """"head": the paper's answer at 1/2 (U-Net) or 1/4 (PSPNet) of the input; "input": at the input's size."""
    batch_norm: tuple[float, float] = (0.01, 1e-3)
    """(momentum, eps) of the decoder's: Keras' decay of 0.99 and its eps."""
    semantic_loss: SemanticLoss = SemanticLoss()


class SisCnn(SegmentationModel):
    """An encoder with taps f1, f2, … and a decoder over them (Fig. 2)."""

    config_type = Config

    def __init__(self, config: Config, labels: LabelSet, encoder_weights: str | Path | None = None) -> None:
        """`encoder_weights`: None = random, "imagenet", or a file.

        Raises:
            ValueError: For an encoder that does not exist or cannot do what the config asks.
        """
        taps = len(config.widths) if config.decoder == "unet" else None
        encoder = TimmEncoder(config.encoder, taps, config.in_channels, config.output_stride, encoder_weights)
        super().__init__(config, labels, encoder.mean, encoder.std)
        self.needs = semantic_needs(config.semantic_loss)
        self.encoder = encoder
        self.stride = encoder.reductions[-1]
        if config.decoder == "unet":
            self.decoder: nn.Module = _unet(config, encoder.channels, len(labels))
            self.head_stride = encoder.reductions[0]
        else:
            self.decoder = PSPDecoder(encoder.channels, len(labels), config.psp_width, batch_norm=config.batch_norm)
            self.head_stride = max(encoder.reductions[-1] // 8, 1)  # PAPER: the logits are brought up 8 times

    def forward(self, images: UInt[Tensor, "batch channels height width"]) -> Outputs:
        """Logits of the semantic classes."""
        height, width = images.shape[-2:]
        maps = self.encoder(self.normalise(images))  # PAPER: Eq. 3, x_fn
        logits = self.decoder(maps)  # PAPER: Eqs. 4, 5
        if self.config.output_size == "head":
            height, width = -(-height // self.head_stride), -(-width // self.head_stride)
        return Outputs(semantic=resize(logits, (height, width)))

    def loss(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Cross-entropy of Eq. 6's softmax.

        DIFFERS: the printed loss, prediction minus truth, is none; the library's is cross-entropy.
        """
        assert outputs.semantic is not None
        # PAPER: where the answer is smaller than the labels, these are brought to its size, nearest
        return {"semantic": semantic_term(self.config.semantic_loss, outputs.semantic, targets)}

    def decode(self, outputs: Outputs, frames: Sequence[Frame]) -> list[Predictions]:
        """Eq. 6: softmax, and the most probable class of each pixel."""
        assert outputs.semantic is not None
        return decode_semantic(outputs.semantic, frames, self.labels)


def _unet(config: Config, channels: Sequence[int], classes: int) -> nn.Module:
    block = {"count": config.convolutions, "order": config.conv_order, "batch_norm": config.batch_norm}
    if config.context == "pyramid_pooling":
        first: nn.Module = PyramidPooling(
            channels[-1], config.widths[0], channels[-1] // 4, batch_norm=config.batch_norm
        )
    else:
        first = ConvBlock(channels[-1], config.widths[0], 1, config.conv_order, config.batch_norm)
    decoder = UNetDecoder(channels, config.widths, first, config.upsample, **block)
    return nn.Sequential(decoder, nn.Conv2d(config.widths[-1], classes, 3, padding=1))


def _street_scenes(name: str, config: Config, data: DataRecipe, **changes: Any) -> Recipe:
    """Our default training: varied scale and colour, no vertical flip, AdamW, averaged weights."""
    augmentation = AugmentationRecipe(scale=(0.5, 2.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05)
    return dataclasses.replace(
        Recipe(name=name, model="sis_cnn", config=config, data=data, weights="imagenet", augmentation=augmentation),
        **changes,
    )


def _light(encoder: str) -> Config:
    """An EfficientNet-Lite encoder with all five taps, pyramid pooling, and a slim decoder: fast on CPUs."""
    return Config(
        encoder=encoder,
        widths=(256, 256, 128, 64, 48),
        convolutions=2,
        context="pyramid_pooling",
        conv_order="conv_bn_relu",
        upsample="bilinear",
        batch_norm=(0.1, 1e-5),
        semantic_loss=SemanticLoss(cross_entropy=1.0, lovasz=1.0),
    )


def camvid() -> Recipe:
    """CamVid on two cores; how the model that comes with the package (`smalti.load("default")`) begins."""
    config = dataclasses.replace(_light("tf_efficientnet_lite2"), widths=(128, 128, 96, 64, 32), convolutions=1)
    training = TrainingRecipe(
        epochs=32, batch=4, learning_rate=1e-3, encoder_learning_rate=3e-4, warmup=0.0515, clip=5.0,
        ema=0.995,
        validate_every=4,
    )  # fmt: skip
    # Three quarters of a picture at a time: more steps in the same time, and thin things are seen enlarged.
    augmentation = AugmentationRecipe(
        scale=(0.6, 2.0), crop=(288, 384), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05
    )
    return _street_scenes(
        "sis_cnn.camvid", config, DataRecipe(set="camvid"), training=training, augmentation=augmentation
    )


def camvid_whole() -> Recipe:
    """A run of `sis_cnn.camvid` goes on with whole pictures and small steps: one point of mIoU.

    Started from its weights: `--set weights=RUN/best.safetensors`. What a network sees of a picture's place and
    surroundings is then what it will see in use.
    """
    begun = camvid()
    return dataclasses.replace(
        begun,
        name="sis_cnn.camvid_whole",
        augmentation=dataclasses.replace(begun.augmentation, crop=(360, 480)),
        training=dataclasses.replace(
            begun.training,
            epochs=14,
            learning_rate=3e-4,
            encoder_learning_rate=1e-4,
            warmup=0.0392,
            clip=0.2,
            validate_every=2,
        ),
    )


def quick() -> Recipe:
    """Procedural scenes on two cores in under two minutes: mIoU 0.68; the demo.

    Measured: benchmarks/README.md.
    """
    config = dataclasses.replace(_light("tf_efficientnet_lite0"), widths=(96, 96, 64, 48, 32), convolutions=1)
    training = TrainingRecipe(
        epochs=5, steps_per_epoch=46, batch=8, learning_rate=2e-3, encoder_learning_rate=6e-4, warmup=0.087, clip=5.0,
        ema=0.97,
    )  # fmt: skip
    # Close to the pictures it is measured on, and small: what is learned in two minutes matters.
    augmentation = AugmentationRecipe(scale=(0.75, 1.5), crop=(160, 224), brightness=0.4, contrast=0.4, saturation=0.4)
    return _street_scenes(
        "sis_cnn.quick", config, DataRecipe(set="scenes"), training=training, augmentation=augmentation
    )


def _paper(encoder: str, decoder: Literal["unet", "pspnet"]) -> Recipe:
    """Section IV: Adam 2e-4, batch 2, 512 steps x 5 epochs, vertical and horizontal flips made beforehand.

    # UNCLEAR: classes; the library counts void as a twelfth class. The size and the stretch are the library's.
    """
    return Recipe(
        name=f"sis_cnn.paper_{encoder}_{decoder}",
        model="sis_cnn",
        config=Config(encoder=encoder, decoder=decoder, output_size="head"),
        data=DataRecipe(set="camvid", count_ignored=True),
        weights="imagenet",
        augmentation=AugmentationRecipe(flip_horizontal=0.0, offline_flips=True),
        input=InputPolicy(fit="stretch", size=(416, 608) if decoder == "unet" else (384, 576)),
        training=TrainingRecipe(
            epochs=5, steps_per_epoch=512, batch=2, optimizer="adam", learning_rate=2e-4, weight_decay=0.0,
            schedule="constant",
        ),
    )  # fmt: skip


def paper_vgg16_unet() -> Recipe:
    """The paper's VGG_U-net."""
    return _paper("vgg16", "unet")


def paper_vgg16_pspnet() -> Recipe:
    """The paper's VGG_PSP-net."""
    return _paper("vgg16", "pspnet")


def paper_resnet50_unet() -> Recipe:
    """The paper's ResNet_U-net."""
    return _paper("resnet50", "unet")


def paper_resnet50_pspnet() -> Recipe:
    """The paper's ResNet_PSP-net, the one it judged best."""
    return _paper("resnet50", "pspnet")


def _ablation(name: str, recipe: Recipe, **changes: Any) -> Recipe:
    return override(
        dataclasses.replace(recipe, name=f"sis_cnn.{name}"), {k.replace("__", "."): v for k, v in changes.items()}
    )


def ablation_no_vertical_flip() -> Recipe:
    """The paper's best without its harmful vertical mirror images: horizontal flips while training instead."""
    return _ablation(
        "ablation_no_vertical_flip", paper_resnet50_pspnet(),
        augmentation__offline_flips=False, augmentation__flip_horizontal=0.5,
    )  # fmt: skip


def ablation_random_weights() -> Recipe:
    """The paper's best from random instead of ImageNet weights."""
    return _ablation("ablation_random_weights", paper_resnet50_pspnet(), weights=None)


def ablation_one_epoch() -> Recipe:
    """The paper's best after one epoch of 512 steps."""
    return _ablation("ablation_one_epoch", paper_resnet50_pspnet(), training__epochs=1)


def ablation_fifty_epochs() -> Recipe:
    """The paper's best after fifty epochs of 512 steps."""
    return _ablation("ablation_fifty_epochs", paper_resnet50_pspnet(), training__epochs=50)


def ablation_output_stride_16() -> Recipe:
    """The paper's best with the last stage dilated instead of strided."""
    return _ablation("ablation_output_stride_16", paper_resnet50_pspnet(), config__output_stride=16)


def ablation_output_stride_8() -> Recipe:
    """The paper's best with the last two stages dilated instead of strided."""
    return _ablation("ablation_output_stride_8", paper_resnet50_pspnet(), config__output_stride=8)


def ablation_conv_bn_relu() -> Recipe:
    """The paper's ResNet_U-net with the usual order of normalisation and ReLU."""
    return _ablation("ablation_conv_bn_relu", paper_resnet50_unet(), config__conv_order="conv_bn_relu")


REPORTED = {
    f"paper_{encoder}_{decoder}": {"seconds_per_step": 13.0, "seconds_per_epoch": 6904.0}
    for encoder in ("vgg16", "resnet50") for decoder in ("unet", "pspnet")
}  # fmt: skip
"""All that survives of the paper's results (Section IV): "around 13 seconds per step (6904s per epoch)", 512 steps an
epoch, on a laptop, and that ResNet with PSPNet "gives better results"."""
