"""The default store: one folder per user with one SQLite file and the user's media beside it.

``FOLDER/<hash of the user id>/memory.db`` and ``.../media/``. Nothing of another user is ever in
reach of the connection, deleting a user is deleting a folder, and a backup is a copy (or
`Store.export`).
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from consistent_gen.errors import OutputError
from consistent_gen.memory import erasure
from consistent_gen.memory.changes import read_meta, write_meta
from consistent_gen.memory.database import SqliteDatabase, Trace, untraced
from consistent_gen.memory.filters import Condition
from consistent_gen.memory.media import FolderBlobs
from consistent_gen.memory.records import utc_now
from consistent_gen.memory.schema import SQLITE, migrate
from consistent_gen.memory.sql_store import SqlStore, user_handle
from consistent_gen.memory.store import Hit, Limits, MemoryStoreError
from consistent_gen.memory.trunk import COMPACT, Trunk
from consistent_gen.memory.vectors import BlobVectors


class SqliteStore(SqlStore):
    """One user's memory in ``folder``; opening makes it, migrates it, and finishes an erasure
    that a crash had interrupted.

    ``busy_timeout_s`` is how long a write waits for other processes. ``trace`` is told each step
    of a write (fault injection in tests). Raises ``InputError`` for a bad user id,
    ``MemoryStoreError`` for a damaged, newer or foreign file, ``OutputError`` if not writable.
    """

    def __init__(
        self,
        folder: str | Path,
        user: str,
        *,
        trunk: Trunk = COMPACT,
        limits: Limits | None = None,
        clock: Callable[[], datetime] = utc_now,
        busy_timeout_s: float = 30.0,
        trace: Trace = untraced,
    ) -> None:
        super().__init__(trunk=trunk, limits=limits or Limits(), clock=clock)
        handle = user_handle(user)
        self.folder = Path(folder) / handle
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"cannot make a memory in {folder}: {error.strerror}") from None
        self._sqlite = SqliteDatabase(
            self.folder / "memory.db", busy_timeout_s=busy_timeout_s, trace=trace
        )
        self.db = self._sqlite
        self.blobs = FolderBlobs(self.folder / "media", self.db)
        self.vector_table = BlobVectors(self.db)
        try:
            self._prepare(handle)
        except BaseException:
            self.close()
            raise

    def _prepare(self, handle: str) -> None:
        if not self._migrated():
            migrate(self.db, SQLITE)
        owner = read_meta(self.db, "owner")
        if not owner:
            with self.db.transaction():
                write_meta(self.db, "owner", handle)
        elif owner != handle:
            raise MemoryStoreError("this file is the memory of another user; it was not opened")
        if read_meta(self.db, erasure.PENDING, "0") == "1":
            self._finish_erasure()

    def _migrated(self) -> bool:
        """Whether nothing is to be done, found out without taking the write lock."""
        tables = self.db.rows("SELECT 1 FROM sqlite_master WHERE name = 'migrations'")
        names = self.db.rows("SELECT name FROM migrations ORDER BY name") if tables else []
        return names == [(name,) for name, _ in SQLITE]

    def close(self) -> None:
        self._sqlite.close()

    def _matches(self, words: Sequence[str], where: Condition, limit: int) -> builtins.list[Hit]:
        query = " OR ".join(f'"{word}"' for word in words)
        rows = self.db.rows(
            "SELECT r.id, r.kind, -bm25(search) FROM search JOIN records r "
            f"ON r.row_id = search.rowid WHERE search MATCH ? AND {where.sql} "
            f"ORDER BY bm25(search), r.row_id LIMIT {int(limit)}",
            (query, *where.values),
        )
        return [Hit(id=id, kind=kind, score=score) for id, kind, score in rows]

    def _scrub(self) -> tuple[str, ...]:
        # The index is rebuilt because its segments keep deleted words until they merge; VACUUM
        # rewrites every page; the checkpoint empties the write-ahead log that saw both.
        with self.db.transaction():
            self.db.rows("INSERT INTO search (search) VALUES ('rebuild')")
        try:
            self.db.rows("VACUUM")
        except MemoryStoreError:
            return ("a reader in another process (database pages)",)
        ((busy, _, _),) = self.db.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        return ("a reader in another process (write-ahead log)",) if busy else ()

    def _engine_problems(self) -> Iterator[str]:
        for (line,) in self.db.rows("PRAGMA integrity_check"):
            if line != "ok":
                yield f"database: {line}"
        for row in self.db.rows("PRAGMA foreign_key_check"):
            yield f"database: {row[0]} refers to a missing row of {row[2]}"
        try:
            with self.db.transaction():
                self.db.rows("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)")
        except MemoryStoreError:
            yield "the full-text index does not match the records (compact rebuilds it)"
        for space, size, seq in self.db.rows(
            "SELECT v.space, s.dimensions, v.seq FROM vectors v JOIN spaces s ON s.name = v.space "
            "WHERE length(v.data) <> 4 * s.dimensions"
        ):
            yield f"vector {seq} of space {space} does not have {size} dimensions"
