"""A whole store as a folder: rows, pictures, personas and keys; taken while it is in use.

    manifest.json          what is in it, with the hash of every file of rows
    tables/NAME.jsonl      the rows of a table (see `tables`), the same for SQLite and PostgreSQL
    artifacts/ab/abcd...   pictures under the hash of their bytes
    personas/...           memories as they are
    buckets/               what workers measured
    keys.json              hashes of keys, where the server has a key file

Rows are of one moment, and every picture that they name is there. Pictures are links where the disk
allows, since they never change. A persona is of one moment for itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from consistent_gen import __version__
from consistent_gen.checkpoints import atomic_dir, file_sha256
from consistent_gen.errors import InputError
from services.errors import StorageError, StorageFull
from services.settings import Settings
from services.store import schema
from services.store import tables as store_tables
from services.store.database import Database
from services.store.opening import DATABASE_NAME, MARKER_NAME, join, lock_folder, open_database

ARTIFACTS, PERSONAS, KEYS, MANIFEST = "artifacts", "personas", "keys.json", "manifest.json"
BUCKETS = "buckets"  # what workers measured; a part of what decides the last bits of pictures
BACKUPS = "backups"  # in the data folder: those that `upgrade` and `roll_back` make
TRIES = 10
_DIGEST = re.compile(r"[0-9a-f]{64}")


class _Rows(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    rows: int = Field(ge=0)
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """What a backup says of itself. `missing`: pictures whose files the store had lost."""

    model_config = ConfigDict(extra="forbid", strict=True)
    format: Literal["consistent-gen-store"] = "consistent-gen-store"
    version: Literal[1] = 1
    software: str = __version__
    migrations: list[str]
    tables: dict[str, _Rows]
    pictures: int = Field(ge=0)
    missing: list[str] = []
    personas: int = Field(ge=0)

    @property
    def summary(self) -> str:
        """For people."""
        rows = sum(table.rows for table in self.tables.values())
        lost = f"; {len(self.missing)} pictures are missing" if self.missing else ""
        said = f"{rows} rows, {self.pictures} pictures, {self.personas} personas"
        return f"{said}, tables of {self.migrations[-1]}{lost}"


# Taking one ---------------------------------------------------------------------------------------


def back_up(settings: Settings, database: Database, folder: Path) -> Manifest:
    """Write all of a store to a new folder, which appears once it is whole.

    Raises:
        InputError: the folder is there already, or there is no store.
        StorageFull: it cannot be written. StorageError: the store is of a newer version.
    """
    applied = database.applied()
    if not applied:
        raise InputError(f"{database.name} has no store in it; nothing was written")
    if folder.exists():
        raise InputError(f"{folder} is there already; name a new folder")
    data, keys = settings.storage.data_dir, settings.auth.keys_file
    if keys is not None and not keys.is_file():
        raise InputError(f"auth.keys_file is {keys}, which is not a file; nothing was written")
    with _explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_dir(folder) as made:
            (made / "tables").mkdir()
            # The long part first, so that little can be deleted while the rows are being read.
            _link_pictures(_digests(database), data / ARTIFACTS, made / ARTIFACTS)
            rows, wanted, missing = _rows_and_pictures(database, applied, data, made)
            _drop_pictures(made / ARTIFACTS, wanted)
            personas = _copy_personas(data / PERSONAS, made / PERSONAS)
            if keys is not None:
                shutil.copyfile(keys, made / KEYS)
            if (data / BUCKETS).is_dir():
                shutil.copytree(data / BUCKETS, made / BUCKETS)
            manifest = Manifest(
                migrations=applied, tables=rows, pictures=len(wanted) - len(missing),
                missing=missing, personas=personas,
            )  # fmt: skip
            (made / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
            os.sync()
    return manifest


def _rows_and_pictures(
    database: Database, applied: list[str], data: Path, made: Path
) -> tuple[dict[str, _Rows], set[str], list[str]]:
    """The rows of one moment with the pictures that they name, and which of these are lost."""
    for _ in range(TRIES):
        rows = _dump(database, applied, made / "tables")
        wanted = _wanted(made / "tables" / "blobs.jsonl")
        missing = _link_pictures(wanted, data / ARTIFACTS, made / ARTIFACTS)
        # What was deleted meanwhile makes these rows older than the files; what is still named
        # has lost its file, and no other try finds it.
        if missing <= _digests(database):
            return rows, wanted, sorted(missing)
    raise StorageError("pictures are deleted faster than they are read; try again later")


def _dump(database: Database, applied: list[str], folder: Path) -> dict[str, _Rows]:
    found = {}
    with database.snapshot() as rows:
        for table in store_tables.tables(applied):
            if table.name not in store_tables.PASSING:
                file = folder / f"{table.name}.jsonl"
                number = store_tables.dump(rows, table, file)
                found[table.name] = _Rows(rows=number, sha256=file_sha256(file))
    return found


def _digests(database: Database) -> set[str]:
    return {str(row["sha256"]) for row in database.rows("SELECT sha256 FROM blobs")}


def _wanted(file: Path) -> set[str]:
    with file.open(encoding="utf-8") as stream:
        return {str(store_tables.row_of(line, file)["sha256"]) for line in stream}


def _link_pictures(digests: set[str], source: Path, target: Path) -> set[str]:
    """Put pictures into a folder, where they are not there yet; returns those without a file."""
    missing = set()
    for digest in digests:
        place = target / digest[:2] / digest
        if place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            _link(source / digest[:2] / digest, place)
        except FileNotFoundError:
            missing.add(digest)
    return missing


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def _drop_pictures(folder: Path, wanted: set[str]) -> None:
    for path in folder.glob("??/*"):
        if path.name not in wanted:
            path.unlink()


def _copy_personas(source: Path, target: Path) -> int:
    number = 0
    for persona in sorted(source.glob("*/per_*")):
        place = target / persona.relative_to(source)
        try:
            # Pictures before the rows that name them, and again for those that came meanwhile.
            _copy_files(persona, place)
            for database in persona.rglob("memory.db"):
                _copy_sqlite(database, place / database.relative_to(persona))
            _copy_files(persona, place)
            number += 1
        except (FileNotFoundError, sqlite3.OperationalError):
            if persona.exists():
                raise
            shutil.rmtree(place, ignore_errors=True)  # it was erased meanwhile
    return number


def _copy_files(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif not path.name.startswith("memory.db") and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _copy_sqlite(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as theirs,
        contextlib.closing(sqlite3.connect(target)) as ours,
    ):
        theirs.backup(ours)


# Putting one back ---------------------------------------------------------------------------------


def restore(settings: Settings, folder: Path) -> Manifest:
    """Put a backup into an empty store, SQLite or PostgreSQL whichever it came from. What was
    being drawn waits again.

    Raises:
        InputError: no sound backup, or the store has something in it.
        StorageFull, StorageError, BusyError: as the database.
    """
    manifest = check(folder)
    with alone(settings) as database:
        data = settings.storage.data_dir
        full = [name for name in (ARTIFACTS, PERSONAS) if any((data / name).glob("*"))]
        if full or not store_tables.is_empty(database):
            what = f"{data / full[0]} has files in it" if full else f"{database.name} has rows"
            raise InputError(f"{what}; a backup is restored into an empty store only")
        keys = settings.auth.keys_file
        try:
            _put_back(settings, database, folder, manifest)
        except BaseException:
            for name in (ARTIFACTS, PERSONAS):
                shutil.rmtree(data / name, ignore_errors=True)
            raise
        if keys is not None and not keys.exists() and (folder / KEYS).exists():
            with _explained(keys):
                shutil.copyfile(folder / KEYS, keys)
    return manifest


def check(folder: Path) -> Manifest:
    """A backup's manifest, once every file is as it says. Raises InputError."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        raise InputError("is not a backup of a store", source=folder) from None
    known = [name for name, _ in schema.MIGRATIONS]
    if manifest.migrations != known[: len(manifest.migrations)] or not manifest.migrations:
        raise InputError("is a backup of a newer version; restore it with that one", source=folder)
    expected = {t.name for t in store_tables.tables(manifest.migrations)} - {*store_tables.PASSING}
    if set(manifest.tables) != expected:
        raise InputError("does not have the tables of its version", source=folder)
    try:
        for name, table in manifest.tables.items():
            _check_file(folder / "tables" / f"{name}.jsonl", table.sha256)
        for digest in _wanted(folder / "tables" / "blobs.jsonl") - {*manifest.missing}:
            if not _DIGEST.fullmatch(digest):
                raise InputError("names a picture that is none", source=folder)
            _check_file(folder / ARTIFACTS / digest[:2] / digest, digest)
    except (OSError, KeyError):
        raise InputError("misses files that it should have", source=folder) from None
    return manifest


