"""The writing half of the `Store` over a `Database`, shared by SQLite and PostgreSQL.

A backend adds how text is searched, how vectors are kept, where blobs lie, and how its files are
scrubbed of erased bytes.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError, LimitError
from consistent_gen.memory import archive, checks, erasure, media
from consistent_gen.memory.changes import (
    OUTCOME,
    LiveView,
    Write,
    log,
    logged_outcome,
    trim_log,
    write_meta,
)  # fmt: skip
from consistent_gen.memory.executor import Executor, as_user
from consistent_gen.memory.filters import Condition
from consistent_gen.memory.ledger import load
from consistent_gen.memory.media import BlobStore
from consistent_gen.memory.moments import FOREVER, micros, moment
from consistent_gen.memory.operations import Batch, op_key
from consistent_gen.memory.records import Kind, Media, Record, Turn, check_text
from consistent_gen.memory.sql_reader import SqlReader
from consistent_gen.memory.store import (
    ErasureReceipt,
    Outcome,
    Receipt,
    Scope,
    StaleVersionError,
    Verification,
)  # fmt: skip

APPENDED: tuple[Kind, ...] = ("turn", "media", "trait_obs", "style_obs")
_LIVE = Condition(f"r.retired_at = {FOREVER}", ())
_HOUR = 3_600_000_000


class SqlStore(SqlReader):
    """A `Store`; subclasses set ``db``, ``blobs`` and ``vector_table`` when they open."""

    blobs: BlobStore

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

    # writing -------------------------------------------------------------------------------------

    def record(self, records: Sequence[Record], *, key: str | None = None) -> Receipt:
        prepared = [self._appendable(record) for record in records]
        key_hash = _key_hash(key)
        with self.db.transaction():
            if (earlier := self._earlier(key_hash)) is not None:
                return earlier
            write = self._begin()
            view = LiveView(write, self.trunk, self._limits)
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
        executor = Executor(LiveView(write, self.trunk, self._limits), batch)
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
        return Receipt(
            batch=id, version=version, recorded_at=moment(recorded), ids=tuple(json.loads(ids)),
            outcomes=tuple(map(logged_outcome, logged)), duplicate=True,
        )  # fmt: skip

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

    def verify(self) -> Verification:
        found = (*self._engine_problems(), *checks.problems(self.db, self.blobs))
        records, stored, blobs = checks.counts(self.db)
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


def _key_hash(key: str | None) -> str | None:
    # A caller's key may hold content, so only its hash is kept.
    return None if key is None else hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _receipt(write: Write, outcomes: tuple[Outcome, ...] = ()) -> Receipt:
    return Receipt(
        batch=write.batch, version=write.version, recorded_at=moment(write.now),
        ids=tuple(write.ids), outcomes=outcomes,
    )  # fmt: skip


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
