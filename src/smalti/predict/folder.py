"""Files in, files out: pictures and folders of pictures to answers on disk."""

import contextlib
import errno
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
from jaxtyping import UInt8
from torch import Tensor

from smalti.checkpoint import find
from smalti.command_log import keep_traceback
from smalti.containers import Predictions
from smalti.data.contract import DataError
from smalti.data.pictures import PICTURE_SUFFIXES, find_pictures, picture_size, read_transparent_picture
from smalti.data.value_range import ValueRange
from smalti.files import claimed
from smalti.predict.journal import ENTRY_FORMAT, Job, Journal
from smalti.predict.loading import load
from smalti.predict.options import Options
from smalti.predict.pipeline import Steps, run
from smalti.predict.predictor import WHOLE, Predictor
from smalti.predict.value_ranges import choose_value_ranges
from smalti.predict.writers import (
    ENDINGS,
    FOLDERS,
    WRITERS,
    Entry,
    NoSuchAnswerError,
    Writer,
    kinds_of,
    names_written,
)

MOST_IN_A_ROW = 3
"""Pictures for which the runtime or the memory may fail, one after the other, until the run ends."""
Progress = Callable[[int, int], None]
"""Is told the pictures done, and the pictures in all."""
log = logging.getLogger("smalti")


def find_files(paths: Sequence[Path], out: Path) -> list[Path]:
    """The pictures meant: files as named, folders by everything below them that is a picture and no answer in `out`.

    One that is meant twice is found once.

    Raises:
        ValueError: If a path does not exist, a folder has no picture, or is that of the answers or lies in it.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            answers = out.resolve()
            if answers == path.resolve():
                raise ValueError(f"{path}: answers among the pictures would be taken for pictures the next time: "
                                 "choose another folder with --out")  # fmt: skip
            if answers in path.resolve().parents:
                raise ValueError(f"{path}: lies in the folder of the answers, {out}, and what is in there is taken for "
                                 "answers: choose another folder with --out")  # fmt: skip
            inside = [p for p in find_pictures(path) if answers not in p.resolve().parents]
            if not inside:
                raise ValueError(f"{path}: no pictures in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{path}: no such picture or folder")
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(path.parent.resolve() / path.name, path)  # links are pictures of their own
    return list(once.values())


def predict_files(
    model: Path,
    files: Sequence[Path],
    out: Path,
    show: str | Sequence[str],
    progress: Progress | None = None,
    *,
    options: Options | None = None,
) -> list[str]:
    """Writes each picture's answer into `out`; one bad file never stops the rest.

    Pictures are read and answers written beside the prediction; a few are held in memory at a time.

    Args:
        model: Run folder or checkpoint.
        files: Pictures. Two of the same name (in different folders) get different answers' names.
        out: Folder for the answers.
        show: What is written: names of `WRITERS`, or one text with commas between them.
        progress: Called after each picture.
        options: How the pictures are answered.

    Returns:
        What went wrong, a line a file, in the order of the files.

    Raises:
        ValueError: If a kind is unknown, an answer would replace one of the pictures or a file that this package did
            not write, there is no model, or it does not know the task.
        OSError: If answers cannot be written, say to a full disk.
        KeyboardInterrupt: Says how far it came; what was begun is finished, and the files of all pictures written.
    """
    options = options or Options()
    kinds = kinds_of(show)
    check_targets(files, out)

    def loaded(left: int, side_by_side: bool) -> Predictor:
        pictures = max(left, options.execution.pictures)
        execution = replace(options.execution, pictures=pictures, side_by_side=side_by_side)
        predictor = load(model, execution, options.changes)
        predictor.views, predictor.tiles = options.views, options.tiles
        return predictor

    with open_journal(model, kinds, out, options) as journal:
        jobs = picture_jobs(files, kinds)
        if not options.overwrite:
            journal.check_replaceable(jobs, summaries_of(kinds))
        ranges = choose_value_ranges(model, files, (), options=options, journal=journal, say=log.warning)
        return answer_files(loaded, jobs, kinds, journal=journal, value_ranges=ranges, progress=progress)


def picture_jobs(files: Sequence[Path], kinds: Sequence[str]) -> list[Job]:
    """A job for each picture, with the names of its answers of these kinds."""
    names = answer_names(files)
    return [Job.of(file, name, names_written(name, kinds)) for file, name in zip(files, names, strict=True)]


def summaries_of(kinds: Sequence[str]) -> list[str]:
    """Names, or patterns of names, of the files about all pictures that these kinds write."""
    return [name for kind in kinds for name in WRITERS[kind](Path()).summaries]


@contextmanager
def open_journal(model: Path, kinds: Sequence[str], out: Path, options: Options) -> Iterator[Journal]:
    """The journal of the answers in `out`, which is made if it is not there; no other process writes there meanwhile.

    Raises:
        ValueError: If it is no folder, or another process writes there.
    """
    made_by = {"model": _identity(model), "entry_format": ENTRY_FORMAT, **options.deciding(), "show": sorted(kinds)}
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"{place} is a file, and answers are written into a folder: choose another --out")
    with claimed(out), Journal(out, made_by, options.resume) as journal:
        yield journal


def answer_files(
    load: Callable[[int, bool], Predictor],
    jobs: Sequence[Job],
    kinds: Sequence[str],
    *,
    journal: Journal,
    value_ranges: Mapping[Path, ValueRange],
    progress: Progress | None,
) -> list[str]:
    """`predict_files` with its targets checked; answers go into the journal's folder.

    `load` gives the network, if any pictures are left, for so many of them, and to compute them side by side or not.
    `value_ranges` are those of pictures deeper than 8 bits.
    """
    writers = {kind: WRITERS[kind](journal.out) for kind in kinds}
    work = _Work(jobs, writers, journal, value_ranges, progress)
    left = work.left()
    if left:
        predictor = load(len(left), len(left) > 1 and _are_small([job.file for job in left]))
        steps = Steps(read=work.read, predict=predictor, write=work.write, settle=work.settle)
        try:
            run(left, steps, predictor.at_once)
        except KeyboardInterrupt:
            work.finish()
            raise KeyboardInterrupt(f"stopped after {work.count} of {len(jobs)} pictures; what is in {journal.out} is "
                                    "whole, and --resume goes on") from None  # fmt: skip
        except Exception:
            with contextlib.suppress(OSError):  # a full disk
                work.finish()
            raise
    work.finish()
    return work.failed


class _Work:
    """The pictures of one run, and what has come of them."""

    def __init__(
        self,
        jobs: Sequence[Job],
        writers: Mapping[str, Writer],
        journal: Journal,
        value_ranges: Mapping[Path, ValueRange],
        progress: Progress | None,
    ) -> None:
        self.jobs, self.writers, self.journal, self.progress = jobs, writers, journal, progress
        self.value_ranges = value_ranges
        self.failed: list[str] = []
        self.transparent: set[Path] = set()
        self.count = self.failed_in_a_row = 0

    def left(self) -> list[Job]:
        """Jobs without an answer."""
        left = [job for job in self.jobs if not self.journal.is_done(job)]
        self.count = len(self.jobs) - len(left)
        return left

    def read(self, job: Job) -> UInt8[Tensor, "channels height width"]:
        picture = read_transparent_picture(job.file, self.value_ranges.get(job.file))
        if len(picture) > 3:
            self.transparent.add(job.file)
        return picture

    def write(self, job: Job, picture: UInt8[Tensor, "channels height width"], answer: Predictions) -> dict[str, Entry]:
        for writer in self.writers.values():
            writer.check(answer)
        self.journal.begin(job)
        pixels = cv2.merge(tuple(picture[:3].numpy()))
        added = {kind: writer.add(job.file, job.name, pixels, answer) for kind, writer in self.writers.items()}
        return {kind: entry for kind, entry in added.items() if entry is not None}

    def settle(self, job: Job, result: dict[str, Entry] | Exception) -> None:
        if isinstance(result, NoSuchAnswerError) or (isinstance(result, Exception) and not _of_one_picture(result)):
            raise result
        self.failed_in_a_row = self.failed_in_a_row + 1 if isinstance(result, RuntimeError | MemoryError) else 0
        if isinstance(result, Exception):
            self.failed.append(problem_of(str(job.file), result))
            self.journal.leave(job)
        if self.failed_in_a_row == MOST_IN_A_ROW:
            stopped = f"stopped, as {MOST_IN_A_ROW} pictures failed one after the other; --resume goes on:"
            raise ValueError("\n".join([stopped, *self.failed]))
        if not isinstance(result, Exception):
            self.journal.add(job, result)
        self.count += 1
        if self.progress is not None:
            self.progress(self.count, len(self.jobs))

    def finish(self) -> None:
        """Writes the files of all pictures; those of an earlier run stay where this one answered nothing."""
        if self.transparent:
            example = min(self.transparent)
            log.warning("transparent pixels (alpha 0) of %d images get no class: %s", len(self.transparent), example)
        done = [entries for job in self.jobs if (entries := self.journal.entries(job)) is not None]
        for kind, writer in self.writers.items():
            if of_kind := [entries[kind] for entries in done if kind in entries]:
                writer.finish(of_kind)
                if writer.summaries:
                    self.journal.wrote(writer.summaries)


def problem_of(source: str, error: Exception) -> str:
    """In words, with the source's name and with what was noted about the error."""
    keep_traceback(error)
    notes = getattr(error, "__notes__", [])
    text = "; ".join([str(error) or type(error).__name__, *notes])
    return text if text.startswith(source) else f"{source}: {text}"


