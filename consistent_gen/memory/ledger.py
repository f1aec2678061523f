"""Reading and writing record rows: insert a version, retire one, load records with their links.

Nothing here edits content; `erasure` alone removes rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from consistent_gen.memory.database import Database
from consistent_gen.memory.filters import Condition, marks
from consistent_gen.memory.moments import FOREVER, micros, moment, open_micros, open_moment
from consistent_gen.memory.records import Concept, Record, build

COLUMNS = (
    "id, version, kind, event, persona, origin, trust, schema_version, text, keywords, terms, "
    "label, subject, body, valid_from, valid_to, recorded_at, retired_at, created_by, retired_by, "
    "content_hash"
)
RELATIONS = (("evidence", "evidence"), ("derived", "derived_from"), ("media", "media"))
_CHUNK = 400
_INSERT = f"INSERT INTO records ({COLUMNS}) VALUES ({marks(21)}) RETURNING row_id"
_SELECT = (
    "SELECT r.row_id, r.id, r.version, r.kind, r.persona, r.origin, r.trust, r.schema_version, "
    "r.text, r.keywords, r.body, r.valid_from, r.valid_to, r.recorded_at, r.retired_at, "
    "r.created_by, r.retired_by FROM records r WHERE "
)


def insert(db: Database, record: Record) -> int:
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


def retire(db: Database, record: Record, batch: str, now: int) -> None:
    """Stop believing one version."""
    touched = db.change(
        f"UPDATE records SET retired_at = ?, retired_by = ? "
        f"WHERE id = ? AND version = ? AND retired_at = {FOREVER}",
        (now, batch, record.id, record.version),
    )
    assert touched == 1, "retired a version that was not live"


def copy_vectors(db: Database, source: Record, row_id: int) -> None:
    """Let a new version keep the vectors of an old one with the same text."""
    db.rows(
        "INSERT INTO vectors (row_id, space, data) SELECT ?, v.space, v.data FROM vectors v "
        "JOIN records r ON r.row_id = v.row_id WHERE r.id = ? AND r.version = ?",
        (row_id, source.id, source.version),
    )


def load(
    db: Database, condition: Condition, order: str = "r.valid_from, r.id", limit: int | None = None
) -> tuple[Record, ...]:
    """Records that meet the condition, with their links, in ``order`` (SQL of ours)."""
    tail = "" if limit is None else f" LIMIT {int(limit)}"
    rows = db.rows(f"{_SELECT}{condition.sql} ORDER BY {order}{tail}", condition.values)
    links = _links(db, [row[0] for row in rows])
    return tuple(_record(row, links.get(row[0], {})) for row in rows)


def by_ids(db: Database, ids: Sequence[str], condition: Condition) -> dict[str, Record]:
    """Records with these ids that meet the condition (at most one version of each), by id."""
    found: dict[str, Record] = {}
    for some in chunks(ids):
        wanted = Condition(f"r.id IN ({marks(len(some))})", tuple(some))
        found.update((r.id, r) for r in load(db, wanted & condition))
    return found


def outdated(db: Database, turns: Sequence[str], holding: Condition) -> frozenset[str]:
    """Those of ``turns`` that states were read from, none of which meets the condition any more.

    A state that has grown ("tea" to "tea; coffee") still holds what its earlier versions said.
    """
    read: dict[str, list[tuple[str, str]]] = {}
    for some in chunks(turns):
        for turn, id, text in db.rows(
            "SELECT l.target, r.id, r.text FROM links l JOIN records r ON r.row_id = l.row_id "
            f"WHERE l.relation = 'evidence' AND l.target IN ({marks(len(some))}) AND r.event = 0",
            some,
        ):
            read.setdefault(str(turn), []).append((str(id), str(text)))
    held: dict[str, str] = {}
    for some in chunks(id for states in read.values() for id, _ in states):
        where = Condition(f"r.id IN ({marks(len(some))})", tuple(some)) & holding
        rows = db.rows(f"SELECT r.id, r.text FROM records r WHERE {where.sql}", where.values)
        held |= {str(id): str(text) for id, text in rows}
    return frozenset(
        turn for turn, states in read.items()
        if not any(id in held and text in held[id] for id, text in states)
    )  # fmt: skip


def next_version(db: Database, id: str) -> int:
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


def _links(db: Database, row_ids: list[int]) -> dict[int, dict[str, list[str]]]:
    found: dict[int, dict[str, list[str]]] = {}
    for some in chunks(row_ids):
        for row_id, relation, target in db.rows(
            f"SELECT row_id, relation, target FROM links WHERE row_id IN ({marks(len(some))}) "
            "ORDER BY row_id, relation, position",
            some,
        ):
            found.setdefault(row_id, {}).setdefault(relation, []).append(target)
    return found
