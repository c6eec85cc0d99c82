"""What a run over many pictures has done so far, so that another one can go on; and which files are answers."""

import fnmatch
import json
import logging
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from smalti.files import write_text
from smalti.ownership import ABSENT, NOTHING_INSIDE, FileState, refuse, state_of
from smalti.predict.writers import SUMMARIES, Entry, names_written

JOURNAL = "predictions.jsonl"
ENTRY_FORMAT = 2
"""Of what a picture adds to the files of all; entries of another one are not taken over."""
Done = dict[str, tuple[str, dict[str, Entry]]]
"""By the name of the answers: the key of the picture that they are of, and what it adds to the files of all."""
Files = dict[str, FileState | None]
"""Answers by their names in the folder, as they were when they were written; None = being written, or nobody knows."""
PICTURE = '{"picture": '
"""How the line of a finished picture begins."""
log = logging.getLogger("smalti")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A picture, the name of its answers, and its file as it was when the run began (bytes, time of last change)."""

    file: Path
    name: str
    state: tuple[int, int]
    answers: tuple[str, ...]
    """The files and folders that may be written for it, by their names in the folder of the answers."""

    @classmethod
    def of(cls, file: Path, name: str, answers: Sequence[str]) -> "Job":
        """A file that cannot be looked at is a job, too: reading it will say why."""
        try:
            found = file.stat()
        except OSError:
            return cls(file=file, name=name, state=(-1, 0), answers=tuple(answers))
        return cls(file=file, name=name, state=(found.st_size, found.st_mtime_ns), answers=tuple(answers))

    def key(self) -> str:
        """What must be as it was for an answer to hold."""
        return json.dumps([self.name, str(self.file.resolve()), *self.state])


@dataclass
class _Content:
    """What a journal says."""

    made_by: Mapping[str, Any]
    done: Done = field(default_factory=dict)
    files: Files = field(default_factory=dict)
    value_ranges: dict[str, list[float]] = field(default_factory=dict)


class Journal:
    """`predictions.jsonl`: a line that says how the answers are made, then one for each that is begun anew or finished.

    A line is added when all files of its picture are on the disk, and taken back before one of them is replaced; so
    whatever ends a run, what the journal names is whole, and of that picture. A last line that was cut off counts as
    not there. Until the first answer is begun, the file is that of the run before.

    Every file of an answer is remembered with its size and time of last change, by later runs as well, whatever they
    are asked for: so that what a person put there or changed is told from what this package wrote.
    """

    def __init__(self, out: Path, made_by: Mapping[str, Any], resume: bool) -> None:
        """With `resume`, what stands in the folder is kept if it was made in the same way, else forgotten."""
        self.out, self._made_by = out, made_by
        with os.scandir(out) as entries:
            self._there = {entry.name for entry in entries}
        content = _read(out / JOURNAL, self._there, with_pictures=resume)
        self._is_ours = content is not None
        content = content or _Content(made_by={})
        self._files = {k: state for k, state in content.files.items() if k in self._there or state == ABSENT}
        goes_on = self._is_ours and resume and _is_same(content.made_by, made_by, out)
        self._done: Done = content.done if goes_on else {}
        self.value_ranges = content.value_ranges if goes_on else {}
        """By kind of image deeper than 8 bits: its range of values, which a continued run keeps."""
        self._begun: set[str] = set()
        self._file: TextIO | None = None
        self._lock = threading.Lock()

    def entries(self, job: Job) -> dict[str, Entry] | None:
        """What a finished picture adds to the files of all; None = it is not finished."""
        key, entries = self._done.get(job.name, ("", {}))
        return entries if key == job.key() else None

    def is_done(self, job: Job) -> bool:
        """Whether a picture is finished, and all its answers were there when the journal was opened."""
        are_there = all(name in self._there or self._files.get(name) == ABSENT for name in job.answers)
        return are_there and self.entries(job) is not None

    def check_replaceable(self, jobs: Iterable[Job], summaries: Sequence[str]) -> None:
        """Asked before the first answer: whether what is about to be written replaces only what this package wrote.

        `summaries` are names, or patterns of names, of the files about all pictures.

        Raises:
            ValueError: If not; names the first files.
        """
        names = {name for job in jobs if not self.is_done(job) for name in job.answers}
        names.update(name for pattern in summaries for name in fnmatch.filter(self._there, pattern))
        theirs = sorted(name for name in names & self._there if not self._is_own(name))
        if JOURNAL in self._there and not self._is_ours:
            theirs.append(JOURNAL)
        refuse([self.out / name for name in theirs])

    def _is_own(self, name: str) -> bool:
        known = self._files.get(name, ABSENT)
        return known is None or state_of(self.out / name) in (known, NOTHING_INSIDE)

    def begin(self, job: Job) -> None:
        """Before anything of an answer is written, any number of times, from any thread: what had its name is gone."""
        with self._lock:
            if job.name in self._begun:
                return
            self._begun.add(job.name)
            self._done.pop(job.name, None)
            self._files.update(dict.fromkeys(job.answers))
            self._write({"begun": job.name, "files": dict.fromkeys(job.answers)})

    def add(self, job: Job, entries: dict[str, Entry]) -> None:
        """Says that a picture that was begun is finished."""
        with self._lock:
            self._begun.discard(job.name)
            self._done[job.name] = job.key(), entries
            self._remember(job.answers)
            self._write(_line(job.key(), entries))

    def leave(self, job: Job) -> None:
        """Remembers the answers as they are of a picture that was begun and will not be finished in this run."""
        with self._lock:
            if job.name in self._begun:
                self._remember(job.answers)

    def wrote(self, summaries: Sequence[str]) -> None:
        """Remembers files about all pictures, by their names or patterns of names."""
        with os.scandir(self.out) as entries:
            names = [entry.name for entry in entries]
        with self._lock:
            self._remember(name for pattern in summaries for name in fnmatch.filter(names, pattern))

    def _remember(self, names: Iterable[str]) -> None:
        states: Files = {name: state_of(self.out / name) for name in names}
        self._files.update(states)
        self._write({"files": states})

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is None:  # the first one: what is forgotten by this run is left out from now on
            path = self.out / JOURNAL
            header = {"made_by": self._made_by, "files": self._files, "value_ranges": self.value_ranges}
            lines = [header, *(_line(*done) for done in self._done.values())]
            write_text(path, "".join(f"{json.dumps(entry)}\n" for entry in lines))
            self._file = path.open("a", encoding="utf-8")
        self._file.write(f"{json.dumps(line)}\n")
        self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def _line(key: str, entries: dict[str, Entry]) -> dict[str, Any]:
    return {"picture": key, "entries": entries}


def _is_same(before: Mapping[str, Any], made_by: Mapping[str, Any], out: Path) -> bool:
    now = json.loads(json.dumps(made_by))
    if before == now:
        return True
    others = ", ".join(sorted(key for key in before.keys() | now if before.get(key) != now.get(key)))
    log.warning("%s: what is there was made otherwise (%s), so nothing is passed over", out, others)
    return False


def _read(path: Path, there: set[str], *, with_pictures: bool) -> _Content | None:
    """What the journal says as far as it can be read; None = there is none, or it is no journal.

    Journals of earlier versions name no files: there the names of the answers tell, of those in `there`.
    """
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        header = json.loads(first)
        names_files = "files" in header
        content = _Content(header["made_by"], files=_states(header), value_ranges=dict(header.get("value_ranges", {})))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if not names_files:
        known = [name for pattern in SUMMARIES for name in fnmatch.filter(there, pattern)]
        content.files.update(dict.fromkeys(known))
    try:
        for line in lines:
            if names_files and not with_pictures and line.startswith(PICTURE):  # long ones, of many objects
                continue
            said = json.loads(line)
            content.files.update(_states(said))
            if "begun" in said:
                content.done.pop(said["begun"], None)
            elif "picture" in said:
                name, *_ = json.loads(said["picture"])
                content.done[name] = said["picture"], said["entries"]
                if not names_files:
                    known = [name, f"{name.removesuffix('_labels.tif')}_preview.jpg", *names_written(name)]
                    content.files.update(dict.fromkeys(there.intersection(known)))
    except (ValueError, TypeError, KeyError, AttributeError):  # from here on, nothing can be relied on
        pass
    return content


def _states(line: Mapping[str, Any]) -> Files:
    files: Mapping[str, Sequence[int] | None] = line.get("files", {})
    return {name: None if state is None else (state[0], state[1]) for name, state in files.items()}
