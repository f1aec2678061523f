"""Taking away what was found, and looking for what is left.

Memories and the studio's files go first and the database last, so that a takedown that was
interrupted finds the same things when it is begun again.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from consistent_gen import sqlite
from consistent_gen.memory.talk.forgetting import carry_out
from services.personas import OpenPersonas
from services.store import ArtifactStore, Database
from services.store.artifacts import forget
from services.store.looks import look_of, pixels_of
from services.store.schema import MIGRATIONS
from services.store.stories import drop
from services.takedown.survey import STUDIO, Takedown, uploads_folder

_CHUNK = 1 << 22
_BUSY_S = 10.0


@dataclass(frozen=True)
class Remains:
    """What a scan after a takedown has read and found. `left` is empty when nothing is left."""

    rows: int
    files: int
    size: int  # bytes of the files
    left: tuple[str, ...]


def remove(
    found: Takedown,
    database: Database,
    artifacts: ArtifactStore,
    personas: OpenPersonas,
    folder: Path,
) -> Remains:
    """Take all of it away for good and prove it. Nobody else may use the server's data meanwhile.

    Raises:
        ServiceError: the stores cannot be written; what is gone by then stays gone.
    """
    words: dict[str, Sequence[str]] = {}
    for persona, assistant in personas.every():
        if persona in found.memories:
            plan = found.memories[persona]
            carry_out(assistant.store, plan, assistant.book)
            words[persona] = plan.words
    for path in found.files:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / STUDIO / "pictures", ignore_errors=True)
    digests = _remove_rows(found, database)
    artifacts.sweep(0.0)
    _scrub(folder)
    return _Scan(found, digests, words).over(database, artifacts, personas, folder)


def _remove_rows(found: Takedown, database: Database) -> frozenset[str]:
    """Delete in one transaction; returns the hashes of files that nobody has any more."""
    with database.transaction():
        before = {row["sha256"] for row in database.rows("SELECT sha256 FROM blobs")}
        for character in found.characters:
            database.change("DELETE FROM characters WHERE id = ?", (character,))
        for story in found.stories:
            drop(database, story)
        forget(database, found.artifacts)
        database.change(
            """DELETE FROM blobs WHERE NOT EXISTS
                   (SELECT 1 FROM artifacts a WHERE a.sha256 = blobs.sha256)"""
        )
        after = {row["sha256"] for row in database.rows("SELECT sha256 FROM blobs")}
    return frozenset(before - after)


def _scrub(folder: Path) -> None:
    """Write SQLite's files anew, since deleted rows stay in pages that nobody uses."""
    for path in sorted(folder.glob("*.sqlite")):
        connection = sqlite.connect(path, _BUSY_S)
        try:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()


class _Scan:
    """Reads everything that the server keeps: rows, files byte by byte, pictures, memories."""

    def __init__(
        self, found: Takedown, digests: frozenset[str], words: dict[str, Sequence[str]]
    ) -> None:
        self._found, self._words = found, words
        self._names = (*found.artifacts, *found.characters, *found.stories, *digests)
        self._pattern = re.compile("|".join(map(re.escape, self._names)) or r"(?!)")
        self._bytes = re.compile(self._pattern.pattern.encode())
        self._rows = self._files = self._size = 0

    def over(
        self, database: Database, artifacts: ArtifactStore, personas: OpenPersonas, folder: Path
    ) -> Remains:
        left = [
            *self._in_rows(database),
            *self._in_pictures(database, artifacts),
            *self._in_memories(personas),
            *self._in_files(folder),
            *self._in_files(uploads_folder()),
        ]
        return Remains(self._rows, self._files, self._size, tuple(left))

    def _in_rows(self, database: Database) -> Iterator[str]:
        tables = [
            name
            for _, statements in MIGRATIONS
            for statement in statements
            for name in re.findall(r"^CREATE TABLE (\w+)", statement)
        ]
        for table in tables:
            for row in database.rows(f"SELECT * FROM {table}"):
                self._rows += 1
                if match := self._pattern.search(" ".join(map(str, tuple(dict(row).values())))):
                    yield f"{match[0]} in the table {table}"

    def _in_pictures(self, database: Database, artifacts: ArtifactStore) -> Iterator[str]:
        for row in database.rows("SELECT id, owner FROM artifacts"):
            data = artifacts.read(row["owner"], row["id"])
            if self._shows(data):
                yield f"artifact {row['id']} of {row['owner']} shows them"

    def _in_memories(self, personas: OpenPersonas) -> Iterator[str]:
        for persona, assistant in personas.every():
            store = assistant.store
            for word in store.still_holds(self._words.get(persona, ())):
                yield f"{persona} still has the word {word!r}"
            for media in store.list("media"):
                if self._shows(store.get_media(media.media[0])):
                    yield f"{media.id} of {persona} shows them"

    def _shows(self, data: bytes) -> bool:
        return self._found.shows(look_of(data)) or pixels_of(data) in self._found.pixels

    def _in_files(self, folder: Path) -> Iterator[str]:
        longest = max(map(len, self._names), default=0)
        for path in sorted(folder.rglob("*")):
            if self._bytes.search(path.name.encode()):
                yield str(path)
            if not path.is_file() or path.is_symlink():
                continue
            self._files += 1
            tail = b""
            with suppress(FileNotFoundError), path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    self._size += len(chunk)
                    if match := self._bytes.search(tail + chunk):
                        yield f"{match[0].decode()} in {path}"
                        break
                    tail = chunk[-longest:]
