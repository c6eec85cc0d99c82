"""Reading ahead, writing behind: threads beside the one that predicts."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxtyping import UInt8
from torch import Tensor

from smalti.containers import Predictions

J = TypeVar("J")
R = TypeVar("R")
Picture = UInt8[Tensor, "3 height width"]
AHEAD, BEHIND = 2, 4
"""Pictures that are read before their turn, and answers that may wait to be written."""
WRITING = 2
MOST_PIXELS = 1 << 24
"""Of all answers that wait: with its probabilities, an answer of 16 million pixels may have a gigabyte."""


@dataclass(frozen=True, kw_only=True)
class Steps(Generic[J, R]):
    """What is done with each job; `read` and `write` in other threads, `predict` and `settle` in the caller's.

    `settle` gets each job's result, or the error of whichever step, in the order of the jobs. What it raises ends the
    run.
    """

    read: Callable[[J], Picture]
    predict: Callable[[Picture], Predictions]
    write: Callable[[J, Picture, Predictions], R]
    settle: Callable[[J, R | Exception], None]


@dataclass(frozen=True, kw_only=True)
class _Waiting(Generic[J, R]):
    job: J
    pixels: int
    written: Future[R]


def run(jobs: Iterable[J], steps: Steps[J, R]) -> None:
    """Takes the jobs through the steps; a few pictures are held at a time.

    However it ends (an error of `settle`, an interruption), no thread is left, what was being written is written and
    settled, and the first error is raised.
    """
    waiting: deque[_Waiting[J, R]] = deque()
    with ThreadPoolExecutor(WRITING) as writers, ThreadPoolExecutor(1) as readers:
        try:
            for job, reading in _ahead(jobs, steps.read, readers):
                waiting.append(_predicted(job, reading, steps, writers))
                while len(waiting) > BEHIND or sum(one.pixels for one in waiting) > MOST_PIXELS:
                    _settle_first(waiting, steps)
            while waiting:
                _settle_first(waiting, steps)
        except BaseException:
            readers.shutdown(wait=False, cancel_futures=True)
            _settle_rest(waiting, steps)
            raise


def _ahead(
    jobs: Iterable[J], read: Callable[[J], Picture], readers: ThreadPoolExecutor
) -> Iterator[tuple[J, Future[Picture]]]:
    begun: deque[tuple[J, Future[Picture]]] = deque()
    for job in jobs:
        begun.append((job, readers.submit(read, job)))
        if len(begun) > AHEAD:
            yield begun.popleft()
    while begun:
        yield begun.popleft()


def _predicted(job: J, reading: Future[Picture], steps: Steps[J, R], writers: ThreadPoolExecutor) -> _Waiting[J, R]:
    try:
        picture = reading.result()
        answer = steps.predict(picture)
    except Exception as error:  # whose consequences `settle` knows
        failed: Future[R] = Future()
        failed.set_exception(error)
        return _Waiting(job=job, pixels=0, written=failed)
    pixels = int(picture.shape[1] * picture.shape[2])
    return _Waiting(job=job, pixels=pixels, written=writers.submit(steps.write, job, picture, answer))


def _settle_first(waiting: deque[_Waiting[J, R]], steps: Steps[J, R]) -> None:
    error = waiting[0].written.exception()  # waits; an interruption here must not lose the job
    first = waiting.popleft()
    if error is not None and not isinstance(error, Exception):
        raise error
    steps.settle(first.job, first.written.result() if error is None else error)


def _settle_rest(waiting: deque[_Waiting[J, R]], steps: Steps[J, R]) -> None:
    while waiting:
        with contextlib.suppress(Exception):  # the first error is what is told
            _settle_first(waiting, steps)
