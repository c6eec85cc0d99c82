"""Frozen dataclasses from text and JSON, and back: the one parser of `--set`, `recipe.json`, class tables and cards.

Text from the command line is read as the field's type ("100", "none", "384,480"). Values of a JSON file must have
JSON's own types: no "false" for false, no "1" or 0.6 for a whole number.
"""

import contextlib
import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, TypeVar

T = TypeVar("T")
LONGEST_SHOWN = 80
"""Characters of a value that an error message shows."""


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
    """`value` as an instance of the annotation `kind`: text as on the command line, all else as in `from_json`.

    Raises:
        ValueError: If it does not fit.
    """
    return _from_text(value, kind) if isinstance(value, str) else _from_value(value, kind)


def _from_text(text: str, kind: Any) -> Any:
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case origin if origin in (typing.Union, types.UnionType):
            return _union_from_text(text, arguments)
        case origin if origin is Literal:
            return _choice_from_text(text, arguments)
        case origin if origin is tuple:
            return _tuple_from_text(text, arguments)
        case None if kind is Any:
            return text
        case None if kind in (bool, int, float, str):
            return _scalar_from_text(text, kind)
        case _:  # a dataclass or a mapping
            return _from_value(_literal(text), kind)


def _union_from_text(text: str, arguments: tuple[Any, ...]) -> Any:
    if type(None) in arguments and text.lower() in ("none", "null"):
        return None
    # Text is tried last: every value would fit it.
    problems = []
    for option in sorted((a for a in arguments if a is not type(None)), key=lambda a: a is str):
        try:
            return _from_text(text, option)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError("; or ".join(problems))


def _choice_from_text(text: str, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if text == str(choice):
            return choice
    raise ValueError(f"must be one of {', '.join(map(str, choices))}")


def _tuple_from_text(text: str, arguments: tuple[Any, ...]) -> Any:
    sizes = re.sub(r"(?<=\d)\s*x\s*(?=\d)", ",", text.strip("()[]"))  # 192x256
    values = [v.strip() for v in sizes.split(",") if v.strip()]
    return tuple(_from_text(v, a) for v, a in zip(values, _kinds_of_items(len(values), arguments), strict=True))


def _kinds_of_items(count: int, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The annotation of each of so many items of a `tuple[arguments]`."""
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return arguments[:1] * count
    if count != len(arguments):
        raise ValueError(f"must be {len(arguments)} values, got {count}")
    return arguments


def _scalar_from_text(text: str, kind: type[Any]) -> Any:
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise ValueError(f'must be true or false, got "{text}"')
        return words[text.lower()]
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f'must be {_EXPECTED[kind]}, got "{text}"') from None


_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


class _MismatchError(ValueError):
    """A JSON value that does not fit: where it stands ("classes[1].thing"), what was expected, and what came."""

    def __init__(self, problem: str, place: str = "", expected: str = "") -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.problem, self.place, self.expected = problem, place, expected

    @classmethod
    def of(cls, expected: str, value: Any, hint: str = "") -> "_MismatchError":
        """`expected` is the end of "must be …"."""
        return cls(f"must be {expected}, got {_shown(value)}{hint}", expected=expected)

    def below(self, step: str) -> "_MismatchError":
        """The same one, seen from one level further up."""
        joint = "." if self.place and not self.place.startswith("[") else ""
        return _MismatchError(self.problem, f"{step}{joint}{self.place}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _from_value(value: Any, kind: Any) -> Any:
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case origin if origin in (typing.Union, types.UnionType):
            return _union_from_value(value, arguments)
        case origin if origin is Literal:
            return _choice_from_value(value, arguments)
        case origin if origin is tuple:
            return _tuple_from_value(value, arguments)
        case None:
            return _plain_from_value(value, kind)
        case _:
            return _mapping_from_value(value, arguments)


def _plain_from_value(value: Any, kind: Any) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else from_json(value, kind)
    return _scalar_from_value(value, kind)


def _union_from_value(value: Any, arguments: tuple[Any, ...]) -> Any:
    if value is None and type(None) in arguments:
        return None
    mismatches = []
    for option in (a for a in arguments if a is not type(None)):
        try:
            return _from_value(value, option)
        except _MismatchError as error:
            mismatches.append(error)
    inner = [error for error in mismatches if not error.expected]  # of the option that fits but for a part of it
    if inner or len(mismatches) == 1:
        raise (inner or mismatches)[0]
    expected = [error.expected for error in mismatches] + ["null"] * (type(None) in arguments)
    raise _MismatchError.of(" or ".join(expected), value)


def _choice_from_value(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if value == choice and isinstance(value, bool | str) == isinstance(choice, bool | str):
            return choice
    raise _MismatchError.of(f"one of {', '.join(map(str, choices))}", value)


def _tuple_from_value(value: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        raise _MismatchError.of("a list of values", value)
    try:
        kinds = _kinds_of_items(len(value), arguments)
    except ValueError as error:
        raise _MismatchError(str(error)) from None
    return tuple(_at(f"[{k}]", v, kind) for k, (v, kind) in enumerate(zip(value, kinds, strict=True)))


def _mapping_from_value(value: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _MismatchError.of("an object {…}", value)
    return {key: _at(str(key), part, arguments[1]) for key, part in value.items()}


def _scalar_from_value(value: Any, kind: type[Any]) -> Any:
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    if not isinstance(value, bool):
        if kind is int and (isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())):
            return int(value)
        if kind is float and isinstance(value, Real):
            with contextlib.suppress(OverflowError):  # a whole number of hundreds of digits
                return float(value)
    hint = ""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            read = _scalar_from_text(value, kind)
            hint = f": write {json.dumps(read) if kind is bool else value.strip()} without quotes"
    raise _MismatchError.of(_EXPECTED.get(kind, f"of type {kind.__name__}"), value, hint)


def _at(step: str, value: Any, kind: Any) -> Any:
    """`_from_value` of a part; a mismatch says where the part stands."""
    try:
        return _from_value(value, kind)
    except _MismatchError as error:
        raise error.below(step) from None


def to_json(recipe: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return plain


def from_json(values: Any, kind: type[T], *, ignore_unknown: bool = False) -> T:
    """A dataclass from the JSON object that `to_json` wrote, or a person; left-out fields have their defaults.

    `ignore_unknown` is for files of other programs, which have keys that mean nothing here.

    Raises:
        ValueError: For a key that the dataclass does not have, one that is missing, or a value of another type; says
            where ("classes[1].thing"), what was expected, and what came.
    """
    hints = typing.get_type_hints(kind)
    if not isinstance(values, Mapping):
        raise _MismatchError.of(f"an object {{…}} with the keys {', '.join(hints)}", values)
    unknown = [key for key in values if key not in hints]
    if unknown and not ignore_unknown:
        raise _MismatchError(f'unknown key "{unknown[0]}": {nearest(str(unknown[0]), sorted(hints))}')
    for part in dataclasses.fields(kind):  # type: ignore[arg-type]
        optional = part.default is not dataclasses.MISSING or part.default_factory is not dataclasses.MISSING
        if part.name not in values and not optional:
            raise _MismatchError(f'needs the key "{part.name}"')
    read = {key: _at(key, value, hints[key]) for key, value in values.items() if key in hints}
    try:
        return kind(**read)
    except ValueError as error:
        raise _MismatchError(str(error)) from error
