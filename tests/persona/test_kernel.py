"""Personas: round trips, projections that lose nothing, reports without one number."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consistent_gen.errors import InputError, UnknownNameError
from consistent_gen.language.models import Message
from consistent_gen.persona import (
    MeasuredItem,
    Measurement,
    OrderSwapped,
    Persona,
    PersonaReport,
    Scripted,
    Statement,
    Transcript,
    Utterance,
    pareto,
    project,
)

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\n"), min_size=1, max_size=30)
TURNS = st.lists(st.tuples(st.sampled_from(["ann", "bo", "cy"]), WORDS), max_size=12)


def test_a_persona_survives_its_json() -> None:
    persona = Persona(
        "mia", "Mia", "A beekeeper.", (Statement("I keep bees.", weight=0.5),),
        {"openness": 0.8}, {"appearance": "a girl in red", "home": {"town": "Bonn"}},
        frozenset({"traits.openness"}), {"seed": "4"},
    )  # fmt: skip
    assert Persona.from_json(json.loads(json.dumps(persona.as_json()))) == persona
    assert persona.appearance == "a girl in red"
    assert "- I keep bees." in persona.prompt()


def test_all_mistakes_of_a_persona_are_told_at_once() -> None:
    told = {"id": "m", "traits": [], "statments": [], "statements": ["fine", 3]}
    with pytest.raises(InputError) as caught:
        Persona.from_json(told, source="mia.json")
    text = str(caught.value)
    for part in ("'statements'?", "needs 'name'", "'traits' is list", "statement 2"):
        assert part in text
    with pytest.raises(InputError, match=r"openness is 1.5.*"):
        Persona("m", "M", traits={"openness": 1.5})
    with pytest.raises(InputError, match="expected JSON"):
        Persona("m", "M", fields={"x": object()})


@given(TURNS)
def test_every_turn_is_the_assistants_in_exactly_one_view(turns: list[tuple[str, str]]) -> None:
    spoken = tuple(Utterance(*turn) for turn in turns)
    transcript = Transcript(("ann", "bo", "cy"), spoken)
    assert Transcript.from_json(transcript.as_json()) == transcript
    own = []
    for agent in transcript.speakers:
        view = project(transcript, agent, "system")
        assert view == project(transcript, agent, "system")
        assert view[-1].role == "user"
        sides = [message.role for message in view[1:]]
        assert all(a != b for a, b in itertools.pairwise(sides))
        said = [m.content.split("\n") for m in view if m.role == "assistant"]
        assert [line for lines in said for line in lines] == [
            line for text in transcript.of(agent) for line in text.split("\n")
        ]
        own += [line for lines in said for line in lines]
    assert sorted(own) == sorted(line for turn in spoken for line in turn.text.split("\n"))


def test_a_stranger_has_no_view() -> None:
    with pytest.raises(UnknownNameError, match="'zoe' is not among"):
        project(Transcript(("ann", "bo")), "zoe")
    with pytest.raises(UnknownNameError, match="turns of zoe"):
        Transcript(("ann",), (Utterance("zoe", "hi"),))


def measured(**values: float) -> PersonaReport:
    kinds = {"apc": "higher", "errors": "lower", "echo": "reference", "length": "none"}
    found = [
        Measurement(k, v, direction=kinds[k], reference=0.5)  # type: ignore[arg-type]
        for k, v in values.items()
    ]
    return PersonaReport("mia", tuple(found), {"apc": 0.1})


def test_a_change_is_accepted_only_where_nothing_falls_by_more_than_its_tolerance() -> None:
    base = measured(apc=0.5, errors=0.2, echo=0.4, length=3.0)
    better = measured(apc=0.4, errors=0.1, echo=0.6, length=9.0)
    assert better.against(base).standing == "accepted"  # apc fell by its tolerance, and no more
    assert better.against(base).incomparable == ("length",)
    assert measured(apc=0.39, errors=0.1).against(base).standing == "trade-off"
    assert measured(apc=0.3, errors=0.2).against(base).standing == "dominated"
    assert base.against(base).standing == "equal"


def test_the_front_keeps_what_disagrees() -> None:
    reports = [
        measured(apc=0.9, errors=0.5), measured(apc=0.5, errors=0.1), measured(apc=0.5, errors=0.5),
    ]  # fmt: skip
    assert pareto(reports) == (True, True, False)
    assert pareto([reports[0], reports[0]]) == (True, True)


def test_failed_items_come_first_among_the_worst() -> None:
    items = (
        MeasuredItem("a", 0.9),
        MeasuredItem("b", math.nan, why="no number"),
        MeasuredItem("c", 0.2),
    )
    assert [i.id for i in Measurement("apc", 0.5, items=items).worst] == ["b", "c", "a"]
    told = Measurement("apc", 0.5, items=items).as_json()
    assert json.loads(json.dumps(told, allow_nan=False))["items"][1]["value"] is None


def test_a_judge_that_likes_what_comes_first_prefers_nothing() -> None:
    choice = OrderSwapped("first", lambda context, a, b: 0.9).compare("", "x", "y")
    assert choice.p_a == pytest.approx(0.5)
    assert choice.flipped
    fair = OrderSwapped("long", lambda context, a, b: 0.8 if len(a) > len(b) else 0.2)
    assert fair.compare("", "longer", "short").p_a == pytest.approx(0.8)


def test_a_scripted_model_draws_anew_and_the_same_again() -> None:
    def coin(messages: object, draw: object) -> str:
        return str(draw.random())  # type: ignore[attr-defined]

    ask = [Message("user", "toss")]
    first, second = Scripted(coin, seed=3), Scripted(coin, seed=3)
    said = [first.chat(ask) for _ in range(3)]
    assert len(set(said)) == 3
    assert [second.chat(ask) for _ in range(3)] == said
    assert Scripted(coin, seed=4).chat(ask) != said[0]
    assert Scripted().chat(ask) == "I have nothing to say about that."
