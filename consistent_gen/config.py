"""Configs: a mapping or a YAML file plus overrides -> a frozen dataclass, and back to JSON.

A config is a frozen keyword-only dataclass beside the code that it configures. This module fills
one strictly: an unknown key is an error that names the nearest valid key, a value of another type
is an error that names the place, and both happen before any weight is read. Supported field types:
``bool int float str Path None``, unions of them, ``Literal``, ``tuple[X, ...]``, ``tuple[X, Y]``,
``dict[str, X]`` and further dataclasses.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from consistent_gen.errors import InputError
from consistent_gen.registry import unknown_name

T = TypeVar("T")
Source = str | Path | None

_SCIENTIFIC = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?[eE][+-]?[0-9]+")
# Beyond it a whole number no longer fits seeds, JSON readers or a float.
_LARGEST_INT = 2**64


def load(cls: type[T], path: str | Path, overrides: Iterable[str] = ()) -> T:
    """Read the YAML file ``path`` into the config class ``cls``; see :func:`from_mapping`.

    Raises:
        InputError: the file is missing, is not YAML, or does not fit the class.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {_reason(error)}", source=path) from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(
            f"is not YAML: {getattr(error, 'problem', None) or error}",
            source=path,
            line=None if mark is None else mark.line + 1,
        ) from error
    if content is None:
        content = {}
    return from_mapping(cls, content, overrides, source=path)


def from_mapping(
    cls: type[T],
    mapping: Mapping[str, Any],
    overrides: Iterable[str] = (),
    *,
    source: Source = None,
) -> T:
    """Fill the config class ``cls`` from ``mapping``, then from ``overrides``.

    An override is ``"key=value"`` or ``"outer.inner=value"`` with a YAML value, as typed behind
    ``--set`` on a command line; later ones win.

    Raises:
        UnknownNameError: a key that the class does not have.
        InputError: a missing key, a value of another type, an override without ``=``.
    """
    return cast(T, _dataclass(cls, merged(mapping, overrides), "", source))


def merged(mapping: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of `mapping` with overrides put in (see `from_mapping`).

    Raises:
        InputError: an override without ``=``, or of no YAML value.
    """
    found: dict[str, Any] = _plain_copy(mapping)
    for override in overrides:
        _apply(found, override)
    return found


def to_json(config: Any) -> dict[str, Any]:
    """The config as JSON values; ``from_mapping(type(config), to_json(config)) == config``."""
    converted = _to_json(config)
    assert isinstance(converted, dict), f"{config!r} is not a dataclass instance"
    return converted


def _to_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _plain_copy(value: Any) -> Any:
    return (
        {key: _plain_copy(item) for key, item in value.items()}
        if isinstance(value, Mapping)
        else value
    )


def _apply(mapping: Any, override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise InputError(f"override {override!r} has no '='; expected key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"override {override!r}: {text!r} is not a YAML value") from error
    *outer, last = dotted.split(".")
    for key in outer:
        if not isinstance(mapping, dict):
            break
        mapping = mapping.setdefault(key, {})
    if not isinstance(mapping, dict):
        raise InputError(f"override {override!r}: {'.'.join(outer) or 'the config'} has no keys")
    mapping[last] = value


def _dataclass(cls: type[Any], value: Any, place: str, source: Source) -> Any:
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise _mismatch(value, "a map of keys to values", place, source)
    known = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in value:
        if key not in known:
            kind = f"key of {place}" if place else "key"
            raise unknown_name(kind, str(key), known, source=source)
    missing = [name for name, f in known.items() if name not in value and _is_required(f)]
    if missing:
        named = ", ".join(_join(place, name) for name in missing)
        raise InputError(f"missing {named}; expected a value for each", source=source)
    hints = get_type_hints(cls)
    filled = {
        key: convert(hints[key], item, _join(place, key), source) for key, item in value.items()
    }
    try:
        return cls(**filled)
    except ValueError as error:  # what a config's __post_init__ refuses
        where = f"{place}: " if place else ""
        raise InputError(f"{where}{error}", source=source) from error


def _is_required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def convert(hint: Any, value: Any, place: str, source: Source) -> Any:
    """A value of the type `hint`; `place` says in errors whose it is.

    Raises:
        InputError: it is none.
    """
    if dataclasses.is_dataclass(hint):
        return _dataclass(cast(type[Any], hint), value, place, source)
    if hint is Any:
        return value
    convert = _BY_ORIGIN.get(get_origin(hint))
    return (
        _scalar(hint, value, place, source)
        if convert is None
        else convert(hint, value, place, source)
    )


def _scalar(hint: Any, value: Any, place: str, source: Source) -> Any:
    if hint in (int, float):
        number = _number(value)
        if number is not None and (hint is float or float(number).is_integer()):
            return hint(number)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint in (bool, str) and isinstance(value, hint):
        return value
    if hint is type(None) and value is None:
        return None
    raise _mismatch(value, _words(hint), place, source)


def _number(value: Any) -> int | float | None:
    # bool is a subclass of int, and "steps: yes" must not become one step.
    if isinstance(value, bool):
        return None
    # YAML 1.1 wants a point in 1e-3, people do not.
    if isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        return float(value)
    if isinstance(value, int) and abs(value) > _LARGEST_INT:
        return None
    return value if isinstance(value, int | float) else None


def _union(hint: Any, value: Any, place: str, source: Source) -> Any:
    # An exact type match comes first, so that "int | float" keeps 3 an int and 3.0 a float.
    options = sorted(get_args(hint), key=lambda option: option is not type(value))
    for option in options:
        try:
            return convert(option, value, place, source)
        except InputError as error:
            # With one structured option its own message says more than "expected a or b".
            if dataclasses.is_dataclass(option) and isinstance(value, Mapping):
                raise error
    raise _mismatch(value, _words(hint), place, source)


def _literal(hint: Any, value: Any, place: str, source: Source) -> Any:
    choices = get_args(hint)
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return value
    if isinstance(value, str) and all(isinstance(choice, str) for choice in choices):
        raise unknown_name(f"value of {place}", value, choices, source=source)
    raise _mismatch(value, _words(hint), place, source)


def _tuple(hint: Any, value: Any, place: str, source: Source) -> Any:
    if not isinstance(value, list | tuple):
        raise _mismatch(value, "a list", place, source)
    kinds = get_args(hint)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _mismatch(value, f"a list of {len(kinds)} values", place, source)
    return tuple(
        convert(kind, item, f"{place}[{index}]", source)
        for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _dict(hint: Any, value: Any, place: str, source: Source) -> Any:
    if not isinstance(value, Mapping):
        raise _mismatch(value, "a map of keys to values", place, source)
    _, kind = get_args(hint)
    return {str(k): convert(kind, item, _join(place, str(k)), source) for k, item in value.items()}


_BY_ORIGIN: Mapping[Any, Callable[[Any, Any, str, Source], Any]] = {
    Union: _union,
    types.UnionType: _union,
    Literal: _literal,
    tuple: _tuple,
    dict: _dict,
}

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    type(None): "nothing",
}


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(option) for option in get_args(hint))
    if get_origin(hint) is tuple:
        return "a list"
    if get_origin(hint) is dict or dataclasses.is_dataclass(hint):
        return "a map of keys to values"
    return _WORDS.get(hint, str(hint))


def _mismatch(value: Any, expected: str, place: str, source: Source) -> InputError:
    return InputError(f"{place or 'the config'} is {value!r}; expected {expected}", source=source)


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8 text"
