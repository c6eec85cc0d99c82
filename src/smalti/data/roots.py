"""Where a public data set lies on this machine."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smalti.data.contract import DataError

VARIABLE = "SMALTI_DATA"


@dataclass(frozen=True, kw_only=True)
class NativeLayout:
    """How a data set is recognised: its folder's usual names, and patterns of files or folders that must be inside."""

    set: str
    folders: tuple[str, ...]
    markers: tuple[str, ...]
    how_to_get: str


def find_root(root: Path | None, layout: NativeLayout) -> Path:
    """The set's folder: `root` (or its native folder inside `root`), else searched in `SMALTI_DATA`, one level deep.

    Raises:
        DataError: If it is not there; says what was expected and how to get the set.
    """
    if root is not None:
        places, searched = [root, *(root / name for name in layout.folders)], str(root)
    elif base := os.environ.get(VARIABLE):
        places, searched = _candidates(Path(base), layout.folders), f"{base} ({VARIABLE})"
    else:
        places, searched = [], f"nowhere, because {VARIABLE} is not set"
    for place in places:
        if all(any(place.glob(marker)) for marker in layout.markers):
            return place
    raise DataError(
        f"{layout.set}: not found; searched in {searched} for a folder {' or '.join(layout.folders)} with "
        f"{', '.join(layout.markers)}. {layout.how_to_get} Then say where: --data {layout.set}=FOLDER"
    )


def _candidates(base: Path, folders: Sequence[str]) -> list[Path]:
    inside = sorted(p for p in base.iterdir() if p.is_dir()) if base.is_dir() else []
    return [base, *(base / name for name in folders), *(child / name for child in inside for name in folders)]
