"""Digests of settings: every field counts, so that a new one cannot be left out of a cache key."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np


def settings_digest(*values: Any) -> str:
    """A hexadecimal digest that differs wherever the values differ in type or content.

    Dataclasses count with their type and all fields, also those that their equality leaves out.

    Raises:
        TypeError: For a type whose content is not known here; leaving it out would make two contents look alike.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in _parts(values):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    yield type(value).__name__.encode()
    if value is None or isinstance(value, bool | int | float | str):
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
            yield from _parts(child)


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
