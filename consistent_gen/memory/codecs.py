"""Operations as text: strict JSON for every kind, and the published line grammar for leaves.

The line grammar (arXiv 2601.05171) is one operation per line::

    ADD(Identity.Home, "Lisbon")
    UPDATE(Identity.Home, "Porto")
    DELETE(Identity.Home, None)
    NO_OP()

Inside quotes ``\\"`` is a quote and ``\\\\`` a backslash; any other backslash stands for itself.
Bare quotes inside a value are accepted, because published models write them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from consistent_gen.errors import InputError, LimitError
from consistent_gen.memory.operations import Add, Delete, NoOp, Op, Update
from consistent_gen.memory.records import check_choice

MAX_CHARACTERS = 1_000_000
_LINE = re.compile(r"(ADD|UPDATE|DELETE|NO_OP)\s*\((.*)\)\s*;?")
_ARGUMENTS = re.compile(r"\s*(?P<path>\"[^\"]*\"|'[^']*'|[^\",]+?)\s*,\s*(?P<value>.*?)\s*")
_OPS: dict[str, type[Add] | type[Update] | type[Delete] | type[NoOp]] = {
    "ADD": Add,
    "UPDATE": Update,
    "DELETE": Delete,
    "NO_OP": NoOp,
}
_KEYS: dict[str, tuple[str, ...]] = {
    "ADD": ("kind", "target", "value", "evidence", "reason", "at", "until", "fields"),
    "UPDATE": ("kind", "target", "value", "evidence", "reason", "at", "correction", "fields"),
    "DELETE": ("kind", "target", "evidence", "reason", "at", "correction"),
    "NO_OP": ("reason",),
}
_NEEDED = {"ADD": ("value",), "UPDATE": ("target", "value"), "DELETE": ("target",), "NO_OP": ()}
_WRITABLE = ("core", "fact", "episode", "habit", "concept")


@dataclass(frozen=True)
class Salvaged:
    """What could be read of a model's reply, and the lines that could not, each with a reason."""

    ops: tuple[Op, ...]
    problems: tuple[str, ...]


def encode_lines(ops: Iterable[Op]) -> str:
    """The line grammar; raises ``InputError`` for what it cannot say (other kinds, line breaks)."""
    return "".join(_line(op) + "\n" for op in ops)


def decode_lines(text: str, *, evidence: tuple[str, ...] = ()) -> tuple[Op, ...]:
    """Operations from the line grammar, which names no evidence: ``evidence`` is given to each.

    Raises ``InputError`` with the line number at the first line that is not an operation.
    """
    salvaged = salvage_lines(text, evidence=evidence)
    if salvaged.problems:
        raise InputError(salvaged.problems[0])
    return salvaged.ops


def salvage_lines(text: str, *, evidence: tuple[str, ...] = ()) -> Salvaged:
    """As `decode_lines`, for the output of a model: bad lines are reported, good ones kept."""
    _bounded(text)
    ops: list[Op] = []
    problems: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            ops.append(_parsed(line.strip(), evidence))
        except InputError as error:
            problems.append(f"line {number}: {error.message}")
    return Salvaged(tuple(ops), tuple(problems))


def encode_json(ops: Iterable[Op]) -> str:
    """``{"ops": [...]}``; fields at their default are left out."""
    return json.dumps({"ops": [to_object(op) for op in ops]}, ensure_ascii=False)


def decode_json(text: str) -> tuple[Op, ...]:
    """Operations from strict JSON: no unknown or repeated keys, no NaN, no guessing.

    Raises ``InputError`` saying which operation and key is wrong.
    """
    _bounded(text)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not operations in JSON: {error}") from None
    if not isinstance(value, dict) or set(value) != {"ops"} or not isinstance(value["ops"], list):
        raise InputError('expected one object {"ops": [...]}')
    return tuple(from_object(item, f"operation {i}") for i, item in enumerate(value["ops"], 1))


