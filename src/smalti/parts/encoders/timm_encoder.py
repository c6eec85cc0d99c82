"""Any timm network as an encoder: a pyramid of feature maps from fine to coarse. The only file that knows timm."""

import difflib
import logging
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
import torch.nn.functional as F
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]
from jaxtyping import Float
from torch import Tensor, nn

from smalti.parts.convolution import check_rates
from smalti.parts.depthwise import speed_up_depthwise
from smalti.parts.encoders.imagenet import WeightsNotFoundError, local_imagenet_weights, read_tensors
from smalti.parts.same_padding import own_same_padding

OUTPUT_STRIDES = (8, 16, 32)


class TimmEncoder(nn.Module):
    """The feature pyramid of a timm network.

    `channels` and `reductions` (input size / map size) describe the maps that `forward` answers, from fine to coarse;
    `mean` and `std` are those the ImageNet weights were made with, for pictures scaled to 0..1. VGG networks are tapped
    after each pool (strides 2, 4, 8, …) as SIS-CNN and SegNet count their levels; timm itself taps before it.
    """

    def __init__(
        self,
        name: str,
        taps: int | None = None,
        in_channels: int = 3,
        output_stride: int = 32,
        weights: str | Path | None = None,
        *,
        multi_grid: tuple[int, ...] | None = None,
    ) -> None:
        """Builds the encoder.

        Args:
            name: timm's name of the network.
            taps: How many maps, counted from the finest; later stages do not exist then. None = all.
            in_channels: Channels of the picture; weights for three channels are adapted to others by timm.
            output_stride: 32, or 16 or 8 where the network can trade strides for dilation.
            weights: None = random, "imagenet" = wherever they can be had, else a file with the network's weights.
            multi_grid: Factors on the dilation of a ResNet's last blocks, one a block; None = 1 for all.

        Raises:
            ValueError: Unknown network (names the nearest), or one without a pyramid, that output stride or that
                multi-grid.
            WeightsNotFoundError: If "imagenet" weights are nowhere to be had.
        """
        super().__init__()
        _check(name, output_stride)
        options: dict[str, Any] = {"in_chans": in_channels, "features_only": True}
        if output_stride != 32:
            options["output_stride"] = output_stride
        if taps is not None:
            options["out_indices"] = tuple(range(taps))
        self.network = _build(name, options, weights)
        if multi_grid is not None:
            _set_multi_grid(self.network, multi_grid, 32 // output_stride, name)
        info: Any = self.network.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        self.reductions: tuple[int, ...] = tuple(info.reduction())
        pooled = any(isinstance(layer, nn.MaxPool2d) for layer in self.network.children())
        self._after_pools = self.reductions[0] == 1 and pooled
        if self._after_pools:
            self.channels, self.reductions = (
                self.channels[: taps or 5],
                tuple(2 * r for r in self.reductions[: taps or 5]),
            )
        config: Any = timm.get_pretrained_cfg(name)
        self.mean = tuple(config.mean[k % 3] for k in range(in_channels))
        self.std = tuple(config.std[k % 3] for k in range(in_channels))
        speed_up_depthwise(self.network)
        own_same_padding(self.network)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """The pyramid, from fine to coarse."""
        if not self._after_pools:
            maps: list[Tensor] = self.network(x)
            return [m.permute(0, 3, 1, 2) for m in maps] if self._channels_come_last(maps[0]) else maps
        taps = []
        for layer in self.network.children():
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                taps.append(x)
        if len(taps) < len(self.channels):  # timm ends right before the pool of the last tap asked for
            taps.append(F.max_pool2d(x, 2))
        return taps

    def _channels_come_last(self, first: Tensor) -> bool:
        """Some transformers of timm answer [batch, height, width, channels]."""
        return first.shape[1] != self.channels[0] and first.shape[-1] == self.channels[0]


def encoder_names() -> list[str]:
    """Every encoder there is, by timm's name."""
    names: list[str] = timm.list_models()
    return names


def _check(name: str, output_stride: int) -> None:
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        near = f"did you mean {' or '.join(close)}?" if close else "`smalti list encoders` shows them all"
        raise ValueError(f'unknown encoder "{name}": {near}')
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"output_stride must be one of {OUTPUT_STRIDES}, got {output_stride}")


