"""JSON as people and other programs save it: of any Unicode encoding, and with a plain sentence where it is broken."""

import json
import re
from pathlib import Path
from typing import Any

HINTS = (
    (r"[,\[{:]\s*'", "JSON has double quotes only"),
    (r",\s*[\]}]", "remove the comma before the closing bracket"),
    (r".?\s*(//|/\*|#)", "JSON has no comments: remove them"),
    (r".?\s*(True|False|None)\b", "JSON has true, false and null"),
)
"""What stands where the decoder stopped, from the last character before it on, and what to do about it."""


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON text; bytes are UTF-8 (with or without a byte order mark), UTF-16 or UTF-32.

    Raises:
        ValueError: If it is empty, of another encoding, or broken (says where, and what to do), or if a key stands
            twice in one object.
    """
    if not content.strip():
        raise ValueError("is empty")
    text = content.removeprefix("\ufeff") if isinstance(content, str) else content
    try:
        return json.loads(text, object_pairs_hook=_without_repeated_keys)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.object[error.start]:#04x} at {error.start}): save it as "
                         "UTF-8") from None  # fmt: skip
    except json.JSONDecodeError as error:
        before = error.doc[: error.pos].rstrip()
        around = before[-1:] + error.doc[len(before) :]
        hint = next((hint for pattern, hint in HINTS if re.match(pattern, around)), error.msg)
        raise ValueError(f"is broken JSON at line {error.lineno}, column {error.colno}: {hint}") from None
    except RecursionError:
        raise ValueError("is JSON with lists in lists in lists without end") from None


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f'the key "{next(key for key in keys if keys.count(key) > 1)}" stands there twice')
    return values


def load_json(path: Path) -> Any:
    """The value of a JSON file; see `parse_json`, whose errors name the file here.

    Raises:
        ValueError: If it cannot be read as JSON.
        OSError: If it cannot be read at all.
    """
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
