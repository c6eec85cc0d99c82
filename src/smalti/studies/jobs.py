"""Trainings one by one, or side by side in processes of their own, which small networks on many cores are faster by."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

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

    An interruption reaches all of them; what they have saved stays. A job that fails ends the others that wait.
    """
    threads = max(1, torch.get_num_threads() // count)
    fresh = multiprocessing.get_context("spawn")  # a fork of a process whose threads have worked may hang
    with ProcessPoolExecutor(count, mp_context=fresh, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        numbers = {pool.submit(_said, run, job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(numbers):
                done = future.result()
                write(f"{jobs[numbers[future]].name}: {'interrupted' if done is None else 'done'}")
                yield numbers[future], done
        except (KeyboardInterrupt, BrokenProcessPool):
            yield 0, None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _said(run: Callable[..., Any], job: Job) -> Any:
    """In the other process, whose lines say which job they are of."""
    print(job.name, flush=True)  # noqa: T201  # there is no other way to the terminal from here
    return run(job, lambda line: print(f"{job.name}: {line}", flush=True))  # noqa: T201
