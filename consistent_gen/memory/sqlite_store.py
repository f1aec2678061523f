"""The default store: one folder per user with one SQLite file and the user's media beside it.

``FOLDER/<hash of the user id>/memory.db`` and ``.../media/``. Nothing of another user is ever in
reach of the connection, deleting a user is deleting a folder, and a backup is a copy (or
`Store.export`). With a key, both are encrypted (`consistent_gen.memory.encryption`).
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from consistent_gen.errors import OutputError
from consistent_gen.memory import erasure, full_text
from consistent_gen.memory.changes import read_meta, write_meta
from consistent_gen.memory.database import SqliteDatabase, Trace, untraced
from consistent_gen.memory.filters import Condition
from consistent_gen.memory.keys import MemoryKey, check_key, note_key
from consistent_gen.memory.media import FolderBlobs
from consistent_gen.memory.records import Kind, utc_now
from consistent_gen.memory.schema import SQLITE, migrate
from consistent_gen.memory.sql_store import SqlStore, user_handle
from consistent_gen.memory.store import Hit, Limits, MemoryStoreError
from consistent_gen.memory.trunk import COMPACT, Trunk
from consistent_gen.memory.vectors import BlobVectors

if TYPE_CHECKING:
    from consistent_gen.memory.encryption import Seal


class SqliteStore(SqlStore):
    """One user's memory in ``folder``; opening makes it, migrates it, and finishes an erasure
    that a crash had interrupted.

    ``busy_timeout_s`` is how long a write waits for other processes. ``trace`` is told each step
    of a write (fault injection in tests). ``key`` encrypts a new memory and opens an encrypted
    one. Raises ``InputError`` for a bad user id, ``MemoryStoreError`` for a damaged, newer or
    foreign file or a wrong key, ``OutputError`` if not writable.
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
        key: MemoryKey | None = None,
    ) -> None:
        super().__init__(trunk=trunk, limits=limits or Limits(), clock=clock)
        handle = user_handle(user)
        self.folder = Path(folder) / handle
        seal = _seal(key, handle)
        check_key(self.folder, None if seal is None else seal.check)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"cannot make a memory in {folder}: {error.strerror}") from None
        self._sqlite = SqliteDatabase(
            self.folder / "memory.db", busy_timeout_s=busy_timeout_s, trace=trace,
            connect=None if seal is None else seal.connect,
        )  # fmt: skip
        self.db = self._sqlite
        media = self.folder / "media"
        self.blobs = FolderBlobs(media, self.db) if seal is None else seal.blobs(media, self.db)
        self.vector_table = BlobVectors(self.db)
        try:
            self._prepare(handle)
            if seal is not None:
                note_key(self.folder, seal.check)
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

    def _matches(
        self, words: Sequence[str], where: Condition, limit: int, each_of: Sequence[Kind]
    ) -> builtins.list[Hit]:
        if each_of:
            return full_text.best_of_each(self.db, words, where, limit, each_of)
        return full_text.best(self.db, words, where, limit)

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


def _seal(key: MemoryKey | None, handle: str) -> Seal | None:
    if key is None:
        return None
    from consistent_gen.memory.encryption import Seal

    return Seal(key, handle)
