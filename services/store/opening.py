"""Which database a server has, and which folder of files belongs to it.

Tables and files know each other by an id that both keep. A folder that is given to another store
is refused, since sweeping it would delete every file that the tables do not name.
"""

from __future__ import annotations

import os
from pathlib import Path

from consistent_gen.errors import InputError
from services.errors import StorageFull
from services.settings import Settings
from services.store.database import Database
from services.store.identifiers import new_id
from services.store.lock import FolderLock
from services.store.sqlite_database import ServerSqlite

DATABASE_NAME = "server.sqlite"
MARKER_NAME = "store.id"


def open_database(settings: Settings, *, migrate: bool = True) -> Database:
    """The database of ``store.url``, else the file in ``storage.data_dir``; both are made.

    migrate: bring its tables to the newest migration.

    Raises:
        MissingExtraError: PostgreSQL is asked for and its driver is missing.
        InputError, BusyError, StorageError, StorageFull: as the database.
    """
    if settings.store.url is None:
        return ServerSqlite(settings.storage.data_dir / DATABASE_NAME, migrate=migrate)
    from services.store.postgres_database import ServerPostgres

    return ServerPostgres(settings.store.url, migrate=migrate)


def lock_folder(settings: Settings) -> FolderLock | None:
    """Keep a second gateway off an SQLite file; on PostgreSQL several share the folder.

    Raises:
        InputError: another gateway has the folder. StorageFull: it cannot be written.
    """
    folder = settings.storage.data_dir
    if settings.store.url is None:
        return FolderLock(folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFull(f"cannot write {folder}: {error.strerror or error}") from None
    return None


def pair(database: Database, folder: Path) -> None:
    """Check that files and tables belong together, or let them, when neither has belonged to any.

    Raises:
        InputError: the folder is another store's, or has files that the tables do not know.
    """
    marker, mine = folder / MARKER_NAME, store_id(database)
    if not marker.exists():
        is_ours = (folder / DATABASE_NAME).exists() and isinstance(database, ServerSqlite)
        if not is_ours and _has_strangers(database, folder):
            raise InputError(
                f"{folder} has pictures that {database.name} does not know; give an empty "
                "storage.data_dir, or restore a backup: python -m services.store restore"
            )
        join(database, folder)
    elif marker.read_text().strip() != mine:
        raise InputError(
            f"{folder} belongs to another store than {database.name}; check storage.data_dir and "
            "store.url, which all gateways of a store have in common"
        )


def join(database: Database, folder: Path) -> None:
    """Let the folder be this store's, whatever is in it."""
    temporary = folder / f".{MARKER_NAME}.{os.getpid()}"
    temporary.write_text(store_id(database) + "\n")
    temporary.replace(folder / MARKER_NAME)


def store_id(database: Database) -> str:
    """The id of a store, made when it has none."""
    with database.transaction():
        row = database.one("SELECT value FROM store WHERE name = 'id'")
        if row is not None:
            return str(row["value"])
        made = new_id("store")
        database.change("INSERT INTO store (name, value) VALUES ('id', ?)", (made,))
        return made


def _has_strangers(database: Database, folder: Path) -> bool:
    known = {row["sha256"] for row in database.rows("SELECT sha256 FROM blobs")}
    return any(path.name not in known for path in (folder / "artifacts").glob("??/*"))
