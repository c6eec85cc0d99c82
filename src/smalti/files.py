"""Files that are whole or not there: written beside, flushed to the disk, then renamed."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is claimed there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path to write to that takes the place of `path` only when the block ends well.

    A reader, or a process that is killed, or a disk that fills up, never sees or leaves half a file at `path`.

    Raises:
        OSError: If the file cannot be written; what stood at `path` before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replaces a file, whole or not at all.

    Raises:
        OSError: If it cannot be written, say to a full disk.
    """
    with replacing(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replaces a text file (UTF-8, but for file names that are none), whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keeps a folder for this block, until it or the process ends; makes it if it is not there.

    Raises:
        ValueError: If another process, or another block of this one, has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder} is in use: another command or thread writes there; wait for it, or choose "
                             "another folder") from None  # fmt: skip
        except OSError:  # a file system without locks: nothing is claimed there
            pass
        yield
    finally:
        os.close(handle)
