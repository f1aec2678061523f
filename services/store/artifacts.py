"""Stored files: content-addressed bytes in a folder, rows that say whose they are.

Bytes are on the disk before the row that names them, and rows are gone before their bytes, so a
crash can leave a file that nobody needs (swept later) but never a row without its file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from consistent_gen.client.types import Artifact
from consistent_gen.errors import InputError
from services.errors import Conflict, NotFound, StorageError, StorageFull
from services.keys import Quota
from services.settings import StorageSettings
from services.store.database import Database, Row
from services.store.identifiers import micros, new_id

# A drawing of a story, or a reference of a character.
SHOWN = """(EXISTS (SELECT 1 FROM frame_versions v WHERE v.artifact = artifacts.id)
    OR EXISTS (SELECT 1 FROM character_references r WHERE r.artifact = artifacts.id))"""


def adopt(db: Database, owner: str, artifact: str) -> None:
    """Keep a temporary artifact for good, as part of the caller's transaction. Raises NotFound."""
    if not db.change(
        "UPDATE artifacts SET temporary = 0 WHERE id = ? AND owner = ?", (artifact, owner)
    ):
        raise NotFound("no such artifact; store the picture first")


def forget(db: Database, artifacts: Iterable[str]) -> None:
    """Delete those of ``artifacts`` that nothing shows any more, in the caller's transaction.

    Their bytes go with the next :meth:`ArtifactStore.sweep`.
    """
    db.many(
        f"DELETE FROM artifacts WHERE id = ? AND NOT {SHOWN}",
        [(artifact,) for artifact in artifacts],
    )


def forget_older(db: Database, before: int) -> int:
    """Delete lasting artifacts from before a moment that nothing shows; returns how many.

    Their bytes go with the next :meth:`ArtifactStore.sweep`.
    """
    return db.change(
        f"DELETE FROM artifacts WHERE temporary = 0 AND created_at < ? AND NOT {SHOWN}", (before,)
    )


ROOM_BYTES = 1 << 20  # more than a drawing of the shipped model takes
MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp")
_NAME = re.compile(r"[0-9a-f]{64}")
_INCOMING = "incoming-"
_SLOWEST_WRITE_S = 60.0
# The plan of a job that is not finished: a picture to draw from.
_NEEDED = """EXISTS (SELECT 1 FROM jobs j WHERE j.state IN ('queued', 'running')
    AND j.plan LIKE '%' || artifacts.id || '%')"""
# An event of a job.
_TOLD = "EXISTS (SELECT 1 FROM events e WHERE e.artifact = artifacts.id)"


