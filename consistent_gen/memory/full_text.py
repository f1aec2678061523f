"""Full-text search in SQLite (FTS5): the best matches of all kinds together, or of each.

What costs time is the score of every matching row and the record behind it. Kinds with few records
are joined before they are scored; of kinds with many, the index names its best rows first, and the
records behind those alone are looked at. Only when too few of them pass are all rows joined.
"""

from __future__ import annotations

from collections.abc import Sequence

from consistent_gen.memory.database import Database
from consistent_gen.memory.filters import Condition, marks, of_kinds
from consistent_gen.memory.ledger import chunks
from consistent_gen.memory.moments import FOREVER, moment
from consistent_gen.memory.records import Kind
from consistent_gen.memory.store import Hit

_MANY = 2_000


def best(db: Database, words: Sequence[str], where: Condition, limit: int) -> list[Hit]:
    """The ``limit`` best rows that hold any of the words and meet the condition."""
    with db.snapshot():
        rows = db.rows(
            "SELECT bm25(search), r.row_id FROM search JOIN records r ON r.row_id = search.rowid "
            f"WHERE search MATCH ? AND {where.sql} ORDER BY bm25(search), r.row_id "
            f"LIMIT {int(limit)}",
            (_query(words), *where.values),
        )
        return _hits(db, [(row, -score) for score, row in rows])


def best_of_each(
    db: Database, words: Sequence[str], where: Condition, limit: int, kinds: Sequence[Kind]
) -> list[Hit]:
    """As `best`, with a limit for each of ``kinds`` by itself."""
    query = _query(words)
    with db.snapshot():
        many = [kind for kind in kinds if _has_many(db, kind)]
        few = [kind for kind in kinds if kind not in many]
        found = _joined(db, query, of_kinds(few) & where, limit) if few else []
        if many:
            narrowed = of_kinds(many) & where
            ranked = _ranked(db, query, narrowed, limit, many)
            found += _joined(db, query, narrowed, limit) if ranked is None else ranked
        return _hits(db, sorted(found, key=lambda row: (-row[1], row[0])))


def _query(words: Sequence[str]) -> str:
    # Words are letters and digits only, so quoting them makes any query text harmless.
    return " OR ".join(f'"{word}"' for word in words)


def _has_many(db: Database, kind: Kind) -> bool:
    ((count,),) = db.rows(
        "SELECT COUNT(*) FROM (SELECT 1 FROM records r WHERE r.kind = ? "
        f"AND r.retired_at = {FOREVER} LIMIT {_MANY})",
        (kind,),
    )
    return int(count) == _MANY


def _joined(db: Database, query: str, where: Condition, limit: int) -> list[tuple[int, float]]:
    """Every matching row that meets the condition is scored."""
    rows = db.rows(
        "SELECT bm25(search), r.row_id, r.kind FROM search JOIN records r "
        f"ON r.row_id = search.rowid WHERE search MATCH ? AND {where.sql}",
        (query, *where.values),
    )
    left = dict.fromkeys({row[2] for row in rows}, limit)
    chosen = []
    for score, row, kind in sorted(rows):
        if left[kind]:
            left[kind] -= 1
            chosen.append((row, -score))
    return chosen


def _ranked(
    db: Database, query: str, where: Condition, limit: int, kinds: Sequence[Kind]
) -> list[tuple[int, float]] | None:
    """The index's best rows, if enough of each kind are among them, else None."""
    take = 2 * limit * len(kinds) + 32
    rows = db.rows(
        f"SELECT rowid, -rank FROM search WHERE search MATCH ? ORDER BY rank LIMIT {take}", (query,)
    )
    kind_of = {
        row: kind
        for some in chunks(row for row, _ in rows)
        for row, kind in db.rows(
            # By row, not by kind and time, as the planner would: that reads half the table.
            "SELECT r.row_id, r.kind FROM records r NOT INDEXED "
            f"WHERE r.row_id IN ({marks(len(some))}) AND {where.sql}",
            (*some, *where.values),
        )
    }
    left = dict.fromkeys(kinds, limit)
    chosen = []
    for row, score in rows:
        if row in kind_of and left[kind_of[row]]:
            left[kind_of[row]] -= 1
            chosen.append((row, score))
    return chosen if len(rows) < take or not any(left.values()) else None


def _hits(db: Database, chosen: Sequence[tuple[int, float]]) -> list[Hit]:
    found = {
        row: (id, kind, origin, moment(at), text)
        for some in chunks(row for row, _ in chosen)
        for row, id, kind, origin, at, text in db.rows(
            "SELECT row_id, id, kind, origin, valid_from, text FROM records "
            f"WHERE row_id IN ({marks(len(some))})",
            some,
        )
    }
    return [
        Hit(id=id, kind=kind, score=score, origin=origin, at=at, text=text)
        for row, score in chosen
        for id, kind, origin, at, text in (found[row],)
    ]
