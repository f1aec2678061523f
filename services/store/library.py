"""The character library: named characters with descriptions and reference pictures."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from consistent_gen.client.types import (
    LibraryCharacter,
    LibraryCharacterIn,
    LibraryCharacterList,
    LibraryCharacterPatch,
    Quality,
    Reference,
)
from consistent_gen.errors import LimitError
from consistent_gen.sqlite import moment
from services.errors import Conflict, NotFound
from services.store import archive
from services.store.artifacts import ArtifactStore, adopt, forget
from services.store.database import ConstraintError, Database, Query, Row
from services.store.identifiers import micros, new_id
from services.store.pictures import CheckedPicture, read_picture

MAX_CHARACTERS = 500
MAX_REFERENCES = archive.MAX_REFERENCES
MAX_NAME = 40  # characters, as in the wire type


class Library:
    """Characters by owner; names are unique per owner, whatever their case."""

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        *,
        clock: Callable[[], float] = time.time,
        admit: Callable[[str, bytes], CheckedPicture] = lambda owner, data: read_picture(data),
    ) -> None:
        """``admit`` checks pictures that come in archives of an owner; it raises InputError,
        LimitError or Refusal.
        """
        self._db = database
        self._artifacts = artifacts
        self._clock = clock
        self._admit = admit

    def create(self, owner: str, request: LibraryCharacterIn) -> LibraryCharacter:
        """Add a character. Raises Conflict (name taken), LimitError (too many)."""
        with self._db.transaction():
            if len(self._names(owner)) >= MAX_CHARACTERS:
                raise LimitError(f"the library is full with {MAX_CHARACTERS} characters")
            character, now = new_id("chr"), self._now()
            with _name_taken(request.name):
                self._db.change(
                    """INSERT INTO characters (id, owner, name, name_key, description, strength,
                           created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                    (
                        character, owner, request.name, _key(request.name), request.description,
                        request.strength, now, now,
                    ),
                )  # fmt: skip
        return self.get(owner, character)

    def get(self, owner: str, character: str) -> LibraryCharacter:
        """A character with its references. Raises NotFound, for other owners' too."""
        with self._db.snapshot() as rows:
            return _character(rows, self._find(rows, owner, character))

    def list(self, owner: str) -> LibraryCharacterList:
        """All characters of an owner, by name."""
        with self._db.snapshot() as rows:
            found = rows("SELECT * FROM characters WHERE owner = ? ORDER BY name_key", (owner,))
            return LibraryCharacterList(characters=[_character(rows, row) for row in found])

    def patch(self, owner: str, character: str, patch: LibraryCharacterPatch) -> LibraryCharacter:
        """Change what is not None. Raises NotFound, Conflict (name taken)."""
        with self._db.transaction():
            row = self._find(self._db.rows, owner, character)
            name = row["name"] if patch.name is None else patch.name
            with _name_taken(name):
                self._db.change(
                    """UPDATE characters SET name = ?, name_key = ?, description = ?,
                           strength = ?, updated_at = ? WHERE id = ?""",
                    (
                        name,
                        _key(name),
                        row["description"] if patch.description is None else patch.description,
                        row["strength"] if patch.strength is None else patch.strength,
                        self._now(),
                        character,
                    ),
                )
        return self.get(owner, character)

    def delete(self, owner: str, character: str) -> None:
        """Delete a character and the pictures that only it shows. Raises NotFound."""
        with self._db.transaction():
            self._find(self._db.rows, owner, character)
            shown = self._db.rows(
                "SELECT artifact FROM character_references WHERE character = ?", (character,)
            )
            self._db.change("DELETE FROM characters WHERE id = ?", (character,))
            forget(self._db, [row["artifact"] for row in shown])

    def add_reference(
        self, owner: str, character: str, artifact: str, quality: Quality
    ) -> Reference:
        """Let an artifact of the owner show the character.

        Raises:
            NotFound: the character or the artifact is not the owner's.
            Conflict: it shows the character already.
            LimitError: the character has MAX_REFERENCES, or the picture is too large for an
                archive, alone or with the others.
        """
        with self._db.transaction():
            row = self._find(self._db.rows, owner, character)
            there = _references(self._db.rows, row["id"])
            if len(there) >= MAX_REFERENCES:
                raise LimitError(f"a character has at most {MAX_REFERENCES} references; remove one")
            if any(reference.artifact == artifact for reference in there):
                raise Conflict("this picture shows the character already")
            self._check_archive(character, artifact)
            adopt(self._db, owner, artifact)
            reference, now = new_id("ref"), self._now()
            self._db.change(
                """INSERT INTO character_references
                       (id, character, position, artifact, quality, created_at)
                   SELECT ?, ?, COALESCE(MAX(position), 0) + 1, ?, ?, ?
                   FROM character_references WHERE character = ?""",
                (reference, character, artifact, quality.model_dump_json(), now, character),
            )
            self._touch(character)
            return _references(self._db.rows, character)[-1]

    def remove_reference(self, owner: str, character: str, reference: str) -> None:
        """Take a reference away, and its picture when nothing else shows it. Raises NotFound."""
        with self._db.transaction():
            self._find(self._db.rows, owner, character)
            row = self._db.one(
                "SELECT artifact FROM character_references WHERE id = ? AND character = ?",
                (reference, character),
            )
            if row is None:
                raise NotFound("the character has no such reference")
            self._db.change("DELETE FROM character_references WHERE id = ?", (reference,))
            forget(self._db, [row["artifact"]])
            self._touch(character)

    def export(self, owner: str, character: str) -> bytes:
        """A zip with the character and its pictures; equal content gives equal bytes."""
        found = self.get(owner, character)
        pictures = []
        for reference in found.references:
            artifact, _ = self._artifacts.open(owner, reference.artifact)
            data = self._artifacts.read(owner, reference.artifact)
            pictures.append((data, artifact.media_type))
        content = LibraryCharacterIn(
            name=found.name, description=found.description, strength=found.strength
        )
        return archive.pack(content, pictures)

    def import_archive(self, owner: str, data: bytes) -> LibraryCharacter:
        """Add the character of an archive; a taken name gets a number behind it.

        Raises:
            InputError: not a sound archive of a character.
            LimitError: the archive, or what it would unpack to, is too large.
            StorageFull: no room.
        """
        content = archive.unpack(data)
        # Each picture once, and all of them judged before any is stored.
        judged = [self._admit(owner, raw) for raw in content.pictures]
        pictures = list({picture.data: picture for picture in judged}.values())
        with self._db.transaction():
            name = self._free_name(owner, content.character.name)
            made = self.create(owner, content.character.model_copy(update={"name": name}))
            for picture in pictures:
                stored = self._artifacts.put(
                    owner, picture.data, picture.media_type, temporary=True
                )
                self.add_reference(owner, made.id, stored.id, picture.quality)
            return self.get(owner, made.id)

    # Inside ---------------------------------------------------------------------------------------
    def _now(self) -> int:
        return micros(self._clock())

    def _find(self, rows: Query, owner: str, character: str) -> Row:
        found = rows("SELECT * FROM characters WHERE id = ? AND owner = ?", (character, owner))
        if not found:
            raise NotFound("no such character; see GET /v1/characters for yours")
        return found[0]

    def _check_archive(self, character: str, artifact: str) -> None:
        """Raise LimitError for a picture with which the character's archive could not be read."""
        new = self._db.one("SELECT bytes FROM artifacts WHERE id = ?", (artifact,))
        there = self._db.one(
            """SELECT SUM(a.bytes) AS bytes FROM character_references r
               JOIN artifacts a ON a.id = r.artifact WHERE r.character = ?""",
            (character,),
        )
        size = 0 if new is None else int(new["bytes"])
        if size > archive.MAX_PICTURE_BYTES:
            raise LimitError(
                f"the picture takes {size:,} bytes and a reference at most "
                f"{archive.MAX_PICTURE_BYTES:,}; scale it down or save it as JPEG"
            )
        if there is not None and int(there["bytes"] or 0) + size > archive.MAX_PICTURES_BYTES:
            raise LimitError(
                f"the references of a character take at most {archive.MAX_PICTURES_BYTES:,} bytes "
                "together; remove one or scale this one down"
            )

    def _touch(self, character: str) -> None:
        self._db.change(
            "UPDATE characters SET updated_at = ? WHERE id = ?", (self._now(), character)
        )

    def _names(self, owner: str) -> set[str]:
        rows = self._db.rows("SELECT name_key FROM characters WHERE owner = ?", (owner,))
        return {row["name_key"] for row in rows}

    def _free_name(self, owner: str, name: str) -> str:
        taken = self._names(owner)
        number, free = 1, name
        while _key(free) in taken:
            number += 1
            suffix = f" {number}"
            free = f"{name[: MAX_NAME - len(suffix)].rstrip()}{suffix}"
        return free


def _character(rows: Query, row: Row) -> LibraryCharacter:
    return LibraryCharacter(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        strength=row["strength"],
        references=[*_references(rows, row["id"])],
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
    )


def _references(rows: Query, character: str) -> Sequence[Reference]:
    found = rows(
        "SELECT * FROM character_references WHERE character = ? ORDER BY position", (character,)
    )
    return [
        Reference(
            id=row["id"],
            artifact=row["artifact"],
            quality=Quality.model_validate_json(row["quality"]),
            created_at=moment(row["created_at"]),
        )
        for row in found
    ]


def _key(name: str) -> str:
    """Names that look alike to people are the same name."""
    return unicodedata.normalize("NFKC", name).casefold()


@contextmanager
def _name_taken(name: str) -> Iterator[None]:
    try:
        yield
    except ConstraintError:
        raise Conflict(f"the library has a character named {name!r} already") from None