# timm warns of the classifier, which no encoder has.
logging.getLogger("timm.models._builder").setLevel(logging.ERROR)


def _build(name: str, options: dict[str, Any], weights: str | Path | None) -> nn.Module:
    try:
        if weights is None:
            return _create(name, options)
        if str(weights) != "imagenet":
            return _create(name, options, read_tensors(Path(weights)))
        tensors = local_imagenet_weights(name)
        return _create(name, options, tensors) if tensors is not None else _create_from_hub(name, options)
    except (AssertionError, NotImplementedError, TypeError, IndexError) as error:
        # timm's ways to say that a network has no pyramid, fewer maps, or not that stride.
        stride, maps = options.get("output_stride", 32), len(options.get("out_indices", ()))
        asked = f"of {maps} maps with" if maps else "with"
        raise ValueError(
            f'the encoder "{name}" has no feature pyramid {asked} output stride {stride} ({error})'
            + (f"; a U-Net takes a map for each of config.widths, which are {maps}: try one less" if maps else "")
        ) from error


def _create(name: str, options: dict[str, Any], tensors: dict[str, Tensor] | None = None) -> nn.Module:
    if tensors is None:
        network: nn.Module = timm.create_model(name, pretrained=False, **options)
        return network
    overlay = {"state_dict": tensors, "custom_load": False, "source": ""}
    builds: list[nn.Module] = []
    try:
        for seed in (0, 1):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                builds.append(timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options))
    except (RuntimeError, KeyError) as error:
        raise ValueError(f'these weights do not fit the encoder "{name}": {error}') from error
    # timm passes over tensors that the file lacks; they stay random, and so differ between two builds.
    first, second = (build.state_dict() for build in builds)
    random = [key for key in first if not torch.equal(first[key], second[key])]
    if random:
        raise ValueError(
            f'these weights do not fit the encoder "{name}": {len(random)} tensors are missing, e.g. {random[0]}'
        )
    return builds[0]


def _set_multi_grid(network: nn.Module, factors: tuple[int, ...], dilation: int, name: str) -> None:
    """Dilates the 3x3 convolutions of a ResNet's last stage by `dilation` x factor, block by block (DeepLabV3)."""
    stage = getattr(network, "layer4", None)
    if not isinstance(stage, nn.Sequential) or len(stage) != len(check_rates(factors, "multi_grid")):
        blocks = f"a last stage of {len(stage)} blocks" if isinstance(stage, nn.Sequential) else "no ResNet stages"
        raise ValueError(f"multi_grid={factors} needs a ResNet with a last stage of {len(factors)} blocks; "
                         f'"{name}" has {blocks}: set multi_grid to none')  # fmt: skip
    for block, factor in zip(stage, factors, strict=True):
        for conv in block.modules():
            if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (dilation * factor, dilation * factor)


def _create_from_hub(name: str, options: dict[str, Any]) -> nn.Module:
    constants: Any = huggingface_hub.constants
    before = constants.HF_HUB_OFFLINE
    try:
        # One quick look first: the hub's own client tries for most of a minute before it gives up. Without an answer
        # there may still be weights of an earlier download.
        constants.HF_HUB_OFFLINE = before or not _hub_answers()
        network: nn.Module = timm.create_model(name, pretrained=True, **options)
    except (OSError, RuntimeError, HfHubHTTPError) as error:
        raise WeightsNotFoundError(name, f"the hub did not answer: {type(error).__name__}") from error
    finally:
        constants.HF_HUB_OFFLINE = before
    return network


def _hub_answers() -> bool:
    try:
        get_session().head(huggingface_hub.constants.ENDPOINT, timeout=5)
    except Exception:  # whatever the client's HTTP library of this version raises
        return False
    return True
