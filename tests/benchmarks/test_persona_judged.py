"""Judged scores on invented files in the published formats, with a judge that goes by the text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.persona_data import AlignmentItem, load_alignment
from benchmarks.persona_files import Task, load_perma_tasks
from benchmarks.persona_judged import (
    MAX_TURNS,
    bert_f1,
    interact,
    judge_alignment,
    judge_perma,
    main,
    memory_score,
)
from benchmarks.persona_memories import memories
from consistent_gen.errors import InputError
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.language.models import Message, Replay


class Reader:
    """A judge that can read: a reply suits who loves jazz when jazz stands in both."""

    name, sees = "reader", False

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        text = messages[-1].content
        if "Does the reply suit" in text:
            known, _, reply = text.partition("A reply:")
            suits = "jazz" in known and "jazz" in reply.splitlines()[0]
            return f"<final_answer>({'a' if suits else 'b'})"
        if "Score what was found" in text:
            found = text.partition("What the person had really said")[0]
            return f"coverage: {4 if 'jazz' in found else 1}\naccuracy: 3\nrelevance: 2"
        if "Has the person what they want" in text:
            answers = re.findall(r"Assistant: (.*)", text)
            return f"<final_answer>({'a' if 'jazz' in answers[-1] else 'b'})"
        if "what is still missing" in text:
            return "It must be jazz."
        return "Take this jazz record." if "jazz" in text else "Take any record."


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def perma(tmp_path: Path) -> Path:
    said = [{"role": "user", "content": "I love jazz more than anything"},
            {"role": "assistant", "content": "Noted"}]  # fmt: skip
    tasks = [
        {"task_id": "7", "type": kind, "context": [[said, "2025-01-01"]],
         "task": {"task_goal": "a jazz record"},
         "affinity_links": [{"value": said, "date": "2025-01-01"}] if kind == 2 else []}
        for kind in (1, 2)
    ]  # fmt: skip
    write(tmp_path / "tasks/user334/input_data_c.json", {"overall": tasks})
    for kind in (1, 2):
        meta = {"question": "Which record shall I buy?", "question_date": "2025-02-01",
                "options": "A: Jazz\nB: Polka", "gold_label": "A"}  # fmt: skip
        write(tmp_path / f"evaluation/user334/meta/overall/7_{kind}.json", meta)
    return tmp_path


@pytest.fixture
def alignment(tmp_path: Path) -> Path:
    sessions = [
        [{"time": "2025-01-01 10:00", "user": "I love jazz", "assistant": "Fine"}],
        [{"time": "2025-05-01 10:00", "user": "I am tired of jazz", "assistant": "Oh"}],
    ]
    write(tmp_path / "samples/50/0/user_data.json", {"imgs": [], "sessions": sessions})
    common = {"data_path": "samples/50/0", "time": "2025-02-01 10:00", "query": "Some music?"}
    items = [
        {**common, "type": "Alignment",
         "alignment": {"chosen": "Try this jazz trio", "rejected": "Try this polka"}},
        {**common, "type": "Memory", "question_type": "x", "choices": {"(a)": "x", "(b)": "y"},
         "answer": "(a)"},
    ]  # fmt: skip
    return write(tmp_path / "Persona-MME.json", items)


def test_alignment_items_are_cut_at_their_time(alignment: Path) -> None:
    (item,) = load_alignment(alignment)
    assert (item.chosen, item.rejected) == ("Try this jazz trio", "Try this polka")
    assert [x.text for x in item.question.context] == ["I love jazz", "Fine"]
    with pytest.raises(InputError, match="no alignment item"):
        load_alignment(write(alignment.with_name("P.json"), []))


def test_alignment_needs_both_judgements(alignment: Path) -> None:
    items = load_alignment(alignment)
    offered = memories(HashedNgrams())
    good = judge_alignment(items, offered["chunks"], Reader())
    assert good["accuracy"]["mean"] == good["chosen_accepted"] == good["rejected_refused"] == 1
    blind = judge_alignment(items, offered["none"], Reader())
    assert blind["accuracy"]["mean"] == 0.5 and blind["chosen_accepted"] == 0
    swapped = [AlignmentItem(i.question, i.rejected, i.chosen) for i in items]
    assert judge_alignment(swapped, offered["chunks"], Reader())["accuracy"]["mean"] == 0


def test_perma_is_judged_where_there_is_something_to_know(perma: Path) -> None:
    tasks = load_perma_tasks(perma)
    assert [len(t.linked) for t in tasks] == [0, 1] and tasks[1].goal == "a jazz record"
    offered = memories(HashedNgrams())
    good = judge_perma(tasks, offered["chunks"], Reader(), letters)
    assert good["tasks"] == 1 and good["memory_score"]["mean"] == 3
    assert good["completed"] == good["completed_in_1"] == 1 and good["bert_f1"]["mean"] > 0.9
    blind = judge_perma(tasks, offered["none"], Reader(), letters)
    assert blind["coverage"]["mean"] == 1 and blind["bert_f1"] is None
    assert blind["completed_in_1"] == 0 and blind["completed_in_2"] == 1
    assert blind["user_tokens"] > good["user_tokens"]
    with pytest.raises(InputError, match="linked"):
        judge_perma(tasks[:1], offered["none"], Reader(), None)


def letters(text: str) -> np.ndarray:
    """A token per word: its letters counted, at unit length."""
    rows = np.array([[w.count(c) for c in "abcdefghijklmnopqrstuvwxyz"]
                     for w in re.findall(r"[a-z]+", text.lower())], np.float32)  # fmt: skip
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_bert_f1_is_symmetric_and_one_for_equal_texts() -> None:
    one, other = "a small brown dog", "the dog is brown and old"
    assert bert_f1(one, one, letters) == pytest.approx(1)
    assert bert_f1(one, other, letters) == pytest.approx(bert_f1(other, one, letters))
    assert bert_f1(one, other, letters) < 1 and bert_f1("zz", "aa", letters) == 0


class Silent:
    name, sees = "silent", False

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        return "I cannot say."


def test_a_judge_that_says_nothing_scores_nothing(perma: Path) -> None:
    task: Task = load_perma_tasks(perma)[1]
    assert memory_score(task, ["x"], Silent()) is None
    talk = interact(task, [], Silent())
    assert (talk.turns, talk.completed) == (MAX_TURNS, False)
    result = judge_perma([task], memories(HashedNgrams())["none"], Silent(), None)
    assert result["unread_judgements"] == 1 and result["memory_score"] is None


def test_judgements_are_recorded_and_replayed(
    alignment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transcript = tmp_path / "judge.jsonl"
    items = load_alignment(alignment)
    recorder = Replay(transcript, recorder=Reader())
    first = judge_alignment(items, memories(HashedNgrams())["none"], recorder)
    words = ["alignment", "--data", str(alignment), "--name", "reader", "--memories", "none",
             "--transcript", str(transcript), "--out", str(tmp_path / "out.json")]  # fmt: skip
    assert main(words) == 0
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["judge"] == "reader" and told["results"]["none"] == first
    words[words.index("none")] = "chunks"  # other passages, other prompts: not in the transcript
    assert main(words) == 2 and "transcript" in capsys.readouterr().err
    assert main(["alignment", "--data", str(alignment), "--out", "x.json"]) == 2
