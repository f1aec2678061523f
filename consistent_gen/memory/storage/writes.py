"""One write in progress: new ids and times, changes carried out, the log, and the batch row.

A change of the world at time ``at`` splits the believed version that holds then: the old value
keeps the part before ``at``, the new one takes the rest. A correction takes the whole interval.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from consistent_gen.memory.data.operations import Batch, NoOp, Op, from_object, to_object
from consistent_gen.memory.data.records import Kind, Record, Turn
from consistent_gen.memory.data.store import MemoryLimits, Outcome
from consistent_gen.memory.data.tree_schema import TreeSchema
from consistent_gen.memory.judging.executor import Change, Verdict
from consistent_gen.memory.storage.database import UserDatabase
from consistent_gen.memory.storage.rows import (
    FOREVER,
    Condition,
    chunks,
    copy_vectors,
    insert,
    load,
    marks,
    next_version,
    retire,
)
from consistent_gen.sqlite import micros, moment

_LIVE = f"r.retired_at = {FOREVER}"
_OPEN = f"{_LIVE} AND r.valid_to = {FOREVER}"
# Kinds of which a label (tree path, name of a habit) holds one value at a time.
KEYED: tuple[Kind, ...] = ("core", "habit")
_PREFIX: dict[Kind, str] = {
    "turn": "t", "core": "c", "fact": "f", "episode": "e", "habit": "h", "concept": "k",
    "trait_obs": "p", "style_obs": "s", "media": "m",
}  # fmt: skip
OUTCOME = "SELECT id, op, status, rule, reason, record FROM outcomes"
_LOGGED_CHARACTERS = 4_000
# How far back an attack that comes in pieces is read together.
_SHORTLY, _TURNS_BEFORE = 15 * 60_000_000, 3


def read_meta(db: UserDatabase, name: str, default: str = "") -> str:
    """A value of the store itself, such as its version."""
    rows = db.rows("SELECT value FROM meta WHERE name = ?", (name,))
    return str(rows[0][0]) if rows else default


def write_meta(db: UserDatabase, name: str, value: str) -> None:
    """Set a value of the store itself; inside a transaction."""
    if not db.change("UPDATE meta SET value = ? WHERE name = ?", (value, name)):
        db.rows("INSERT INTO meta (name, value) VALUES (?, ?)", (name, value))


def batch_id(recorded: int) -> str:
    """The id of the write at a record time, in microseconds; later writes have greater ids."""
    return f"b{recorded:013x}"


@dataclass
class Write:
    """A write under way. ``now`` is its record time, later than that of every earlier write."""

    db: UserDatabase
    now: int
    version: int
    ids: list[str] = field(default_factory=list)
    inserted: list[Kind] = field(default_factory=list)
    _before: dict[Kind, int] = field(default_factory=dict)

    @classmethod
    def begin(cls, db: UserDatabase, clock_micros: int) -> Write:
        """Start inside a transaction. A clock that went back is overtaken by one microsecond."""
        last = int(read_meta(db, "last_recorded", "-1"))
        return cls(db, max(clock_micros, last + 1), int(read_meta(db, "version", "0")) + 1)

    @property
    def batch(self) -> str:
        """The id of this write."""
        return batch_id(self.now)

    def finish(self, action: str, key_hash: str | None) -> None:
        """Write the batch row and the store's new version."""
        self.db.rows(
            "INSERT INTO batches (id, key_hash, version, recorded_at, action, ids) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (self.batch, key_hash, self.version, self.now, action, json.dumps(self.ids)),
        )
        write_meta(self.db, "versions_kept", str(self.at_most(None)))
        write_meta(self.db, "version", str(self.version))
        write_meta(self.db, "last_recorded", str(self.now))

    def at_most(self, kind: Kind | None) -> int:
        """An upper bound of the number of live records (of a kind), found without a long scan."""
        if kind is None:
            return int(read_meta(self.db, "versions_kept", "0")) + len(self.inserted)
        if kind not in self._before:
            sql = f"SELECT COUNT(*) FROM records r WHERE r.kind = ? AND {_LIVE}"
            self._before[kind] = int(self.db.rows(sql, (kind,))[0][0]) - self.inserted.count(kind)
        return self._before[kind] + self.inserted.count(kind)

    def add(self, record: Record) -> Record:
        """Insert a first version under a new id."""
        id = f"{_PREFIX[record.kind]}{self.now:013x}{len(self.ids):05x}"
        placed = replace(record, id=id, valid_from=record.valid_from or moment(self.now))
        self._insert(placed, 1)
        self.ids.append(id)
        return placed

    def carry_out(self, change: Change) -> str:
        """Do what a verdict says; returns the id it concerned."""
        old, new = change.old, change.new
        if new is None:
            assert old is not None
            self.retire(old)
            if not change.correction:
                told = tuple(dict.fromkeys((*old.evidence, *change.ended_by)))
                self._rest(replace(old, evidence=told), old.valid_from, change.at)
        elif old is not None and change.correction:
            self.retire(old)
            self._version(new, old.valid_from, old.valid_to)
        else:
            return self._place(new, change.at)
        self.ids.append(old.id)
        return old.id

    def retire(self, record: Record) -> None:
        """Stop believing a version as of this write."""
        retire(self.db, record, self.batch, self.now)

    def revive(self, record: Record) -> None:
        """Believe a retired version again, as a new version with the same interval."""
        row = self._version(record, record.valid_from, record.valid_to)
        copy_vectors(self.db, record, row)

    def overlaps(self, record: Record) -> bool:
        """Whether two believed versions with this record's key hold at the same time."""
        pieces = load(self.db, _siblings(record))
        return any(
            a.valid_to is None or (b.valid_from is not None and a.valid_to > b.valid_from)
            for a, b in pairwise(pieces)
        )

    def _place(self, new: Record, at: datetime) -> str:
        """Let ``new`` hold from ``at`` until its end or the next thing known, if that is first."""
        # What ended before cannot matter, and a leaf that often changed has many such pieces.
        open_then = _siblings(new) & Condition("r.valid_to > ?", (micros(at),))
        pieces = load(self.db, open_then) if new.id or new.kind in KEYED else ()
        later = [p.valid_from for p in pieces if p.valid_from and p.valid_from > at]
        end = _earliest(new.valid_to, min(later, default=None))
        piece = next((p for p in pieces if _holds(p, at)), None)
        if piece is not None:
            self.retire(piece)
            self._rest(piece, piece.valid_from, at)
        if new.id:
            id = new.id
            row = self._version(new, at, end)
            self.ids.append(id)
            if piece is not None and new.text == piece.text:
                copy_vectors(self.db, piece, row)
        else:
            id = self.add(replace(new, valid_from=at, valid_to=end)).id
        if piece is not None and end is not None:
            self._rest(piece, end, piece.valid_to)
        return id

    def _rest(self, piece: Record, start: datetime | None, end: datetime | None) -> None:
        if start is not None and end is not None and start >= end:
            return
        copy_vectors(self.db, piece, self._version(piece, start, end))

    def _version(self, record: Record, start: datetime | None, end: datetime | None) -> int:
        number = next_version(self.db, record.id)
        return self._insert(record, number, valid_from=start, valid_to=end)

    def _insert(self, record: Record, version: int, **changes: Any) -> int:
        self.inserted.append(record.kind)
        return insert(
            self.db,
            replace(
                record, version=version, recorded_at=moment(self.now), retired_at=None,
                created_by=self.batch, retired_by="", **changes,
            ),
        )  # fmt: skip


