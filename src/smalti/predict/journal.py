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
ENTRY_FORMAT = 2
"""Of what a picture adds to the files of all; entries of another one are not taken over."""
Done = dict[str, tuple[str, dict[str, Entry]]]
"""By the name of the answers: the key of the picture that they are of, and what it adds to the files of all."""
log = logging.getLogger("smalti")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A picture, the name of its answers, and its file as it was when the run began (bytes, time of last change)."""

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
    """`predictions.jsonl`: a line that says how the answers are made, then one for each that is begun anew or finished.

    A line is added when all files of its picture are on the disk, and taken back before one of them is replaced; so
    whatever ends a run, what the journal names is whole, and of that picture. A last line that was cut off counts as
    not there. Until the first answer is begun, the file is that of the run before.
    """

    def __init__(self, out: Path, made_by: Mapping[str, Any], resume: bool) -> None:
        """With `resume`, what stands in the folder is kept if it was made in the same way, else forgotten."""
        self.out, self._made_by = out, made_by
        self._done: Done = {}
        self.value_ranges: dict[str, list[float]] = {}
        """By kind of image deeper than 8 bits: its range of values, which a continued run keeps."""
        if resume:
            self._done, self.value_ranges = _read(out / JOURNAL, made_by)
        self._file: TextIO | None = None
        self._lock = threading.Lock()

    def entries(self, job: Job) -> dict[str, Entry] | None:
        """What a finished picture adds to the files of all; None = it is not finished."""
        key, entries = self._done.get(job.name, ("", {}))
        return entries if key == job.key() else None

    def begin(self, job: Job) -> None:
        """Before anything of an answer is written, any number of times, from any thread: what had its name is gone."""
        with self._lock:
            before = self._done.pop(job.name, None)
            if self._file is None:
                path = self.out / JOURNAL
                first = {"made_by": self._made_by, "value_ranges": self.value_ranges}
                lines = [json.dumps(first), *(_line(*done) for done in self._done.values())]
                write_text(path, "".join(f"{line}\n" for line in lines))
                self._file = path.open("a", encoding="utf-8")
            elif before is not None:
                self._write(json.dumps({"begun": job.name}))

    def add(self, job: Job, entries: dict[str, Entry]) -> None:
        """Says that a picture that was begun is finished."""
        with self._lock:
            self._done[job.name] = job.key(), entries
            self._write(_line(job.key(), entries))

    def _write(self, line: str) -> None:
        assert self._file is not None, "begin() comes first"
        self._file.write(f"{line}\n")
        self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def _line(key: str, entries: dict[str, Entry]) -> str:
    return json.dumps({"picture": key, "entries": entries})


def _read(path: Path, made_by: Mapping[str, Any]) -> tuple[Done, dict[str, list[float]]]:
    """What is finished, and the value ranges, if all was made in the same way."""
    done: Done = {}
    ranges: dict[str, list[float]] = {}
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        header = json.loads(first)
        before, now = header["made_by"], json.loads(json.dumps(made_by))
        if before != now:
            others = ", ".join(sorted(key for key in before | now if before.get(key) != now.get(key)))
            log.warning("%s: what is there was made otherwise (%s), so nothing is passed over", path.parent, others)
            return {}, {}
        ranges = dict(header.get("value_ranges", {}))
        for line in lines:
            said = json.loads(line)
            if "begun" in said:
                done.pop(said["begun"], None)
            else:
                name, *_ = json.loads(said["picture"])
                done[name] = said["picture"], said["entries"]
    except FileNotFoundError:
        return {}, {}
    except (ValueError, TypeError, KeyError, AttributeError):  # from here on, nothing can be relied on
        pass
    return done, ranges
