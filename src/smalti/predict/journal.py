"""What a run over many pictures has done so far, so that another one can go on."""

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from smalti.files import write_text
from smalti.predict.writers import Entry

JOURNAL = "predictions.jsonl"
log = logging.getLogger("smalti")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A picture, the stem of its answers, and its file as it was when the run began (bytes, time of last change)."""

    file: Path
    name: str
    state: tuple[int, int]

    @classmethod
    def of(cls, file: Path, name: str) -> "Job":
        """A file that cannot be looked at is a job, too: reading it will say why."""
        try:
            found = file.stat()
        except OSError:
            return cls(file=file, name=name, state=(-1, 0))
        return cls(file=file, name=name, state=(found.st_size, found.st_mtime_ns))

    def key(self) -> str:
        """What must be as it was for an answer to hold."""
        return json.dumps([self.name, str(self.file.resolve()), *self.state])


class Journal:
    """`predictions.jsonl`: a line that says how the answers are made, then one for each finished picture.

    A line is added when all files of its picture are on the disk; so whatever ends a run, what the journal names is
    whole. A last line that was cut off counts as not there. Until `begin`, the file is that of the run before.
    """

    def __init__(self, out: Path, made_by: Mapping[str, Any], resume: bool) -> None:
        """With `resume`, what stands in the folder is kept if it was made in the same way, else forgotten."""
        self.out, self._made_by = out, made_by
        self.done: dict[str, dict[str, Entry]] = _read(out / JOURNAL, made_by) if resume else {}
        self._file: TextIO | None = None
        self._beginning = threading.Lock()

    def begin(self) -> None:
        """Before the first answer is written, any number of times, from any thread."""
        with self._beginning:
            if self._file is None:
                path = self.out / JOURNAL
                lines = [json.dumps({"made_by": self._made_by}), *map(_line, self.done.items())]
                write_text(path, "".join(f"{line}\n" for line in lines))
                self._file = path.open("a", encoding="utf-8")

    def add(self, job: Job, entries: dict[str, Entry]) -> None:
        """Says that a picture is finished."""
        assert self._file is not None, "begin() comes first"
        self.done[job.key()] = entries
        self._file.write(_line((job.key(), entries)) + "\n")
        self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def _line(entry: tuple[str, dict[str, Entry]]) -> str:
    return json.dumps({"picture": entry[0], "entries": entry[1]})


def _read(path: Path, made_by: Mapping[str, Any]) -> dict[str, dict[str, Entry]]:
    done: dict[str, dict[str, Entry]] = {}
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        before, now = json.loads(first)["made_by"], json.loads(json.dumps(made_by))
        if before != now:
            others = ", ".join(key for key in now if before.get(key) != now[key])
            log.warning("%s: what is there was made otherwise (%s), so all of it is made anew", path.parent, others)
            return {}
        for line in lines:
            said = json.loads(line)
            done[said["picture"]] = said["entries"]
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError):  # from here on, nothing can be relied on
        pass
    return done
