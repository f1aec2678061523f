"""The `Store` over a `UserDatabase`, for SQLite and PostgreSQL alike.

A backend adds how text is searched, how vectors are kept, where blobs lie, and how its files are
scrubbed of erased bytes.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError, LimitError
from consistent_gen.inputs import check_choice, check_text
from consistent_gen.language.words import STOP_WORDS
from consistent_gen.memory.data.operations import Batch, op_key
from consistent_gen.memory.data.records import KINDS, Kind, Media, Record, Turn
from consistent_gen.memory.data.store import (
    AsOf,
    ErasureReceipt,
    Hit,
    MemoryLimits,
    Outcome,
    ReadStatement,
    Receipt,
    Scope,
    StaleVersionError,
    Status,
    TimeWindow,
    TouchedRecords,
    Vector,
    Verification,
)
from consistent_gen.memory.data.tree_schema import TreeSchema
from consistent_gen.memory.judging.executor import Executor, as_user
from consistent_gen.memory.storage import archive, erasure, media, vectors
from consistent_gen.memory.storage.database import UserDatabase
from consistent_gen.memory.storage.media import BlobStore
from consistent_gen.memory.storage.rows import (
    FOREVER,
    Condition,
    at,
    broken_rules,
    by_ids,
    chunks,
    equal,
    load,
    marks,
    of_kinds,
    read_from,
)
from consistent_gen.memory.storage.vectors import VectorTable
from consistent_gen.memory.storage.writes import (
    OUTCOME,
    LiveView,
    Write,
    batch_id,
    live_count,
    log,
    logged_outcome,
    read_meta,
    trim_log,
    write_meta,
)
from consistent_gen.sqlite import micros, moment

APPENDED: tuple[Kind, ...] = ("turn", "media", "trait_obs", "style_obs")
_LIVE = Condition(f"r.retired_at = {FOREVER}", ())
# Of the believed versions of an id, the one that ends last.
_LAST_PIECE = Condition(
    "NOT EXISTS (SELECT 1 FROM records n WHERE n.id = r.id "
    f"AND n.retired_at = {FOREVER} AND n.valid_from > r.valid_from)",
    (),
)
_HOUR = 3_600_000_000
_QUERY_WORD = re.compile(r"[^\W_]+")
_QUERY_WORDS = 64


class SqlStore(ABC):
    """A `Store`; subclasses set ``db``, ``blobs`` and ``vector_table`` when they open."""

    db: UserDatabase
    blobs: BlobStore
    vector_table: VectorTable

    def __init__(
        self, *, tree_schema: TreeSchema, limits: MemoryLimits, clock: Callable[[], datetime]
    ) -> None:
        self.tree_schema = tree_schema
        self._limits = limits
        self._clock = clock
        self._looked_through: dict[tuple[str, tuple[Kind, ...]], tuple[int, int]] = {}

    @abstractmethod
    def _matches(
        self,
        words: Sequence[str],
        where: Condition,
        limit: int,
        each_of: Sequence[Kind],
        to_the_end: bool,
    ) -> builtins.list[Hit]:
        """Records that hold any of the words and meet the condition, best first: ``limit`` in all,
        or ``limit`` of each of the kinds in ``each_of``. Unless ``to_the_end``, a match that is far
        from the best may be left out.
        """

    @abstractmethod
    def _scrub(self) -> tuple[str, ...]:
        """Remove erased bytes from the files; returns what still holds some."""

    @abstractmethod
    def _engine_problems(self) -> Iterator[str]:
        """Problems that only this backend can have."""

    @abstractmethod
    def close(self) -> None:
        """Release the connection."""

    def __enter__(self) -> SqlStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def version(self) -> int:
        return int(read_meta(self.db, "version", "0"))

    @property
    def limits(self) -> MemoryLimits:
        return self._limits

    # writing -------------------------------------------------------------------------------------

    def together(self) -> AbstractContextManager[None]:
        return self.db.transaction()

    def record(self, records: Sequence[Record], *, key: str | None = None) -> Receipt:
        prepared = [self._appendable(record) for record in records]
        key_hash = _key_hash(key)
        with self.db.transaction():
            if (earlier := self._earlier(key_hash)) is not None:
                return earlier
            write = self._begin()
            view = LiveView(write, self.tree_schema, self._limits)
            cap = self._limits.live_records
            if prepared and view.full(None, cap - len(prepared) + 1):
                raise LimitError(f"{cap:,} live records is the limit; erase some first")
            self._check_links(view, prepared)
            for record in prepared:
                write.add(record)
            self.db.trace("records_written")
            write.finish("record", key_hash)
        return _receipt(write)

    def apply(
        self, batch: Batch, *, expect_version: int | None = None, key: str | None = None
    ) -> Receipt:
        key_hash = _key_hash(key)
        with self.db.transaction():
            if (earlier := self._earlier(key_hash)) is not None:
                return earlier
            if expect_version is not None and expect_version != self.version:
                raise StaleVersionError(
                    f"the memory is at version {self.version}, not {expect_version}; "
                    "read it again and propose anew"
                )
            write = self._begin()
            outcomes = self._run(write, batch)
            self.db.trace("operations_applied")
            write.finish("apply", key_hash)
        return _receipt(write, outcomes)

    def undo(self, batch: str) -> Receipt:
        with self.db.transaction():
            rows = self.db.rows("SELECT action, purged FROM batches WHERE id = ?", (batch,))
            if not rows or rows[0][0] not in ("apply", "undo"):
                raise InputError(f"no write {batch!r} that changed facts; see Receipt.batch")
            made = load(self.db, Condition("r.created_by = ?", (batch,)))
            ended = load(
                self.db, Condition("r.retired_by = ? AND r.created_by <> ?", (batch, batch))
            )
            later = [r for r in made if r.retired_by not in ("", batch)]
            if rows[0][1] or later:
                why = (
                    "was erased in part" if rows[0][1] else f"was built on by {later[0].retired_by}"
                )
                raise InputError(f"write {batch} {why}; it cannot be undone")
            write = self._begin()
            for record in made:
                if record.live:
                    write.retire(record)
            for record in ended:
                write.revive(record)
            if any(write.overlaps(record) for record in ended):
                raise InputError(f"a later write fills what {batch} emptied; it cannot be undone")
            write.ids.extend(dict.fromkeys(r.id for r in (*made, *ended)))
            write.finish("undo", None)
        return _receipt(write)

    def release(self, outcome: str) -> Receipt:
        with self.db.transaction():
            rows = self.db.rows(
                f"{OUTCOME.replace(' FROM', ', persona FROM')} "
                "WHERE id = ? AND status = 'quarantined'",
                (outcome,),
            )
            if not rows:
                raise InputError(f"no quarantined operation {outcome!r}")
            op = logged_outcome(rows[0][:6]).op
            write = self._begin()
            batch = as_user(Batch(ops=(), persona=str(rows[0][6])), op)
            outcomes = self._run(write, batch)
            self.discard(outcome)
            write.finish("apply", None)
        return _receipt(write, outcomes)

    def discard(self, outcome: str) -> None:
        with self.db.transaction():
            if not self.db.change(
                "DELETE FROM outcomes WHERE id = ? AND status IN ('refused', 'quarantined')",
                (outcome,),
            ):
                raise InputError(f"no refused or quarantined operation {outcome!r}")

    def _run(self, write: Write, batch: Batch) -> tuple[Outcome, ...]:
        executor = Executor(LiveView(write, self.tree_schema, self._limits), batch)
        outcomes = []
        for index, op in enumerate(batch.ops):
            key = op_key(op, batch.turns)
            verdict = executor.judge(op, key)
            id = "" if verdict.change is None else write.carry_out(verdict.change)
            outcomes.append(log(write, batch, index, op, key, verdict, id))
        trim_log(self.db, self._limits.log_entries)
        return tuple(outcomes)

    def _begin(self) -> Write:
        return Write.begin(self.db, micros(self._clock()))

    def _earlier(self, key_hash: str | None) -> Receipt | None:
        if key_hash is None:
            return None
        rows = self.db.rows(
            "SELECT id, version, recorded_at, ids FROM batches WHERE key_hash = ?", (key_hash,)
        )
        if not rows:
            return None
        id, version, recorded, ids = rows[0]
        logged = self.db.rows(f"{OUTCOME} WHERE batch = ? ORDER BY seq", (id,))
        outcomes = tuple(map(logged_outcome, logged))
        return Receipt(id, version, moment(recorded), tuple(json.loads(ids)), outcomes, True)

    def _appendable(self, record: Record) -> Record:
        if record.kind not in APPENDED:
            raise InputError(
                f"a {record.kind} is written by an operation: Store.apply(Batch(ops=...)); "
                f"Store.record takes {', '.join(APPENDED)}"
            )
        limit = self._limits.turn_characters
        if isinstance(record, Turn) and len(record.text) > limit:
            raise LimitError(
                f"a turn has {len(record.text):,} characters; the limit is {limit:,}: split it"
            )
        # A crop derives from its photo, so that erasing the photo takes the crop.
        if isinstance(record, Media) and record.source and record.source not in record.derived_from:
            return replace(record, derived_from=(*record.derived_from, record.source))
        return record

    def _check_links(self, view: LiveView, records: Sequence[Record]) -> None:
        named = {link for r in records for link in (*r.evidence, *r.derived_from)}
        subjects = {r.subject_id for r in records} - {""}
        blobs = {name for r in records for name in r.media}
        missing = sorted((named | subjects) - view.known([*named, *subjects]))
        missing += sorted(blobs - view.blobs(sorted(blobs)))
        if missing:
            raise InputError(f"{missing[0]!r} is not stored here; store it first (put_media)")

    # reading -------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str], *, as_of: AsOf | None = None) -> tuple[Record, ...]:
        with self.db.snapshot():
            found = by_ids(self.db, ids, at(as_of, None, self._now()))
        return tuple(found[id] for id in ids if id in found)

    def list(
        self,
        kind: Kind,
        *,
        as_of: AsOf | None = None,
        window: TimeWindow | None = None,
        subject: str | None = None,
        label: str | None = None,
        persona: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> tuple[Record, ...]:
        order = "r.valid_from DESC, r.id DESC" if newest_first else "r.valid_from, r.id"
        with self.db.snapshot():
            where = of_kinds((kind,)) & at(as_of, window, self._now()) & equal("subject", subject)
            where = where & equal("label", label) & equal("persona", persona)
            return load(self.db, where, order, limit)

    def history(self, id: str) -> tuple[Record, ...]:
        with self.db.snapshot():
            return load(self.db, Condition("r.id = ?", (id,)), order="r.version")

    @property
    def last_write(self) -> datetime:
        return moment(int(read_meta(self.db, "last_recorded", "0")))

    def changes(self, since: datetime) -> TouchedRecords:
        batch = batch_id(micros(since))  # ids of writes are ordered as the writes are
        with self.db.snapshot():
            rows = self.db.rows(
                "SELECT id FROM records WHERE created_by > ? "
                "UNION SELECT id FROM records WHERE retired_by > ?",
                (batch, batch),
            )
            erased = self.db.rows(
                "SELECT 1 FROM batches WHERE id > ? AND action = 'purge' LIMIT 1", (batch,)
            )
        return TouchedRecords(ids=tuple(sorted(str(id) for (id,) in rows)), erased=bool(erased))

    def outcomes(self, *, status: Status | None = None, limit: int = 100) -> tuple[Outcome, ...]:
        where, values = ("", ()) if status is None else (" WHERE status = ?", (status,))
        rows = self.db.rows(f"{OUTCOME}{where} ORDER BY seq DESC LIMIT {int(limit)}", values)
        return tuple(map(logged_outcome, rows))

    def count(self, kind: Kind | None = None) -> int:
        if kind is not None:
            check_choice(kind, KINDS, "kind")
        return live_count(self.db, kind)

    def _now(self) -> int:
        return max(micros(self._clock()), int(read_meta(self.db, "last_recorded", "0")))

    # searching -----------------------------------------------------------------------------------

    def full_text(
        self,
        query: str,
        *,
        kinds: Sequence[Kind] | None = None,
        window: TimeWindow | None = None,
        as_of: AsOf | None = None,
        limit: int = 10,
        each_kind: bool = False,
    ) -> tuple[Hit, ...]:
        words = query_words(query)
        where = of_kinds(kinds) & at(as_of, window, self._now())
        if not words or limit < 1:
            return ()
        each_of = tuple(KINDS if kinds is None else kinds) if each_kind else ()
        # Thousands of better matches leave a worse one without any use, unless they lie elsewhere.
        to_the_end = window is not None or as_of is not None
        return tuple(self._matches(words, where, limit, each_of, to_the_end))

    def nearest(
        self,
        space: str,
        vector: Vector,
        *,
        kinds: Sequence[Kind] | None = None,
        window: TimeWindow | None = None,
        as_of: AsOf | None = None,
        limit: int = 10,
        each_kind: bool = False,
    ) -> tuple[Hit, ...]:
        wanted = vectors.unit(vector, vectors.dimensions(self.db, space))
        where = of_kinds(kinds) & at(as_of, window, self._now())
        if limit < 1:
            return ()
        among = tuple(KINDS if kinds is None else kinds)
        return self.vector_table.nearest(space, wanted, among, where, limit, each_kind)

    def read_from(self, turns: Sequence[str]) -> dict[str, tuple[ReadStatement, ...]]:
        with self.db.snapshot():
            return read_from(self.db, turns, at(None, None, self._now()))

    def outdated(self, turns: Sequence[str]) -> frozenset[str]:
        read = self.read_from(turns)
        return frozenset(turn for turn, told in read.items() if not any(r.holds for r in told))

    # vectors -------------------------------------------------------------------------------------

    def create_space(self, space: str, dimensions: int) -> None:
        vectors.create_space(self.db, space, dimensions)

    def put_vector(self, id: str, space: str, vector: Vector) -> None:
        size = vectors.dimensions(self.db, space)
        with self.db.transaction():
            rows = self._open_rows([id])
            if id not in rows:
                raise InputError(f"no live record {id!r} to attach a vector to")
            self.vector_table.put(space, [(rows[id], vectors.unit(vector, size))])

    def put_vectors(self, space: str, items: Sequence[tuple[str, Vector]]) -> None:
        size = vectors.dimensions(self.db, space)
        units = {id: vectors.unit(vector, size) for id, vector in items}
        with self.db.transaction():
            rows = self._open_rows(list(units))
            self.vector_table.put(space, [(rows[id], units[id]) for id in rows])

    def vectors(self, space: str, ids: Sequence[str]) -> dict[str, Vector]:
        with self.db.snapshot():
            vectors.dimensions(self.db, space)
            rows = self._open_rows(ids)
            found = self.vector_table.fetch(space, list(rows.values()))
        return {id: found[row] for id, row in rows.items() if row in found}

    def without_vector(
        self, space: str, kinds: Sequence[Kind], *, limit: int = 256
    ) -> tuple[Record, ...]:
        vectors.dimensions(self.db, space)
        missing = Condition(
            "NOT EXISTS (SELECT 1 FROM vectors v WHERE v.space = ? AND v.row_id = r.row_id)",
            (space,),
        )
        with self.db.snapshot():
            ((generation, newest),) = self.db.rows(
                "SELECT generation, (SELECT COALESCE(MAX(row_id), 0) FROM records) FROM spaces "
                "WHERE name = ?",
                (space,),
            )
            # What was looked through needs no second look. An erasure raises the generation: after
            # it rows may be given out again.
            asked = (space, tuple(kinds))
            known, seen = self._looked_through.get(asked, (generation, 0))
            # Sums and joins with nothing keep the planner at the rows: its index by kind and time
            # would read every record of the kinds.
            above = Condition(
                f"r.row_id > ? AND r.kind || '' IN ({marks(len(kinds))}) "
                f"AND r.retired_at + 0 = {FOREVER}",
                (seen if known == generation else 0, *kinds),
            )
            where = above & _LAST_PIECE & missing
            found = load(self.db, where, order="r.row_id", limit=limit)
        if not found:
            self._looked_through[asked] = (generation, newest)
        return found

    def spaces(self) -> dict[str, int]:
        rows = self.db.rows("SELECT name, dimensions FROM spaces ORDER BY name")
        return {str(name): int(size) for name, size in rows}

    def active_space(self, role: str) -> str | None:
        rows = self.db.rows("SELECT space FROM roles WHERE role = ?", (role,))
        return str(rows[0][0]) if rows else None

    def switch_space(self, role: str, space: str) -> None:
        check_text(role, "role", 100)
        with self.db.transaction():
            vectors.dimensions(self.db, space)
            if not self.db.change("UPDATE roles SET space = ? WHERE role = ?", (space, role)):
                self.db.rows("INSERT INTO roles (role, space) VALUES (?, ?)", (role, space))

    def drop_space(self, space: str) -> int:
        with self.db.transaction():
            used = self.db.rows("SELECT role FROM roles WHERE space = ?", (space,))
            if used:
                raise InputError(f"space {space!r} answers for {used[0][0]!r}; switch that first")
            vectors.dimensions(self.db, space)
            removed = self.db.change("DELETE FROM vectors WHERE space = ?", (space,))
            self.db.rows("DELETE FROM spaces WHERE name = ?", (space,))
        return removed

    def _open_rows(self, ids: Sequence[str]) -> dict[str, int]:
        """The row of the latest believed version of each id."""
        found: dict[str, int] = {}
        for some in chunks(ids):
            where = Condition(f"r.id IN ({marks(len(some))})", tuple(some)) & _LIVE & _LAST_PIECE
            for id, row in self.db.rows(
                f"SELECT r.id, r.row_id FROM records r WHERE {where.sql}", where.values
            ):
                found[str(id)] = int(row)
        return found

    # media ---------------------------------------------------------------------------------------

    def put_media(self, data: bytes) -> str:
        return media.put(self.db, self.blobs, data, self._limits, micros(self._clock()))

    def get_media(self, name: str) -> bytes:
        return media.get(self.blobs, name)

    # whole memory --------------------------------------------------------------------------------

    def purge(self, scope: Scope) -> ErasureReceipt:
        with self.db.transaction():
            planned = erasure.plan(self.db, scope)
            write = self._begin()
            erased = erasure.erase(self.db, planned, write, everything=scope.everything)
        recheck = erasure.recount(self.db, erased)
        return erasure.receipt(write, erased, recheck, self._finish_erasure())

    def _finish_erasure(self) -> tuple[str, ...]:
        """Remove orphaned bytes and scrub the files; what is left is pending for `compact`."""
        media.sweep(self.db, self.blobs)
        self.db.trace("media_swept")
        pending = self._scrub()
        self.db.trace("scrubbed")
        if not pending:
            with self.db.transaction():
                write_meta(self.db, erasure.PENDING, "0")
        return pending

    def still_holds(self, words: Sequence[str]) -> tuple[str, ...]:
        spelt = [
            str(text).casefold()
            for table, column in (("records", "text"), ("records", "keywords"), ("outcomes", "op"))
            for (text,) in self.db.rows(f"SELECT {column} FROM {table}")
        ]
        return tuple(word for word in words if any(word.casefold() in text for text in spelt))

    def verify(self) -> Verification:
        found = (*self._engine_problems(), *_problems(self.db, self.blobs))
        records, stored, blobs = (
            int(self.db.rows(f"SELECT COUNT(*) FROM {table}")[0][0])
            for table in ("records", "vectors", "blobs")
        )
        return Verification(problems=found, records=records, vectors=stored, media=blobs)

    def compact(self) -> Verification:
        with self.db.transaction():
            media.drop_unused(self.db, micros(self._clock()) - _HOUR)
        self._finish_erasure()
        return self.verify()

    def export(self, path: str | Path) -> Path:
        return archive.export(self.db, self.blobs, self.vector_table, Path(path))

    def restore(self, path: str | Path) -> int:
        now = micros(self._clock())
        return archive.restore(self.db, self.blobs, self.vector_table, Path(path), now)


def query_words(query: str) -> list[str]:
    """The distinct words of a query, without stop words unless there are no others."""
    check_text(query, "a search query", 100_000)
    words = list(dict.fromkeys(_QUERY_WORD.findall(query.casefold())))
    return ([word for word in words if word not in STOP_WORDS] or words)[:_QUERY_WORDS]


def _problems(db: UserDatabase, blobs: BlobStore) -> Iterator[str]:
    """Everything that is wrong. Reads all media bytes."""
    with db.snapshot():
        yield from list(broken_rules(db))
        sizes = {str(n): int(b) for n, b in db.rows("SELECT name, bytes FROM blobs")}
    # Each name is asked for by itself: a put or a purge may be under way in another process.
    for name, size in sizes.items():
        data = blobs.read(name)
        if data is None:
            if db.rows("SELECT 1 FROM blobs WHERE name = ?", (name,)):
                yield f"media {name[:12]}... has a row but no bytes"
        elif len(data) != size or hashlib.sha256(data).hexdigest() != name:
            yield f"media {name[:12]}... is damaged"
    for name in list(blobs.names()):
        if name not in sizes and not db.rows("SELECT 1 FROM blobs WHERE name = ?", (name,)):
            yield f"media {name[:12]}... has bytes but no row (compact sweeps it)"


def _key_hash(key: str | None) -> str | None:
    # A caller's key may hold content, so only its hash is kept.
    return None if key is None else hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _receipt(write: Write, outcomes: tuple[Outcome, ...] = ()) -> Receipt:
    ids = tuple(write.ids)
    return Receipt(write.batch, write.version, moment(write.now), ids, outcomes)


def user_handle(user: Any) -> str:
    """The name under which a user's memory lies: SHA-256 of the exact id, so that no id can be a
    path, a pattern, or equal to another that merely looks like it.

    Raises ``InputError`` for anything but a plain non-empty string without outer white space.
    """
    check_text(user, "the user id", 256)
    assert isinstance(user, str)
    if not user or user != user.strip() or any(ord(c) < 32 or ord(c) == 127 for c in user):
        raise InputError(
            f"user id {user!r}: expected a non-empty string without control characters or "
            "white space at its ends"
        )
    return hashlib.sha256(b"consistent-gen-memory\0" + user.encode()).hexdigest()[:40]
