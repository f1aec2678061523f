"""Published layouts of PERMA, PersonaMem and Persona-MME, on files of our own and on theirs."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.persona import run_choices
from benchmarks.persona_data import Question, load_persona_mme, moment_of
from benchmarks.persona_files import (
    CHANGE,
    NEW,
    OPTION_AXES,
    TRAITS,
    VARIANTS,
    load_perma,
    load_personamem,
)
from benchmarks.persona_published import NOT_RUN, main
from benchmarks.persona_solvers import axis_accuracy, score, since_group
from benchmarks.persona_tables import data_folder
from consistent_gen.errors import InputError

EIGHT = "\n".join(f"{letter}: Plan {letter}" for letter in "ABCDEFGH")


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def perma(root: Path, variant: str = "c", gold: str = "A") -> Path:
    """Two tasks of one user, as the set has them."""
    said = [{"role": "user", "content": "For me a holiday is a tent and a lake"},
            {"role": "assistant", "content": "Noted"}]  # fmt: skip
    later = [{"role": "user", "content": "I sold the tent"}]
    tasks = [
        {"task_id": "7", "type": kind, "preferences": ["tents"],
         "context": [[said, "2023-01-15 Morning"], [later, "2023-01-15 Evening"]],
         "task": {"task_goal": "a tent beside a lake"},
         "affinity_links": [{"value": said, "date": "2023-01-15 Morning"}]}
        for kind in (1, 2)
    ]  # fmt: skip
    write(root / f"tasks/user334/input_data_{variant}.json", {"overall": tasks})
    for kind in (1, 2):
        meta = {"question": "Where shall I go?", "question_date": "2023-01-15 Afternoon",
                "options": EIGHT, "gold_label": gold}  # fmt: skip
        write(root / f"evaluation/user334/meta/overall/7_{kind}.json", meta)
    return root


def test_parts_of_the_day_are_times() -> None:
    hours = [moment_of(f"2023-01-15 {part}") for part in ("Morning", "Afternoon", "EVENING")]
    assert hours == [datetime(2023, 1, 15, h, tzinfo=UTC) for h in (6, 15, 19)]
    with pytest.raises(InputError, match="Teatime"):
        moment_of("2023-01-15 Teatime")


def test_perma_is_cut_within_a_day_and_scored_by_axis(tmp_path: Path) -> None:
    benchmark = load_perma(perma(tmp_path / "data").parent)  # the folder above is found, too
    first, second = benchmark.questions
    assert first.context == () and second.context[0].text.startswith("For me a holiday")
    assert all("sold" not in line.text for line in second.context)  # said in the evening
    letters = {first.id: "b", second.id: "h"}
    axes = axis_accuracy(benchmark, letters, ("task", "preference", "confidence"))
    assert axes == {"task": 0.5, "preference": 0.5, "confidence": 0.0}
    assert score(benchmark, letters).value == 0
    nothing = axis_accuracy(benchmark, {}, ("task", "preference", "confidence"))
    assert set(nothing.values()) == {0.0}


def test_shuffled_options_need_their_axes(tmp_path: Path) -> None:
    root = perma(tmp_path, "multi_n", "C")
    shuffled = load_perma(root, variant="multi_n")
    assert set(shuffled.answers.values()) == {"c"} and not shuffled.axes
    told = run_choices(shuffled, [(q, [], 0.0) for q in shuffled.questions], [First()])
    assert "do not say" in told["solvers"]["first"]["axes"]
    order = dict(zip("CABDEFGH", OPTION_AXES.values(), strict=True))
    axes = write(tmp_path / "axes.json", {q.id: order for q in shuffled.questions})
    known = load_perma(root, variant="multi_n", axes=axes)
    assert known.axes["user334/7_2"]["a"] == (1, 1, 0)
    wrong = write(tmp_path / "wrong.json", {q.id: {"A": [1, 1, 1]} for q in shuffled.questions})
    with pytest.raises(InputError, match=r"wrong\.json.*gold"):
        load_perma(root, variant="multi_n", axes=wrong)


class First:
    name = "first"

    def solve(self, question: Question, passages: Sequence[str]) -> str:
        return question.options[0][0]


def test_perma_names_what_is_missing(tmp_path: Path) -> None:
    root = perma(tmp_path, "n")
    with pytest.raises(InputError, match=r"no tasks/user\*/input_data_c\.json; there are .*_n"):
        load_perma(root)
    with pytest.raises(InputError, match="variant 'x'"):
        load_perma(root, variant="x")
    place = root / "evaluation/user334/meta/overall/7_2.json"
    write(place, {"question": "x", "options": EIGHT})
    with pytest.raises(InputError, match=r"7_2\.json.*gold_label"):
        load_perma(root, variant="n")
    place.unlink()
    with pytest.raises(InputError, match=r"7_2\.json.*cannot be read"):
        load_perma(root, variant="n")
    write(root / "tasks/user334/input_data_n.json", {"overall": [{"task_id": "7"}]})
    with pytest.raises(InputError, match=r"input_data_n\.json.*task 7"):
        load_perma(root, variant="n")


OPTIONS = "['(a) A walk.', '(b) A swim.', '(c) A nap.', '(d) A film.']"


def test_personamem_v1_reads_both_layouts(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": f"message {i}"} for i in range(6)]
    contexts = write(tmp_path / "c.jsonl", json.dumps({"ctx": messages}) + "\n")
    common = {"question_id": "q1", "correct_answer": "(b)", "all_options": OPTIONS}
    released = {
        **common, "persona_id": "3", "question_type": "track_full_preference_updates",
        "distance_to_ref_in_blocks": "4", "user_question_or_message": "And now?",
        "shared_context_id": "ctx", "end_index_in_shared_context": "4", "stereotypical": "yes",
    }  # fmt: skip
    bad = {**released, "question_id": "q2", "end_index_in_shared_context": "-1"}
    benchmark = load_personamem(table(tmp_path / "q.csv", [released, bad]), contexts)
    (question,) = benchmark.questions
    assert (question.ability, question.since, len(question.context)) == (CHANGE, 4, 4)
    assert benchmark.left_out == {"negative end index": 1}
    blind = load_personamem(tmp_path / "q.csv", None)
    assert blind.questions[0].context == () and blind.answers == {"q1": "b"}
    earlier = {
        **common, "question_type": "recalling_facts_mentioned_by_the_user.", "topic": "sport",
        "context_length": "900", "distance_to_ref_in_blocks": "0", "question": "What do I like?",
    }  # fmt: skip
    of_questions = write(tmp_path / "e.jsonl", json.dumps({"q1": messages}) + "\n")
    old = load_personamem(table(tmp_path / "old.csv", [earlier]), of_questions).questions[0]
    assert (old.text, old.ability, old.since, len(old.context)) == ("What do I like?", TRAITS, 0, 6)
    with pytest.raises(InputError, match=r"wrong\.csv.*no column question_id.*there are a"):
        load_personamem(table(tmp_path / "wrong.csv", [{"a": 1}]), None)
    long = {**released, "end_index_in_shared_context": "7"}
    with pytest.raises(InputError, match=r"long\.csv:2.*end index 7 of 6"):
        load_personamem(table(tmp_path / "long.csv", [long]), contexts)


def v2_row(**changes: str) -> dict[str, str]:
    snippet = [{"role": "user", "content": "Fix my mail: my hay fever is bad, so ..."}]
    return {
        "persona_id": "5", "chat_history_32k_link": "data/chat_history_32k/h_persona5.json",
        "user_query": repr({"role": "user", "content": "Where shall I have lunch?"}),
        "correct_answer": "Indoors today.", "updated": "False", "pref_type": "neutral_pref",
        "incorrect_answers": json.dumps(["In the park.", "On the meadow.", "At a farm."]),
        "related_conversation_snippet": json.dumps(snippet), **changes,
    }  # fmt: skip


def test_personamem_v2_follows_its_links(tmp_path: Path) -> None:
    history = [
        {"role": "system", "content": "You help."},
        {"role": "user", "content": "Fix my mail: my hay fever is bad, so ..."},
        {"role": "assistant", "content": "Done"},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image"}]},
    ]
    write(tmp_path / "data/chat_history_32k/h_persona5.json", {"chat_history": history})
    rows = [v2_row(), v2_row(updated="True")]
    benchmark = load_personamem(table(tmp_path / "benchmark/text/benchmark.csv", rows), None)
    first, second = benchmark.questions
    assert first.text == "Where shall I have lunch?" and (first.ability, first.since) == (NEW, 1)
    assert second.ability == CHANGE and first.context[-1].text == "Look [picture]"
    for question in benchmark.questions:
        assert dict(question.options)[benchmark.answers[question.id]] == "Indoors today."
    assert len({question.options for question in benchmark.questions}) == 2  # shuffled by row
    for changes, message in (
        ({"chat_history_32k_link": "data/none.json"}, r"b\.csv.*data/none\.json"),
        ({"incorrect_answers": "7"}, r"b\.csv:2.*incorrect_answers"),
        ({"chat_history_32k_link": "../data/chat_history_32k/h_persona5.json"}, r"b\.csv.*linked"),
    ):
        table(tmp_path / "benchmark/text/b.csv", [v2_row(**changes)])
        with pytest.raises(InputError, match=message):
            load_personamem(tmp_path / "benchmark/text/b.csv", None)
    with pytest.raises(InputError, match="no column chat_history_128k_link"):
        load_personamem(tmp_path / "benchmark/text/benchmark.csv", None, size="128k")


def test_persona_mme_is_relative_to_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / "data/Persona-MME"
    session = [{"time": "2024-09-01 10:00", "user": "My kite <img>", "assistant": "Nice"}]
    write(folder / "samples/50/0/user_data.json", {"imgs": ["./a/kite.png"], "sessions": [session]})
    item = {
        "data_path": "./data/Persona-MME/samples/50/0/user_data.json", "type": "Memory Recall",
        "question_type": "*Visual Detail Recall", "time": "2024-09-23 20:08 (Monday)",
        "query": "What flew?", "choices": {"(a)": "A kite.", "(b)": "A hat."}, "answer": "(a)",
    }  # fmt: skip
    other = {**item, "data_path": "./data/Persona-MME/samples/200/0/user_data.json"}
    file = write(folder / "Persona-MME.json", [item, other])
    (question,) = load_persona_mme(file, size="32k").questions
    assert question.kind == "Memory Recall / Visual Detail Recall"
    assert question.ability == "Memory Recall" and question.context[0].text == "My kite [kite.png]"
    with pytest.raises(InputError, match=r"samples/200/0.*put the samples"):
        load_persona_mme(file)
    with pytest.raises(InputError, match=r"bad\.json.*item 0 has no data_path"):
        load_persona_mme(write(folder / "bad.json", [{}]))


def test_groups_of_distance() -> None:
    assert [since_group(n) for n in (0, 1, 2, 3, 5, 6, 11)] == [
        "0", "1", "2", "3 to 5", "3 to 5", "6 to 10", "11 or more",
    ]  # fmt: skip


def test_what_is_not_there_was_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    perma(tmp_path / "perma")
    out = tmp_path / "out.json"
    words = ["--data", str(tmp_path), "--memories", "none", "chunks", "--embedder", "ngrams"]
    assert main([*words, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [found[n].startswith(NOT_RUN) for n in ("personamem", "personamem-v2", "persona-mme")]
    assert capsys.readouterr().out.count(NOT_RUN) == 3
    clean = found["perma"]["c"]
    # Nothing of the goal is known without memory; the chunk that is found holds all of it.
    assert (clean["none"]["success in 1"], clean["chunks"]["success in 1"]) == (0.0, 0.5)
    assert len(clean["chunks"]["solvers"]) == 2
    assert len(found["perma"]["sha256"]) == 3


REAL = data_folder()


@pytest.mark.skipif(
    REAL is None or not (REAL / "personamem" / "questions_32k.csv").is_file(),
    reason="not run on the published file: CONSISTENT_GEN_PERSONA_DATA names no personamem/",
)
def test_the_published_questions_of_personamem() -> None:
    assert REAL is not None
    contexts = REAL / "personamem" / "shared_contexts_32k.jsonl"
    benchmark = load_personamem(
        REAL / "personamem" / "questions_32k.csv", contexts if contexts.is_file() else None
    )
    assert len(benchmark.questions) == 589 and not benchmark.left_out
    assert Counter(benchmark.answers.values()) == {"a": 143, "b": 146, "c": 158, "d": 142}
    abilities = Counter(q.ability for q in benchmark.questions)
    assert abilities == {TRAITS: 146, CHANGE: 238, NEW: 205}
    assert {len(q.options) for q in benchmark.questions} == {4}


@pytest.mark.skipif(
    REAL is None or not (REAL / "perma" / "tasks").is_dir(),
    reason="not run on the published file: CONSISTENT_GEN_PERSONA_DATA names no perma/",
)
def test_the_published_tasks_of_perma() -> None:
    assert REAL is not None
    for variant in VARIANTS[:6]:
        questions = load_perma(REAL / "perma", variant=variant).questions
        assert questions and all(len(q.options) == 8 for q in questions), variant


@pytest.mark.skipif(
    REAL is None or not (REAL / "persona-mme" / "Persona-MME.json").is_file(),
    reason="not run on the published file: CONSISTENT_GEN_PERSONA_DATA names no persona-mme/",
)
def test_the_published_items_of_persona_mme() -> None:
    assert REAL is not None
    benchmark = load_persona_mme(REAL / "persona-mme" / "Persona-MME.json", size="32k")
    assert len({q.ability for q in benchmark.questions}) == 6


@pytest.mark.skipif(
    REAL is None or not (REAL / "personamem-v2" / "benchmark").is_dir(),
    reason="not run on the published file: CONSISTENT_GEN_PERSONA_DATA names no personamem-v2/",
)
def test_the_published_questions_of_personamem_v2() -> None:
    assert REAL is not None
    table = REAL / "personamem-v2" / "benchmark" / "text" / "benchmark.csv"
    assert len(load_personamem(table, None).questions) == 5000
