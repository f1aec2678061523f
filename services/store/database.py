"""The seam between the stores and a database: transactions, snapshots, migrations.

Statements are written once, with ``?`` placeholders and nothing that only one database knows, and
every value travels as a parameter. What differs is in `sqlite_database` and `postgres_database`:
how a connection is made, how a writing transaction begins, how errors are told, and how others
learn of a change. Writers take turns on both, among all threads and processes, so what one
transaction reads is still so when it writes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import Lock, RLock, get_ident
from typing import Any, TypeAlias

from consistent_gen import sqlite
from consistent_gen.sqlite import Migrations
from services.errors import BusyError, StorageError, StorageFull

Row: TypeAlias = Mapping[str, Any]
# What only reads takes this much of a database: `Database.rows`.
Query: TypeAlias = Callable[[str, Sequence[Any]], list[Row]]
# A connection of the driver; only the implementations look inside.
Connection: TypeAlias = Any
_IDLE_READERS = 8


class ConstraintError(Exception):
    """A constraint of a table refuses a statement; its transaction cannot go on."""


class ConnectionLost(BusyError):
    """The database does not answer any more; on a new connection it may."""


class Database(ABC):
    """One database of tables. Writers take turns, readers never wait for them.

    name: what it is called in messages.
    """

    shared = False  # whether several gateways may use it at once

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = RLock()  # held by the thread that writes
        self._depth = 0
        self._writing_thread: int | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._topics: set[str] = set()
        self._pool_lock = Lock()
        self._readers: list[Connection] = []
        self._closed = False
        self._writer: Connection

    # Reading --------------------------------------------------------------------------------------
    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query; within a transaction of this thread it sees its changes."""
        try:
            with self._reader() as connection:
                return self._ask(connection, sql, values)
        except ConnectionLost:
            if self._writing_thread == get_ident():
                raise
        with self._reader() as connection:
            return self._ask(connection, sql, values)

    def one(self, sql: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of a query, None when there is none."""
        found = self.rows(sql, values)
        return found[0] if found else None

    @contextmanager
    def snapshot(self) -> Iterator[Query]:
        """Several reads of one moment, through the function that is given."""
        with self._reader(begin=self._begin_reading) as connection:

            def rows(sql: str, values: Sequence[Any] = ()) -> list[Row]:
                return self._ask(connection, sql, values)

            yield rows

    # Writing --------------------------------------------------------------------------------------
    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement, in a transaction of its own if need be; returns the rows it touched.

        Raises:
            ConstraintError: a constraint of a table refuses it.
        """
        with self._in_some_transaction(), self._errors():
            return int(self._execute(self._writer, sql, values).rowcount)

    def many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each of ``values``, in one transaction. Raises ConstraintError."""
        with self._in_some_transaction(), self._errors():
            self._execute_many(sql, values)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """All or nothing, alone among writers; a nested one can fail alone.

        Not ``durable``: a loss of power (not the end of the process) may undo it, where that is
        quicker. The next durable one makes it durable too.

        Raises:
            BusyError: another process kept the database for too long, or it does not answer.
            StorageFull: there is no room; nothing was changed.
        """
        with self._lock:
            if self._depth:
                with self._savepoint():
                    yield
                return
            self._begin_writing(durable)
            self._depth, self._writing_thread = 1, get_ident()
            try:
                yield
                self._commit()
            except BaseException as error:
                self._callbacks = []
                if self._in_transaction(self._writer):
                    self._roll_back(self._writer)
                if isinstance(error, StorageFull):
                    self._make_room()
                raise
            finally:
                self._depth, self._writing_thread = 0, None
                self._topics = set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back, without any lock, once the outermost transaction of this thread is committed;
        not at all when it, or the nested one that this is called in, is undone.
        """
        assert self._writing_thread == get_ident(), "after_commit needs a transaction"
        self._callbacks.append(callback)

    # Other processes ------------------------------------------------------------------------------
    def tell(self, topic: str) -> None:
        """Let other processes know, once this transaction is committed, what it is about."""
        assert self._writing_thread == get_ident(), "tell needs a transaction"
        self._topics.add(topic)

    @abstractmethod
    def foreign_version(self) -> int:
        """A number that differs after another process has written what nobody was told of by
        `listen`; never waits for a writer.
        """

    @abstractmethod
    def listen(self, hear: Callable[[frozenset[str]], None]) -> None:
        """Call ``hear`` with what other processes `tell`, on a thread of its own, where the
        database passes that on.
        """

    @abstractmethod
    def claim(self) -> None:
        """Say that a gateway uses the database, until it is closed, where others could as well."""

    @abstractmethod
    def alone(self) -> None:
        """Keep gateways out until the database is closed. Raises InputError while one uses it."""

    # Tables ---------------------------------------------------------------------------------------
    def applied(self) -> list[str]:
        """Names of the migrations that the tables have; none in an empty database."""
        if not self._has_table("migrations"):
            return []
        return [row["name"] for row in self.rows("SELECT name FROM migrations ORDER BY name")]

    def pending(self) -> list[str]:
        """Names of the migrations that are still to be made."""
        applied = set(self.applied())
        return [name for name, _ in self._migrations() if name not in applied]

    def migrate(self, upto: int | None = None) -> list[str]:
        """Bring the tables to the newest migration, or make only the first ``upto``; returns the
        names of those that were made.

        Raises:
            StorageError: a newer version wrote the database.
        """
        migrations = self._migrations()[:upto]
        if sorted(self.applied()) == sorted(name for name, _ in migrations):
            return []
        made: list[str] = []

        def note(name: str) -> None:
            self.change("INSERT INTO migrations (name) VALUES (?)", (name,))
            made.append(name)

        with self.transaction():
            applied = self.applied()
            self._check_migration(applied)
            self.change("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)")
            sqlite.migrate(
                migrations, applied, self.change, note,
                lambda words: StorageError(f"{self.name} {words}"),
            )  # fmt: skip
        return made

    def close(self) -> None:
        """Close all connections."""
        with self._lock, self._pool_lock:
            self._closed = True
            for connection in (*self._readers, self._writer):
                connection.close()
            self._readers = []

    # What differs ---------------------------------------------------------------------------------
    _begin_reading = "BEGIN"

    @abstractmethod
    def _connect(self, *, reading: bool) -> Connection:
        """A new connection."""

    @abstractmethod
    def _begin_writing(self, durable: bool) -> None:
        """Begin a transaction on the writing connection, alone among writers."""

    @abstractmethod
    def _errors(self) -> AbstractContextManager[None]:
        """Turn the driver's errors into ours."""

    @abstractmethod
    def _execute(self, connection: Connection, sql: str, values: Sequence[Any]) -> Any:
        """Run a statement; the driver's cursor."""

    @abstractmethod
    def _execute_many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each of the values, on the writing connection."""

    @abstractmethod
    def _in_transaction(self, connection: Connection) -> bool:
        """Whether a connection is inside of a transaction."""

    @abstractmethod
    def _is_usable(self, connection: Connection) -> bool:
        """Whether a connection is not broken."""

    @abstractmethod
    def _roll_back(self, connection: Connection) -> None:
        """Undo a connection's transaction; errors do not matter any more."""

    @abstractmethod
    def _has_table(self, name: str) -> bool:
        """Whether there is such a table."""

    def _commit(self) -> None:
        self._run("COMMIT")

    @abstractmethod
    def _make_room(self) -> None:
        """After a transaction that found no room."""

    @abstractmethod
    def _check_migration(self, applied: Sequence[str]) -> None:
        """Refuse to change tables that others rely on."""

    # Inside ---------------------------------------------------------------------------------------
    def _migrations(self) -> Migrations:
        from services.store import schema

        return schema.MIGRATIONS

    def _in_some_transaction(self) -> AbstractContextManager[None]:
        return _nothing() if self._writing_thread == get_ident() else self.transaction()

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        name, callbacks = f"nested_{self._depth}", len(self._callbacks)
        self._run(f"SAVEPOINT {name}")
        self._depth += 1
        try:
            yield
        except BaseException:
            del self._callbacks[callbacks:]
            # A full disk has undone the whole transaction already; then there is nothing to go to.
            if self._in_transaction(self._writer):
                self._run(f"ROLLBACK TO {name}")
                self._run(f"RELEASE {name}")
            raise
        else:
            self._run(f"RELEASE {name}")
        finally:
            self._depth -= 1

    def _run(self, sql: str) -> None:
        self._ask(self._writer, sql, ())

    def _ask(self, connection: Connection, sql: str, values: Sequence[Any]) -> list[Row]:
        with self._errors():
            cursor = self._execute(connection, sql, values)
            return list(cursor.fetchall()) if cursor.description else []

    @contextmanager
    def _reader(self, begin: str = "") -> Iterator[Connection]:
        """A connection to read from; `begin` opens a transaction on it that is undone at the end.
        Within a transaction of this thread it is the one that writes.
        """
        if self._writing_thread == get_ident():
            yield self._writer
            return
        connection = self._take_reader()
        try:
            if begin:
                connection = self._begun(connection, begin)
            yield connection
        except ConnectionLost:
            self._drop_readers()
            raise
        finally:
            if begin and self._in_transaction(connection):
                self._roll_back(connection)
            self._give_reader(connection)

    def _begun(self, connection: Connection, begin: str) -> Connection:
        try:
            self._ask(connection, begin, ())
        except ConnectionLost:  # since it was used last
            self._drop_readers()
            self._give_reader(connection)
            connection = self._take_reader()
            self._ask(connection, begin, ())
        return connection

    def _take_reader(self) -> Connection:
        with self._pool_lock:
            if self._closed:
                raise StorageError(f"{self.name} is closed")
            if self._readers:
                return self._readers.pop()
        return self._connect(reading=True)

    def _give_reader(self, connection: Connection) -> None:
        with self._pool_lock:
            too_many = self._closed or len(self._readers) >= _IDLE_READERS
            if too_many or not self._is_usable(connection):
                connection.close()
            else:
                self._readers.append(connection)

    def _drop_readers(self) -> None:
        with self._pool_lock:
            while self._readers:
                self._readers.pop().close()


@contextmanager
def _nothing() -> Iterator[None]:
    yield
