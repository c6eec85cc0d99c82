"""Trainings one by one, or side by side in processes of their own, which small networks on many cores are faster by."""

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import torch

from smalti.command_log import join_log, keep_traceback
from smalti.recipe import Recipe

Done = TypeVar("Done")
Run = Callable[["Job", Callable[[str], None]], Done | None]
"""Does a job, telling lines; None = interrupted."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe to be trained in a folder and measured on a split (None = its validation split)."""

    name: str
    recipe: Recipe
    folder: Path
    split: str | None


def one_by_one(run: Run[Done], jobs: Sequence[Job], write: Callable[[str], None]) -> Iterator[tuple[int, Done | None]]:
    """Each job's number and what came of it."""
    for number, job in enumerate(jobs):
        write(job.name)
        yield number, run(job, write)


def side_by_side(
    run: Run[Done], jobs: Sequence[Job], count: int, write: Callable[[str], None]
) -> Iterator[tuple[int, Done | None]]:
    """The same, in order of their end: `count` at a time, each with its share of the threads. `run` is of a module.

    Ctrl-C, or SIGINT, ends all of them, and what they have saved stays. After one that fails no other begins; those
    that have begun are brought to their end first, so that nothing is lost.

    Raises:
        ValueError: If a process was killed.
    """
    threads = max(1, torch.get_num_threads() // count)
    fresh = multiprocessing.get_context("spawn")  # a fork of a process whose threads have worked may hang
    settings = (threads, multiprocessing.get_start_method())
    waiting, running = deque(enumerate(jobs)), dict[Future[Any], int]()
    failed: Exception | None = None
    with ProcessPoolExecutor(count, mp_context=fresh, initializer=_prepare, initargs=settings) as pool:
        try:
            while running or (waiting and failed is None):
                while waiting and failed is None and len(running) < count:  # no queue: it could not be called back
                    number, job = waiting.popleft()
                    running[pool.submit(_said, run, job)] = number
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    try:
                        done = future.result()
                    except BrokenProcessPool:
                        raise
                    except Exception as error:  # whatever a training may end with
                        keep_traceback(error)
                        write(f"{jobs[number].name}: failed; no other begins: {error}")
                        failed = failed or error
                        continue
                    write(f"{jobs[number].name}: {'interrupted' if done is None else 'done'}")
                    yield number, done
        except KeyboardInterrupt:
            write("stopping: each training saves its state")
            _interrupt_all()
            yield min(running.values(), default=0), None
        except BrokenProcessPool as error:
            raise ValueError("a training was ended from outside, perhaps for want of memory: try fewer --jobs; the "
                             "same command goes on where they were") from error  # fmt: skip
    if failed is not None:
        raise failed


def _interrupt_all() -> None:
    for process in multiprocessing.active_children():
        if process.pid is not None:
            os.kill(process.pid, signal.SIGINT)


def _prepare(threads: int, start_method: str) -> None:
    join_log()
    torch.set_num_threads(threads)
    if hasattr(os, "setpgrp"):  # Ctrl-C reaches the command alone, which passes it on: once for each training
        os.setpgrp()
    # A spawned process would spawn its loaders' workers, too, each of which then imports torch for seconds.
    multiprocessing.set_start_method(start_method, force=True)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A command that is killed leaves no trainings behind; they go on from their last whole epoch."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _said(run: Callable[..., Any], job: Job) -> Any:
    """In the other process, whose lines say which job they are of."""

    def say(line: str) -> None:  # in one piece, so that lines of several processes do not run together
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    say(job.name)
    return run(job, lambda line: say(f"{job.name}: {line}"))
