"""Reading ahead, writing behind: threads beside those that predict."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from jaxtyping import UInt8
from torch import Tensor

from smalti.containers import Predictions

J = TypeVar("J")
R = TypeVar("R")
T = TypeVar("T")
Picture = UInt8[Tensor, "channels height width"]
AHEAD, BEHIND = 2, 4
"""Pictures that are read before their turn, and answers that may wait to be written, beside those being predicted."""
MOST_PIXELS = 1 << 24
"""Of all pictures in prediction and writing: with probabilities, an answer of 16 million pixels may have a gigabyte."""


@dataclass(frozen=True, kw_only=True)
class Steps(Generic[J, R]):
    """What is done with each job; `settle` in the caller's thread, all else in others.

    `settle` gets each job's result, or the error of whichever step, in the order of the jobs. What it raises ends the
    run.
    """

    read: Callable[[J], Picture]
    predict: Callable[[Picture], Predictions]
    write: Callable[[J, Picture, Predictions], R]
    settle: Callable[[J, R | Exception], None]


def run(jobs: Iterable[J], steps: Steps[J, R], at_once: int = 1) -> None:
    """Takes the jobs through the steps; a few pictures are held at a time, of which `at_once` are predicted together.

    However it ends (an error of `settle`, an interruption), no thread is left, what was being predicted or written is
    finished and settled, and the first error is raised.
    """
    with (
        ThreadPoolExecutor(at_once + 1) as writers,
        ThreadPoolExecutor(at_once) as predictors,
        ThreadPoolExecutor(at_once) as readers,
    ):
        line = _Line(steps, writers, predictors)
        try:
            for job, reading in _ahead(jobs, steps.read, readers, AHEAD + at_once - 1):
                line.enter(job, reading)
                while len(line.waiting) > BEHIND + at_once or line.pixels() > MOST_PIXELS:
                    line.settle_first()
            while line.waiting:
                line.settle_first()
        except BaseException:
            readers.shutdown(wait=False, cancel_futures=True)
            line.settle_rest()
            raise


def _ahead(
    jobs: Iterable[J], read: Callable[[J], Picture], readers: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[J, Future[Picture]]]:
    begun: deque[tuple[J, Future[Picture]]] = deque()
    for job in jobs:
        begun.append((job, readers.submit(read, job)))
        if len(begun) > ahead:
            yield begun.popleft()
    while begun:
        yield begun.popleft()


@dataclass(frozen=True, kw_only=True)
class _Waiting(Generic[J, R]):
    """A job in prediction or writing: what predicts it answers what writes it."""

    job: J
    pixels: int
    predicted: Future[Future[R]]

    def result(self) -> R | BaseException:
        """Waits for it; an error of either step is answered, not raised."""
        writing = _result(self.predicted)
        if isinstance(writing, BaseException):
            return writing
        written: R | BaseException = _result(writing)
        return written


def _result(future: Future[T]) -> T | BaseException:
    error = future.exception()
    return future.result() if error is None else error


@dataclass(frozen=True)
class _Line(Generic[J, R]):
    steps: Steps[J, R]
    writers: ThreadPoolExecutor
    predictors: ThreadPoolExecutor
    waiting: deque[_Waiting[J, R]] = field(default_factory=deque)
    ending: threading.Event = field(default_factory=threading.Event)

    def enter(self, job: J, reading: Future[Picture]) -> None:
        """Waits for the picture, and hands it on."""
        picture = _result(reading)
        if isinstance(picture, BaseException):
            failed: Future[Future[R]] = Future()
            failed.set_exception(picture)
            self.waiting.append(_Waiting(job=job, pixels=0, predicted=failed))
            return
        pixels = int(picture.shape[1] * picture.shape[2])
        predicted = self.predictors.submit(self._predict, job, picture)
        self.waiting.append(_Waiting(job=job, pixels=pixels, predicted=predicted))

    def _predict(self, job: J, picture: Picture) -> Future[R]:
        if self.ending.is_set():
            raise CancelledError
        try:
            answer = self.steps.predict(picture)
        except Exception:
            raise
        except BaseException:
            self.ending.set()  # before another picture is begun
            raise
        return self.writers.submit(self.steps.write, job, picture, answer)

    def pixels(self) -> int:
        """Of all that wait."""
        return sum(one.pixels for one in self.waiting)

    def settle_first(self) -> None:
        result = self.waiting[0].result()  # waits; an interruption here must not lose the job
        first = self.waiting.popleft()
        if isinstance(result, CancelledError):  # never begun
            return
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
        self.steps.settle(first.job, result)

    def settle_rest(self) -> None:
        """Of what was begun."""
        self.ending.set()
        while self.waiting:
            with contextlib.suppress(Exception):  # the first error is what is told
                self.settle_first()
