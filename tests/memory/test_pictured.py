"""What the user puts right about pictures, in the chat, over a real store."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from consistent_gen.memory import open_memory
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.listening.rule_listener import RuleListener
from consistent_gen.memory.recall.pictures import Picture, png_bytes
from consistent_gen.memory.talk.assistant import Assistant
from consistent_gen.memory.talk.pictured import (
    CANNOT_TELL,
    NO_READER,
    NOBODY,
    NotHim,
    OtherKind,
    WhoRequest,
    WornRequest,
    read_picture_request,
)
from consistent_gen.world.scene import render
from consistent_gen.world.spec import sample_frame, sample_identity


def figure(seed: int) -> Callable[[int], bytes]:
    identity = sample_identity(random.Random(seed))

    def shot(number: int) -> bytes:
        frame = sample_frame(random.Random(number), identities=(identity,))
        return png_bytes(render(replace(frame, style="flat")).rgb)

    return shot


BO, REX = figure(1000), figure(1001)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_memory(tmp_path, "ana") as opened:
        yield opened


@pytest.fixture
def ana(store: Store) -> Assistant:
    return Assistant(store, listener=RuleListener())


def teach(ana: Assistant, name: str, picture: bytes, kind: str = "cat") -> None:
    assert ana.say(f"This is my {kind} {name}.", picture=picture).asks
    ana.say("yes")


def pictures(ana: Assistant) -> dict[str, int]:
    return {c.name: len(ana.book.crops(c.id, outliers=True)) for c in ana.book.all()}


def test_what_is_said_of_pictures() -> None:
    read = read_picture_request
    for text in (
        "No, that's Rex, not Bo.",
        "no that's not Bo, that's Rex!",
        "That is Rex, not Bo",
        "That\u2019s not Bo, it\u2019s Rex",
        "Wrong: this is not Bo but Rex.",
    ):
        assert read(text) == NotHim("Rex", "Bo"), text
    assert read("No, that's Rex.") == NotHim("Rex", "")
    for text in (
        "Bo is not a cat, he is a dog.",
        "No, Bo isn't a cat, but a dog",
        "Bo is a dog, not a cat.",
    ):
        assert read(text) == OtherKind("Bo", "a dog", "a cat"), text
    for text in ("Who's this?", "Who is in the picture?", "do you recognise him?"):
        assert read(text) == WhoRequest(), text
    assert read("What does Bo wear in the last picture?") == WornRequest("Bo")
    for text in (
        "That's nice, not bad",
        "No, that's fine.",
        "Who is this Bo you talk about?",
        "My boss is not a monster, he is a manager",
        "That's not my problem, it's yours",
        "What does Bo wear?",
        "I said that's Rex, not Bo",
    ):
        assert read(text) is None, text


def test_a_picture_changes_hands(ana: Assistant, store: Store) -> None:
    teach(ana, "Bo", BO(0))
    teach(ana, "Rex", REX(0), "dog")
    teach(ana, "Bo", REX(1))
    said = ana.say("No, that's Rex, not Bo.")
    assert "shows Rex now" in said.text and pictures(ana) == {"Bo": 1, "Rex": 2}
    assert store.verify().ok
    for media in store.list("media"):
        assert store.get_media(media.media[0])  # no picture went with the one that moved


def test_a_wrong_name_goes_with_its_only_picture(ana: Assistant, tmp_path: Path) -> None:
    teach(ana, "Quillon", BO(0))
    said = ana.say("That's not Quillon, that's Rex.")
    assert "nobody called Quillon" in said.text and pictures(ana) == {"Rex": 1}
    assert ana.book.all()[0].class_name == "cat"
    spelt = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"quillon" not in spelt.lower()


def test_a_name_is_put_right_before_the_yes(ana: Assistant) -> None:
    ana.say("This is my cat Bo.", picture=BO(0))
    asked = ana.say("No, that's Rex, not Bo.")
    assert asked.asks and "Rex" in asked.text
    ana.say("yes")
    assert pictures(ana) == {"Rex": 1}


def test_somebody_shown_is_learnt_by_correction(ana: Assistant) -> None:
    teach(ana, "Bo", BO(0))
    assert ana.say("Who is this?", picture=BO(0)).text.startswith("That looks like Bo, a cat")
    plain = png_bytes(np.full((64, 64, 3), (20, 90, 200), np.uint8))
    assert ana.say("Who is this?", picture=plain).text == NOBODY
    assert ana.say("No, that's Rex.").asks and pictures(ana) == {"Bo": 1}
    ana.say("yes")
    assert pictures(ana) == {"Bo": 1, "Rex": 1}


def test_what_nobody_was_taken_for_is_ordinary_talk(ana: Assistant, store: Store) -> None:
    teach(ana, "Bo", BO(0))
    for text in ("No, that's Rex, not Max.", "Bo is not a doctor, he is a nurse."):
        before = store.count("turn")
        assert not ana.say(text).asks and store.count("turn") > before
    assert pictures(ana) == {"Bo": 1} and ana.book.all()[0].class_name == "cat"
    # Of no picture any more: who speaks of a dog on the phone moves no photograph.
    assert not ana.say("It rains.").text.startswith("That picture")
    ana.say("No, that's Rex, not Bo.")
    assert pictures(ana) == {"Bo": 1}


def test_a_kind_is_put_right(ana: Assistant) -> None:
    ana.say("This is my small brown cat Bo.", picture=BO(0))
    ana.say("yes")
    said = ana.say("Bo is not a cat, he is a dog.")
    assert said.text == "Bo is a dog, not a cat." and any("concept" in c for c in said.changes)
    bo = ana.book.all()[0]
    assert (bo.class_name, bo.text) == ("dog", "a small brown dog")
    assert ana.book.identity(bo).noun == "dog"


def test_clothes_are_told_as_far_as_the_reader_sees(store: Store) -> None:
    worn: list[tuple[str, ...] | None] = [("a hat", "boots"), (), None]

    def reader(picture: Picture) -> tuple[str, ...] | None:
        return worn.pop(0)

    ana = Assistant(store, listener=RuleListener(), reader=reader)
    teach(ana, "Bo", BO(0))
    asked = "What does Bo wear in the last picture?"
    assert "Bo wears a hat and boots" in ana.say(asked).text
    assert "nothing special" in ana.say(asked).text
    assert ana.say(asked).text == CANNOT_TELL
    blind = Assistant(store, listener=RuleListener())
    assert blind.say(asked).text == NO_READER
    assert blind.say("What does Max wear in the last picture?").text not in (NO_READER, CANNOT_TELL)
