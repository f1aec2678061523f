"""Blobs under the SHA-256 of their bytes: a folder beside SQLite, a table in PostgreSQL.

A blob is written before the row that names it and removed after the row is gone, both while the
user's write lock is held, so a crash can leave a blob without a row (swept later) but never a row
without its blob. References are counted from the links of the records.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from consistent_gen.errors import InputError, LimitError, OutputError
from consistent_gen.memory.data.store import MemoryLimits, MemoryStoreError
from consistent_gen.memory.storage.database import UserDatabase

_NAME = re.compile(r"[0-9a-f]{64}")
UNUSED = "NOT EXISTS (SELECT 1 FROM links l WHERE l.relation = 'media' AND l.target = blobs.name)"


class BlobStore(Protocol):
    """Where the bytes lie; every call happens under the user's write lock except `read`."""

    def write(self, name: str, data: bytes) -> None:
        """Keep ``data``; durable on return."""

    def read(self, name: str) -> bytes | None:
        """The bytes, or ``None`` when there is no such blob."""

    def remove(self, name: str) -> None:
        """Remove a blob if it is there."""

    def names(self) -> Iterator[str]:
        """The names of all blobs."""


class FolderBlobs:
    """One file per blob in ``folder``, in sub-folders by the first two letters of the name."""

    def __init__(self, folder: Path, db: UserDatabase) -> None:
        self._folder = folder
        self._db = db

    def write(self, name: str, data: bytes) -> None:
        final = self._path(name)
        temporary = self._folder / f"incoming-{os.getpid()}"
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                self._db.trace("media_written")
                os.fsync(file.fileno())
            temporary.rename(final)
            self._db.trace("media_renamed")
            for folder in (final.parent, self._folder):
                _sync_folder(folder)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(f"a picture could not be stored: {error.strerror}") from None

    def read(self, name: str) -> bytes | None:
        path = self._path(name)
        return path.read_bytes() if path.is_file() else None

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)
        self._db.trace("media_removed")

    def names(self) -> Iterator[str]:
        if self._folder.is_dir():
            for path in sorted(self._folder.glob("*/*")):
                yield path.name

    def sweep_incoming(self) -> None:
        """Remove what a killed writer left half-written (the lock says nobody is writing)."""
        for path in self._folder.glob("incoming-*"):
            path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


class TableBlobs:
    """One row per blob in the table ``blob_data``."""

    def __init__(self, db: UserDatabase) -> None:
        self._db = db

    def write(self, name: str, data: bytes) -> None:
        self._db.rows("INSERT INTO blob_data (name, data) VALUES (?, ?)", (name, data))

    def read(self, name: str) -> bytes | None:
        rows = self._db.rows("SELECT data FROM blob_data WHERE name = ?", (name,))
        return bytes(rows[0][0]) if rows else None

    def remove(self, name: str) -> None:
        self._db.rows("DELETE FROM blob_data WHERE name = ?", (name,))

    def names(self) -> Iterator[str]:
        yield from (str(n) for (n,) in self._db.rows("SELECT name FROM blob_data ORDER BY name"))


def put(db: UserDatabase, blobs: BlobStore, data: bytes, limits: MemoryLimits, now: int) -> str:
    """Store a blob within the quotas; returns its name. Raises ``LimitError``."""
    if not isinstance(data, bytes) or not data:
        raise InputError("media is a non-empty bytes object")
    if len(data) > limits.blob_bytes:
        raise LimitError(f"{len(data):,} bytes of media; the limit is {limits.blob_bytes:,}")
    name = hashlib.sha256(data).hexdigest()
    with db.transaction():
        if not db.rows("SELECT 1 FROM blobs WHERE name = ?", (name,)):
            ((used,),) = db.rows("SELECT COALESCE(SUM(bytes), 0) FROM blobs")
            if int(used) + len(data) > limits.media_bytes:
                raise LimitError(
                    f"media quota of {limits.media_bytes:,} bytes is reached; erase some pictures"
                )
            blobs.write(name, data)
            db.rows(
                "INSERT INTO blobs (name, bytes, added_at) VALUES (?, ?, ?)",
                (name, len(data), now),
            )
    return name


def get(blobs: BlobStore, name: str) -> bytes:
    """The checked bytes of a blob. Raises ``InputError``, or ``MemoryStoreError`` if damaged."""
    data = blobs.read(name) if isinstance(name, str) and _NAME.fullmatch(name) else None
    if data is None:
        raise InputError(f"no media {name!r}; a name is the 64 hex digits that put_media returned")
    if hashlib.sha256(data).hexdigest() != name:
        raise MemoryStoreError(
            f"media {name[:12]}... is damaged: its bytes are not what was stored"
        )
    return data


def drop_unused(db: UserDatabase, before: int) -> int:
    """Forget blobs without a reference that were added before a time; returns how many."""
    return db.change(f"DELETE FROM blobs WHERE added_at < ? AND {UNUSED}", (before,))


def sweep(db: UserDatabase, blobs: BlobStore) -> int:
    """Remove the bytes of blobs that have no row; returns how many."""
    with db.transaction():
        known = {str(name) for (name,) in db.rows("SELECT name FROM blobs")}
        if isinstance(blobs, FolderBlobs):
            blobs.sweep_incoming()
        gone = [name for name in blobs.names() if name not in known]
        for name in gone:
            blobs.remove(name)
        return len(gone)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
