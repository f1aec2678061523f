"""How answers to questions on conversations are judged: by gold values, however they are worded."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.conversations import judged
from consistent_gen.memory.talk.replies import NOTHING_KNOWN

SCAN: dict[str, Any] = {
    "answer": "Wednesday 30 April at 8.45",
    "also": ["30 April 2025", "the thirtieth, quarter to nine"],
    "stale": ["24 April", "Thursday 24 April"],
}
LEAVING: dict[str, Any] = {
    "answer": "no, her son talked her out of it", "stale": ["yes, in the summer"]
}  # fmt: skip
WORK: dict[str, Any] = {"answer": "Grind & Co in Chorlton", "stale": ["Afflecks"]}
NIGHTS: dict[str, Any] = {
    "answer": "Tuesdays, Wednesdays and weekends", "stale": ["just Wednesdays"]
}  # fmt: skip
GROUP: dict[str, Any] = {"answer": "Thursdays 6.30 to 7.30", "also": ["Thursday half six"]}


@pytest.mark.parametrize(
    ("asked", "answer", "verdict"),
    [
        (SCAN, "Wed 30 Apr at quarter to nine.", "right"),
        (SCAN, "Wednesday the thirtieth, at a quarter to nine.", "right"),
        (SCAN, "At 8:45.", "wrong"),
        (SCAN, "On the 24th of April.", "stale"),
        (SCAN, "24 April, and once it was 30 April.", "stale"),
        (SCAN, NOTHING_KNOWN, "unknown"),
        # The day on which it was said is no answer.
        (SCAN, 'Soon. (you said on 2025-04-30: "soon") [t1]', "wrong"),
        # Of a quoted sentence only what completes an answer counts.
        (WORK, 'Grind & Co. (you said on 2025-11-14: "a place in Chorlton") [t1]', "right"),
        (WORK, 'At the mill. (you said on 2025-11-14: "Grind & Co in Chorlton") [t1]', "wrong"),
        (WORK, 'Grind. (you said on 2025-11-14: "not Afflecks but Grind & Co, Chorlton")', "wrong"),
        (WORK, 'From memory, you said on 2025-11-14: "Grind & Co in Chorlton" [t1]', "right"),
        (SCAN, 'From memory, you said on 2025-04-30: "soon" [t1]', "wrong"),
        (LEAVING, "No, not after all.", "right"),
        (LEAVING, "Yes, in the summer, no doubt.", "stale"),
        (LEAVING, "She is.", "wrong"),
        (NIGHTS, 'Tuesdays and Wednesdays (you said on 2026-02-02: "plus weekends")', "right"),
        (NIGHTS, "Tuesdays and Wednesdays.", "wrong"),
        (NIGHTS, "Wednesdays.", "stale"),
        (GROUP, "Thursdays at half past six.", "right"),
        (GROUP, "Thursdays at 7.", "wrong"),
        ({"answer": "10 mg", "stale": ["5 mg"]}, "10mg", "right"),
        ({"answer": "10 mg", "stale": ["5 mg"]}, "5mg", "stale"),
        ({"answer": "nine o'clock", "also": ["9am"]}, "at nine", "right"),
        ({"answer": "£1,425"}, "1425 a month", "right"),
        ({"answer": "not said", "unknown": True}, "Rex", "wrong"),
        ({"answer": "not said", "unknown": True}, NOTHING_KNOWN, "right"),
    ],
)
def test_an_answer_is_judged_by_its_value(asked: dict[str, Any], answer: str, verdict: str) -> None:
    assert judged(asked, answer) == verdict
