"""Memories, a server's data and characters that release 0.1 made are opened and mean the same.

`tests/memory/earlier/make.py` tells what is in them; they are never made anew.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.records import Kind, Record, TraitObservation
from consistent_gen.memory.data.store import AsOf, Store
from consistent_gen.memory.recall.retriever import Retriever
from consistent_gen.memory.storage.keys import MemoryKey, MemoryKeyError
from consistent_gen.memory.talk.personality import fold
from consistent_gen.saved_character import read_character
from services.jobs import JobStore
from services.personas import OpenPersonas
from services.settings import LimitSettings, StorageSettings
from services.store import ArtifactStore, Library, StoryStore
from services.store.sqlite_database import ServerSqlite

KEY = MemoryKey("5" * 64)
COUNTS: dict[Kind, int] = {
    "turn": 11, "core": 3, "fact": 2, "episode": 6, "habit": 0, "concept": 1, "trait_obs": 5,
    "style_obs": 5, "media": 2,
}  # fmt: skip


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A copy of everything that was made."""
    with zipfile.ZipFile(Path(__file__).parent / "earlier" / "made.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path


def texts(records: tuple[Record, ...]) -> list[str]:
    return [record.text for record in records]


def check(store: Store) -> None:
    assert store.verify().problems == ()
    assert store.version == 31
    home = store.list("core", label="Identity.Home")[0]
    assert texts(store.list("core")) == ["Ana", "lives in Porto", "works as a nurse"]
    assert texts(store.list("fact")) == ["Rita (sister)", "has a red boat"]
    assert texts(store.history(home.id)) == ["lives in Lisbon", "lives in Porto"]
    first = store.history(home.id)[0]
    before = store.get([home.id], as_of=AsOf(world=first.valid_from, recorded=first.recorded_at))
    assert texts(before) == ["lives in Lisbon"]
    assert {kind: len(store.list(kind)) for kind in COUNTS} == COUNTS
    assert [o.rule for o in store.outcomes(status="quarantined")] == ["instruction_like"]
    assert [o.rule for o in store.outcomes(status="refused")] == ["path_unknown"]
    observed = [o for o in store.list("trait_obs") if isinstance(o, TraitObservation)]
    assert fold(observed).scores["neuroticism"] == pytest.approx(3.99, abs=0.02)
    for media in store.list("media"):
        assert store.get_media(media.media[0]).startswith(b"\x89PNG")
    found = Retriever(store, HashedNgrams()).search("Where do I live?")
    assert found[0].record.text == "lives in Porto"


@pytest.mark.parametrize("name", ["open", "sealed"])
def test_a_memory_is_read_and_exported_as_it_was(earlier: Path, name: str) -> None:
    key = {"key": KEY} if name == "sealed" else {}
    with open_memory(earlier / name, "ann", **key) as store:
        check(store)
        store.export(earlier / "again.zip")
    kept = (earlier / f"{name}.zip").read_bytes()
    assert (earlier / "again.zip").read_bytes() == kept
    with open_memory(earlier / "new", "ann") as store:
        assert store.restore(earlier / f"{name}.zip") == 42
        check(store)
        store.export(earlier / "restored.zip")
    assert (earlier / "restored.zip").read_bytes() == kept


def test_a_key_is_still_asked_for(earlier: Path) -> None:
    with pytest.raises(MemoryKeyError, match="this memory is encrypted"):
        open_memory(earlier / "sealed", "ann")


def test_a_servers_data_is_read(earlier: Path) -> None:
    folder = earlier / "server"
    db = ServerSqlite(folder / "server.sqlite")
    artifacts = ArtifactStore(folder / "artifacts", db, StorageSettings(reserve_bytes=0))
    library = Library(db, artifacts)
    (mia,) = library.list("alice").characters
    assert (mia.name, mia.description, mia.references[0].quality.advice) == (
        "Mia", "a red fox", ["larger"],
    )  # fmt: skip
    assert library.export("alice", mia.id) == (folder / "mia.zip").read_bytes()
    assert library.import_archive("alice", (folder / "mia.zip").read_bytes()).name == "Mia 2"
    jobs = JobStore(db, LimitSettings())
    (job,) = jobs.page("alice").jobs
    assert [frame.state for frame in job.frames] == ["succeeded", "queued"]
    story = StoryStore(db).get("alice", job.story)
    assert [frame.prompt for frame in story.request.frames] == ["scene 0", "scene 1"]
    (lease,) = jobs.lease("worker", 4)
    assert (lease.frame, lease.attempt) == (1, 1)
    db.close()


def test_a_persona_is_read(earlier: Path) -> None:
    desk = OpenPersonas(earlier / "personas", lambda: None)
    (persona,) = desk.all("alice").personas
    assert persona.name == "Anna"
    shown = [memory.text for memory in desk.memories("alice", persona.id)]
    assert shown == ["Home: lives in Lisbon", "Name: Ana"]
    assert "Lisbon" in desk.say("alice", persona.id, "Where do I live?").text
    desk.close()


def test_a_saved_character_is_read(earlier: Path) -> None:
    settings = {"method": "consistory", "seed": 5, "num_inference_steps": 3}
    saved = read_character(earlier / "fox.json", settings)
    assert (saved["name"], saved["prompts"]) == ("fox", ["a red fox", "a fox in the meadow"])
