"""What this machine computes fast; the fast way is the default wherever the hardware has it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def best_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware. CPUs that emulate it would be slower with it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def uses_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether a recipe's precision means bfloat16 autocast on this device."""
    return precision == "bfloat16" or (precision == "auto" and fast_bfloat16(device))


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context to run a network in."""
    if uses_bfloat16(precision, device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
