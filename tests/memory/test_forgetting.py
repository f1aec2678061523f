"""What a request to forget takes with it, what it leaves, and that no byte is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch, Delete
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.listening.rule_listener import RuleListener
from consistent_gen.memory.talk.assistant import Assistant
from consistent_gen.memory.talk.forgetting import Forgotten, carry_out, plan_forgetting
from consistent_gen.memory.talk.replies import erased
from consistent_gen.memory.talk.requests import ForgetRequest, read_request

DAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


def forget(
    folder: Path, request: str, *said: str, documents: tuple[str, ...] = ()
) -> tuple[str, str, bytes]:
    """The reply to "yes", what is remembered afterwards, and the bytes of all files."""
    with open_memory(folder, "ana") as store:
        ana = Assistant(store, listener=RuleListener())
        for number, text in enumerate(said):
            given, documents = documents, ()
            ana.say(text, documents=given, at=DAY + timedelta(minutes=number))
        assert ana.say(request, at=DAY + timedelta(days=1)).asks
        reply = ana.say("yes", at=DAY + timedelta(days=1, minutes=1)).text
        left = remembered(store)
        assert store.verify().ok
        spelt = b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())
        return reply, left, spelt.lower()


def remembered(store: Store) -> str:
    kinds = ("turn", "core", "fact", "episode", "habit")
    return "\n".join(f"{r.label} {r.text} {r.keywords}" for k in kinds for r in store.list(k))


def test_turns_questions_answers_and_episodes_go(tmp_path: Path) -> None:
    reply, left, spelt = forget(
        tmp_path, "forget the tattoo",
        "I have a tattoo on my left hip.", "Did I tell you about the tattoo?", "I like tea.",
    )  # fmt: skip
    assert "no byte is left" in reply
    assert b"tattoo" not in spelt and "likes tea" in left


def test_a_name_that_it_goes_by(tmp_path: Path) -> None:
    _, left, spelt = forget(
        tmp_path, "forget the cat",
        "Duchess is the cat.", "Biscuit is the dog.", "Duchess was sick on the stairs.",
    )  # fmt: skip
    assert b"duchess" not in spelt and "Biscuit is the dog." in left


def test_what_only_points_back_goes_too(tmp_path: Path) -> None:
    _, left, spelt = forget(
        tmp_path, "forget the loan", "I took out a loan.", "It was 6,500 over four years.",
        "The roof is slate.",
    )  # fmt: skip
    assert b"6,500" not in spelt and "slate" in left


def test_a_paper_goes_with_the_turn_that_gave_it(tmp_path: Path) -> None:
    _, left, spelt = forget(
        tmp_path, "Forget the will.", "Here is the will.", "Giles comes on Sunday.",
        documents=("I leave the boathouse to nobody.",),
    )  # fmt: skip
    assert b"boathouse" not in spelt and "Giles" in left


def test_a_document_that_a_turn_calls_by_its_name(tmp_path: Path) -> None:
    _, left, spelt = forget(
        tmp_path, "forget my payslip", "That's my payslip for the bank.", "The roof is slate.",
        documents=("ACME Plastics, net 2301.55",),
    )  # fmt: skip
    assert b"2301.55" not in spelt and "slate" in left


def test_what_a_sentence_says_before_the_subject_stays(tmp_path: Path) -> None:
    _, left, spelt = forget(
        tmp_path, "forget the tortoise",
        "We have two guinea pigs, Pepper and Salt, and a tortoise called Leonard.",
        "Leonard got out again.",
    )  # fmt: skip
    assert b"leonard" not in spelt and "Pepper and Salt." in left


def test_what_has_ended_goes_too(tmp_path: Path) -> None:
    with open_memory(tmp_path, "ana") as store:
        added = Add(kind="fact", value="is with Marek", at=DAY)
        (fact,) = store.apply(Batch(ops=(added,), author="user")).ids
        ended = Delete(kind="fact", target=fact, at=DAY + timedelta(days=9))
        store.apply(Batch(ops=(ended,), author="user"))
        assert not store.list("fact")
        plan = plan_forgetting(store, "Marek")
        carry_out(store, plan)
        assert store.still_holds(("marek",)) == () and store.verify().ok


def test_a_surname_by_itself_and_a_turn_about_him(tmp_path: Path) -> None:
    _, left, spelt = forget(
        tmp_path, "forget Daniel Frost",
        "Daniel Abara is my manager.", "Daniel Frost asked me out.", "I tell people he's abroad.",
        "Later I said no to Frost, obviously.", "Daniel Abara signed my leave.",
    )  # fmt: skip
    assert b"frost" not in spelt and b"abroad" not in spelt
    assert "Daniel Abara is my manager." in left and "Daniel Abara signed my leave." in left


def test_lists_are_split_and_other_sentences_stay(tmp_path: Path) -> None:
    _, left, spelt = forget(
        tmp_path, "forget the olives", "I love olives and hiking. My sister is called Rita."
    )
    assert b"olive" not in spelt
    assert "likes hiking" in left and "Rita (sister)" in left and "sister is called Rita." in left


def test_twins_by_name(tmp_path: Path) -> None:
    _, left, spelt = forget(
        tmp_path, "forget Ben Hollis", "Ben Marsh is my accountant.", "Ben Hollis kissed me."
    )
    assert b"hollis" not in spelt and "Ben Marsh" in left


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("you can forget my bank card", "my bank card"),
        ("wipe the passwords please", "the passwords please"),
        ("forget what I asked about the lump", "the lump"),
        ("delete all my weights", "my weights"),
        ("Don't forget my birthday is on May 3", None),
        ("never let me forget: bins on Thursday", None),
        ("I mustn't forget our anniversary", None),
    ],
)
def test_requests_to_forget(text: str, what: str | None) -> None:
    request = read_request(text)
    assert (request.what if isinstance(request, ForgetRequest) else request) == what


def test_what_a_text_must_have_to_speak_of_it() -> None:
    wine = Forgotten.of("the red wine")
    assert wine.meant_in("a bottle of red wine") and wine.called("the wine is called Rioja")
    ben = Forgotten.of("Ben Hollis")
    assert ben.meant_in("Ben Hollis rang") and not ben.meant_in("Ben Marsh rang")


def test_words_that_are_left_are_told(tmp_path: Path) -> None:
    with open_memory(tmp_path, "ana") as store:
        store.record([Turn(text="The Kestrel sails at dawn", valid_from=DAY)])
        assert store.still_holds(("kestrel", "walrus")) == ("kestrel",)
        assert "no byte" not in erased((), store.still_holds(("kestrel",)))
        assert "no byte" in erased((), store.still_holds(("walrus",)))
