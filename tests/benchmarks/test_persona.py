"""The persona benchmark: loaders on invented files of the published formats, and its honesty."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.persona import (
    as_benchmark,
    gold_memory,
    lines_of,
    look_up,
    main,
    recall,
    replay_gold,
    run_choices,
    run_recall,
)
from benchmarks.persona_data import (
    Benchmark,
    Line,
    Question,
    load_locomo,
    load_longmemeval,
    load_persona_mme,
)
from benchmarks.persona_files import load_perma, load_personamem
from benchmarks.persona_memories import Passage, memories
from benchmarks.persona_solvers import (
    EmbeddingChoice,
    FirstOption,
    interval,
    majority_share,
    read_choice,
    score,
    shuffled,
)
from benchmarks.persona_synthetic import SLOTS, synthetic_users
from consistent_gen.errors import InputError
from consistent_gen.language.embedders import HashedNgrams

OPTIONS = ["(a) Try the harp.", "(b) Try the violin.", "(c) Rest.", "(d) Try chess."]


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def personamem(folder: Path, **changes: str) -> Benchmark:
    messages = [{"role": "user", "content": f"message {i}"} for i in range(6)]
    contexts = write(folder / "c.jsonl", json.dumps({"ctx": messages}) + "\n")
    row = {
        "persona_id": "0", "question_id": "q1", "question_type": "recall_user_shared_facts",
        "topic": "music", "user_question_or_message": "What shall I play?", "correct_answer": "(b)",
        "all_options": str(OPTIONS), "shared_context_id": "ctx", "end_index_in_shared_context": "4",
        **changes,
    }  # fmt: skip
    with (folder / "q.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)
    return load_personamem(folder / "q.csv", contexts)


def test_personamem_is_cut_at_the_index(tmp_path: Path) -> None:
    benchmark = personamem(tmp_path)
    (question,) = benchmark.questions
    assert [x.text for x in question.context] == [f"message {i}" for i in range(4)]
    assert question.options[1] == ("b", "Try the violin.") and benchmark.answers == {"q1": "b"}


@pytest.mark.parametrize(
    "changes",
    [{"correct_answer": "b and c"}, {"all_options": "__import__('os').getcwd()"},
     {"end_index_in_shared_context": "x"}, {"shared_context_id": "other"},
     {"all_options": "['no letters']"}],
)  # fmt: skip
def test_broken_rows_name_their_line(tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"q\.csv:2"):
        personamem(tmp_path, **changes)


def test_perma(tmp_path: Path) -> None:
    talk = [[{"role": "user", "content": "I love jazz"}], "2025-01-01"]
    late = [[{"role": "user", "content": "I hate jazz"}], "2025-03-01"]
    tasks = [{"task_id": "7", "type": t, "context": [talk, late]} for t in (1, 2)]
    write(tmp_path / "tasks/user334/input_data_c.json", {"overall": tasks})
    for t in (1, 2):
        meta = {"task_id": "7", "question": "Which record?", "question_date": "2025-02-01",
                "options": "A: Jazz\nB: Polka", "gold_label": "A"}  # fmt: skip
        write(tmp_path / f"evaluation/user334/meta/overall/7_{t}.json", meta)
    first, second = load_perma(tmp_path).questions
    assert first.context == () and [x.text for x in second.context] == ["I love jazz"]
    assert second.options == (("a", "Jazz"), ("b", "Polka"))
    assert set(load_perma(tmp_path).answers.values()) == {"a"}


def test_persona_mme(tmp_path: Path) -> None:
    history = {
        "imgs": ["x/dog.png"],
        "sessions": [
            [{"time": "2025-01-01 10:00", "user": "My dog <img>", "assistant": "Cute"}],
            [{"time": "2025-05-01 10:00", "user": "It ran away", "assistant": "Oh"}],
        ],
    }
    write(tmp_path / "samples/50/0/user_data.json", history)
    item = {"data_path": "samples/50/0", "type": "Memory", "question_type": "visual",
            "time": "2025-02-01 10:00", "query": "What animal?", "answer": "(a)",
            "choices": {"(a)": "A dog", "(b)": "A cat"}}  # fmt: skip
    (question,) = load_persona_mme(write(tmp_path / "Persona-MME.json", [item])).questions
    assert [x.text for x in question.context] == ["My dog [dog.png]", "Cute"]
    with pytest.raises(InputError, match="leads out"):
        load_persona_mme(write(tmp_path / "P.json", [{**item, "data_path": "../../etc"}]))


def test_locomo_recall(tmp_path: Path) -> None:
    talk = {
        "speaker_a": "Al",
        "speaker_b": "Bea",
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"speaker": "Al", "dia_id": "D1:1", "text": "I planted tomatoes"},
            {"speaker": "Bea", "dia_id": "D1:2", "text": "Nice weather"},
        ],
    }
    asked = {"question": "What about the tomatoes?", "evidence": ["D1:1"], "category": 4}
    qa = [asked, {"question": "Unanswerable", "evidence": [], "category": 5}]
    sample = {"sample_id": "s", "conversation": talk, "qa": qa}
    locomo = load_locomo(write(tmp_path / "l.json", [sample]))
    assert len(locomo.questions) == 1 and locomo.questions[0].context[0].at is not None
    result = run_recall(locomo, look_up(locomo, memories(HashedNgrams())["tree+hybrid"]))
    assert result["recall@1"]["mean"] == 1.0


def test_longmemeval_recall(tmp_path: Path) -> None:
    said = ("My lesson was on Monday", "It rained", "future lesson")
    days = ("2023/05/20 (Sat)", "2023/05/21 (Sun)", "2023/06/21 (Wed)")
    item = {
        "question_id": "q",
        "question_type": "single",
        "question": "When was the lesson?",
        "question_date": "2023/05/30 (Tue) 23:40",
        "answer_session_ids": ["s1"],
        "haystack_session_ids": ["s1", "s2", "s3"],
        "haystack_dates": [f"{day} 02:21" for day in days],
        "haystack_sessions": [[{"role": "user", "content": text}] for text in said],
    }
    abstain = {**item, "question_id": "q_abs"}
    longmem = load_longmemeval(write(tmp_path / "m.json", [item, abstain]))
    assert [x.id for x in longmem.questions[0].context] == ["s1#0", "s2#0"]
    looked = look_up(longmem, memories(HashedNgrams())["chunks"])
    assert run_recall(longmem, looked)["recall@1"]["mean"] == 1.0


def test_the_future_cannot_leak() -> None:
    asked = datetime(2025, 1, 1, tzinfo=UTC)
    late = Line("x", "user", "later", asked + timedelta(seconds=1))
    with pytest.raises(InputError, match="the future leaks"):
        Benchmark("b", (Question("q", "k", "t", (late,), "g", asked=asked),))


def test_gold_is_out_of_reach_of_solvers_and_memories() -> None:
    users = list(synthetic_users(1, 8, 3))
    benchmark = as_benchmark(users)
    for question in benchmark.questions:
        assert not {"answer", "gold", "evidence"} & set(vars(question))
    # Same questions with other gold: nothing that is chosen may change.
    turned = Benchmark("t", benchmark.questions, {q: "a" for q in benchmark.answers})
    embedder = HashedNgrams()
    looked = look_up(benchmark, memories(embedder)["chunks"])
    again = look_up(turned, memories(embedder)["chunks"])
    assert [p for _, p, _ in looked] == [p for _, p, _ in again]


def question(letter: str, id: str = "q") -> Question:
    options = tuple((x, f"text {x}") for x in "abcd")
    return Question(id, "k", "t", (), "g", options)


def test_shuffling_moves_texts_and_maps_back() -> None:
    original = question("a")
    permuted, back = shuffled(original, 5)
    assert permuted.options != original.options
    for letter, text in permuted.options:
        assert dict(original.options)[back[letter]] == text
    assert shuffled(original, 5) == (permuted, back)
    firsts = Counter(shuffled(question("a", f"q{i}"), 1)[1]["a"] for i in range(400))
    assert min(firsts.values()) > 60


def test_a_position_bias_shows_in_the_control() -> None:
    benchmark = Benchmark("b", tuple(question("a", f"q{i}") for i in range(80)),
                          {f"q{i}": "a" for i in range(80)})  # fmt: skip
    looked = look_up(benchmark, memories(HashedNgrams())["none"])
    row = run_choices(benchmark, looked, [FirstOption()])["solvers"]["first option"]
    assert row["accuracy"] == 1.0 and row["shuffled"]["accuracy"] < 0.5
    assert majority_share(benchmark) == 1.0


def test_the_embedding_solver_uses_the_memory() -> None:
    options = (("a", "a violin"), ("b", "a bicycle"))
    asked = Question("q", "k", "What should I get?", (), "g", options)
    solver = EmbeddingChoice(HashedNgrams())
    assert solver.solve(asked, ["I ride my bicycle every day"]) == "b"
    assert solver.solve(asked, ["My violin has new strings"]) == "a"
    assert solver.solve(asked, []) == "a"


@pytest.mark.parametrize(
    ("reply", "letter"),
    [("(a) no. <final_answer> (c)", "c"), ("<final_answer> b", "b"), ("(a) or (b)", ""),
     ("I choose (d)", "d"), ("", ""), ("<final_answer>(B)</final_answer>", "b"),
     ("(b) it is <final_answer> (a) (c)", "")],
)  # fmt: skip
def test_the_published_scoring_rule(reply: str, letter: str) -> None:
    assert read_choice(reply) == letter


def test_scores_and_intervals() -> None:
    benchmark = Benchmark("b", tuple(question("a", f"q{i}") for i in range(10)),
                          {f"q{i}": "a" for i in range(10)})  # fmt: skip
    result = score(benchmark, {f"q{i}": "a" for i in range(5)})
    assert result.value == 0.5 and result.count == 10
    assert interval([[1.0], [1.0]]) == (1.0, 1.0)
    low, high = interval([[0.0], [1.0]] * 20)
    assert 0.3 < low < 0.5 < high < 0.7
    gold = frozenset({"s1", "x"})
    assert recall([Passage("", ("s1#4",))], gold) == 0.5


def test_synthetic_users_are_seeded_and_true() -> None:
    one, other = (list(synthetic_users(2, 30, 9)) for _ in range(2))
    assert one == other and one != list(synthetic_users(2, 30, 10))
    for user in one:
        times = [line.at for line in lines_of(user)]
        assert times == sorted(times)  # type: ignore[type-var]
        for probe in user.probes:
            assert user.truth(probe.slot, user.end()) == probe.value
            d, u = probe.evidence
            assert probe.value.casefold() in user.dialogues[d].spoken[u].text.casefold()
            assert probe.value in probe.options and probe.value not in probe.stale
            assert len(set(probe.options)) == 4
        assert set(user.intervals) <= set(SLOTS)


def test_gold_operations_give_the_truth_and_attacks_write_nothing() -> None:
    results = [replay_gold(user) for user in synthetic_users(2, 40, 4)]
    assert all(r.accuracy >= 0.95 and r.junk <= 0.02 for r in results)
    assert sum(r.attacks for r in results) >= 5 and sum(r.attacks_written for r in results) == 0
    assert sum(r.forgotten for r in results) >= 1
    assert sum(r.forgotten_left for r in results) == 0


def test_hybrid_search_over_true_states_beats_chunks() -> None:
    users = list(synthetic_users(2, 40, 4))
    benchmark, embedder = as_benchmark(users), HashedNgrams()
    ours = run_recall(benchmark, look_up(benchmark, gold_memory(users, embedder)))
    chunks = run_recall(benchmark, look_up(benchmark, memories(embedder)["chunks"]))
    assert ours["recall@5"]["mean"] > chunks["recall@5"]["mean"]


def test_the_command_writes_its_results(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "r.json"
    words = [
        "synthetic",
        "--users",
        "1",
        "--dialogues",
        "6",
        "--embedder",
        "ngrams",
        "--out",
        str(out),
    ]
    assert main(words) == 0
    written = json.loads(out.read_text())
    assert set(written["results"]["memories"]) >= {
        "none", "full", "chunks", "add-only", "tree", "tree+hybrid",
    }  # fmt: skip
    capsys.readouterr()
    assert main(["locomo", "--data", str(tmp_path / "absent"), "--out", str(out)]) == 2
    assert "cannot be read" in capsys.readouterr().err