def _check_file(file: Path, sha256: str) -> None:
    if file_sha256(file) != sha256:
        raise InputError("is damaged; take another backup", source=file)


def _put_back(settings: Settings, database: Database, folder: Path, manifest: Manifest) -> None:
    data = settings.storage.data_dir
    with _explained(data):
        wanted = _wanted(folder / "tables" / "blobs.jsonl")
        for digest in wanted - {*manifest.missing}:
            place = data / ARTIFACTS / digest[:2] / digest
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not place.exists():
                shutil.copyfile(folder / ARTIFACTS / digest[:2] / digest, place)
        fresh = data / f".{PERSONAS}.restored"
        shutil.rmtree(fresh, ignore_errors=True)
        if (folder / PERSONAS).is_dir():
            shutil.copytree(folder / PERSONAS, fresh)
        if (folder / BUCKETS).is_dir():
            shutil.copytree(folder / BUCKETS, data / BUCKETS, dirs_exist_ok=True)
        os.sync()  # pictures are there before the rows that name them
        with database.transaction():
            store_tables.drop_all(database)
            database.migrate(upto=len(manifest.migrations))
            for table in store_tables.tables(manifest.migrations):
                if table.name not in store_tables.PASSING:
                    store_tables.load(database, table, folder / "tables" / f"{table.name}.jsonl")
            _let_wait(database)
        shutil.rmtree(data / PERSONAS, ignore_errors=True)
        if fresh.exists():
            fresh.rename(data / PERSONAS)
        (data / MARKER_NAME).unlink(missing_ok=True)
        if any(table.name == "store" for table in store_tables.tables(manifest.migrations)):
            join(database, data)