class ArtifactStore:
    """Files under the SHA-256 of their bytes; each owner's reference has an id of its own."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        storage: StorageSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        quota_of: Callable[[str], Quota] | None = None,
    ) -> None:
        """``folder`` is made when missing. ``storage`` gives quotas and the reserve of the disk."""
        self._folder = Path(folder)
        self._db = database
        self._storage = storage or StorageSettings()
        self._clock = clock
        self._quota_of = quota_of or (lambda owner: Quota())
        with _explained():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, owner: str, data: bytes, media_type: str, *, temporary: bool = False) -> Artifact:
        """Store bytes durably and return their artifact (a new id each time).

        A temporary one (preview, drawing on its way) goes when nothing refers to it any more.

        Raises:
            InputError: no bytes, or a media type that is not one of ``MEDIA_TYPES``.
            StorageFull: a quota, the disk's reserve, or a folder that cannot be written.
        """
        if not data:
            raise InputError("the file is empty; send one with content")
        if media_type not in MEDIA_TYPES:
            raise InputError(f"media type {media_type!r}; expected {' or '.join(MEDIA_TYPES)}")
        digest, artifact, now = hashlib.sha256(data).hexdigest(), new_id("art"), self._now()
        self._check_room(owner, len(data), temporary=temporary)
        incoming = self._folder / f"{_INCOMING}{secrets.token_hex(8)}"
        try:
            with _explained():
                _write(incoming, data)
            # A preview's row may be lost with the power; what is kept is made durable by finish.
            with self._db.transaction(durable=not temporary):
                # Again, now that nobody else can store.
                self._check_room(owner, len(data), temporary=temporary)
                with _explained():
                    self._settle_file(incoming, digest)
                self._db.change(
                    "INSERT INTO blobs (sha256, bytes, created_at) VALUES (?, ?, ?)"
                    " ON CONFLICT (sha256) DO NOTHING",
                    (digest, len(data), now),
                )
                self._db.change(
                    """INSERT INTO artifacts
                           (id, owner, sha256, media_type, bytes, temporary, created_at)
                       VALUES (?, ?, ?, ?, ?, ?, ?)""",
                    (artifact, owner, digest, media_type, len(data), int(temporary), now),
                )
        finally:
            with contextlib.suppress(OSError):
                incoming.unlink(missing_ok=True)
        return Artifact(id=artifact, media_type=media_type, bytes=len(data), sha256=digest)

    def open(self, owner: str, artifact: str) -> tuple[Artifact, Path]:
        """The artifact and the file with its bytes.

        Raises:
            NotFound: there is none, or it is another owner's.
            StorageError: its file is missing.
        """
        row = self._row(owner, artifact)
        path = self._path(row["sha256"])
        if not path.is_file():
            raise StorageError(f"the file of artifact {artifact} is missing; restore a copy of it")
        found = Artifact(
            id=row["id"], media_type=row["media_type"], bytes=row["bytes"], sha256=row["sha256"]
        )
        return found, path

    def read(self, owner: str, artifact: str) -> bytes:
        """The bytes, checked against their hash. Raises NotFound, StorageError when damaged."""
        found, path = self.open(owner, artifact)
        with _explained():
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != found.sha256:
            raise StorageError(f"the file of artifact {artifact} is damaged; restore a copy of it")
        return data

    def delete(self, owner: str, artifact: str) -> None:
        """Delete an artifact; its bytes go when nobody else has them.

        Raises:
            NotFound: as in :meth:`open`.
            Conflict: a story or a library character shows it.
        """
        with self._db.transaction():
            row = self._row(owner, artifact)
            if not self._db.change(
                f"DELETE FROM artifacts WHERE id = ? AND NOT {SHOWN}", (artifact,)
            ):
                raise Conflict(
                    "a story or a character of the library shows this picture; delete that first"
                )
            self._forget_blobs("sha256 = ?", (row["sha256"],))
        self._remove_files([row["sha256"]])

    def sweep(self, grace_s: float = 300.0) -> int:
        """Remove temporary artifacts that nothing refers to and half-written files, older than
        ``grace_s``, and files without a row; returns how many. Safe beside any other call.
        """
        before = self._now() - micros(grace_s)
        with self._db.transaction():
            removed = self._db.change(
                f"""DELETE FROM artifacts WHERE temporary = 1 AND created_at < ?
                    AND NOT {SHOWN} AND NOT {_TOLD} AND NOT {_NEEDED}""",
                (before,),
            )
            self._forget_blobs("1 = 1", ())
        known = {row["sha256"] for row in self._db.rows("SELECT sha256 FROM blobs")}
        files = [path.name for path in self._folder.glob("??/*") if _NAME.fullmatch(path.name)]
        removed += self._remove_files([name for name in files if name not in known])
        return removed + self._remove_incoming(grace_s)

    def used_bytes(self, owner: str | None = None) -> int:
        """Bytes of an owner's lasting artifacts; for None, of all files on the disk."""
        if owner is None:
            row = self._db.one("SELECT SUM(bytes) AS used FROM blobs")
        else:
            row = self._db.one(
                "SELECT SUM(bytes) AS used FROM artifacts WHERE owner = ? AND temporary = 0",
                (owner,),
            )
        return 0 if row is None else int(row["used"] or 0)

    def check_room(self, owner: str | None = None, *, beside: int = 0) -> None:
        """Whether a drawing would find room now, of an owner if one is given, who keeps so many
        bytes elsewhere. Raises StorageFull.
        """
        if owner is None:
            self._check_server(ROOM_BYTES)
        else:
            self._check_room(owner, ROOM_BYTES + beside)

    # Inside ---------------------------------------------------------------------------------------
    def _now(self) -> int:
        return micros(self._clock())

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _row(self, owner: str, artifact: str) -> Row:
        row = self._db.one("SELECT * FROM artifacts WHERE id = ? AND owner = ?", (artifact, owner))
        if row is None:
            raise NotFound("no such artifact, or it is no longer kept")
        return row

    def _check_room(self, owner: str, size: int, *, temporary: bool = False) -> None:
        quota = self._quota_of(owner).storage_bytes
        allowed = self._storage.owner_quota_bytes if quota is None else quota
        if self.used_bytes(owner) + size > allowed:
            raise StorageFull(f"your {allowed:,} bytes of storage are used up; delete some stories")
        # What is on its way does not count as kept, but has the same bound for itself.
        if temporary and self._temporary_bytes(owner) + size > allowed:
            raise StorageFull(
                f"pictures on their way take up your {allowed:,} bytes of storage; try again later"
            )
        self._check_server(size)

    def _temporary_bytes(self, owner: str) -> int:
        row = self._db.one(
            "SELECT SUM(bytes) AS used FROM artifacts WHERE owner = ? AND temporary = 1", (owner,)
        )
        return 0 if row is None else int(row["used"] or 0)

    def _check_server(self, size: int) -> None:
        if self.used_bytes() + size > self._storage.quota_bytes:
            raise StorageFull("the server's storage is used up; tell its operator")
        with _explained():
            free = shutil.disk_usage(self._folder).free
        if free - size < self._storage.reserve_bytes:
            raise StorageFull("the server's disk is full; tell its operator")

    def _settle_file(self, incoming: Path, digest: str) -> None:
        # Inside of a transaction, where no sweep can take the file away again before its row. Also
        # over a file that is there: on a shared disk it may be gone, and not yet seen to be.
        path = self._path(digest)
        is_new = not path.parent.is_dir()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        incoming.rename(path)
        _sync_folder(path.parent)
        if is_new:
            _sync_folder(self._folder)

    def _forget_blobs(self, condition: str, values: tuple[str, ...]) -> None:
        self._db.change(
            f"""DELETE FROM blobs WHERE {condition}
                AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.sha256 = blobs.sha256)""",
            values,
        )

    def _remove_files(self, digests: Iterable[str]) -> int:
        # The transaction writes nothing; it keeps others from storing the same bytes meanwhile.
        removed = 0
        with self._db.transaction(durable=False), contextlib.suppress(OSError):
            for digest in digests:
                if not self._db.rows("SELECT 1 FROM blobs WHERE sha256 = ?", (digest,)):
                    self._path(digest).unlink(missing_ok=True)
                    removed += 1
        return removed

    def _remove_incoming(self, grace_s: float) -> int:
        removed = 0
        for path in self._folder.glob(f"{_INCOMING}*"):
            with contextlib.suppress(OSError):
                # By the machine's clock, as files have it.
                if time.time() - path.stat().st_mtime >= max(grace_s, _SLOWEST_WRITE_S):
                    path.unlink()
                    removed += 1
        return removed


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageFull(
            f"the server cannot write to its folder of files ({reason}); nothing was changed"
        ) from None


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
