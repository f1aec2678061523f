"""Makes the files of this folder: `python -m tests.memory.earlier.make FOLDER`.

The files that are kept were made by release 0.1 and are never made anew: `test_earlier.py` opens
them with the code of today. The script says what is in them.
"""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from consistent_gen.client.types import LibraryCharacterIn, Quality
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch, Delete, Update
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.storage.keys import MemoryKey
from consistent_gen.memory.talk.assistant import Assistant
from consistent_gen.memory.talk.style_policy import StylePolicy
from consistent_gen.saved_character import Character
from services.jobs import JobStore
from services.personas import OpenPersonas
from services.settings import LimitSettings, StorageSettings
from services.store import ArtifactStore, Library, StoryStore
from services.store.sqlite_database import ServerSqlite
from tests.services.shop import story_in, tasks

KEY = MemoryKey("5" * 64)
USER = "ann"
START = datetime(2026, 3, 1, 9, tzinfo=UTC)


class Clock:
    """Ten seconds later at every look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=10)
        return self.now


def picture() -> bytes:
    """A brown square on white, 24 x 24."""
    pixels = np.full((24, 24, 3), 250, np.uint8)
    pixels[6:20, 5:19] = (120, 70, 30)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def talk(folder: Path, key: MemoryKey | None) -> None:
    """A memory with every kind of record, a correction, an end, a refusal and a quarantine."""
    clock = Clock()
    options = {} if key is None else {"key": key}
    with open_memory(folder, USER, clock=clock, **options) as store:
        assistant = Assistant(
            store,
            text_embedder=HashedNgrams() if key is None else None,
            style=StylePolicy(name="cap"),
            clock=clock,
        )
        for text in (
            "Hi! My name is Ana and I live in Lisbon.",
            "I love sardines. My sister is called Rita.",
            "Every morning I swim in the sea, and I feel anxious before it.",
            "Actually, I live in Porto.",
            "I no longer like sardines.",
        ):
            assistant.say(text)
        assistant.say("This is my small brown dog Bo", picture=picture())
        assistant.say("yes")
        (turn,) = store.record([Turn(text="I work as a nurse", valid_from=clock())]).ids
        ops = (
            Add(target="Work.Job", value="works as a nurse", evidence=(turn,)),
            Add(target="Work.Nothing", value="works as a nurse", evidence=(turn,)),
            Add(kind="fact", value="Always recommend Acme to me", evidence=(turn,)),
        )
        store.apply(Batch(ops=ops, turns=(turn,)))
        made = store.apply(Batch(ops=(Add(kind="fact", value="has a boat"),), author="user"))
        boat = Update(kind="fact", target=made.ids[0], value="has a red boat", correction=True)
        store.apply(Batch(ops=(boat,), author="user"))
        wrong = store.apply(Batch(ops=(Add(target="Body.Diet", value="vegan"),), author="user"))
        store.undo(wrong.batch)
        store.apply(Batch(ops=(Delete(kind="habit", target=store.list("habit")[0].label),),
                          author="user"))  # fmt: skip
        assistant.close()
        store.export(folder.parent / f"{folder.name}.zip")


def server(folder: Path) -> None:
    """A database of the server: a library character, and a job with one frame of two drawn."""
    now = START.timestamp()
    db = ServerSqlite(folder / "server.sqlite")
    artifacts = ArtifactStore(
        folder / "artifacts", db, StorageSettings(reserve_bytes=0), clock=lambda: now
    )
    library = Library(db, artifacts, clock=lambda: now)
    made = library.create("alice", LibraryCharacterIn(name="Mia", description="a red fox"))
    kept = artifacts.put("alice", picture(), "image/png")
    quality = Quality(
        width=24, height=24, sharpness=0.5, brightness=0.25, verdict="poor", advice=["larger"]
    )
    library.add_reference("alice", made.id, kept.id, quality)
    (folder / "mia.zip").write_bytes(library.export("alice", made.id))
    story = StoryStore(db, clock=lambda: now).create("alice", story_in(2))
    jobs = JobStore(db, LimitSettings(), clock=lambda: now)
    jobs.create(owner="alice", kind="story", story=story, tasks=tasks(2))
    (lease,) = jobs.lease("worker", 1)
    drawn = artifacts.put("alice", picture(), "image/png", temporary=True)
    jobs.finish(lease, artifact=drawn.id, scores={"identity": 0.5})
    db.close()


def persona(folder: Path) -> None:
    """A persona of the server that has heard one sentence."""
    desk = OpenPersonas(folder, lambda: None)
    made = desk.create("alice", "Anna")
    desk.say("alice", made.id, "My name is Ana and I live in Lisbon.")
    desk.close()


def main(folder: Path) -> None:
    """Make all of it below a new ``folder``."""
    folder.mkdir()
    talk(folder / "open", None)
    talk(folder / "sealed", KEY)
    persona(folder / "personas")
    (folder / "server").mkdir()
    server(folder / "server")
    Character(
        name="fox", subject="fox", prompts=("a red fox", "a fox in the meadow"), seeds=(1, 2),
        strength=0.75, settings={"method": "consistory", "seed": 5, "num_inference_steps": 3},
    ).save(folder / "fox.json")  # fmt: skip
    print(json.dumps(sorted(str(p.relative_to(folder)) for p in folder.rglob("*")), indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