def _let_wait(database: Database) -> None:
    """Nobody draws what was being drawn then: it waits again, as if the attempt had not been."""
    database.change(
        """UPDATE job_frames SET state = 'queued', attempt = attempt - 1, step = 0, lease = NULL
           WHERE state = 'running'"""
    )
    database.change(
        """UPDATE attempts SET ended_at = started_at, outcome = 'released'
           WHERE outcome IS NULL"""
    )


# From version to version --------------------------------------------------------------------------


def upgrade(settings: Settings, folder: Path | None = None) -> tuple[list[str], Path | None]:
    """Back up and bring the tables to this version; the migrations that were made, and the backup.

    Both are empty where nothing is to be done, and there is no backup of a store that is new.
    """
    with alone(settings) as database:
        pending, applied = database.pending(), database.applied()
        if not applied or not pending:
            return database.migrate(), None
        folder = folder or _named(settings, f"before-{pending[0]}")
        back_up(settings, database, folder)
        return database.migrate(), folder


def roll_back(settings: Settings, folder: Path | None = None) -> tuple[Manifest, Path, Path]:
    """Put back the backup that the newest upgrade made, or the one of `folder`; what is there now
    is backed up first. Keys stay as they are, so that none that was revoked is valid again.

    Returns:
        What was put back, from where, and where that is which was there.

    Raises:
        InputError: there is no such backup. As `restore` and `back_up` else.
    """
    if folder is None:
        found = sorted((settings.storage.data_dir / BACKUPS).glob("before-*"), key=_made_at)
        if not found:
            raise InputError(
                f"{settings.storage.data_dir / BACKUPS} has no backup of an upgrade; name one"
            )
        folder = found[-1]
    manifest = check(folder)
    with alone(settings) as database:
        replaced = _named(settings, "replaced")
        back_up(settings, database, replaced)
        _put_back(settings, database, folder, manifest)
    return manifest, folder, replaced


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[Database]:
    """The database as it is, while no gateway uses it. Raises InputError when one does."""
    lock = lock_folder(settings)
    try:
        database = open_database(settings, migrate=False)
        try:
            database.alone()
            yield database
        finally:
            database.close()
    finally:
        if lock is not None:
            lock.close()


def opened(settings: Settings) -> Database:
    """The database as it is, beside gateways. Raises InputError when there is none."""
    file = settings.storage.data_dir / DATABASE_NAME
    if settings.store.url is None and not file.exists():
        raise InputError(f"{file} is not there; name the data folder with --data")
    return open_database(settings, migrate=False)


def _named(settings: Settings, what: str) -> Path:
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    place = settings.storage.data_dir / BACKUPS / f"{what}-{moment}"
    number = 1
    while place.exists():
        number += 1
        place = place.with_name(f"{what}-{moment}-{number}")
    return place


def _made_at(folder: Path) -> float:
    return (folder / MANIFEST).stat().st_mtime if (folder / MANIFEST).exists() else 0.0


@contextlib.contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFull(
            f"{place} cannot be written or read: {error.strerror or type(error).__name__}"
        ) from None
