"""Encryption at rest: what a stolen disk or backup shows of a memory is its size and its times.

The database file is encrypted page by page with ChaCha20-Poly1305 (SQLite3 Multiple Ciphers, MIT,
through the package ``apsw-sqlite3mc``), the write-ahead log with it, so full text, vectors,
history and log need no scheme of their own and search works as it does in the open. Pictures are
files of their own: AES-256-GCM with the picture's name as associated data, under names that are
encrypted too (AES-SIV), because the plain name is a fingerprint of the content. Both come from
the package ``cryptography``.

A wrong key is told from a damaged file by a check value (`consistent_gen.memory.storage.keys`).
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consistent_gen.errors import MissingExtraError
from consistent_gen.memory.storage.database import Row, UserDatabase
from consistent_gen.memory.storage.keys import MemoryKey
from consistent_gen.memory.storage.media import FolderBlobs

try:
    import apsw
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
except ImportError:
    raise MissingExtraError(
        "apsw-sqlite3mc and cryptography", extra="encryption", what="an encrypted memory"
    ) from None

CIPHER = "chacha20"
_NONCE = 12
_NAME = re.compile(r"[0-9a-f]{64}")


class Seal:
    """Everything that is derived from a key for one user."""

    def __init__(self, key: MemoryKey, handle: str) -> None:
        if not hasattr(apsw, "mc_version"):
            package = "apsw-sqlite3mc (the plain apsw is in its place)"
            raise MissingExtraError(package, extra="encryption", what="an encrypted memory")
        self._database = key.derived("database", handle)
        self._media = AESGCM(key.derived("media", handle))
        self._names = AESSIV(key.derived("media names", handle) * 2)
        self.check = key.derived("check", handle).hex()

    def connect(self, path: Path, busy_timeout_s: float) -> ApswConnection:
        """Open the database file; whether the key fits shows at the first statement."""
        return ApswConnection(path, self._database, busy_timeout_s)

    def blobs(self, folder: Path, db: UserDatabase) -> SealedBlobs:
        """The store of media in ``folder``."""
        return SealedBlobs(folder, db, self)

    def name(self, name: str) -> str:
        """The file name of a blob."""
        return self._names.encrypt(bytes.fromhex(name), None).hex()

    def plain_name(self, name: str) -> str:
        """The blob of a file name; a file that is not ours keeps its name."""
        try:
            return self._names.decrypt(bytes.fromhex(name), None).hex()
        except (ValueError, InvalidTag):
            return name

    def encrypted(self, name: str, data: bytes) -> bytes:
        """A blob's bytes as they lie on the disk: nonce, then ciphertext and tag."""
        nonce = os.urandom(_NONCE)
        return nonce + self._media.encrypt(nonce, data, bytes.fromhex(name))

    def decrypted(self, name: str, data: bytes) -> bytes:
        """The plain bytes; damaged ones come back as they are, so that their hash betrays them."""
        try:
            return self._media.decrypt(data[:_NONCE], data[_NONCE:], bytes.fromhex(name))
        except (ValueError, InvalidTag):
            return data


class SealedBlobs(FolderBlobs):
    """`FolderBlobs` whose files are encrypted, name and content."""

    def __init__(self, folder: Path, db: UserDatabase, seal: Seal) -> None:
        super().__init__(folder, db)
        self._seal = seal

    def write(self, name: str, data: bytes) -> None:
        """As `BlobStore.write`; plain bytes never reach the disk."""
        super().write(name, self._seal.encrypted(name, data))

    def read(self, name: str) -> bytes | None:
        """As `BlobStore.read`."""
        data = super().read(name)
        return None if data is None else self._seal.decrypted(name, data)

    def names(self) -> Iterator[str]:
        """As `BlobStore.names`."""
        yield from map(self._seal.plain_name, super().names())

    def _path(self, name: str) -> Path:
        return super()._path(self._seal.name(name) if _NAME.fullmatch(name) else name)


class ApswConnection:
    """The few calls of `sqlite3.Connection` that a `SqliteDatabase` makes, over apsw."""

    def __init__(self, path: Path, key: bytes, busy_timeout_s: float) -> None:
        with _as_sqlite3():
            self._connection = apsw.Connection(str(path))
            self._connection.set_busy_timeout(int(busy_timeout_s * 1000))
            self._connection.execute(f"PRAGMA cipher = '{CIPHER}'").fetchall()
            self._connection.execute(f"PRAGMA key = 'raw:{key.hex()}'").fetchall()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self._connection.in_transaction)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Result:
        """Run one statement to its end."""
        with _as_sqlite3():
            rows = self._connection.execute(sql, tuple(values)).fetchall()
            return Result(rows, self._connection.changes())

    def executemany(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row of values."""
        with _as_sqlite3():
            self._connection.executemany(sql, [tuple(row) for row in values])

    def rollback(self) -> None:
        """Give up the open transaction."""
        self.execute("ROLLBACK")

    def close(self) -> None:
        """Release the file."""
        with _as_sqlite3():
            self._connection.close()


class Result:
    """All rows of a statement and how many it changed."""

    def __init__(self, rows: list[Row], rowcount: int) -> None:
        self._rows, self.rowcount = rows, rowcount

    def fetchall(self) -> list[Row]:
        """The rows."""
        return self._rows


@contextmanager
def _as_sqlite3() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        told = sqlite3.DatabaseError(str(error))
        # The primary code says what kind of error it is, under the standard driver's name for it.
        told.sqlite_errorname = str(
            apsw.mapping_result_codes.get(getattr(error, "result", 0) & 255)
        )
        raise told from None
