"""People's own files: nothing that this package did not write is replaced, unless the user says so."""

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

SOFTWARE = "smalti"
"""What files say that made them, where their format has a place for it."""
FileState = tuple[int, int]
"""Bytes, and the time of the last change in nanoseconds; of a folder, the sum and the latest of the files in it."""
NOTHING_INSIDE: FileState = (0, 0)
"""The state of a folder without files."""
ABSENT: FileState = (-1, -1)
"""The state of what does not exist."""
NAMED = 3
"""Files that a refusal names."""


def state_of(path: Path) -> FileState:
    """The state of a file or folder, links not followed."""
    try:
        found = path.lstat()
    except OSError:
        return ABSENT
    if not stat.S_ISDIR(found.st_mode):
        return found.st_size, found.st_mtime_ns
    inside = [(Path(place) / name).lstat() for place, _, names in os.walk(path) for name in names]
    return sum(file.st_size for file in inside), max((file.st_mtime_ns for file in inside), default=0)


def check_replaceable(files: Iterable[Path], is_own: Callable[[Path], bool], *, overwrite: bool | None) -> None:
    """Asked before anything is computed: whether these files may be written.

    Args:
        files: What will be written; those that do not exist yet may be.
        is_own: Whether this package wrote an existing one.
        overwrite: True = all may be; None = the command has no such option.

    Raises:
        ValueError: If some exist that this package did not write; names the first.
    """
    if not overwrite:
        refuse([file for file in files if os.path.lexists(file) and not is_own(file)], can_overwrite=overwrite is False)


def refuse(files: Sequence[Path], *, can_overwrite: bool = True) -> None:
    """Raises ValueError if there are any files: they would be replaced, and this package did not write them."""
    if not files:
        return
    shown = ", ".join(map(str, files[:NAMED]))
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    way_out = ", or replace them with --overwrite (in Python: overwrite=True)" if can_overwrite else ""
    raise ValueError(f"{count} would be replaced that smalti did not write, or that changed since: {shown}{more}. "
                     f"Choose another place with --out{way_out}")  # fmt: skip
