"""Changes to a memory as data: ADD, UPDATE, DELETE, NO_OP, and a batch of them.

A listener (rules, a small model, a large one) proposes operations; it never writes. The executor
(`consistent_gen.memory.judging.executor`) judges each one and records why it refused.

As text they are strict JSON, for every kind, or the line grammar published with PersonaTree
(arXiv 2601.05171), for tree leaves, one operation per line::

    ADD(Identity.Home, "Lisbon")
    UPDATE(Identity.Home, "Porto")
    DELETE(Identity.Home, None)
    NO_OP()

Inside quotes ``\\"`` is a quote and ``\\\\`` a backslash; any other backslash stands for itself.
Bare quotes inside a value are accepted, because published models write them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, TypeAlias

from consistent_gen.errors import InputError, LimitError
from consistent_gen.inputs import check_choice, check_time
from consistent_gen.memory.data.records import Kind

Author: TypeAlias = Literal["listener", "user", "system"]


@dataclass(frozen=True, kw_only=True)
class Add:
    """Create a state record or an episode.

    ``target`` is the tree path of a core leaf, the name of a habit or concept, and unused for
    facts and episodes. ``value`` becomes the record's text. ``fields`` are the other fields of
    that kind (`Fact.subject`, `Concept.aliases`, ...) and the shared ``keywords``,
    ``derived_from`` and ``media``. ``at`` is the world time from which it holds (default: the
    time of the newest evidence turn), ``until`` its end if known.
    """

    name: ClassVar[str] = "ADD"
    value: str
    target: str = ""
    kind: Kind = "core"
    evidence: tuple[str, ...] = ()
    reason: str = ""
    at: datetime | None = None
    until: datetime | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_time(self.at, "at")
        check_time(self.until, "until")


@dataclass(frozen=True, kw_only=True)
class Update:
    """Replace the value of a live record, found by tree path (core) or id (any other kind).

    With ``correction`` the old value was never true: it is retired in record time for the whole
    of its world interval. Without it the world changed: the old value keeps holding before ``at``.
    ``value`` of ``None`` keeps the text and changes ``fields`` alone.
    """

    name: ClassVar[str] = "UPDATE"
    value: str | None
    target: str
    kind: Kind = "core"
    evidence: tuple[str, ...] = ()
    reason: str = ""
    at: datetime | None = None
    correction: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_time(self.at, "at")


@dataclass(frozen=True, kw_only=True)
class Delete:
    """End a live record (it stays in history; `Store.purge` is what erases).

    ``correction`` as in `Update`: it was never true, so no world time keeps it.
    """

    name: ClassVar[str] = "DELETE"
    target: str
    kind: Kind = "core"
    evidence: tuple[str, ...] = ()
    reason: str = ""
    at: datetime | None = None
    correction: bool = False

    def __post_init__(self) -> None:
        check_time(self.at, "at")


@dataclass(frozen=True, kw_only=True)
class NoOp:
    """Nothing worth keeping was said."""

    name: ClassVar[str] = "NO_OP"
    reason: str = ""


Op: TypeAlias = Add | Update | Delete | NoOp


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Operations proposed together, with what the executor needs to judge them.

    ``turns`` are the ids of the chunk the listener read: evidence must come from them.
    ``retrieved`` are ids of records that were shown to the model in this exchange: text that
    merely comes back from there is not evidence. ``author`` ``"user"`` is a person editing the
    memory directly (no evidence needed); ``"system"`` is code of ours acting on a confirmed
    gesture (concept enrolment, consolidation); ``"listener"`` is everything a model proposed.
    """

    ops: tuple[Op, ...]
    turns: tuple[str, ...] = ()
    retrieved: tuple[str, ...] = ()
    author: Author = "listener"
    persona: str = "default"

    def key(self) -> str:
        """The idempotency key: SHA-256 over chunk and operations, equal for a repeated batch."""
        return _digest([list(self.turns), self.author, self.persona, [_plain(o) for o in self.ops]])


def op_key(op: Op, turns: tuple[str, ...]) -> str:
    """The idempotency key of one operation in its chunk; without a chunk, of the operation."""
    return _digest([sorted(turns), _plain(op)])


def _plain(op: Op) -> dict[str, Any]:
    plain = {k: v for k, v in vars(op).items() if k != "reason"}
    return {"op": op.name, **{k: _json(v) for k, v in plain.items()}}


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {k: _json(v) for k, v in value.items()}
    return [_json(v) for v in value] if isinstance(value, tuple | list) else value


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# --- as text --------------------------------------------------------------------------------------

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
