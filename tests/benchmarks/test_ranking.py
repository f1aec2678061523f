"""The weights of passages: what is planted is learnt, on questions that were not seen, too."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.ranking import RankedQuestion, held_out, learn
from consistent_gen.memory.talk.passages import RememberedLine, SaidPassage
from consistent_gen.memory.talk.questions import read_question

NAMES = ("holds", "astray", "meaning", "noise")


def planted(seed: int) -> Iterator[RankedQuestion]:
    """Questions whose right passage has the most meaning; a third have none."""
    rng = np.random.default_rng(seed)
    for number in range(60):
        features = np.column_stack([np.ones(6), np.zeros(6), rng.normal(size=(6, 2))])
        unknown = number % 3 == 0
        right = np.zeros(6, np.bool_)
        if not unknown:
            right[number % 6] = True
            features[number % 6, 2] += 6
        passages = [
            SaidPassage(
                RememberedLine(f"t{number}-{n}", "turn", "user", "2026-05-01 09:00", text),
                text,
                text,
            )
            for n in range(6)
            for text in ("Ida rows." if right[n] else "Bo sings.",)
        ]
        asked = {"q": "What does Ida do?", "answer": "rows", "unknown": unknown}
        read = read_question(str(asked["q"]))
        yield RankedQuestion(f"c{number % 9}", asked, read, passages, features, right)


def test_what_is_planted_is_learnt_and_holds_on_conversations_that_were_held_out() -> None:
    questions = list(planted(1))
    learnt = learn(questions)
    assert learnt.weights[2] > 5 * abs(learnt.weights[3])
    counts = held_out(questions, NAMES)
    assert counts[0.4]["right"] >= 0.95 * len(questions)
    # Surer answers are fewer, and none is lost count of.
    assert counts[0.5]["unknown"] >= counts[0.3]["unknown"]
    assert all(sum(count.values()) == len(questions) for count in counts.values())
