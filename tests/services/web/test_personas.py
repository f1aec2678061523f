"""Personas: talking, what is remembered and why, mending it, erasing it, drawing in a talk."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest

from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import JobState
from consistent_gen.errors import LimitError
from consistent_gen.language.embedders import HashedNgrams
from services.errors import BusyError, NotFound
from services.personas import OpenPersonas
from tests.services.web.hand import TOKEN, Hand, Server, settings_in, until, world_png


@pytest.fixture
def persona(alice: Client) -> str:
    return alice.create_persona("Ann").id


def test_it_remembers_and_says_why(alice: Client, persona: str) -> None:
    said = alice.say(persona, "My name is Ann and I live in Oslo.")
    assert said.text
    assert any("Oslo" in change for change in said.changes)
    memories = alice.memories(persona).memories
    home = next(memory for memory in memories if "Oslo" in memory.text)
    assert home.why == ["My name is Ann and I live in Oslo."]
    assert home.since is not None
    found = alice.search(persona, "where is Ann at home, in Oslo?").memories
    assert any("Oslo" in memory.text for memory in found)
    assert [m.score for m in found] == sorted((m.score or 0 for m in found), reverse=True)
    assert len(alice.search(persona, "Oslo", k=1).memories) == 1
    assert alice.persona(persona).memories == len(memories)
    assert "rules" in alice.persona(persona).assistant


def test_memories_are_added_corrected_and_erased(alice: Client, persona: str) -> None:
    fact = alice.add_memory(persona, "Ann plays the cello on Sundays")
    assert fact.kind == "fact"
    assert fact.id in {memory.id for memory in alice.memories(persona).memories}
    mended = alice.correct_memory(persona, fact.id, "Ann plays the viola on Sundays")
    assert mended.text == "Ann plays the viola on Sundays"
    assert [m.text for m in alice.memories(persona).memories] == [mended.text]
    alice.say(persona, "I live in Bergen.")
    home = next(m for m in alice.memories(persona).memories if "Bergen" in m.text)
    assert "Tromso" in alice.correct_memory(persona, home.id, "Tromso").text
    for memory in alice.memories(persona).memories:
        alice.forget_memory(persona, memory.id)
    assert alice.memories(persona).memories == []
    assert alice.search(persona, "viola").memories == []
    with pytest.raises(ApiError) as problem:
        alice.forget_memory(persona, mended.id)
    assert problem.value.status == 404
    with pytest.raises(ApiError) as problem:
        alice.correct_memory(persona, "rec_0", "x")
    assert problem.value.status == 404


def test_personas_are_listed_and_erased_with_their_files(
    alice: Client, bob: Client, server: object
) -> None:
    from tests.services.web.hand import Server

    assert isinstance(server, Server)
    persona = alice.create_persona("Short-lived")
    alice.say(persona.id, "My secret word is rumpelstiltskin.")
    assert persona.id in {p.id for p in alice.personas().personas}
    assert persona.id not in {p.id for p in bob.personas().personas}
    alice.delete_persona(persona.id)
    assert persona.id not in {p.id for p in alice.personas().personas}
    with pytest.raises(ApiError) as problem:
        alice.say(persona.id, "hello")
    assert problem.value.status == 404
    folder = server.settings.storage.data_dir / "personas"
    for file in (file for file in folder.rglob("*") if file.is_file()):
        assert b"rumpelstiltskin" not in file.read_bytes()


def test_teaching_and_drawing_in_a_talk(alice: Client, hand: Hand, persona: str) -> None:
    picture = alice.upload(world_png(8)).id
    asked = alice.say(persona, "This is my small brown dog Bo.", picture=picture)
    assert asked.asks
    assert "Bo" in alice.say(persona, "yes").text
    shown = next(m for m in alice.memories(persona).memories if m.kind == "concept")
    assert "Bo" in shown.text and "brown dog" in shown.text
    assert alice.search(persona, picture=picture).memories[0].id == shown.id

    hand.seen_references.clear()
    said = alice.say(persona, "Draw Bo in a forest")
    assert said.picture is not None
    assert alice.artifact(said.picture).startswith(b"\x89PNG")
    assert said.similarity is not None and said.verdict is not None
    # The pictures that it was taught with went along, and the job is a job like any other.
    assert hand.seen_references and all(len(refs) == 1 for refs in hand.seen_references)
    job = alice.jobs(limit=1).jobs[0]
    request = alice.story(job.story).request
    assert request.frames[0].prompt == "{Bo} in a forest"
    assert request.characters["Bo"].description == "a small brown dog"

    asked = alice.say(persona, "Forget Bo")
    assert asked.asks
    alice.say(persona, "yes")
    assert not any(m.kind == "concept" for m in alice.memories(persona).memories)
    assert "nobody" in alice.say(persona, "Draw Bo in a forest").text


def test_what_cannot_be_drawn_is_said_in_the_talk(alice: Client, hand: Hand, persona: str) -> None:
    picture = alice.upload(world_png(8)).id
    alice.say(persona, "This is my dog Bo.", picture=picture)
    alice.say(persona, "yes")
    said = alice.say(persona, "Draw Bo on a unicycle")
    assert said.picture is None
    assert "unicycle" in said.text and said.problems
    hand.spoil = lambda lease: True
    said = alice.say(persona, "Draw Bo in a forest")
    assert said.picture is None
    assert "spoilt" in said.text


def test_a_talk_goes_on_for_others_while_one_draws(
    alice: Client, bob: Client, hand: Hand, persona: str
) -> None:
    from tests.services.web.hand import until

    picture = alice.upload(world_png(8)).id
    alice.say(persona, "This is my dog Bo.", picture=picture)
    alice.say(persona, "yes")
    hand.pause()
    said: list[str] = []
    talk = threading.Thread(target=lambda: said.append(alice.say(persona, "Draw Bo").text))
    talk.start()
    until(lambda: alice.jobs(state="queued", limit=1).jobs, "the job of the talk")
    other = bob.create_persona("Other").id
    assert bob.say(other, "Hello, I live in Rome.").text
    alice.cancel(alice.jobs(state="queued", limit=1).jobs[0].id)
    talk.join(60)
    assert "not finished" in said[0]
    assert alice.jobs(limit=1).jobs[0].state is JobState.cancelled


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("say", {"text": ""}, 422),
        ("say", {"text": "  "}, 422),
        ("say", {"text": "x" * 4001}, 422),
        ("memories", {"text": ""}, 422),
        ("search", {}, 422),
        ("search", {"text": "x", "k": 0}, 422),
    ],
)
def test_refusals(
    raw: httpx.Client, persona: str, path: str, body: dict[str, object], status: int
) -> None:
    assert raw.post(f"/v1/personas/{persona}/{path}", json=body).status_code == status


# The desk by itself -----------------------------------------------------------------------------
def test_memories_survive_the_desk(tmp_path: Path) -> None:
    desk = OpenPersonas(tmp_path, HashedNgrams)
    persona = desk.create("key/../1", "Ann").id
    desk.say("key/../1", persona, "I live in Oslo.")
    desk.close()
    with pytest.raises(NotFound):
        desk.get("key/../1", persona)
    again = OpenPersonas(tmp_path, HashedNgrams)
    assert any("Oslo" in memory.text for memory in again.memories("key/../1", persona))
    with pytest.raises(NotFound):
        again.get("other", persona)
    again.close()
    assert {child.parent for child in tmp_path.rglob("persona.json")} <= set(tmp_path.glob("*/*"))


def test_many_personas_are_open_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.personas.open_personas.OPEN_PERSONAS", 3)
    monkeypatch.setattr("services.personas.open_personas.MAX_PERSONAS", 8)
    desk = OpenPersonas(tmp_path, HashedNgrams)
    made = [desk.create("me", f"P{number}").id for number in range(8)]
    with pytest.raises(LimitError):
        desk.create("me", "one too many")
    for number, persona in enumerate(made):
        desk.say("me", persona, f"I live in City{number}.")
    assert len(desk._open) <= 3
    for number, persona in enumerate(made):
        assert any(f"City{number}" in m.text for m in desk.memories("me", persona))
    desk.close()


def test_threads_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.personas.open_personas.PATIENCE_S", 120.0)
    desk = OpenPersonas(tmp_path, HashedNgrams)
    persona = desk.create("me", "Ann").id
    problems: list[BaseException] = []

    def talk(number: int) -> None:
        try:
            desk.say("me", persona, f"I like food{number}.")
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with desk.use("me", persona) as assistant:
        assert len(assistant.store.list("turn")) == 12
        # Who only lists personas does not wait for a turn that may draw for a minute.
        assert desk.get("me", persona).memories == 6
        assert [shown.memories for shown in desk.all("me").personas] == [6]
        monkeypatch.setattr("services.personas.open_personas.PATIENCE_S", 0.05)
        with pytest.raises(BusyError), desk.use("me", persona):
            raise AssertionError("two had it at once")
        with pytest.raises(BusyError):
            desk.delete("me", persona)
    desk.delete("me", persona)
    with pytest.raises(NotFound):
        desk.get("me", persona)
    desk.close()


def test_waiting_for_a_busy_persona_keeps_nobody_else_waiting(
    server: Server,
    alice: Client,
    keys: tuple[Path, str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred ask for one that is drawing: leases are renewed and others answered meanwhile."""
    monkeypatch.setattr("services.personas.open_personas.PATIENCE_S", 120.0)
    persona = alice.create_persona("Busy").id
    owner = server.state.keys.verify(keys[1])
    assert owner is not None
    answers: list[int] = []

    def ask() -> None:
        headers = {"Authorization": f"Bearer {keys[1]}"}
        url = f"{server.url}/v1/personas/{persona}/memories"
        answers.append(httpx.get(url, headers=headers, timeout=120.0).status_code)

    asking = [threading.Thread(target=ask) for _ in range(100)]
    with server.state.personas.use(owner.id, persona):
        for thread in asking:
            thread.start()
        until(lambda: server.state.persona_turns.locked(), "as many as may wait in threads")
        renewal = httpx.post(
            f"{server.url}/internal/leases/lease_x/renew",
            json={"step": 1},
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=60.0,
        )
        assert renewal.json() == {"go": False}
        assert alice.limits().frames and answers == []
    for thread in asking:
        thread.join(120.0)
    assert answers == [200] * 100


def test_personas_count_as_storage(tmp_path: Path) -> None:
    from dataclasses import replace

    from services.settings import StorageSettings

    storage = StorageSettings(
        data_dir=tmp_path, reserve_bytes=0, owner_quota_bytes=(1 << 20) + 20_000
    )
    served = Server(replace(settings_in(tmp_path), storage=storage)).start()
    try:
        with Client(served.url) as client:
            persona = client.create_persona("Ann").id
            with pytest.raises(ApiError) as full:
                for number in range(50):
                    client.say(persona, f"My neighbour number {number} is called Bo.")
            assert (full.value.status, full.value.problem.code) == (507, "storage_full")
            client.delete_persona(persona)
            assert client.create_persona("Bo").name == "Bo"
    finally:
        served.stop()
