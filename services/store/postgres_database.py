"""PostgreSQL: a store that several gateways use at once, without a leader.

Writing transactions begin with an advisory lock, so that they take turns as they do on SQLite:
what is decided in one (whose turn it is, whether a quota has room, who has died) is decided from a
state that nobody else changes meanwhile. Locking the rows of a lease alone (SKIP LOCKED) would not
do, since turns are shared out over all of them. A gateway that stops in the middle of a transaction
is cut off by the server after `_IDLE_S`, and the others go on.

Every commit is synced by the server, whatever `durable` says. Tables are in the first schema of the
search path, so ``?options=-csearch_path=NAME`` puts a store into a schema of its own. The
connections keep settings and listen, so a pooler between must be one of sessions.
"""

from __future__ import annotations

import logging
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, TypeAlias

from consistent_gen.errors import InputError, MissingExtraError
from services.errors import BusyError, StorageError, StorageFull
from services.store.database import ConnectionLost, ConstraintError, Database

try:
    import psycopg
    from psycopg import pq
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.rows import dict_row
    from psycopg.sql import SQL
except ImportError:
    raise MissingExtraError("psycopg", extra="postgres", what="a store on PostgreSQL") from None

Connection: TypeAlias = psycopg.Connection[dict[str, Any]]

# For other writers; between two statements of a transaction, and of a snapshot.
_WAIT_S, _IDLE_S, _READING_S = 10, 5, 600
_DEFAULTS = {
    "connect_timeout": "10",
    "fallback_application_name": "consistent-gen",
    # A server that is gone without a word is noticed.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_WRITERS, _GATEWAYS = 0x636F6E73, 0x67656E21  # the first half of the keys of our advisory locks
_MOST_TOPICS = 100  # a notice has at most 8000 bytes
_RECONNECT_S = 0.5
_log = logging.getLogger("services.store")


class ServerPostgres(Database):
    """The tables of a store on a server. Writers of all gateways take turns."""

    shared = True
    _begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

    def __init__(self, url: str, *, migrate: bool = True) -> None:
        """Connect and bring the tables to the newest migration, if asked to.

        Raises:
            InputError: ``url`` is no address, or leads to no schema.
            BusyError: the server does not answer.
            StorageError: it refuses, or a newer version wrote the tables.
        """
        self._address = _address(url)
        super().__init__(f"the database {shown_url(url)}")  # for the operator, who starts us
        self._hear: list[Callable[[frozenset[str]], None]] = []
        self._version = 0
        self._place: str | None = None  # once it is open
        self._claimed = False
        self._ear: threading.Thread | None = None
        self._writer = self._connect(reading=False)
        try:
            self._key = self._schema_key()
            self._channel = f"consistent_gen_{self._key & 0xFFFFFFFF:08x}"
            if migrate:
                self.migrate()
        except BaseException:
            self.close()
            raise
        self._place, self.name = self.name, "the server's database"  # for callers

    # Other gateways -------------------------------------------------------------------------------
    def foreign_version(self) -> int:
        """See `Database`: counts the times at which notices may have been missed."""
        return self._version

    def listen(self, hear: Callable[[frozenset[str]], None]) -> None:
        """See `Database`."""
        self._hear.append(hear)
        self._start_listening()

    def claim(self) -> None:
        """See `Database`. Raises InputError while `alone` is held."""
        self._claimed = True
        if not self._lock_gateways("pg_try_advisory_lock_shared"):
            raise InputError(f"{self._place} is being restored or upgraded; start again afterwards")

    def alone(self) -> None:
        """See `Database`."""
        if not self._lock_gateways("pg_try_advisory_lock"):
            raise InputError(f"{self._place} is in use by a gateway; stop all of them first")

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        if self._ear is not None:
            with suppress(psycopg.Error):  # wakes the listener; without it, it looks soon
                self._writer.execute("SELECT pg_notify(%s, '')", (self._channel,))
            self._ear.join()
        super().close()

    # See `Database` -------------------------------------------------------------------------------
    def _connect(self, *, reading: bool) -> Connection:
        with self._errors():
            try:
                connection = psycopg.connect(self._address, autocommit=True, row_factory=dict_row)
            except psycopg.OperationalError as error:
                if _is_refusal(error):
                    raise StorageError(f"{self.name} refuses us: {_first_line(error)}") from None
                raise
            connection.execute(
                "SELECT set_config('lock_timeout', %s, false),"
                " set_config('idle_in_transaction_session_timeout', %s, false)",
                (f"{_WAIT_S}s", f"{_READING_S if reading else _IDLE_S}s"),
            )
            return connection

    def _begin_writing(self, durable: bool) -> None:
        try:
            self._begin_turn()
        except ConnectionLost:
            # Nothing has been done yet; the server may have been started again.
            with suppress(psycopg.Error):
                self._writer.close()
            self._writer = self._connect(reading=False)
            if self._claimed and not self._lock_gateways("pg_try_advisory_lock_shared"):
                self._writer.close()
                raise BusyError(f"{self.name} is being restored", retry_after=10.0) from None
            self._begin_turn()

    def _begin_turn(self) -> None:
        # In one message: what takes time is the way to the server and back.
        turn = f"BEGIN; SELECT pg_advisory_xact_lock({_WRITERS}, {self._key})"
        try:
            with self._errors():
                self._writer.execute(turn.encode())
        except BaseException:
            self._roll_back(self._writer)
            raise

    def _commit(self) -> None:
        if not self._topics:
            self._run("COMMIT")
            return
        few = len(self._topics) <= _MOST_TOPICS
        notice = " ".join(sorted(self._topics)) if few else "*"
        last = SQL("SELECT pg_notify({}, {}); COMMIT").format(self._channel, notice)
        with self._errors():
            self._writer.execute(last)

    def _execute(self, connection: Connection, sql: str, values: Sequence[Any]) -> Any:
        return connection.execute(_numbered(sql), tuple(values))

    def _execute_many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        with self._writer.cursor() as cursor:
            cursor.executemany(_numbered(sql), values)

    def _in_transaction(self, connection: Connection) -> bool:
        status = connection.info.transaction_status
        return status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)

    def _is_usable(self, connection: Connection) -> bool:
        return not connection.closed

    def _roll_back(self, connection: Connection) -> None:
        with suppress(psycopg.Error):
            connection.rollback()

    def _has_table(self, name: str) -> bool:
        return self.rows("SELECT to_regclass(?) AS found", (name,))[0]["found"] is not None

    def _make_room(self) -> None:
        """The server takes care of its own disk."""

    def _check_migration(self, applied: Sequence[str]) -> None:
        if not applied:
            return
        sql = "SELECT pg_try_advisory_xact_lock(?, ?) AS had"
        if self.pending() and not self.rows(sql, (_GATEWAYS, self._key))[0]["had"]:
            raise StorageError(
                f"{self.name} has tables of an older version and is in use by another gateway; "
                "stop all of them before this version is started"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.IntegrityError as error:
            raise ConstraintError(_first_line(error)) from None
        except psycopg.DataError:
            raise InputError("a text has a character that cannot be kept, such as NUL") from None
        except psycopg.Error as error:
            raise self._explained(error) from None

    # Inside ---------------------------------------------------------------------------------------
    def _explained(self, error: psycopg.Error) -> Exception:
        said, kind = _first_line(error), (error.sqlstate or "")[:2]
        if self._place is None:
            said = f"{self.name}: {said}"
        else:
            # Callers need not know where the server has its database.
            _log.warning("%s: %s", self._place, said)
            said = f"{self.name} refused"
        if error.sqlstate in ("53100", "53200"):
            return StorageFull(f"{said}: no room; nothing was changed")
        if kind in ("", "08", "57") or error.sqlstate == "25P03":  # gone, stopping, we were idle
            return ConnectionLost(f"{said}; it does not answer, try again", retry_after=1.0)
        if kind in ("25", "40", "53", "55"):  # a standby, deadlock, too many, not in time
            return BusyError(f"{said}; it is busy, try again", retry_after=1.0)
        return StorageError(f"{said}; nothing was changed")

    def _schema_key(self) -> int:
        """The second half of our locks' keys: stores in other schemas do not wait for this one."""
        schema = self.rows("SELECT current_schema() AS name")[0]["name"]
        if schema is None:
            raise InputError(f"{self.name} has no schema to keep tables in; make one first")
        number = zlib.crc32(schema.encode())
        return number - (1 << 32) if number >= 1 << 31 else number

    def _lock_gateways(self, function: str) -> bool:
        sql = f"SELECT {function}(?, ?) AS had"
        return bool(self._ask(self._writer, sql, (_GATEWAYS, self._key))[0]["had"])

    def _start_listening(self) -> None:
        if self._ear is None:
            first = self._connect_ear()
            self._ear = threading.Thread(
                target=self._keep_listening, args=(first,), name="store listener", daemon=True
            )
            self._ear.start()

    def _connect_ear(self) -> Connection:
        connection = self._connect(reading=True)
        self._ask(connection, f"LISTEN {self._channel}", ())
        return connection

    def _keep_listening(self, connection: Connection) -> None:
        while not self._closed:
            try:
                for notice in connection.notifies(timeout=_RECONNECT_S, stop_after=1):
                    self._heard(notice)
                continue
            except psycopg.Error as error:
                _log.warning("%s: no notices: %s", self._place, _first_line(error))
            connection.close()
            with suppress(BusyError, StorageError):
                connection = self._connect_ear()
            # Whatever was said meanwhile was missed; while nothing is heard, everybody looks.
            self._version += 1
            if connection.closed:
                threading.Event().wait(_RECONNECT_S)
        connection.close()

    def _heard(self, notice: psycopg.Notify) -> None:
        if notice.pid == self._writer.info.backend_pid or not notice.payload:
            return
        if notice.payload == "*":
            self._version += 1
            return
        topics = frozenset(notice.payload.split())
        for hear in self._hear:
            hear(topics)


def shown_url(url: str) -> str:
    """A URL without its password and options, for people."""
    bare = url.partition("?")[0]
    return re.sub(r"^([a-z]+://)(?:([^:@/]*)(?::[^@]*)?@)?", _shown_user, bare)


def _shown_user(match: re.Match[str]) -> str:
    return match[1] + (f"{match[2]}@" if match[2] else "")


def _address(url: str) -> str:
    try:
        said = conninfo_to_dict(url)
    except psycopg.Error:
        # Its words may quote a part of the password.
        raise InputError(
            "store.url is no address of a PostgreSQL database; expected "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE with special characters in % form"
        ) from None
    return make_conninfo(url, **{k: v for k, v in _DEFAULTS.items() if k not in said})


def _is_refusal(error: psycopg.Error) -> bool:
    """Whether a server answered and did not want us: trying again does not help."""
    text = str(error)
    return any(words in text for words in ("authentication failed", "does not exist", "pg_hba"))


def _first_line(error: psycopg.Error) -> str:
    # Further lines may quote the statement's values.
    return (str(error).strip() or type(error).__name__).split("\n")[0]


@lru_cache(maxsize=1024)
def _numbered(sql: str) -> str:
    """Our placeholders in the driver's form; no statement of ours has a literal question mark."""
    return sql.replace("%", "%%").replace("?", "%s")
