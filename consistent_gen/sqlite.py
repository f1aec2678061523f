"""What everything that keeps data in SQLite shares: opening a file, times, migrations, errors.

Times are stored as whole microseconds since 1970 in UTC, so that they compare as integers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

Migrations: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
Fault: TypeAlias = Literal["busy", "full", "unwritable", "unopened", "disk", "damaged", "refused"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Write-ahead log: readers never wait for a writer. Full sync: what was acknowledged outlives a loss
# of power. Secure deletion: freed pages are overwritten, since they hold what people said.
_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "foreign_keys = ON")
_IN_USE = "is in use by another process that did not finish in time; try again"
_DAMAGED = "is damaged or encrypted"
_FAULTS: dict[str, tuple[Fault, str]] = {
    "BUSY": ("busy", _IN_USE),
    "LOCKED": ("busy", _IN_USE),
    # So many processes opened it at once that none got a turn in ten seconds.
    "PROTOCOL": ("busy", _IN_USE),
    "FULL": ("full", "cannot grow: no room left; nothing was changed"),
    "READONLY": ("unwritable", "cannot be written; check the permissions of it and its folder"),
    "PERM": ("unwritable", "cannot be written; check the permissions of it and its folder"),
    "CANTOPEN": ("unopened", "cannot be opened; check the permissions of its folder and its disk"),
    "IOERR": ("disk", "cannot be read or written: the disk refuses; nothing was changed"),
    "CORRUPT": ("damaged", "is damaged; keep the file and restore a copy"),
    "NOTADB": ("damaged", "is damaged, or is no database; keep the file and restore a copy"),
}


class SqlConnection(Protocol):
    """What is asked of a driver: these calls of `sqlite3.Connection`."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Any: ...

    def executemany(self, sql: str, values: Iterable[Sequence[Any]], /) -> Any: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


Opened = TypeVar("Opened", bound=SqlConnection)


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection for any thread, one at a time; transactions begin and end by statements."""
    return sqlite3.connect(
        path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )


def prepare(connection: Opened, *pragmas: str) -> Opened:
    """Set what every connection needs, and ``pragmas`` besides; a failure closes it."""
    try:
        for pragma in (*_PRAGMAS, *pragmas):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def fault(error: sqlite3.Error, path: Path) -> tuple[Fault, str]:
    """The kind of a driver's error, and a sentence about it with what to do.

    The statement and its values never show; they may hold what people said.
    """
    code = getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_").partition("_")[0]
    kind, words = _FAULTS.get(code, ("refused", f"was not changed: the database refused: {error}"))
    return kind, f"{path.name} {words}"


def migrate(
    migrations: Migrations,
    done: Iterable[str],
    run: Callable[[str], object],
    note: Callable[[str], object],
    newer: Callable[[str], Exception],
) -> None:
    """Take the steps of ``migrations`` that are not ``done``; inside a transaction.

    run: carries out a statement; note: keeps the name of a step that was taken; newer: makes the
        error for names that we do not know, which a newer version has written.
    """
    known = set(done)
    if unknown := sorted(known - {name for name, _ in migrations}):
        raise newer(
            f"was written by a newer version (it has {', '.join(unknown)}); "
            "upgrade consistent-gen to open it; nothing was changed"
        )
    for name, statements in migrations:
        if name not in known:
            for statement in statements:
                run(statement)
            note(name)


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of a timezone-aware moment."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """The UTC datetime of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=value)