@dataclass
class LiveView:
    """The executor's view of a store, answered by SQL in the writing transaction."""

    write: Write
    tree_schema: TreeSchema
    limits: MemoryLimits
    _turns: dict[str, Turn] = field(default_factory=dict)

    def now(self) -> datetime:
        return moment(self.write.now)

    def current(self, kind: Kind, target: str, persona: str) -> Record | None:
        # Two lookups, each by an index of its own: an OR of them would scan the kind.
        conditions = [Condition(f"r.id = ? AND {_OPEN}", (target,))]
        if kind in ("core", "habit", "concept"):
            named = f"r.kind = ? AND r.label = ? AND r.persona = ? AND {_OPEN}"
            conditions.insert(0, Condition(named, (kind, target, persona)))
        for condition in conditions:
            found = load(self.write.db, condition, order="r.row_id DESC", limit=1)
            if found and found[0].kind == kind:
                return found[0]
        return None

    def turns(self, ids: Sequence[str]) -> Mapping[str, Turn]:
        # A turn never changes, and the operations of a batch rest on the same few.
        for some in chunks(id for id in ids if id not in self._turns):
            where = Condition(f"r.id IN ({marks(len(some))})", tuple(some))
            found = load(self.write.db, where)
            self._turns.update((r.id, r) for r in found if isinstance(r, Turn))
        return {id: self._turns[id] for id in ids if id in self._turns}

    def known(self, ids: Sequence[str]) -> frozenset[str]:
        return present(self.write.db, "records", "id", ids)

    def blobs(self, names: Sequence[str]) -> frozenset[str]:
        return present(self.write.db, "blobs", "name", names)

    def texts(self, ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            str(text)
            for some in chunks(ids)
            for (text,) in self.write.db.rows(
                f"SELECT text FROM records WHERE id IN ({marks(len(some))})", some
            )
        )

    def said_before(self, ids: Sequence[str]) -> tuple[str, ...]:
        turns = self.turns(ids).values()
        starts = [turn.valid_from for turn in turns if turn.valid_from is not None]
        if not starts:
            return ()
        start = micros(min(starts))
        where = Condition(
            "r.kind = 'turn' AND r.origin IN ('user', 'import') AND r.valid_from <= ? "
            f"AND r.valid_from >= ? AND r.id < ? AND {_LIVE}",
            (start, start - _SHORTLY, min(turn.id for turn in turns)),
        )
        newest = load(self.write.db, where, "r.valid_from DESC, r.id DESC", _TURNS_BEFORE)
        said = [turn.text for turn in newest if isinstance(turn, Turn) and turn.role == "user"]
        return tuple(reversed(said))

    def applied_before(self, key: str) -> bool:
        return bool(
            self.write.db.rows(
                "SELECT 1 FROM outcomes WHERE op_key = ? AND status IN ('applied', 'normalised') "
                "LIMIT 1",
                (key,),
            )
        )

    def same_content(self, record: Record) -> bool:
        return bool(
            self.write.db.rows(
                f"SELECT 1 FROM records r WHERE r.content_hash = ? AND r.persona = ? AND {_OPEN} "
                "LIMIT 1",
                (record.content_hash(), record.persona),
            )
        )

    def children(self, branch: str, persona: str) -> int:
        prefix = f"{branch}."
        rows = self.write.db.rows(
            "SELECT DISTINCT r.label FROM records r WHERE r.kind = 'core' AND r.persona = ? "
            f"AND {_OPEN} AND substr(r.label, 1, ?) = ?",
            (persona, len(prefix), prefix),
        )
        return len(rows)

    def full(self, kind: Kind | None, cap: int) -> bool:
        # Versions are cheap to count and never fewer than live records: an upper bound comes first.
        return self.write.at_most(kind) >= cap and live_count(self.write.db, kind) >= cap