def to_object(op: Op) -> dict[str, Any]:
    """One operation as a JSON object."""
    value: dict[str, Any] = {"op": op.name}
    for key in _KEYS[op.name]:
        given = getattr(op, key)
        if isinstance(given, datetime):
            given = given.astimezone(UTC).isoformat()
        if key in _NEEDED[op.name] or (given and (key, given) != ("kind", "core")):
            value[key] = list(given) if isinstance(given, tuple) else given
    return value


def from_object(value: Any, what: str = "the operation") -> Op:
    """One operation from a JSON object; ``what`` names it in errors."""
    if not isinstance(value, Mapping):
        raise InputError(f"{what} is a {type(value).__name__}; expected an object")
    name = value.get("op")
    check_choice(name, tuple(_OPS), f'"op" of {what}')
    assert isinstance(name, str)
    for key in value:
        check_choice(key, ("op", *_KEYS[name]), f"key of {what}")
    missing = [key for key in _NEEDED[name] if key not in value]
    if missing:
        raise InputError(f"{what} ({name}) lacks {', '.join(missing)}")
    given = {k: _checked(k, v, f"{k!r} of {what}", name) for k, v in value.items() if k != "op"}
    return _OPS[name](**given)


def _checked(key: str, value: Any, what: str, op: str) -> Any:
    if key == "evidence":
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise InputError(f"{what} must be a list of turn ids")
        return tuple(value)
    if key in ("at", "until"):
        return None if value is None else _time(value, what)
    if key == "correction":
        if not isinstance(value, bool):
            raise InputError(f"{what} must be true or false")
        return value
    if key == "fields":
        if not isinstance(value, Mapping):
            raise InputError(f"{what} must be an object")
        return dict(value)
    if value is None and (op, key) == ("UPDATE", "value"):
        return None
    if not isinstance(value, str):
        raise InputError(f"{what} is a {type(value).__name__}; expected a string")
    if key == "kind":
        check_choice(value, _WRITABLE, what)
    return value


def _time(value: Any, what: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise InputError(f"{what} is {value!r}; expected ISO 8601 with a time zone") from None
    if moment.utcoffset() is None:
        raise InputError(f"{what} is {value!r}; add a time zone, such as +00:00")
    return moment


def _line(op: Op) -> str:
    if isinstance(op, NoOp):
        return "NO_OP()"
    if op.kind != "core" or any(c in op.target for c in '",\n\r()'):
        raise InputError(f"the line grammar holds tree leaves only; {op.name} is about {op.kind}")
    if isinstance(op, Delete):
        return f"DELETE({op.target}, None)"
    if op.value is None or re.search(r"[\n\r]", op.value):
        raise InputError("the line grammar holds values of one line; use JSON for this one")
    escaped = op.value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{op.name}({op.target}, "{escaped}")'


def _parsed(line: str, evidence: tuple[str, ...]) -> Op:
    match = _LINE.fullmatch(line)
    if match is None:
        raise InputError(f"{line[:60]!r} is not ADD, UPDATE, DELETE or NO_OP")
    name, inside = match.groups()
    if name == "NO_OP":
        if inside.strip():
            raise InputError("NO_OP takes nothing between its parentheses")
        return NoOp()
    arguments = _ARGUMENTS.fullmatch(inside)
    if arguments is None:
        raise InputError(f"{name} takes a path and a value: {line[:60]!r}")
    path, value = arguments["path"].strip("\"'").strip(), arguments["value"]
    if name == "DELETE":
        if value not in ("None", '""'):
            raise InputError(f"DELETE takes None as its value, not {value[:40]!r}")
        return Delete(target=path, evidence=evidence)
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        raise InputError(f"the value of {name} stands in double quotes; got {value[:40]!r}")
    plain = re.sub(r'\\(["\\])', r"\1", value[1:-1])
    return (Add if name == "ADD" else Update)(target=path, value=plain, evidence=evidence)


def _bounded(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise LimitError(f"{len(text):,} characters of operations; limit {MAX_CHARACTERS:,}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return dict(pairs)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
