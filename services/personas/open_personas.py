"""Personas: each is one person's memory with an assistant over it, in a folder of its own.

A folder belongs to one owner and is found by the owner's id and nothing else, so no forgotten
filter can show one owner's memory to another. Deleting a persona removes its folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from consistent_gen.checkpoints import atomic_dir, read_json, write_json
from consistent_gen.client.types import MemoryOut, PersonaList, PersonaOut, SaidOut
from consistent_gen.errors import CheckpointError, InputError, LimitError
from consistent_gen.language.embedders import TextEmbedder, default_embedder
from consistent_gen.memory import open_memory
from consistent_gen.memory.talk.assistant import Assistant, Drawer, Said
from services.errors import BusyError, NotFound
from services.personas.recollections import REMEMBERED, Recollections
from services.store.identifiers import new_id
from services.store.sizes import folder_bytes

MAX_PERSONAS = 200  # of one owner
OPEN_PERSONAS = 32  # kept open; the one that was silent the longest is closed
DRAWINGS_PER_REQUEST = 3
PATIENCE_S = 10.0  # for a persona that somebody else is talking to
_ID = re.compile(r"per_[0-9a-z]{16,40}")
_CARD = "persona.json"
_USER = "me"


@dataclass
class OpenPersona:
    """An open memory and its assistant; one thread at a time, by `lock`.

    memories: how many there were when a thread last let go. Whoever only lists personas reads that,
    since a turn may draw for a minute.
    """

    assistant: Assistant
    memories: int
    gone: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def busy(self) -> bool:
        """Whether a thread is using it."""
        return self._lock.locked()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else uses it meanwhile. Raises ``BusyError`` when others do not let go."""
        if not self._lock.acquire(timeout=PATIENCE_S):
            raise BusyError("the assistant is still busy with this persona, drawing perhaps", 5.0)
        try:
            yield
        finally:
            try:
                if not self.gone:
                    self.memories = count_memories(self.assistant)
            finally:
                self._lock.release()

    def close(self) -> None:
        """Close the memory; only for whoever has it alone."""
        self.gone = True
        self.assistant.store.close()