def recount_versions(db: UserDatabase) -> None:
    """Set the kept number of versions after rows were removed or read in at once."""
    ((count,),) = db.rows("SELECT COUNT(*) FROM records")
    write_meta(db, "versions_kept", str(count))


def live_count(db: UserDatabase, kind: Kind | None) -> int:
    """Number of live records (of a kind)."""
    where, values = ("", ()) if kind is None else (" AND r.kind = ?", (kind,))
    rows = db.rows(f"SELECT COUNT(DISTINCT r.id) FROM records r WHERE {_LIVE}{where}", values)
    return int(rows[0][0])


def log(
    write: Write, batch: Batch, index: int, op: Op, key: str, verdict: Verdict, record: str
) -> Outcome:
    """Write one log entry; ``key`` is the operation's `op_key`."""
    outcome = Outcome(
        id=f"{write.batch}.{index}",
        op=op,
        status=verdict.status,
        rule=verdict.rule,
        reason=_storable(verdict.reason),
        record=record,
    )
    db = write.db
    db.rows(
        "INSERT INTO outcomes (id, batch, op_key, op, persona, status, rule, reason, record) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            outcome.id, write.batch, key, _logged(op), batch.persona,
            outcome.status, outcome.rule, outcome.reason, record,
        ),
    )  # fmt: skip
    targets = {record, *batch.turns}
    if not isinstance(op, NoOp):
        targets |= {op.target, *op.evidence}
    db.many(
        "INSERT INTO outcome_links (outcome, target) VALUES (?, ?)",
        [(outcome.id, _storable(t)[:400]) for t in sorted(targets) if t],
    )
    return outcome


