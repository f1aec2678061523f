"""Arms of the memory, what they show the model, and the judgement of operations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.memory_ablation import ablated, chosen, main, style_gap
from benchmarks.memory_arms import ARMS, ArmAnswer, asked, heard
from benchmarks.memory_operations import gold_of, judge_turn, judged, turn_score
from consistent_gen.language.models import Message
from consistent_gen.memory.data.operations import Add, Delete, Op, Update
from consistent_gen.memory.data.records import Fact, Turn
from consistent_gen.memory.listening.listener import Heard, KnownState
from consistent_gen.memory.listening.rule_listener import RuleListener
from consistent_gen.memory.recall.prompts import LAST_ROUND
from consistent_gen.memory.talk.rule_model import RuleModel
from consistent_gen.memory.talk.style_policy import read_style

TALK: dict[str, Any] = {
    "turns": [
        {"n": 1, "at": "2026-03-02T09:00:00", "text": "I live in Oslo."},
        {"n": 2, "at": "2026-03-03T09:00:00", "text": "My sister Ida plays the tuba!!!"},
        {"n": 3, "at": "2026-03-04T09:00:00", "text": "I moved to Porto."},
    ],
    "facts": [
        {"id": "f1", "about": "user", "fact": "lives in Oslo", "from": [1], "ended": True,
         "ended_turn": 3},
        {"id": "f2", "about": "Ida", "fact": "Ida plays the tuba", "from": [2]},
        {"id": "f3", "about": "user", "fact": "lives in Porto", "from": [3]},
    ],
    "traps": [{"turn": 2, "clause": "I play the tuba"}],
    "questions": [
        {"q": "Where do I live?", "answer": "Porto", "stale": ["Oslo"]},
        {"q": "What does Ida play?", "answer": "tuba"},
        {"q": "What is my shoe size?", "unknown": True, "answer": ""},
    ],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "talks" / "one.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(TALK), encoding="utf-8")
    return path.parent


class Listening:
    """Answers at once, or looks up first; keeps what it was shown."""

    name, sees = "listening", False

    def __init__(self, looks: bool) -> None:
        self.looks = looks
        self.shown: list[str] = []

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        self.shown.append("\n".join(m.content for m in messages if m.role == "user"))
        if self.looks and len(messages) == 2:
            return "<think>.</think><retrieve>\nkeywords: tuba\n</retrieve>"
        return "<think>.</think><answer>It is the tuba.</answer>"


def test_each_arm_shows_what_it_has(folder: Path) -> None:
    with heard(folder / "one.yaml", RuleListener(), None) as conversation:
        shown = {}
        for name, arm in ARMS.items():
            model = Listening(looks=True)
            (answer,) = asked(conversation, arm, model, None, ["What does Ida play?"])
            assert answer.calls == (2 if arm.looks else 1), name
            assert answer.tokens >= sum(len(text) for text in model.shown) / 4
            shown[name] = model.shown[0]
        again = Listening(looks=False)
        asked(conversation, ARMS["all parts"], again, None, ["What does Ida play?"])
        said, first = (
            text.partition("Question:")[2] for text in (again.shown[0], shown["all parts"])
        )
        assert said == first
    speak = "How to speak with this person"
    assert speak in shown["all parts"] and speak in shown["no reasoning loop"]
    assert speak in shown["alignment, no memory"] and speak not in shown["no alignment"]
    assert "Porto" not in shown["alignment, no memory"] and "Porto" in shown["static profile"]
    assert "tuba" not in shown["static profile"]  # a turn, and no state that the rules heard
    assert LAST_ROUND in shown["neither"] and LAST_ROUND not in shown["no alignment"]


def test_verdicts_and_costs_are_counted(folder: Path, tmp_path: Path) -> None:
    with heard(folder / "one.yaml", RuleListener(), None) as conversation:
        rows = ablated([conversation], RuleModel(), None)
    assert set(rows) == set(ARMS)
    assert rows["all parts"]["right"] == 3 and rows["alignment, no memory"]["unknown"] == 2
    assert rows["alignment, no memory"]["right"] == 1  # what was never said
    assert rows["all parts"]["tokens"] > rows["alignment, no memory"]["tokens"]
    out = tmp_path / "out.json"
    words = [str(folder), "--questions", "1", "--words-only", "--out", str(out)]
    assert main(words) == 0
    assert main(words) == 0  # in the place of the first
    (run,) = json.loads(out.read_text())["runs"]
    assert run["arms"]["neither"]["questions"] == 1
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none")])
    assert chosen(list("abcdef"), 3) == ["a", "c", "e"] and chosen([1], 3) == [1]


def test_style_gap_is_nothing_for_the_own_words() -> None:
    own = "hey gonna grab pizza lol!!!"
    answer = [ArmAnswer(own, 1, 0, 0)]
    assert style_gap(answer, read_style(own)) == pytest.approx(0)
    assert style_gap(answer, read_style("I would appreciate clarification.")) > 0.1


def test_operations_are_judged_one_by_one() -> None:
    view = KnownState(facts=(Fact(id="x1", text="Lives in Oslo", topic="home"),))
    moved = gold_of(TALK, 3)
    assert set(moved.writes) == {"f3"} and set(moved.ends) == {"f1"}
    ops: list[Op] = [
        Update(kind="fact", target="x1", value="Lives in Porto"),
        Add(kind="fact", target="", value="Likes whales"),
    ]
    kinds, written, ended = judge_turn(moved, ops, view, "I moved to Porto.")
    assert kinds == {"right": 1, "wrong": 1} and set(written) == {"f3"} and ended == {"f1"}
    # Both are found, one of two is wrong.
    assert turn_score(moved, kinds, written, ended) == pytest.approx((2 - 1) / 2)
    sister = gold_of(TALK, 2)
    said = "My sister Ida plays the tuba!!!"
    trap: list[Op] = [
        Add(kind="fact", target="", value="I play the tuba"),
        Delete(kind="fact", target="x1"),
    ]
    kinds, written, _ = judge_turn(sister, trap, view, said)
    assert kinds["wrong"] == 1 and kinds["right"] == 1  # it has half of the words of Ida's, too
    kinds, written, ended = judge_turn(sister, [], view, said)
    assert turn_score(sister, kinds, written, ended) == -0.5


class Gold:
    """Proposes the gold of each turn, and nothing else."""

    description = "gold"

    def listen(self, turns: Sequence[Turn], view: KnownState) -> Heard:
        number = next(t["n"] for t in TALK["turns"] if t["text"] == turns[0].text)
        ids, facts = (turns[0].id,), TALK["facts"]
        ops: list[Add | Delete] = [
            Add(kind="fact", target="", value=f["fact"], evidence=ids)
            for f in facts if number in f["from"]
        ]  # fmt: skip
        old = [f.id for f in view.facts if "Oslo" in f.text] if number == 3 else []
        ops += [Delete(kind="fact", target=id, evidence=ids) for id in old]
        return Heard(ops=tuple(ops))


def test_the_gold_itself_has_everything(folder: Path) -> None:
    row = judged([folder / "one.yaml"], Gold()).row()
    assert (row["precision"], row["recall_written"], row["recall_ended"]) == (1, 1, 1)
    assert row["score"] == 1 and row["turns"] == 3
    blind = judged([folder / "one.yaml"], RuleListener(), turns=1).row()
    assert blind["turns"] == 1 and blind["ended"] == [0, 0]
