"""Work that goes on beside the caller's, a bounded number of steps ahead."""

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_PATIENCE = 0.1
"""Seconds after which a thread that waits looks whether anybody still wants its work."""
_STUCK = 10.0
"""Seconds after which a thread that hangs in a device is left behind; it ends with the process."""


class _End:
    """Nothing comes after it."""


@dataclass(frozen=True)
class _Raised:
    error: BaseException


def ahead(items: Generator[T, None, None], size: int) -> Generator[T, None, None]:
    """The same items, made in a thread that is at most `size` of them ahead.

    What `items` raises is raised here, after the items before it. Closing this generator (or leaving it by an error)
    stops the thread after the step it is at, closes `items` in it, and waits for its end.
    """
    made: queue.Queue[T | _Raised | _End] = queue.Queue(size)
    unwanted = threading.Event()

    def deliver(item: T | _Raised | _End) -> bool:
        while not unwanted.is_set():
            try:
                made.put(item, timeout=_PATIENCE)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            with closing(items):
                for item in items:
                    if not deliver(item):
                        return
            deliver(_End())
        except BaseException as error:  # whatever it is, the caller's thread raises it
            deliver(_Raised(error))

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        yield from _received(made)
    finally:
        unwanted.set()
        thread.join(_STUCK)


def _received(made: "queue.Queue[T | _Raised | _End]") -> Iterator[T]:
    while True:
        item = made.get()
        if isinstance(item, _Raised):
            raise item.error
        if isinstance(item, _End):
            return
        yield item
