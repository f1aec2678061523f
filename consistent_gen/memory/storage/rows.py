"""Rows of records: conditions on them, writing a version, reading them with their links.

Nothing here edits content; `erasure` alone removes rows. An open end is the largest 64-bit integer,
so that every interval test is two comparisons and no ``NULL`` logic.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consistent_gen.errors import InputError
from consistent_gen.inputs import check_choice, check_time
from consistent_gen.memory.data.records import KINDS, Concept, Kind, Record, build
from consistent_gen.memory.data.store import AsOf, ReadStatement, TimeWindow
from consistent_gen.memory.storage.database import UserDatabase
from consistent_gen.sqlite import micros, moment

FOREVER = 2**63 - 1
COLUMNS = (
    "id, version, kind, event, persona, origin, trust, schema_version, text, keywords, terms, "
    "label, subject, body, valid_from, valid_to, recorded_at, retired_at, created_by, retired_by, "
    "content_hash"
)
RELATIONS = (("evidence", "evidence"), ("derived", "derived_from"), ("media", "media"))
_CHUNK = 400
_INSERT = f"INSERT INTO records ({COLUMNS}) VALUES ({', '.join('?' * 21)}) RETURNING row_id"
_SELECT = (
    "SELECT r.row_id, r.id, r.version, r.kind, r.persona, r.origin, r.trust, r.schema_version, "
    "r.text, r.keywords, r.body, r.valid_from, r.valid_to, r.recorded_at, r.retired_at, "
    "r.created_by, r.retired_by FROM records r WHERE "
)
# What must not be found, and the query that would find it.
_EMPTY_RESULTS: dict[str, str] = {
    "evidence names a turn that is not there": (
        "SELECT l.target FROM links l WHERE l.relation = 'evidence' "
        "AND NOT EXISTS (SELECT 1 FROM records r WHERE r.id = l.target)"
    ),
    "a record derives from one that is not there": (
        "SELECT l.target FROM links l WHERE l.relation = 'derived' "
        "AND NOT EXISTS (SELECT 1 FROM records r WHERE r.id = l.target)"
    ),
    "a record refers to media that is not there": (
        "SELECT l.target FROM links l WHERE l.relation = 'media' "
        "AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.name = l.target)"
    ),
    "a record is about a concept that is not there": (
        "SELECT r.id FROM records r WHERE r.subject <> '' "
        "AND NOT EXISTS (SELECT 1 FROM records c WHERE c.id = r.subject)"
    ),
    "a version was retired before it was recorded": (
        "SELECT r.id FROM records r WHERE r.retired_at < r.recorded_at OR r.valid_to < r.valid_from"
    ),
    "two believed versions hold at the same time": (
        "SELECT a.id FROM records a JOIN records b ON a.id = b.id AND a.version < b.version "
        f"WHERE a.retired_at = {FOREVER} AND b.retired_at = {FOREVER} "
        "AND a.valid_from < b.valid_to AND b.valid_from < a.valid_to"
    ),
    "a tree path or habit holds two values at once": (
        "SELECT a.id FROM records a JOIN records b ON a.kind = b.kind AND a.label = b.label "
        "AND a.persona = b.persona AND a.id < b.id WHERE a.kind IN ('core', 'habit') "
        f"AND a.retired_at = {FOREVER} AND b.retired_at = {FOREVER} "
        "AND a.valid_from < b.valid_to AND b.valid_from < a.valid_to"
    ),
}


def open_micros(moment: datetime | None) -> int:
    """As `micros`; ``None`` is `FOREVER`."""
    return FOREVER if moment is None else micros(moment)


def open_moment(value: int) -> datetime | None:
    """As `moment`; `FOREVER` is ``None``."""
    return None if value == FOREVER else moment(value)


@dataclass(frozen=True)
class Condition:
    """A SQL condition over the table ``records`` aliased ``r``, and the values it needs."""

    sql: str
    values: tuple[Any, ...]

    def __and__(self, other: Condition) -> Condition:
        return Condition(f"{self.sql} AND {other.sql}", self.values + other.values)


def of_kinds(kinds: Sequence[Kind] | None) -> Condition:
    """Rows of any of these kinds; ``None`` means every kind."""
    if kinds is None:
        return Condition("1 = 1", ())
    for kind in kinds:
        check_choice(kind, KINDS, "kind")
    if not kinds:
        return Condition("1 = 0", ())
    return Condition(f"r.kind IN ({marks(len(kinds))})", tuple(kinds))


def at(as_of: AsOf | None, window: TimeWindow | None, now: int) -> Condition:
    """Rows believed at ``as_of.recorded`` that hold at ``as_of.world`` or in ``window``.

    Without a window and a world time, states must hold now while events count whenever they were.
    """
    as_of = as_of or AsOf()
    check_time(as_of.world, "as_of.world")
    check_time(as_of.recorded, "as_of.recorded")
    if as_of.recorded is None:
        believed = Condition(f"r.retired_at = {FOREVER}", ())
    else:
        r = micros(as_of.recorded)
        believed = Condition("r.recorded_at <= ? AND ? < r.retired_at", (r, r))
    if as_of.world is not None:
        w = micros(as_of.world)
        believed &= Condition("r.valid_from <= ? AND (r.event = 1 OR ? < r.valid_to)", (w, w))
    elif window is None:
        believed &= Condition("(r.event = 1 OR (r.valid_from <= ? AND ? < r.valid_to))", (now, now))
    return believed if window is None else believed & _within(window)


def _within(window: TimeWindow) -> Condition:
    check_time(window.start, "window.start")
    check_time(window.end, "window.end")
    if window.start and window.end and window.end < window.start:
        raise InputError("the window ends before it starts; swap start and end")
    start = -FOREVER if window.start is None else micros(window.start)
    end = FOREVER if window.end is None else micros(window.end)
    # An event without an end is the instant at which it happened; with one (an episode) and for
    # states, touching the window is enough.
    return Condition(
        f"r.valid_from < ? AND (CASE WHEN r.event = 1 AND r.valid_to = {FOREVER} "
        "THEN r.valid_from + 1 ELSE r.valid_to END) > ?",
        (end, start),
    )


def equal(column: str, value: str | None) -> Condition:
    """Rows whose ``column`` (a name of ours) is ``value``; ``None`` asks for nothing."""
    return Condition("1 = 1", ()) if value is None else Condition(f"r.{column} = ?", (value,))


def marks(count: int) -> str:
    """``count`` placeholders with commas between."""
    return ", ".join("?" * count)


def insert(db: UserDatabase, record: Record) -> int:
    """Write one version whose id, version and times are set; returns its row."""
    ((row_id,),) = db.rows(_INSERT, _values(record))
    links = [
        (row_id, relation, position, target)
        for relation, attribute in RELATIONS
        for position, target in enumerate(getattr(record, attribute))
    ]
    if links:
        db.many("INSERT INTO links (row_id, relation, position, target) VALUES (?, ?, ?, ?)", links)
    return int(row_id)


def retire(db: UserDatabase, record: Record, batch: str, now: int) -> None:
    """Stop believing one version."""
    touched = db.change(
        f"UPDATE records SET retired_at = ?, retired_by = ? "
        f"WHERE id = ? AND version = ? AND retired_at = {FOREVER}",
        (now, batch, record.id, record.version),
    )
    assert touched == 1, "retired a version that was not live"


def copy_vectors(db: UserDatabase, source: Record, row_id: int) -> None:
    """Let a new version keep the vectors of an old one with the same text."""
    db.rows(
        "INSERT INTO vectors (row_id, space, data) SELECT ?, v.space, v.data FROM vectors v "
        "JOIN records r ON r.row_id = v.row_id WHERE r.id = ? AND r.version = ?",
        (row_id, source.id, source.version),
    )


def load(
    db: UserDatabase,
    condition: Condition,
    order: str = "r.valid_from, r.id",
    limit: int | None = None,
) -> tuple[Record, ...]:
    """Records that meet the condition, with their links, in ``order`` (SQL of ours)."""
    tail = "" if limit is None else f" LIMIT {int(limit)}"
    rows = db.rows(f"{_SELECT}{condition.sql} ORDER BY {order}{tail}", condition.values)
    links = _links(db, [row[0] for row in rows])
    return tuple(_record(row, links.get(row[0], {})) for row in rows)


def by_ids(db: UserDatabase, ids: Sequence[str], condition: Condition) -> dict[str, Record]:
    """Records with these ids that meet the condition (at most one version of each), by id."""
    found: dict[str, Record] = {}
    for some in chunks(ids):
        wanted = Condition(f"r.id IN ({marks(len(some))})", tuple(some))
        found.update((r.id, r) for r in load(db, wanted & condition))
    return found


def read_from(
    db: UserDatabase, turns: Sequence[str], holding: Condition
) -> dict[str, tuple[ReadStatement, ...]]:
    """What states were read from each of ``turns``, and whether it meets the condition still.

    A state that has grown ("tea" to "tea; coffee") still holds what its earlier versions said.
    """
    read: dict[str, list[tuple[str, str, str]]] = {}
    for some in chunks(turns):
        for turn, id, text, keywords in db.rows(
            "SELECT l.target, r.id, r.text, r.keywords FROM links l "
            "JOIN records r ON r.row_id = l.row_id "
            f"WHERE l.relation = 'evidence' AND l.target IN ({marks(len(some))}) AND r.event = 0",
            some,
        ):
            about = next(iter(json.loads(keywords)), "")
            read.setdefault(str(turn), []).append((str(id), str(text), str(about)))
    held: dict[str, str] = {}
    for some in chunks(id for states in read.values() for id, _, _ in states):
        where = Condition(f"r.id IN ({marks(len(some))})", tuple(some)) & holding
        rows = db.rows(f"SELECT r.id, r.text FROM records r WHERE {where.sql}", where.values)
        held |= {str(id): str(text) for id, text in rows}
    return {
        turn: tuple(
            ReadStatement(text, about, id in held and text in held[id])
            for id, text, about in states
        )
        for turn, states in read.items()
    }


def next_version(db: UserDatabase, id: str) -> int:
    """The number after the largest version of ``id``."""
    ((last,),) = db.rows("SELECT COALESCE(MAX(version), 0) FROM records WHERE id = ?", (id,))
    return int(last) + 1


def chunks(values: Iterable[Any], size: int = _CHUNK) -> Iterable[list[Any]]:
    """Lists of at most ``size`` distinct values in order, small enough for one statement."""
    unique = list(dict.fromkeys(values))
    return (unique[i : i + size] for i in range(0, len(unique), size))


def search_terms(record: Record) -> str:
    """The words besides its text by which a record is found: keywords, label, aliases."""
    words = [*record.keywords, record.label.replace("_", " ").replace(".", " ")]
    if isinstance(record, Concept):
        words += [*record.aliases, record.class_name]
    return " ".join(word for word in words if word)


def _values(record: Record) -> tuple[Any, ...]:
    assert record.recorded_at is not None and record.valid_from is not None and record.id
    return (
        record.id,
        record.version,
        record.kind,
        int(record.event),
        record.persona,
        record.origin,
        record.trust,
        record.schema,
        record.text,
        json.dumps(record.keywords, ensure_ascii=False),
        search_terms(record),
        record.label,
        record.subject_id,
        json.dumps(record.body(), ensure_ascii=False, sort_keys=True),
        micros(record.valid_from),
        open_micros(record.valid_to),
        micros(record.recorded_at),
        open_micros(record.retired_at),
        record.created_by,
        record.retired_by,
        record.content_hash(),
    )


def _record(row: tuple[Any, ...], links: dict[str, list[str]]) -> Record:
    shared = {
        "id": row[1],
        "version": row[2],
        "persona": row[4],
        "origin": row[5],
        "trust": row[6],
        "schema": row[7],
        "text": row[8],
        "keywords": tuple(json.loads(row[9])),
        "valid_from": moment(row[11]),
        "valid_to": open_moment(row[12]),
        "recorded_at": moment(row[13]),
        "retired_at": open_moment(row[14]),
        "created_by": row[15],
        "retired_by": row[16],
        **{attribute: tuple(links.get(relation, ())) for relation, attribute in RELATIONS},
    }
    return build(row[3], shared, json.loads(row[10]))


def _links(db: UserDatabase, row_ids: list[int]) -> dict[int, dict[str, list[str]]]:
    found: dict[int, dict[str, list[str]]] = {}
    for some in chunks(row_ids):
        for row_id, relation, target in db.rows(
            f"SELECT row_id, relation, target FROM links WHERE row_id IN ({marks(len(some))}) "
            "ORDER BY row_id, relation, position",
            some,
        ):
            found.setdefault(row_id, {}).setdefault(relation, []).append(target)
    return found


def broken_rules(db: UserDatabase) -> Iterator[str]:
    """Rules between rows that are broken, with one example each."""
    for what, sql in _EMPTY_RESULTS.items():
        broken = db.rows(sql)
        if broken:
            yield f"{what} ({len(broken)} times, first: {broken[0][0]})"
