"""Frozen dataclasses from text and JSON, and back: what `--set key=value` and `recipe.json` need."""

import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

T = TypeVar("T")


def override(recipe: T, changes: Mapping[str, Any]) -> T:
    """The recipe with dotted keys replaced; text values are read as the field's type ("100", "none", "384,480").

    Raises:
        ValueError: For a key that does not exist (names the nearest one) or a value that does not fit the field.
    """
    if not changes:
        return recipe
    found: T = _replaced(recipe, [(key.split("."), value, key) for key, value in changes.items()])
    return found


def _replaced(part: Any, changes: Sequence[tuple[list[str], Any, str]]) -> Any:
    """All at once, because a part may refuse one change without the other."""
    if isinstance(part, Mapping):  # the options of a data set: it checks them itself
        return {**part, **{path[0]: _literal(value) for path, value, _ in changes}}
    first = changes[0][2]
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        raise ValueError(f'unknown key "{first}": "{changes[0][0][0]}" is below a single value')
    hints = typing.get_type_hints(type(part))
    new: dict[str, Any] = {}
    for path, value, key in changes:
        if path[0] not in hints:
            raise ValueError(f'unknown key "{key}": {nearest(path[0], sorted(hints))}')
        if len(path) == 1:
            try:
                new[path[0]] = parse(value, hints[path[0]])
            except (ValueError, TypeError) as error:
                raise ValueError(f"{key}={value}: {error}") from None
    below = [change for change in changes if len(change[0]) > 1]
    for name in dict.fromkeys(path[0] for path, _, _ in below):
        old = new.get(name, getattr(part, name))
        if old is None:  # an absent part comes into being with its defaults
            kinds: tuple[Any, ...] = typing.get_args(hints[name])
            old = next((kind() for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)), None)
        new[name] = _replaced(old, [(path[1:], value, key) for path, value, key in below if path[0] == name])
    return dataclasses.replace(part, **new)


def nearest(word: str, known: list[str]) -> str:
    """The end of an error message: the known name that is nearest to a mistyped one, and all known names."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return (f'did you mean "{close[0]}"? ' if close else "") + f"known: {', '.join(known)}"


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def parse(value: Any, kind: Any) -> Any:
    """`value` (text, or plain JSON) as an instance of the annotation `kind`.

    Raises:
        ValueError: If it does not fit.
    """
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case origin if origin in (typing.Union, types.UnionType):
            return _parse_union(value, arguments)
        case origin if origin is Literal:
            return _parse_choice(value, arguments)
        case origin if origin is tuple:
            return _parse_tuple(value, arguments)
        case None:
            return _parse_plain(value, kind)
        case _:  # a mapping: the options of a data set, which checks them itself
            return dict(_literal(value))


def _parse_plain(value: Any, kind: Any) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else from_json(value, kind)
    return _parse_scalar(value, kind)


def _parse_choice(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if str(value) == str(choice):  # as text it comes from the command line
            return choice
    raise ValueError(f"must be one of {', '.join(map(str, choices))}")


def _parse_union(value: Any, arguments: tuple[Any, ...]) -> Any:
    if type(None) in arguments and (value is None or str(value).lower() in ("none", "null")):
        return None
    # Text is tried last: every value would fit it.
    problems = []
    for option in sorted((a for a in arguments if a is not type(None)), key=lambda a: a is str):
        try:
            return parse(value, option)
        except (ValueError, TypeError) as error:
            problems.append(str(error))
    raise ValueError("; or ".join(problems))


def _parse_tuple(value: Any, arguments: tuple[Any, ...]) -> Any:
    if isinstance(value, str):
        sizes = re.sub(r"(?<=\d)\s*x\s*(?=\d)", ",", value.strip("()[]"))  # 192x256
        value = [v.strip() for v in sizes.split(",") if v.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of values, got {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(parse(v, arguments[0]) for v in value)
    if len(value) != len(arguments):
        raise ValueError(f"must be {len(arguments)} values, got {len(value)}")
    return tuple(parse(v, a) for v, a in zip(value, arguments, strict=True))


def _parse_scalar(value: Any, kind: Any) -> Any:
    if kind is bool:
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if str(value).lower() not in known:
            raise ValueError(f"must be true or false, got {value!r}")
        return known[str(value).lower()]
    if kind is int and isinstance(value, float) and not value.is_integer():
        raise ValueError(f"must be a whole number, got {value}")
    if kind is str and not isinstance(value, str):
        raise ValueError(f"must be text, got {value!r}")
    if isinstance(value, bool) or kind not in (int, float, str):
        raise ValueError(f"must be of type {getattr(kind, '__name__', kind)}, got {value!r}")
    return kind(value)


def to_json(recipe: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return plain


def from_json(values: Mapping[str, Any], kind: type[T]) -> T:
    """Reads what `to_json` wrote; left-out fields have their defaults.

    Raises:
        ValueError: For keys that the dataclass does not have, or values that do not fit.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f'unknown key "{unknown[0]}": {nearest(unknown[0], sorted(hints))}')
    read: dict[str, Any] = {}
    for key, value in values.items():
        try:
            read[key] = parse(value, hints[key])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{key}: {error}") from None
    return kind(**read)