class OpenPersonas:
    """All personas below `folder`. Safe to share between threads.

    embedder: makes what searches by meaning, once; by default the best that is installed.
    """

    def __init__(
        self, folder: Path, embedder: Callable[[], TextEmbedder | None] = default_embedder
    ) -> None:
        self._folder = folder
        self._embedder_of = embedder
        self._embedder: TextEmbedder | None = None
        self._lock = threading.Lock()
        self._open: OrderedDict[Path, OpenPersona] = OrderedDict()
        self._closed = False

    # Personas -------------------------------------------------------------------------------------
    def create(self, owner: str, name: str) -> PersonaOut:
        """A new persona with an empty memory. Raises ``LimitError`` at `MAX_PERSONAS`."""
        mine = self._owner_folder(owner)
        if len(list(self._folders(owner))) >= MAX_PERSONAS:
            raise LimitError(f"there are {MAX_PERSONAS} personas already; delete one first")
        persona = new_id("per")
        card = {"name": name, "created_at": datetime.now(UTC).isoformat()}
        with atomic_dir(mine / persona) as folder:
            write_json(folder / _CARD, card)
        return self.get(owner, persona)

    def get(self, owner: str, persona: str) -> PersonaOut:
        """One persona; of one that somebody talks to, as it was before. Raises ``NotFound``, for
        other owners' too.
        """
        folder = self._place(owner, persona)
        held = self._opened(folder)
        return _shown(folder, held.memories, held.assistant.description)

    def all(self, owner: str) -> PersonaList:
        """An owner's personas, oldest first."""
        found = []
        for folder in self._folders(owner):
            with contextlib.suppress(NotFound):  # deleted meanwhile
                found.append(self.get(owner, folder.name))
        return PersonaList(personas=sorted(found, key=lambda p: (p.created_at, p.id)))

    def every(self) -> Iterator[tuple[str, Assistant]]:
        """The assistant of each persona of each owner, one after the other, with its id."""
        for folder in sorted(self._folder.glob("*/per_*")):
            if _ID.fullmatch(folder.name):
                held = self._opened(folder)
                with held.alone():
                    yield folder.name, held.assistant

    def used_bytes(self, owner: str) -> int:
        """Bytes of an owner's personas on the disk."""
        return folder_bytes(self._owner_folder(owner))

    def delete(self, owner: str, persona: str) -> None:
        """Erase a persona with everything it remembers. Raises ``NotFound``."""
        folder = self._place(owner, persona)
        doomed = folder.with_name(f".{folder.name}.erased")
        held = self._opened(folder)
        with held.alone():
            held.close()
            with self._lock:
                self._open.pop(folder, None)
                # From here on it is not found, whatever becomes of the files.
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    # Talking --------------------------------------------------------------------------------------
    def say(
        self,
        owner: str,
        persona: str,
        text: str,
        *,
        picture: bytes | None = None,
        drawer: Drawer | None = None,
    ) -> Said:
        """One turn. Raises as ``Assistant.say``, and whatever `drawer` raises."""
        with self.use(owner, persona) as assistant:
            assistant.drawer = drawer
            try:
                return assistant.say(text, picture=picture)
            finally:
                assistant.drawer = None

    def memories(self, owner: str, persona: str) -> list[MemoryOut]:
        """What is remembered, newest first."""
        with self.use(owner, persona) as assistant:
            return Recollections(assistant).all()

    @contextlib.contextmanager
    def recollections(self, owner: str, persona: str) -> Iterator[Recollections]:
        """The memories of a persona, to search and to mend, while nobody else uses it."""
        with self.use(owner, persona) as assistant:
            yield Recollections(assistant)

    @contextlib.contextmanager
    def use(self, owner: str, persona: str) -> Iterator[Assistant]:
        """The assistant of a persona, for this thread alone. Raises ``NotFound``."""
        folder = self._place(owner, persona)
        while True:
            held = self._opened(folder)
            with held.alone():
                if held.gone:
                    continue  # closed between finding and locking it
                yield held.assistant
                return

    def close(self) -> None:
        """Close all memories."""
        with self._lock:
            self._closed = True
            held = list(self._open.values())
            self._open.clear()
        for persona in held:
            with contextlib.suppress(BusyError), persona.alone():
                persona.close()

    # How ------------------------------------------------------------------------------------------
    def _opened(self, folder: Path) -> OpenPersona:
        with self._lock:
            if self._closed:
                raise NotFound("the server is stopping; ask again later")
            if not folder.is_dir():
                raise NotFound("there is no such persona")
            held = self._open.get(folder)
            if held is None:
                assistant = self._assistant(folder)
                held = self._open[folder] = OpenPersona(assistant, count_memories(assistant))
            self._open.move_to_end(folder)
            idle = [f for f, p in self._open.items() if not p.busy and f != folder]
            surplus = [self._open.pop(f) for f in idle[: max(0, len(self._open) - OPEN_PERSONAS)]]
        for persona in surplus:
            with persona.alone():
                persona.close()
        return held

    def _assistant(self, folder: Path) -> Assistant:
        if self._embedder is None:
            self._embedder = self._embedder_of()
        return Assistant(
            store=open_memory(folder, _USER),
            text_embedder=self._embedder,
            draw_budget=DRAWINGS_PER_REQUEST,
        )

    def _owner_folder(self, owner: str) -> Path:
        # Hashed: an id of a key may hold what a file name may not.
        return self._folder / hashlib.sha256(owner.encode()).hexdigest()[:24]

    def _folders(self, owner: str) -> Iterator[Path]:
        mine = self._owner_folder(owner)
        if mine.is_dir():
            yield from (child for child in mine.iterdir() if _ID.fullmatch(child.name))

    def _place(self, owner: str, persona: str) -> Path:
        folder = self._owner_folder(owner) / persona if _ID.fullmatch(persona) else None
        if folder is None or not folder.is_dir():
            raise NotFound("there is no such persona")
        return folder


def count_memories(assistant: Assistant) -> int:
    """How many memories somebody is shown."""
    return sum(assistant.store.count(kind) for kind in REMEMBERED)


def said_out(said: Said, picture: str | None = None) -> SaidOut:
    """What was said, for the wire. picture: the artifact of what was drawn."""
    drawn = said.drawn
    verdict = None if drawn is None else "matches" if drawn.passed else "does not match well"
    found = () if said.reasoned is None else said.reasoned.found
    reasons = [" ".join(f"{f.record.kind}: {f.record.text}".split())[:300] for f in found]
    kept_aside = [f"kept aside: {o.reason}" for o in said.outcomes if o.status == "quarantined"]
    return SaidOut(
        text=said.text,
        changes=list(said.changes),
        asks=said.asks,
        reasons=reasons,
        picture=picture,
        similarity=None if drawn is None else round(drawn.score, 4),
        verdict=verdict,
        problems=[*said.problems, *kept_aside],
    )


def _shown(folder: Path, memories: int, assistant: str) -> PersonaOut:
    try:
        card = read_json(folder / _CARD)
        return PersonaOut(
            id=folder.name,
            name=card["name"],
            memories=memories,
            assistant=assistant,
            created_at=datetime.fromisoformat(card["created_at"]),
        )
    except (CheckpointError, KeyError, ValueError):
        raise NotFound("there is no such persona") from None
    except TypeError as error:
        raise InputError("the persona's card is damaged; delete the persona") from error
