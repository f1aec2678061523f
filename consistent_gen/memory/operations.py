"""Changes to a memory as data: ADD, UPDATE, DELETE, NO_OP, and a batch of them.

A listener (rules, a small model, a large one) proposes operations; it never writes. The executor
(`consistent_gen.memory.executor`) judges each one and records why it refused. Two codecs in
`consistent_gen.memory.codecs` read and write them: strict JSON for every kind, and the line
grammar published with PersonaTree (arXiv 2601.05171) for tree leaves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, TypeAlias

from consistent_gen.memory.records import Kind, check_time

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
