"""The store for many machines: PostgreSQL with pgvector, one tenant per user.

`prepare_server` makes schema, role and tables once, as an administrator. A `PostgresStore` then
works as a role that row-level security binds to its user; writers of one user take turns by an
advisory lock. `scrub_server` removes erased bytes from the server's files.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np

from consistent_gen.errors import MissingExtraError
from consistent_gen.memory.data.records import Kind, utc_now
from consistent_gen.memory.data.store import Hit, MemoryLimits, MemoryStoreError, Vector
from consistent_gen.memory.data.tree_schema import COMPACT, TreeSchema
from consistent_gen.memory.storage.database import Row, Scopes, Trace, untraced
from consistent_gen.memory.storage.media import TableBlobs
from consistent_gen.memory.storage.rows import Condition, chunks, marks, of_kinds
from consistent_gen.memory.storage.schema import POSTGRES, ROLE, SCHEMA, TABLES, TENANT, migrate
from consistent_gen.memory.storage.sql_store import SqlStore, user_handle
from consistent_gen.sqlite import moment

try:
    import psycopg
except ImportError:
    raise MissingExtraError("psycopg", extra="postgres", what="a memory on PostgreSQL") from None


class PostgresDatabase(Scopes):
    """A `Database` over one connection; ``lock_key`` names the user among writers."""

    def __init__(self, address: str, *, lock_key: int, trace: Trace = untraced) -> None:
        super().__init__(trace)
        self._lock_key = lock_key
        try:
            self._connection = psycopg.connect(address, autocommit=True, connect_timeout=10)
        except psycopg.Error as error:
            raise MemoryStoreError(f"no connection to the server: {_first_line(error)}") from None

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        with self._lock, _errors():
            cursor = self._connection.execute(_numbered(sql), values or None)
            return cursor.fetchall() if cursor.description else []

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        with self._lock, _errors():
            return self._connection.execute(_numbered(sql), values or None).rowcount

    def many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        with self._lock, _errors(), self._connection.cursor() as cursor:
            cursor.executemany(_numbered(sql), values)

    def transaction(self) -> AbstractContextManager[None]:
        """As `Database.transaction`; writers of one user queue at an advisory lock."""
        return self._writing("BEGIN", ("SELECT pg_advisory_xact_lock(?)", (self._lock_key,)))

    def snapshot(self) -> AbstractContextManager[None]:
        """As `Database.snapshot`."""
        return self._reading("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def _roll_back(self) -> None:
        if not self._connection.closed:
            self._connection.rollback()

    def close(self) -> None:
        with self._lock:
            self._connection.close()


class PgVectors:
    """Vectors as pgvector values; `nearest` is an exact search by cosine distance."""

    def __init__(self, db: PostgresDatabase) -> None:
        self._db = db

    def put(self, space: str, vectors: Sequence[tuple[int, Vector]]) -> None:
        for some in chunks(row for row, _ in vectors):
            self._db.rows(
                f"DELETE FROM vectors WHERE space = ? AND row_id IN ({marks(len(some))})",
                (space, *some),
            )
        self._db.many(
            "INSERT INTO vectors (row_id, space, data) VALUES (?, ?, ?::vector)",
            [(row, space, _literal(vector)) for row, vector in vectors],
        )

    def fetch(self, space: str, rows: Sequence[int]) -> dict[int, Vector]:
        return {
            int(row): np.array(data[1:-1].split(","), dtype=np.float32)
            for some in chunks(rows)
            for row, data in self._db.rows(
                "SELECT row_id, data::text FROM vectors "
                f"WHERE space = ? AND row_id IN ({marks(len(some))})",
                (space, *some),
            )
        }

    def nearest(
        self,
        space: str,
        vector: Vector,
        kinds: Sequence[Kind],
        where: Condition,
        limit: int,
        each_kind: bool,
    ) -> tuple[Hit, ...]:
        where = of_kinds(kinds) & where
        # Materialised, so that no vector of another space meets the distance operator.
        rows = self._db.rows(
            "WITH candidates AS MATERIALIZED "
            "(SELECT r.id, r.kind, r.row_id, r.origin, r.valid_from, r.text, v.data "
            "FROM vectors v JOIN records r ON r.row_id = v.row_id "
            f"WHERE v.space = ? AND {where.sql}), "
            "scored AS (SELECT id, kind, row_id, origin, valid_from, text, "
            "1 - (data <=> ?::vector) AS score "
            f"FROM candidates) {_best('scored', limit, each_kind)}",
            (space, *where.values, _literal(vector)),
        )
        return tuple(map(_hit, rows))


class PostgresStore(SqlStore):
    """One user's memory on a prepared server.

    ``address`` is a ``postgresql://`` URL of a login that may ``SET ROLE consistent_gen_app``.
    Raises ``InputError`` for a bad user id, ``MemoryStoreError`` when the server cannot be
    reached, is not prepared, is newer, or does not enforce row-level security.
    """

    def __init__(
        self,
        address: str,
        user: str,
        *,
        tree_schema: TreeSchema = COMPACT,
        limits: MemoryLimits | None = None,
        clock: Callable[[], datetime] = utc_now,
        trace: Trace = untraced,
    ) -> None:
        super().__init__(tree_schema=tree_schema, limits=limits or MemoryLimits(), clock=clock)
        handle = user_handle(user)
        # The first 63 bits of the handle: two users who share them merely wait for each other.
        key = int(handle[:16], 16) >> 1
        self._postgres = PostgresDatabase(address, lock_key=key, trace=trace)
        self.db = self._postgres
        self.blobs = TableBlobs(self.db)
        self.vector_table = PgVectors(self._postgres)
        try:
            self._bind(handle)
        except BaseException:
            self.close()
            raise

    def _bind(self, handle: str) -> None:
        try:
            self.db.rows(f"SET ROLE {ROLE}")
            self.db.rows(f"SET search_path = {SCHEMA}, public")
            self.db.rows("SELECT set_config(?, ?, false)", (TENANT, handle))
            names = self.db.rows("SELECT name FROM migrations ORDER BY name")
        except MemoryStoreError as error:
            raise MemoryStoreError(
                f"this server is not prepared for memories ({error}); run prepare_server(address) "
                "of consistent_gen.memory.storage.postgres_store as administrator"
            ) from None
        if names != [(name,) for name, _ in POSTGRES]:
            raise MemoryStoreError(
                "the server's tables are of another version; run prepare_server or upgrade"
            )
        ((free,),) = self.db.rows(
            "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
        )
        forced = self.db.rows(
            "SELECT COUNT(*) FROM pg_class WHERE relrowsecurity AND relforcerowsecurity "
            "AND relnamespace = to_regnamespace(?)",
            (SCHEMA,),
        )
        if free or forced[0][0] != len(TABLES):
            raise MemoryStoreError("row-level security is not in force; the memory was not opened")

    def close(self) -> None:
        self._postgres.close()

    def _matches(
        self,
        words: Sequence[str],
        where: Condition,
        limit: int,
        each_of: Sequence[Kind],
        to_the_end: bool,
    ) -> builtins.list[Hit]:
        # Words are letters and digits only, so quoting them makes any query text harmless.
        query = " | ".join(f"'{word}'" for word in words)
        rows = self.db.rows(
            "WITH scored AS (SELECT r.id, r.kind, r.row_id, r.origin, r.valid_from, r.text, "
            "ts_rank_cd(s.document, q.words, 1) AS score "
            "FROM to_tsquery('english', ?) AS q (words), search s "
            f"JOIN records r ON r.row_id = s.row_id WHERE s.document @@ q.words AND {where.sql}) "
            f"{_best('scored', limit, bool(each_of))}",
            (query, *where.values),
        )
        return list(map(_hit, rows))

    def _scrub(self) -> tuple[str, ...]:
        # Rewriting shared tables locks out every user, so an administrator chooses the moment.
        return ("dead rows until scrub_server", "write-ahead log until scrub_server")

    def _engine_problems(self) -> Iterator[str]:
        for what, sql in (
            ("records without an index entry",
             "SELECT COUNT(*) FROM records r WHERE NOT EXISTS "
             "(SELECT 1 FROM search s WHERE s.row_id = r.row_id)"),
            ("vectors of a wrong length",
             "SELECT COUNT(*) FROM vectors v JOIN spaces s ON s.name = v.space "
             "WHERE vector_dims(v.data) <> s.dimensions"),
        ):  # fmt: skip
            ((count,),) = self.db.rows(sql)
            if count:
                yield f"{count} {what}"


def prepare_server(address: str) -> None:
    """Make or migrate schema, role, tables and policies; ``address`` logs in as an administrator.

    Safe to repeat and to run from several machines at once.
    """
    db = PostgresDatabase(address, lock_key=0x6D656D6F7279)
    try:
        with db.transaction():
            db.rows("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")
            if not db.rows("SELECT 1 FROM pg_roles WHERE rolname = ?", (ROLE,)):
                db.rows(f"CREATE ROLE {ROLE} NOLOGIN NOSUPERUSER NOBYPASSRLS")
            db.rows(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            db.rows(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {ROLE}")
            db.rows(f"SET LOCAL search_path = {SCHEMA}, public")
            migrate(db, POSTGRES)
    finally:
        db.close()


def scrub_server(address: str) -> None:
    """Rewrite the tables and leave the write-ahead log behind, so that erased bytes are gone.

    Locks each table while it is rewritten. Needs a superuser, and ``wal_recycle = off`` on the
    server, because recycled log files keep their old bytes (raises ``MemoryStoreError`` if on).
    Backups, replicas and replication slots hold their own copies and are the operator's.
    """
    db = PostgresDatabase(address, lock_key=0)
    try:
        ((recycle,),) = db.rows("SHOW wal_recycle")
        if recycle != "off":
            raise MemoryStoreError(
                "the server recycles its write-ahead log, which keeps erased bytes; "
                "set wal_recycle = off, reload, and scrub again"
            )
        for table in TABLES:
            db.rows(f"VACUUM (FULL) {SCHEMA}.{table}")
        for _ in range(2):
            db.rows("SELECT pg_switch_wal()")
            db.rows("CHECKPOINT")
    finally:
        db.close()


@lru_cache(maxsize=512)
def _numbered(sql: str) -> str:
    """Our placeholders in the driver's form; our statements hold no literal of either sign."""
    assert "%" not in sql
    return sql.replace("?", "%s")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise MemoryStoreError(f"the server refused: {_first_line(error)}") from None


def _best(table: str, limit: int, each_kind: bool) -> str:
    """The best rows of a table with what a `Hit` needs, over all kinds or of each."""
    group = "PARTITION BY kind " if each_kind else ""
    return (
        "SELECT id, kind, score, origin, valid_from, text FROM "
        f"(SELECT *, ROW_NUMBER() OVER ({group}"
        f"ORDER BY score DESC, row_id) AS place FROM {table}) AS ranked "
        f"WHERE place <= {int(limit)} ORDER BY score DESC, row_id"
    )


def _hit(row: Row) -> Hit:
    id, kind, score, origin, at, text = row
    return Hit(id=id, kind=kind, score=float(score), origin=origin, at=moment(at), text=text)


def _first_line(error: psycopg.Error) -> str:
    # Further lines may quote the statement's values.
    return str(error).strip().split("\n")[0]


def _literal(vector: Vector) -> str:
    return "[" + ",".join(map(repr, vector.tolist())) + "]"
