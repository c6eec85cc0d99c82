"""Digests of settings: every field counts, so that a new one cannot be left out of a cache key."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smalti.labels import LabelSet


class SharedDigests:
    """Digests of the class tables and mappings that many settings share, each computed once.

    They are known by identity: another object is digested anew, and a mapping must not change.
    """

    def __init__(self) -> None:
        self._digests: dict[int, tuple[object, bytes]] = {}

    def digest(self, value: object) -> bytes:
        """That of one object."""
        known = self._digests.get(id(value))
        if known is None or known[0] is not value:
            known = self._digests[id(value)] = value, settings_digest(value).encode()
        return known[1]


def settings_digest(*values: Any, shared: SharedDigests | None = None) -> str:
    """A hexadecimal digest that differs wherever the values differ in type or content.

    Dataclasses count with their type and all fields, also those that their equality leaves out. Class tables and
    mappings are digested once for all calls that have the same `shared`.

    Raises:
        TypeError: For a type whose content is not known here; leaving it out would make two contents look alike.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in _parts(values, shared):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _parts(value: Any, shared: SharedDigests | None) -> Iterator[bytes]:
    yield type(value).__name__.encode()
    if shared is not None and isinstance(value, LabelSet | Mapping):
        yield shared.digest(value)
    elif value is None or isinstance(value, bool | int | float | str):
        yield repr(value).encode()
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, Path):
        yield os.fsencode(value.absolute())
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield value.tobytes()
    else:
        children = _children(value)
        yield str(len(children)).encode()
        for child in children:
            yield from _parts(child, shared)


def _children(value: Any) -> list[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, Mapping):
        return sorted(value.items(), key=lambda item: repr(item[0]))
    if isinstance(value, Set):
        return sorted(value, key=repr)
    if isinstance(value, list | tuple):
        return list(value)
    raise TypeError(f"the content of a {type(value).__name__} is not known to cache keys: add it to settings_digest()")