def _are_small(files: Sequence[Path]) -> bool:
    """Whether they can be computed side by side, judging by some of them: large ones take turns."""
    pixels = 0
    for file in files[:: max(1, len(files) // 16)]:
        with contextlib.suppress(DataError):  # which is told when its turn comes
            height, width = picture_size(file)
            pixels = max(pixels, height * width)
    return pixels <= WHOLE


def _of_one_picture(error: Exception) -> bool:
    """Whether the next picture may well succeed: memory and runtimes fail for one that is large or odd."""
    return isinstance(error, ValueError | RuntimeError | MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
    )


def _identity(model: Path) -> str:
    """The same for the same weights, wherever they lie."""
    digest = hashlib.sha256()
    for file in (find(model), find(model).with_suffix(".bin")):  # OpenVINO's weights lie beside its graph
        if file.is_file():
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def answer_names(files: Sequence[Path]) -> list[str]:
    """File stems; where two are equal, with the folder's name before, then with a number behind."""
    stems = Counter(file.stem for file in files)
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        wanted = file.stem if stems[file.stem] == 1 else f"{file.parent.name}_{file.stem}"
        name, number = wanted, 2
        while _claims(name) & taken:
            name, number = f"{wanted}_{number}", number + 1
        names.append(name)
        taken |= _claims(name)
    return names


def _claims(name: str) -> set[str]:
    """Files and folders that answers of this name may have, whatever is written."""
    stems = {name, *(make(Path()).stem(name) for make in WRITERS.values())}
    return {f"{stem}{ending}" for stem in stems for ending in ENDINGS}


def check_targets(files: Sequence[Path], out: Path) -> None:
    """Answers of pictures are written over none of them.

    Raises:
        ValueError: If one would be.
    """
    pictures = {file.resolve() for file in files}
    folders = {parent for picture in pictures for parent in picture.parents}
    place = out.resolve()
    for name in answer_names(files):
        for claim in _claims(name):
            if place / claim in pictures:
                raise ValueError(f"the answer {out / claim} would replace a picture that is to be segmented: choose "
                                 "another folder with --out")  # fmt: skip
            if claim.endswith(FOLDERS) and (inside := (place / claim).resolve()) in folders:
                picture = next(picture for picture in pictures if inside in picture.parents)
                raise ValueError(f"{picture} lies where answers of {name} may be written: choose another folder with "
                                 "--out")  # fmt: skip
