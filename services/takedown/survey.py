"""What shows somebody, or was made from what shows them.

Two pictures are the same when they look alike (`services.store.looks`), so copies of other keys, in
talks and in the studio are found too. From there on: who has such a picture in a library, with all
their pictures; every story that was drawn with one of these, with its drawings; concepts of
personas whose photo it is, with crops, vectors, facts and drawings; and once more from what that
adds, until nothing is added. Drawings spread by their pixels only, since two may well look alike.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError, all_of
from consistent_gen.memory.data.records import Concept, Media
from consistent_gen.memory.talk.assistant import Assistant
from consistent_gen.memory.talk.forgetting import ForgetPlan, plan_forgetting
from services.errors import StorageError
from services.personas import OpenPersonas
from services.store import ArtifactStore, Database
from services.store.looks import alike, look_of, pixels_of

STUDIO = "studio"  # the folder of the page, below the data folder
MOST_PICTURE_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Sought:
    """Whom to take down, by at least one of these.

    pictures: files that show them. artifacts, characters: ids of this server. subjects: pairs of a
    persona and words, such as ("per_...", "Bo"), as in "forget Bo".
    """

    pictures: tuple[Path, ...] = ()
    artifacts: tuple[str, ...] = ()
    characters: tuple[str, ...] = ()
    subjects: tuple[tuple[str, str], ...] = ()


@dataclass
class Takedown:
    """What goes, each with a line that says what it is."""

    artifacts: dict[str, str] = field(default_factory=dict)
    characters: dict[str, str] = field(default_factory=dict)
    stories: dict[str, str] = field(default_factory=dict)
    memories: dict[str, ForgetPlan] = field(default_factory=dict)  # by persona
    files: dict[Path, str] = field(default_factory=dict)
    # Of pictures that show them, and of what was drawn.
    looks: set[str] = field(default_factory=set)
    pixels: set[str] = field(default_factory=set)

    @property
    def empty(self) -> bool:
        """Whether nothing was found."""
        return not (
            self.artifacts or self.characters or self.stories or self.memories or self.files
        )

    def lines(self) -> Iterator[str]:
        """What goes, for whoever decides."""
        for group in (self.characters, self.stories, self.artifacts):
            yield from (f"{name}: {words}" for name, words in group.items())
        for persona, plan in self.memories.items():
            yield from (f"{persona}: {line}" for line in plan.lines(limit=1000))
        yield from (f"{path}: {words}" for path, words in self.files.items())

    def shows(self, look: str | None) -> bool:
        """Whether a picture is one of those that show them."""
        return look is not None and any(alike(look, known) for known in self.looks)


def survey(
    sought: Sought,
    database: Database,
    artifacts: ArtifactStore,
    personas: OpenPersonas,
    folder: Path,
) -> Takedown:
    """Everything that goes with `sought`. Changes nothing.

    folder: the server's data folder.

    Raises:
        InputError: something named is not there or no picture, or nobody is named.
    """
    return _Survey(database, artifacts, personas, folder).of(sought)


class _Survey:
    def __init__(
        self, database: Database, artifacts: ArtifactStore, personas: OpenPersonas, folder: Path
    ) -> None:
        self._db, self._artifacts = database, artifacts
        self._personas, self._folder = personas, folder
        self._seen: dict[str, tuple[str | None, str | None]] = {}
        self.found = Takedown()

    def of(self, sought: Sought) -> Takedown:
        """Begin with what is named, and go on until nothing is added."""
        self._begin(sought)
        before = -1
        while before != (before := self._size()):
            self._pictures()
            self._characters()
            self._stories()
            self._memories()
        self._studio()
        return self.found

    def _size(self) -> int:
        f = self.found
        plans = sum(len(p.concepts) + len(p.records) for p in f.memories.values())
        return len(f.artifacts) + len(f.characters) + len(f.stories) + plans + len(f.looks)

    def _begin(self, sought: Sought) -> None:
        wrong = []
        for path in sought.pictures:
            look = look_of(_bytes(path))
            if look is None:
                wrong.append(InputError("is not a PNG, JPEG or WebP picture", source=path))
            else:
                self.found.looks.add(look)
        for artifact in sought.artifacts:
            if row := self._db.one("SELECT * FROM artifacts WHERE id = ?", (artifact,)):
                self._add_picture(row, "asked for", shows=True)
            else:
                wrong.append(InputError(f"there is no artifact {artifact}"))
        for character in sought.characters:
            if row := self._db.one("SELECT * FROM characters WHERE id = ?", (character,)):
                self._add_character(row)
            else:
                wrong.append(InputError(f"there is no character {character}; its id is chr_..."))
        known = dict(sought.subjects)
        for persona, assistant in self._personas.every():
            if persona in known:
                words = known.pop(persona)
                plan = plan_forgetting(assistant.store, words, assistant.book)
                if plan.empty:
                    wrong.append(InputError(f"{persona} remembers nothing about {words!r}"))
                else:
                    self._add_plan(persona, assistant, plan)
        wrong += [InputError(f"there is no persona {persona}") for persona in known]
        if not any(vars(sought).values()):
            wrong.append(InputError("name a picture, an artifact, a character or a subject"))
        if wrong:
            raise all_of(wrong)

    # Pictures -----------------------------------------------------------------------------------
    def _pictures(self) -> None:
        """Every stored picture that looks like one of theirs, or has the pixels of a drawing."""
        for row in self._db.rows("SELECT * FROM artifacts ORDER BY id"):
            if row["id"] in self.found.artifacts:
                continue
            look, pixels = self._look(row)
            if self.found.shows(look):
                self._add_picture(row, "shows them", shows=True)
            elif pixels in self.found.pixels:
                self._add_picture(row, "a copy of what was drawn", shows=False)

    def _look(self, row: Any) -> tuple[str | None, str | None]:
        if row["sha256"] not in self._seen:
            try:
                data = self._artifacts.read(row["owner"], row["id"])
            except StorageError:  # its file is missing or damaged, so it shows nobody
                data = b""
            self._seen[row["sha256"]] = look_of(data), pixels_of(data)
        return self._seen[row["sha256"]]

    def _add_picture(self, row: Any, words: str, *, shows: bool) -> None:
        self.found.artifacts[row["id"]] = f"picture of {row['owner']}, {words}"
        look, pixels = self._look(row)
        if shows and look is not None:
            self.found.looks.add(look)
        if pixels is not None:
            self.found.pixels.add(pixels)

    def _characters(self) -> None:
        """Whoever of a library is known by such a picture."""
        rows = self._db.rows(
            """SELECT c.*, r.artifact FROM characters c
               JOIN character_references r ON r.character = c.id ORDER BY c.id"""
        )
        for row in rows:
            if row["artifact"] in self.found.artifacts and row["id"] not in self.found.characters:
                self._add_character(row)

    def _add_character(self, row: Any) -> None:
        self.found.characters[row["id"]] = f"character {row['name']!r} of {row['owner']}"
        shown = self._db.rows(
            """SELECT a.* FROM character_references r JOIN artifacts a ON a.id = r.artifact
               WHERE r.character = ?""",
            (row["id"],),
        )
        for artifact in shown:
            self._add_picture(artifact, f"shows {row['name']!r}", shows=True)

    # Stories ------------------------------------------------------------------------------------
    def _stories(self) -> None:
        """Every story that names one of them, was drawn with a picture of theirs, or has one."""
        names = (*self.found.characters, *self.found.artifacts)
        versions = self._db.rows("SELECT story, artifact FROM frame_versions")
        having = {row["story"] for row in versions if row["artifact"] in self.found.artifacts}
        rows = self._db.rows(
            """SELECT s.id, s.owner, s.title, s.request, j.plan, f.plan AS own
               FROM stories s LEFT JOIN jobs j ON j.story = s.id
               LEFT JOIN job_frames f ON f.job = j.id ORDER BY s.id"""
        )
        for row in rows:
            if row["id"] in self.found.stories:
                continue
            said = f"{row['request']} {row['plan']} {row['own']}"
            drawn_from = row["id"] in having or any(name in said for name in names)
            if drawn_from or self._drawn_from_looks(f"{row['plan']}{row['own']}"):
                self.found.stories[row["id"]] = f"story {row['title']!r} of {row['owner']}"
                self._add_drawings(row["id"])

    def _drawn_from_looks(self, plans: str) -> bool:
        return '"looks"' in plans and any(self.found.shows(look) for look in _looks_in(plans))

    def _add_drawings(self, story: str) -> None:
        drawn = self._db.rows(
            """SELECT * FROM artifacts WHERE id IN (
                   SELECT artifact FROM frame_versions WHERE story = ?
                   UNION SELECT e.artifact FROM events e JOIN jobs j ON j.id = e.job
                   WHERE j.story = ? AND e.artifact IS NOT NULL)""",
            (story, story),
        )
        for row in drawn:
            self._add_picture(row, f"drawn for {story}", shows=False)

    # Memories -----------------------------------------------------------------------------------
    def _memories(self) -> None:
        """Concepts of any persona that have such a picture, and such pictures without a concept."""
        for persona, assistant in self._personas.every():
            store, known = assistant.store, self.found.memories.get(persona)
            gone = set() if known is None else {r.id for r in (*known.concepts, *known.records)}
            media = [m for m in store.list("media") if isinstance(m, Media)]
            shown = [m for m in media if m.id not in gone and self._is_theirs(assistant, m)]
            ids = {m.subject for m in shown if m.subject} - gone
            concepts = [c for c in store.get(sorted(ids)) if isinstance(c, Concept)]
            loose = [m for m in shown if m.subject not in {c.id for c in concepts} | gone]
            if not concepts and not loose:
                continue
            base = known or ForgetPlan("pictures that show them")
            plan = ForgetPlan(
                base.what,
                (*base.concepts, *concepts),
                (*base.records, *loose),
                base.kept,
                base.said,
                (*base.words, *(c.name for c in concepts)),
                base.everything,
            )
            self._add_plan(persona, assistant, plan)

    def _is_theirs(self, assistant: Assistant, media: Media) -> bool:
        data = assistant.store.get_media(media.media[0])
        return self.found.shows(look_of(data)) or pixels_of(data) in self.found.pixels

    def _add_plan(self, persona: str, assistant: Assistant, plan: ForgetPlan) -> None:
        self.found.memories[persona] = plan
        ids = {c.id for c in plan.concepts} | {r.id for r in plan.records}
        for media in assistant.store.list("media"):
            if isinstance(media, Media) and ({media.subject, media.id} & ids):
                data = assistant.store.get_media(media.media[0])
                look, pixels = look_of(data), pixels_of(data)
                if media.role != "generated" and look is not None:
                    self.found.looks.add(look)
                if pixels is not None:
                    self.found.pixels.add(pixels)

    # The page -----------------------------------------------------------------------------------
    def _studio(self) -> None:
        """Copies that the page keeps: pictures and exports, drafts that name what goes, uploads."""
        found = self.found
        if found.empty:
            return
        for path in _files(self._folder / STUDIO / "pictures"):
            found.files[path] = "a copy that the studio makes again when it is asked for"
        names = [n.encode() for n in (*found.artifacts, *found.characters, *found.stories)]
        for path in _files(self._folder / STUDIO / "projects"):
            if any(name in path.read_bytes() for name in names):
                found.files[path] = "what a visitor has open in the studio"
        for path in _files(uploads_folder()):
            if path.stat().st_size <= MOST_PICTURE_BYTES:
                data = path.read_bytes()
                if found.shows(look_of(data)) or pixels_of(data) in found.pixels:
                    found.files[path] = "uploaded to the studio"


def uploads_folder() -> Path:
    """Where Gradio puts what browsers upload."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _looks_in(plans: str) -> Iterator[str]:
    """The looks that orders name, in the JSON of a job or a frame."""
    for part in plans.split('"looks": [')[1:]:
        yield from (text for text in part.partition("]")[0].split('"')[1::2])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", source=path) from None