def trim_log(db: UserDatabase, keep: int) -> None:
    """Let the log be a ring of ``keep`` entries: the oldest ones leave it."""
    ((oldest, newest),) = db.rows(
        "SELECT (SELECT MIN(seq) FROM outcomes), (SELECT MAX(seq) FROM outcomes)"
    )
    # Erasure leaves gaps, so the count is never larger than this and mostly not looked up.
    if oldest is not None and newest - oldest >= keep:
        db.rows(
            "DELETE FROM outcomes WHERE seq <= "
            "(SELECT seq FROM outcomes ORDER BY seq DESC LIMIT 1 OFFSET ?)",
            (keep,),
        )


def logged_outcome(row: tuple[Any, ...]) -> Outcome:
    """A log entry from (id, op, status, rule, reason, record)."""
    op = from_object(json.loads(row[1]))
    return Outcome(id=row[0], op=op, status=row[2], rule=row[3], reason=row[4], record=row[5])


def _logged(op: Op) -> str:
    value = to_object(op)
    for key in ("value", "target", "reason"):
        if isinstance(value.get(key), str) and len(value[key]) > _LOGGED_CHARACTERS:
            value[key] = value[key][:200] + " [cut]"
    # ASCII escapes keep even text that is not valid Unicode, which is often why it was refused.
    text = json.dumps(value, default=str)
    if len(text) > 8 * _LOGGED_CHARACTERS and "fields" in value:
        text = json.dumps({**value, "fields": {}}, default=str)
    return text


def _storable(text: str) -> str:
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()


def present(db: UserDatabase, table: str, column: str, names: Sequence[str]) -> frozenset[str]:
    """Which of ``names`` occur in a column of a table (both names are ours)."""
    return frozenset(
        str(name)
        for some in chunks(names)
        for (name,) in db.rows(
            f"SELECT {column} FROM {table} WHERE {column} IN ({marks(len(some))})", some
        )
    )


def _siblings(record: Record) -> Condition:
    """The believed versions among which only one may hold at a time."""
    if record.kind in KEYED:
        values = (record.kind, record.label, record.persona)
        return Condition(f"r.kind = ? AND r.label = ? AND r.persona = ? AND {_LIVE}", values)
    return Condition(f"r.id = ? AND {_LIVE}", (record.id,))


def _holds(piece: Record, at: datetime) -> bool:
    begun = piece.valid_from is None or piece.valid_from <= at
    return begun and (piece.valid_to is None or at < piece.valid_to)


def _earliest(a: datetime | None, b: datetime | None) -> datetime | None:
    if a is None or b is None:
        return a or b
    return min(a, b)
