"""Whole picture or tiles: whatever fits into the memory that is left."""

import os
from pathlib import Path

from smalti.containers import Size
from smalti.predict.tiling import Tiles

SIDES = (1024, 768, 512, 384, 256)
"""Larger tiles than the first bring little context that a network uses, and no speed."""
KEPT = 0.75
"""Of what is free, the share that a picture may take: the estimate is rough, and others want memory, too."""


def choose_tiles(size: Size, bytes_per_pixel: float, available: int | None = None) -> Tiles | None:
    """The largest tiles that fit into memory; None = the whole picture does.

    `bytes_per_pixel` is what the network and its answer take at their peak per pixel of the input, beside weights and
    libraries; it is measured, not derived. `available` is in bytes, None = as `available_memory` says.

    Raises:
        ValueError: If not even the smallest tile fits.
    """
    usable = KEPT * (available_memory() if available is None else available)
    if size[0] * size[1] * bytes_per_pixel <= usable:
        return None
    for side in SIDES:
        if min(side, size[0]) * min(side, size[1]) * bytes_per_pixel <= usable:
            return Tiles(size=side, overlap=side // 8)
    side = SIDES[-1]
    needed = side**2 * bytes_per_pixel
    raise ValueError(
        f"{usable / 2**20:.0f} MiB of memory are too few for a tile of {side} x {side} pixels, which takes "
        f"{needed / 2**20:.0f}: free some, or take a smaller network"
    )


def check_whole(size: Size, bytes_per_pixel: float, available: int | None = None) -> None:
    """For networks that see each picture as a whole, made smaller: its answer has the picture's own size again.

    Raises:
        ValueError: If that does not fit into memory.
    """
    usable = KEPT * (available_memory() if available is None else available)
    needed = size[0] * size[1] * bytes_per_pixel
    if needed > usable:
        raise ValueError(
            f"the answer for {size[0]} x {size[1]} pixels takes about {needed / 2**20:.0f} MiB of memory, and "
            f"{usable / 2**20:.0f} can be had: make the picture smaller, or ask for tiles (--tile 1024)"
        )


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: what the machine has free, or less in a container with a limit.

    `root` is where /proc and /sys are.
    """
    return min([_machine(root / "proc" / "meminfo"), *_groups(root)])


def _machine(meminfo: Path) -> int:
    """Linux counts files that it could forget as available; elsewhere, what is unused."""
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    # macOS does not say how many pages are unused; half of all is a guess that has to do there.
    unused = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else None
    pages = os.sysconf(unused) if unused else os.sysconf("SC_PHYS_PAGES") // 2
    return pages * os.sysconf("SC_PAGE_SIZE")


def _groups(root: Path) -> list[int]:
    """What each control group around this process has left, of either version."""
    own = root / "proc" / "self" / "cgroup"
    if not own.is_file():
        return []
    left = []
    for line in own.read_text(encoding="utf-8").splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / "sys" / "fs" / "cgroup" / controllers
            names = (
                ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
            )
            # In a container the path is often the host's, of which only the top is to be seen.
            inner = [top / part for part in _upwards(place)]
            left += [_left(group, *names) for group in (*inner, top) if (group / names[0]).is_file()]
    return [bytes_ for bytes_ in left if bytes_ is not None]


def _upwards(place: str) -> list[Path]:
    path = Path(place.lstrip("/"))
    return [path, *list(path.parents)[:-1]] if path.parts and ".." not in path.parts else []


def _left(group: Path, limit: str, used: str) -> int | None:
    most = (group / limit).read_text(encoding="ascii").strip()
    if most == "max":
        return None
    stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    forgettable = int(stat.get("inactive_file", 0))
    return max(0, int(most) - int((group / used).read_text(encoding="ascii")) + forgettable)
