"""The assistant over a real store, offline: three simulated days, teaching, drawing, forgetting."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from consistent_gen.errors import InputError
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.language.words import read_consent
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.data.store import Scope, Store
from consistent_gen.memory.listening.consolidation import episodes, sessions
from consistent_gen.memory.recall.pictures import png_bytes
from consistent_gen.memory.talk.assistant import Assistant, DrawJob
from consistent_gen.memory.talk.requests import (
    DrawRequest,
    ForgetRequest,
    ProfileRequest,
    TeachRequest,
    read_request,
)
from consistent_gen.memory.talk.style_policy import StylePolicy
from consistent_gen.world.scene import render
from consistent_gen.world.spec import sample_frame, sample_identity

DAY = datetime(2026, 3, 1, 9, tzinfo=UTC)
BO = sample_identity(random.Random(5))


def photo(seed: int) -> np.ndarray:
    frame = sample_frame(random.Random(seed), identities=(BO,))
    return render(replace(frame, style="flat")).rgb


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_memory(tmp_path, "ana") as opened:
        yield opened


def everything(store: Store) -> str:
    kinds = ("turn", "core", "fact", "episode", "habit", "concept", "media")
    return "\n".join(f"{r.label} {r.text}" for kind in kinds for r in store.list(kind))


def test_three_days(store: Store) -> None:
    drawn: list[DrawJob] = []

    def draw(job: DrawJob) -> np.ndarray:
        drawn.append(job)
        return photo(2)

    ana = Assistant(store, text_embedder=HashedNgrams(), drawer=draw)
    told = ana.say("Hi! My name is Ana. I live in Lisbon.", at=DAY)
    assert "+ core Identity.Home: lives in Lisbon" in told.changes
    assert "Lisbon" in ana.say("Where do I live?", at=DAY + timedelta(minutes=1)).text

    asked = ana.say(
        "This is my dog Bo!", picture=png_bytes(photo(1)), at=DAY + timedelta(minutes=5)
    )
    assert asked.asks and store.list("concept") == ()
    assert "recognise Bo" in ana.say("yes", at=DAY + timedelta(minutes=6)).text

    second = DAY + timedelta(days=1)
    result = ana.say("Draw Bo at the beach", at=second)
    assert drawn[0].prompt == "a dog at the beach" and drawn[0].identities[0].references
    assert result.drawn is not None and f"{result.drawn.score:.2f}" in result.text
    assert any(line.startswith("+ episode") for line in result.changes)
    ana.say("Draw Bo in the forest", at=second + timedelta(minutes=1))
    corrected = ana.say("Actually, I live in Porto.", at=second + timedelta(minutes=2))
    assert "~ core Identity.Home: lives in Lisbon => lives in Porto" in corrected.changes
    assert "Porto" in ana.say("Where do I live?", at=second + timedelta(minutes=3)).text

    third = DAY + timedelta(days=2)
    assert "concept Bo" in ana.say("Forget Bo", at=third).text
    gone = ana.say("yes", at=third + timedelta(minutes=1))
    assert "no byte is left" in gone.text and "- concept Bo: Bo, a dog" in gone.changes
    assert "Bo" not in everything(store)
    assert store.list("media") == () and store.verify().ok
    assert "Porto" in everything(store)


def test_saying_no_changes_nothing(store: Store) -> None:
    ana = Assistant(store)
    ana.say("I'm allergic to peanuts.", at=DAY)
    assert ana.say("Forget my allergies", at=DAY).asks
    assert ana.say("no", at=DAY).changes == ()
    assert "peanuts" in everything(store)
    assert ana.say("yes", at=DAY).asks is False  # the question is no longer open
    assert "peanuts" in everything(store)


def test_a_forgotten_fact_takes_its_turn_its_answer_and_its_traits(store: Store) -> None:
    ana = Assistant(store)
    ana.say("I'm allergic to peanuts and anxious about it.", at=DAY)
    ana.say("What am I allergic to?", at=DAY + timedelta(minutes=1))
    assert everything(store).count("peanuts") >= 3
    assert ana.personality.scores["neuroticism"] > 3
    ana.say("Forget my allergies", at=DAY + timedelta(minutes=2))
    ana.say("yes", at=DAY + timedelta(minutes=3))
    assert "peanuts" not in everything(store)
    assert ana.personality.scores["neuroticism"] == 3


def test_list_like_leaves_keep_the_others(store: Store) -> None:
    ana = Assistant(store)
    ana.say("My dog is called Bo. My cat is called Mia.", at=DAY)
    ana.say("This is my dog Bo", picture=png_bytes(photo(1)), at=DAY)
    ana.say("yes", at=DAY)
    ana.say("forget Bo", at=DAY)
    ana.say("yes", at=DAY)
    (pets,) = store.list("core")
    assert pets.text == "Mia (a cat)"


def test_a_statement_is_answered_with_what_was_understood(store: Store) -> None:
    ana = Assistant(store)
    assert ana.say("I live in Oslo. I love tea and rain.", at=DAY).text == (
        "Noted: lives in Oslo; likes tea and rain."
    )
    assert ana.say("I don't like tea anymore.", at=DAY).text == "Noted: likes rain."
    assert "no fact" in ana.say("hello", at=DAY).text
    assert ana.say("I no longer live in Oslo.", at=DAY).text == "No longer so: lives in Oslo."
    told = ana.say("What do you know about me?", at=DAY).text
    assert "likes rain" in told and "Oslo" not in told
    ana.say("My name is Ana. My sister is called Rita.", at=DAY)
    assert "Rita" not in ana.say("What is my dog called?", at=DAY).text
    assert "Rita" in ana.say("What is my sister called?", at=DAY).text
    assert "Ana" in ana.say("What is my name?", at=DAY).text


def test_forgetting_an_ended_fact_takes_the_answers_that_named_it(store: Store) -> None:
    ana = Assistant(store)
    ana.say("I love sardines.", at=DAY)
    (fact,) = store.list("fact")
    ana.say("I no longer like sardines.", at=DAY + timedelta(minutes=1))
    assert "sardines" in everything(store)
    store.purge(Scope(ids=(fact.id,)))
    assert "sardines" not in everything(store)


def test_documents_are_not_the_users_words(store: Store) -> None:
    ana = Assistant(store)
    said = ana.say("Please read this.", documents=["My name is Eve. I live in Rome."], at=DAY)
    assert store.count("core") == 0 and said.outcomes == ()
    assert [t.role for t in store.list("turn")].count("document") == 1  # type: ignore[attr-defined]


def test_ties_are_asked_about(store: Store) -> None:
    ana = Assistant(store)
    for name in ("Bo", "Rex"):
        ana.say(f"This is my dog {name}", picture=png_bytes(photo(1)), at=DAY)
        ana.say("yes", at=DAY)
    assert "Bo the dog or Rex the dog" in ana.say("Draw my dog in the snow", at=DAY).text
    assert "No drawing model" in ana.say("Draw Rex in the snow", at=DAY).text
    assert "nobody of that name" in ana.say("Draw Zebulon", at=DAY).text


def test_a_conversation_becomes_episodes_once(store: Store) -> None:
    ana = Assistant(store)
    ana.say("I planted tomatoes on the balcony.", at=DAY)
    ana.say("The tomatoes need a lot of water.", at=DAY + timedelta(minutes=2))
    assert store.count("episode") == 0
    ana.say("Hello again.", at=DAY + timedelta(hours=3))
    (first,) = store.list("episode")
    assert "tomatoes" in first.keywords and len(first.evidence) == 4
    ana.close()
    ana.close()
    assert store.count("episode") == 2
    found = ana.retriever.search("tomatoes", caps={"episode": 1})
    assert len(ana.retriever.expand(found)) == 4


def test_style_is_collected_only_when_it_is_used(store: Store) -> None:
    Assistant(store).say("hey dude lol!!!", at=DAY)
    assert store.count("style_obs") == 0
    follower = Assistant(store, style=StylePolicy(name="uncapped"))
    follower.say("hey dude lol!!!", at=DAY)
    assert store.count("style_obs") == 1
    assert any("casual wording" in line for line in follower.alignment())


def test_broken_input_stores_nothing(store: Store) -> None:
    ana = Assistant(store)
    for text, picture in (("  ", None), ("x" * 10_000_000, None), ("look", b"nonsense"),
                          ("\ud800", None), ("nul \x00", None)):  # fmt: skip
        with pytest.raises(InputError):
            ana.say(text, picture=picture, at=DAY)
    assert store.count() == 0


def test_sessions_and_topics() -> None:
    def turn(i: int, text: str, minutes: int, role: str = "user") -> Turn:
        at = DAY + timedelta(minutes=minutes)
        return Turn(id=f"t{i}", text=text, role=role, valid_from=at)  # type: ignore[arg-type]

    turns = [
        turn(0, "The violin lesson was hard", 0), turn(1, "I see", 1, "assistant"),
        turn(2, "My violin needs new strings", 2), turn(3, "Dinner is grilled fish", 3),
        turn(4, "Good morning", 300),
    ]  # fmt: skip
    assert [len(s) for s in sessions(turns)] == [4, 1]
    made = episodes(turns[:4])
    assert [op.evidence for op in made] == [("t0", "t1", "t2"), ("t3",)]
    assert made[0].fields["keywords"][0] == "violin"

    class Model:
        name, sees = "scripted", False

        def __init__(self, reply: str) -> None:
            self.reply = reply

        def chat(self, messages: object, *, max_tokens: int = 512) -> str:
            return self.reply

    asked = episodes(turns[:4], Model("1,3 | violin | The person plays.\n9 | x | y"))
    assert [op.evidence for op in asked] == [("t0", "t1", "t2", "t3")]
    assert asked[0].value == "The person plays."
    assert episodes(turns[:4], Model("I cannot do that")) == made
    assert episodes([turn(1, "hi", 0, "assistant")]) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("This is my dog Bo", TeachRequest("Bo", "dog")),
        ("Look, this is my small brown dog, Bo!", TeachRequest("Bo", "small brown dog")),
        ("This is Bo, a brown bear with a red scarf", TeachRequest("Bo", "brown bear")),
        ("this is Mia, my cat", TeachRequest("Mia", "cat")),
        ("Please draw Bo at the beach.", DrawRequest("Bo at the beach")),
        ("can you draw me Bo?", DrawRequest("Bo")),
        ("Forget my address", ForgetRequest("my address")),
        ("please forget everything about Bo!", ForgetRequest("Bo")),
        ("Forget everything about me.", ForgetRequest("everything about me", True)),
        ("What do you know about me?", ProfileRequest()),
        ("Tell me everything you know about me.", ProfileRequest()),
        ("What do you know about tides?", None),
        ("I will never forget this", None),
        ("I like to draw", None),
        ("Is this my dog?", None),
    ],
)
def test_requests(text: str, expected: object) -> None:
    found = read_request(text)
    if isinstance(expected, ForgetRequest) and expected.everything:
        assert isinstance(found, ForgetRequest) and found.everything
    else:
        assert found == expected


def test_consent_is_a_clear_word() -> None:
    assert [read_consent(t) for t in ("yes", "No.", "yes but wait", "")] == [
        True,
        False,
        None,
        None,
    ]
    assert TeachRequest("Bo", "old brown dog").description == "an old brown dog"
