"""A progress bar on stderr, for jobs that know how many steps they have."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


@contextmanager
def progress_bar(unit: str, live: bool) -> Iterator[Callable[[int, int], None]]:
    """Gives a function (done, all); draws nothing where `live` is false (logs, pipes)."""
    if not live:
        yield lambda done, total: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        job = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(job, completed=done, total=total)
