"""The log of a command (`--log FILE`): what was called, in which versions, every line that was said, every traceback.

Only the standard library is used: the log begins before anything heavy is imported.
"""

import contextlib
import logging
import os
import platform
import re
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HEADER = "# smalti log"
LOG_VARIABLE = "SMALTI_RUNNING_LOG"
"""Tells processes that a command starts which log is theirs."""
PACKAGES: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "timm": ("timm",),
    "lightning": ("lightning",),
    "numpy": ("numpy",),
    "pillow": ("pillow",),
    "opencv": ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "rasterio": ("rasterio",),
    "av": ("av",),
}
"""Packages whose versions decide what smalti does, with the names under which they may be installed."""
CONTROL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PASSWORD = re.compile(r"(\w+://[^/\s:@]*):[^/\s@]+@")

_tracebacks = logging.getLogger("smalti.traceback")
_running: "CommandLog | None" = None


def versions() -> dict[str, str | None]:
    """The version of each of `PACKAGES`; None = not installed."""
    return {name: next(filter(None, map(_version, names)), None) for name, names in PACKAGES.items()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def keep_traceback(error: BaseException) -> None:
    """Writes the error's traceback into the log, if there is one: for errors that a user sees as one line."""
    _tracebacks.debug("%s", type(error).__name__, exc_info=error)


def start_log(path: Path | None) -> None:
    """Begins a log, or adds to an earlier one; from now on it gets each line written to stdout and stderr.

    Without a path (None) there is no log.

    Raises:
        ValueError: If the file is something else than a log, or its folder does not exist.
    """
    global _running  # noqa: PLW0603  one command, one log
    if path is None:
        return
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"--log takes the name of a file in a folder that exists; got {path}")
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if not file.read(len(HEADER)) == HEADER.encode():
                raise ValueError(f"{path} exists and is no log of smalti: choose another --log")
    _running = CommandLog(path)
    os.environ[LOG_VARIABLE] = str(path.absolute())
    _running.write("#", f"{HEADER.removeprefix('# ')} of {datetime.now().astimezone().isoformat(timespec='seconds')}")
    _running.write("#", f"command: {shlex.join(['smalti', *sys.argv[1:]])}")
    known = {"smalti": version("smalti"), "python": platform.python_version(), **versions()}
    _running.write("#", ", ".join(f"{name} {number or '(not installed)'}" for name, number in known.items()))
    _running.write("#", platform.platform())


def join_log() -> None:
    """In a process that a command started: what it says goes into the command's log, too."""
    global _running  # noqa: PLW0603
    if _running is None and (path := os.environ.get(LOG_VARIABLE)):
        _running = CommandLog(Path(path))


@contextlib.contextmanager
def finishing_log() -> Iterator[None]:
    """At the end the log, if there is one, gets the traceback of an error, the exit code and the time it took."""
    global _running  # noqa: PLW0603
    code: Any = 0
    try:
        yield
    except SystemExit as stopped:
        code = stopped.code or 0
        raise
    except BaseException as error:
        code = 1
        keep_traceback(error)
        raise
    finally:
        if _running is not None:
            _running.close(code)
            _running = None
            os.environ.pop(LOG_VARIABLE, None)


class CommandLog:
    """An open log. While it is open, it copies stdout and stderr."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        self._lock = threading.Lock()
        self._begin = time.monotonic()
        self._streams = sys.stdout, sys.stderr
        self._copies: Any = Copy(sys.stdout, self, "out"), Copy(sys.stderr, self, "err")
        sys.stdout, sys.stderr = self._copies
        self._handler = _TracebackHandler(self)
        _tracebacks.addHandler(self._handler)
        _tracebacks.setLevel(logging.DEBUG)
        _tracebacks.propagate = False

    def write(self, kind: str, text: str) -> None:
        """Adds lines, each with the time of day, the seconds since the start and its kind (out, err, trace)."""
        now, taken = datetime.now().strftime("%H:%M:%S.%f")[:-3], time.monotonic() - self._begin
        start = "# " if kind == "#" else f"{now} {taken:9.3f} {kind} "
        lines = PASSWORD.sub(r"\1:***@", text).splitlines()
        with self._lock:
            self._file.write("".join(f"{start}{line}\n" for line in lines))

    def close(self, code: Any) -> None:
        """Says how the command ended, and gives stdout and stderr back."""
        for copy in self._copies:
            copy.end()
        sys.stdout, sys.stderr = self._streams
        _tracebacks.removeHandler(self._handler)
        _tracebacks.propagate = True
        _tracebacks.setLevel(logging.NOTSET)
        self.write("end", f"exit code {code} after {time.monotonic() - self._begin:.1f} s")
        self._file.close()


class Copy:
    """A stream whose whole lines also go into a log; of a progress bar only its last state."""

    def __init__(self, stream: Any, log: CommandLog, kind: str) -> None:
        self._stream, self._log, self._kind, self._line = stream, log, kind, ""

    def write(self, text: str) -> int:
        """Writes to the stream, and each line that is whole to the log."""
        count: int = self._stream.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._keep(line)
        return count

    def writelines(self, lines: Sequence[str]) -> None:
        """Writes each of them."""
        for line in lines:
            self.write(line)

    def end(self) -> None:
        """Keeps what was said without an end of line."""
        self._keep(self._line)
        self._line = ""

    def _keep(self, line: str) -> None:
        shown = CONTROL_CODES.sub("", line.rstrip("\r").rpartition("\r")[-1])
        if shown.strip():
            self._log.write(self._kind, shown)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _TracebackHandler(logging.Handler):
    def __init__(self, log: CommandLog) -> None:
        super().__init__(logging.DEBUG)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._log.write("trace", logging.Formatter().formatException(record.exc_info))
