"""What a report of a fault needs to say about the machine: `smalti --version --json`."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from smalti.command_log import versions
from smalti.data.cache import cache_folder
from smalti.hardware import best_device, fast_bfloat16


def environment() -> dict[str, Any]:
    """Versions, machine and settings, as JSON values; None = not installed, or the machine does not say.

    Of paths only the cache folder is named; of `SMALTI_DATA` only whether it is set.
    """
    device = best_device()
    return {
        "smalti": version("smalti"),
        "python": platform.python_version(),
        "packages": versions(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_count": _cpu_count(),
        "memory_bytes": _memory(),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "bfloat16": fast_bfloat16(device),
        "cache_folder": _cache_folder(),
        "smalti_data_is_set": bool(os.environ.get("SMALTI_DATA")),
    }


def _cpu_name() -> str | None:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    if platform.system() == "Darwin":
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip() or None
    return platform.processor() or platform.machine() or None


def _cpu_count() -> int | None:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _cache_folder() -> str | None:
    try:
        return str(cache_folder())
    except RuntimeError:  # there is no home folder
        return None
