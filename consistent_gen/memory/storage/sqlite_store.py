"""The default store: one folder per user with one SQLite file and the user's media beside it.

``FOLDER/<hash of the user id>/memory.db`` and ``.../media/``. Nothing of another user is ever in
reach of the connection, deleting a user is deleting a folder, and a backup is a copy (or
`Store.export`). With a key, both are encrypted (`consistent_gen.memory.storage.encryption`).
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from consistent_gen.errors import OutputError
from consistent_gen.memory.data.records import Kind, utc_now
from consistent_gen.memory.data.store import Hit, MemoryLimits, MemoryStoreError
from consistent_gen.memory.data.tree_schema import COMPACT, TreeSchema
from consistent_gen.memory.storage import erasure
from consistent_gen.memory.storage.database import SqliteDatabase, Trace, UserDatabase, untraced
from consistent_gen.memory.storage.keys import MemoryKey, check_key, note_key
from consistent_gen.memory.storage.media import FolderBlobs
from consistent_gen.memory.storage.rows import FOREVER, Condition, chunks, marks, of_kinds
from consistent_gen.memory.storage.schema import SQLITE, migrate
from consistent_gen.memory.storage.sql_store import SqlStore, user_handle
from consistent_gen.memory.storage.vectors import BlobVectors
from consistent_gen.memory.storage.writes import read_meta, write_meta
from consistent_gen.sqlite import moment

if TYPE_CHECKING:
    from consistent_gen.memory.storage.encryption import Seal


# What costs time in a full-text search is the score of every matching row and the record behind it.
# Kinds with fewer records than this are joined before they are scored; of kinds with more, the
# index names its best rows first, and only the records behind those are looked at: some, then ever
# more while a kind has too few. Beyond this many rows nothing is near what was asked; a search in a
# window or of an earlier time goes to the end.
_MANY = 2_000
_DEEPEST = 4_096


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
        tree_schema: TreeSchema = COMPACT,
        limits: MemoryLimits | None = None,
        clock: Callable[[], datetime] = utc_now,
        busy_timeout_s: float = 30.0,
        trace: Trace = untraced,
        key: MemoryKey | None = None,
    ) -> None:
        super().__init__(tree_schema=tree_schema, limits=limits or MemoryLimits(), clock=clock)
        handle = user_handle(user)
        self.folder = Path(folder) / handle
        seal = _seal(key, handle)
        check_key(self.folder, None if seal is None else seal.check)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"cannot make a memory in {folder}: {error.strerror}") from None
        self._sqlite = SqliteDatabase(
            self.folder / "memory.db",
            busy_timeout_s=busy_timeout_s,
            trace=trace,
            connect=None if seal is None else seal.connect,
        )
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
        self,
        words: Sequence[str],
        where: Condition,
        limit: int,
        each_of: Sequence[Kind],
        to_the_end: bool,
    ) -> builtins.list[Hit]:
        if each_of:
            return _best_of_each(self.db, words, where, limit, each_of, to_the_end)
        return _best(self.db, words, where, limit)

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

    def still_holds(self, words: Sequence[str]) -> tuple[str, ...]:
        found = set(super().still_holds(words))
        for path in sorted(self.folder.rglob("*")):
            waiting = [word for word in words if word not in found]
            if waiting and path.is_file():
                spelt = path.read_bytes().lower()
                found |= {w for w in waiting if w.lower().encode() in spelt}
        return tuple(word for word in words if word in found)

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
    from consistent_gen.memory.storage.encryption import Seal

    return Seal(key, handle)


def _best(db: UserDatabase, words: Sequence[str], where: Condition, limit: int) -> list[Hit]:
    """The ``limit`` best rows that hold any of the words and meet the condition."""
    with db.snapshot():
        rows = db.rows(
            "SELECT bm25(search), r.row_id FROM search JOIN records r ON r.row_id = search.rowid "
            f"WHERE search MATCH ? AND {where.sql} ORDER BY bm25(search), r.row_id "
            f"LIMIT {int(limit)}",
            (_query(words), *where.values),
        )
        return _hits(db, [(row, -score) for score, row in rows])


def _best_of_each(
    db: UserDatabase,
    words: Sequence[str],
    where: Condition,
    limit: int,
    kinds: Sequence[Kind],
    to_the_end: bool,
) -> list[Hit]:
    """As `_best`, with a limit for each of ``kinds`` by itself."""
    query = _query(words)
    with db.snapshot():
        many = [kind for kind in kinds if _has_many(db, kind)]
        few = [kind for kind in kinds if kind not in many]
        found = _joined(db, query, of_kinds(few) & where, limit) if few else []
        if many:
            narrowed = of_kinds(many) & where
            ranked = _ranked(db, query, narrowed, limit, many, to_the_end)
            found += _joined(db, query, narrowed, limit) if ranked is None else ranked
        return _hits(db, sorted(found, key=lambda row: (-row[1], row[0])))


def _query(words: Sequence[str]) -> str:
    # Words are letters and digits only, so quoting them makes any query text harmless.
    return " OR ".join(f'"{word}"' for word in words)


def _has_many(db: UserDatabase, kind: Kind) -> bool:
    ((count,),) = db.rows(
        "SELECT COUNT(*) FROM (SELECT 1 FROM records r WHERE r.kind = ? "
        f"AND r.retired_at = {FOREVER} LIMIT {_MANY})",
        (kind,),
    )
    return int(count) == _MANY


def _joined(db: UserDatabase, query: str, where: Condition, limit: int) -> list[tuple[int, float]]:
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
    db: UserDatabase,
    query: str,
    where: Condition,
    limit: int,
    kinds: Sequence[Kind],
    to_the_end: bool,
) -> list[tuple[int, float]] | None:
    """The first of each kind among the index's best rows; None where only a scan of every match
    tells whether there are more.
    """
    take = 2 * limit * len(kinds) + 32
    while True:
        rows = db.rows(
            f"SELECT rowid, -rank FROM search WHERE search MATCH ? ORDER BY rank LIMIT {take}",
            (query,),
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
        if len(rows) < take or not any(left.values()):
            return chosen
        if take >= _DEEPEST:
            return None if to_the_end else chosen
        take = min(4 * take, _DEEPEST)


def _hits(db: UserDatabase, chosen: Sequence[tuple[int, float]]) -> list[Hit]:
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
