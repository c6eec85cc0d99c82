"""How a command talks to the terminal: notes on stderr, stopping, letters that a terminal does not know.

Only the standard library is used, so that `smalti --help` answers at once.
"""

import codecs
import io
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def accept_all_letters() -> None:
    """Lets names be written to terminals and pipes that lack their letters: as codes, not as an error.

    Plain ASCII mostly means that nobody has set a language: those streams take UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if is_ascii else None, errors="backslashreplace")


@contextmanager
def stopping() -> Iterator[None]:
    """Ctrl-C, or SIGTERM, ends the work with what was begun finished; the command says so and exits with 130."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as stopped:
        sys.stderr.write(f"{str(stopped) or 'stopped'}\n")
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{record.getMessage()}\n")


def show_notes() -> None:
    """What the package notes on its way goes to stderr: which runtime computes, conversions, terms."""
    log = logging.getLogger("smalti")
    if not log.handlers:
        log.addHandler(_Notes())
        log.setLevel(logging.INFO)
