"""PERMA and PersonaMem (v1 and v2) as their authors publish them, read by path.

Formats: PERMA (arXiv 2603.23231): ``tasks/user*/input_data_VARIANT.json`` joined with
``evaluation/user*/meta/overall``. PersonaMem v1 (arXiv 2504.14225): ``questions_*.csv`` with
``shared_contexts_*.jsonl``, in the columns of the release and in those of the repository before
it. PersonaMem v2 (arXiv 2512.06688): ``benchmark.csv`` with the chat histories that it links.

A row that cannot be read is an error that names file and row. Nothing is downloaded, and what is
read is the user's copy: none of it is kept here.
"""

from __future__ import annotations

import ast
import csv
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.persona_data import (
    Benchmark,
    Line,
    Question,
    json_of,
    letter_of,
    messages_of,
    moment_of,
    nonempty,
    opened,
    options_of,
)
from consistent_gen.errors import InputError

# --- PERMA --------------------------------------------------------------------------------------

VARIANTS = ("c", "n", "s", "multi_c", "multi_n", "multi_s", "s_long")
AXES = ("task", "preference", "confidence")
# What the options are before they are shuffled: task completed, preferences kept, no uncertainty.
OPTION_AXES: Mapping[str, tuple[int, int, int]] = {
    "a": (1, 1, 1), "b": (1, 1, 0), "c": (1, 0, 1), "d": (1, 0, 0),
    "e": (0, 1, 1), "f": (0, 1, 0), "g": (0, 0, 1), "h": (0, 0, 0),
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A PERMA task: what the person wants, and the dialogues from which one can know how.

    goal and linked are for judges and simulated users alone; a solver sees the question.
    """

    question: Question
    goal: str
    linked: tuple[str, ...]


def load_perma(root: Path, *, variant: str = "c", axes: Path | None = None) -> Benchmark:
    """The questions of one variant: clean, noisy or in the person's style, one domain or several.

    Questions of type 1 come before any relevant event: their context is empty, as published.

    axes: a JSON file of question id ("user334/7_2") -> letter -> [task, preference, confidence],
        each 0 or 1. The published files say which option is best and not what the others are:
        without the file the axes are known only where all golds are A, the order of the generator.
    """
    found: list[Question] = []
    answers: dict[str, str] = {}
    for file, task in _perma_tasks(root, variant):
        try:
            question, gold = _perma_question(root, file, task)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            named = task.get("task_id", "?") if isinstance(task, dict) else "?"
            raise InputError(f"task {named} cannot be read: {error!r}", source=file) from None
        found.append(question)
        answers[question.id] = gold
    known = _option_axes(found, answers, axes)
    benchmark = Benchmark(f"perma, {variant}", tuple(found), answers, axes=known)
    return nonempty(benchmark, root)


def load_perma_tasks(root: Path, *, variant: str = "c") -> tuple[Task, ...]:
    """The tasks of `load_perma` with their goals and the dialogues that they are linked to."""
    questions = {q.id: q for q in load_perma(root, variant=variant).questions}
    found = []
    for file, task in _perma_tasks(root, variant):
        id = f"{file.parent.name}/{task['task_id']}_{task['type']}"
        linked = [
            "\n".join(f"{m.get('role', 'user')}: {m['content']}" for m in link["value"])
            for link in task.get("affinity_links", ())
        ]
        goal = str((task.get("task") or {}).get("task_goal", ""))
        found.append(Task(questions[id], goal, tuple(linked)))
    return tuple(found)


def _perma_tasks(root: Path, variant: str) -> list[tuple[Path, dict[str, Any]]]:
    """Every task with the file that it is from; ``root`` may be the folder above ``tasks``."""
    if variant not in VARIANTS:
        raise InputError(f"variant {variant!r}; expected one of {', '.join(VARIANTS)}")
    data = _perma_root(root)
    name = f"input_data_{variant}.json"
    files = sorted((data / "tasks").glob(f"user*/{name}"))
    if not files:
        others = {p.name for p in (data / "tasks").glob("user*/input_data*.json")}
        there = f"there are {', '.join(sorted(others))}" if others else "there is no task file"
        raise InputError(f"no tasks/user*/{name}; {there}", source=data)
    found = []
    for file in files:
        content = json_of(file)
        tasks = content.get("overall") if isinstance(content, dict) else None
        if not isinstance(tasks, list):
            raise InputError('no list under "overall"', source=file)
        found += [(file, task) for task in tasks]
    return found


def _perma_root(root: Path) -> Path:
    return root if (root / "tasks").is_dir() or not (root / "data").is_dir() else root / "data"


def _perma_question(root: Path, file: Path, task: Mapping[str, Any]) -> tuple[Question, str]:
    user, name = file.parent.name, f"{task['task_id']}_{task['type']}"
    place = _perma_root(root) / "evaluation" / user / "meta" / "overall" / f"{name}.json"
    meta, id = json_of(place), f"{user}/{name}"
    missing = [k for k in ("question", "options", "gold_label") if k not in meta]
    if missing:
        raise InputError(f"no {', '.join(missing)}", source=place)
    asked = moment_of(meta.get("question_date"))
    lines: list[Line] = []
    for s, (messages, date) in enumerate(task["context"] if int(task["type"]) != 1 else ()):
        lines += messages_of(messages, f"{id}/{s}", moment_of(date))
    context = tuple(x for x in lines if not (asked and x.at and x.at > asked))
    options = options_of(re.split(r"\n(?=\s*\(?[A-H][:.)])", str(meta["options"]).strip()))
    gold = letter_of(str(meta["gold_label"]))
    if gold not in dict(options):
        raise InputError(f"gold_label {gold!r} is none of the options", source=place)
    kind = f"type {task['type']}"
    return Question(id=id, kind=kind, text=meta["question"], group=user, context=context,
                    options=options, asked=asked), gold  # fmt: skip


def _option_axes(
    questions: Sequence[Question], answers: Mapping[str, str], file: Path | None
) -> dict[str, Mapping[str, tuple[int, int, int]]]:
    """Of each question what its options are, or nothing where no file says so."""
    if file is None:
        eight = all(len(q.options) == len(OPTION_AXES) for q in questions)
        in_order = eight and set(answers.values()) == {"a"}
        return {q.id: OPTION_AXES for q in questions} if in_order else {}
    given = json_of(file)
    known: dict[str, Mapping[str, tuple[int, int, int]]] = {}
    for question in questions:
        try:
            known[question.id] = {k.lower(): _bits(v) for k, v in given[question.id].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(f"no three axes for {question.id}", source=file) from None
        if known[question.id].get(answers[question.id]) != (1, 1, 1):
            raise InputError(f"the gold of {question.id} is not right on all axes", source=file)
    return known


def _bits(values: Sequence[int]) -> tuple[int, int, int]:
    task, preference, confidence = (int(value) for value in values)
    return task, preference, confidence


# --- PersonaMem ---------------------------------------------------------------------------------

# Columns by what we call them: those of the release, then those of the repository before it, whose
# contexts are by question.
_V1_COLUMNS = {
    "text": ("user_question_or_message", "question"),
    "context": ("shared_context_id", "question_id"),
    "since": ("distance_to_ref_in_blocks", "distance_to_ref_in_blocks"),
}
_V1_ALWAYS = ("question_id", "question_type", "correct_answer", "all_options")
_V2_NEEDED = ("persona_id", "user_query", "correct_answer", "incorrect_answers", "updated")
TRAITS, CHANGE, NEW = "takes in traits", "follows change", "answers in new scenarios"
# Question types of all releases by the three abilities of the abstract; the grouping is ours.
ABILITIES = {
    "recall_user_shared_facts": TRAITS, "recalling_facts_mentioned_by_the_user": TRAITS,
    "factual": TRAITS, "factual_inverse": TRAITS,
    "acknowledge_latest_user_preferences": CHANGE, "track_full_preference_evolution": CHANGE,
    "track_full_preference_updates": CHANGE, "sequence_of_updates": CHANGE,
    "recalling_the_reasons_behind_previous_updates": CHANGE,
    "revisit_reasons_behind_preference_updates": CHANGE,
    "reasons_of_change_after_new_updates": CHANGE,
    "suggest_new_ideas": NEW, "generalizing_to_new_scenarios": NEW,
    "generalize_to_new_scenarios": NEW, "provide_preference_aligned_recommendations": NEW,
    "reasons_of_change_generalization": NEW, "recommendation": NEW,
    "recommendation_aligned_with_users_latest_preferences": NEW,
}  # fmt: skip


def load_personamem(questions: Path, contexts: Path | None, *, size: str = "32k") -> Benchmark:
    """Either version, told apart by its columns.

    contexts: ``shared_contexts_*.jsonl`` of v1. Without it questions are asked without any
        context, which tells what a blind guess can reach and nothing of a memory.
    size: which of v2's linked histories is read, "32k" or "128k".
    """
    with opened(questions) as file:
        rows = list(csv.DictReader(file))
    columns = set(rows[0]) if rows else set()
    if "user_query" in columns:
        return _personamem_v2(questions, rows, size)
    old = "user_question_or_message" not in columns
    text, context, since = (names[old] for names in _V1_COLUMNS.values())
    needed = (*_V1_ALWAYS, text, context, *(() if old else ("end_index_in_shared_context",)))
    missing = [name for name in needed if name not in columns]
    if missing:
        raise InputError(
            f"no column {', '.join(missing)}; there are {', '.join(sorted(columns)) or 'none'}",
            source=questions,
        )
    known = None if contexts is None else _contexts(contexts)
    found: list[Question] = []
    answers: dict[str, str] = {}
    left_out = 0
    for number, row in enumerate(rows, 2):
        try:
            end = None if old else int(row["end_index_in_shared_context"])
            if end is not None and end < 0:  # 44 rows of the release of 128k
                left_out += 1
                continue
            lines = () if known is None else known[row[context]]
            if end is not None and known is not None and end > len(lines):
                raise ValueError(f"end index {end} of {len(lines)} messages")
            options = options_of(ast.literal_eval(row["all_options"]))
            id, gold, kind = row["question_id"], letter_of(row["correct_answer"]), _kind(row)
            question = Question(
                id=id, kind=kind, text=row[text], context=lines[:end], options=options,
                group=row.get("persona_id") or row[context], ability=ABILITIES.get(kind, "other"),
                since=int(row[since]) if row.get(since) else None,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, SyntaxError) as error:
            raise InputError(
                f"not a PersonaMem question: {error!r}", source=questions, line=number
            ) from None
        found.append(question)
        answers[id] = gold
    skipped = {"negative end index": left_out} if left_out else {}
    benchmark = Benchmark("personamem v1", tuple(found), answers, left_out=skipped)
    return nonempty(benchmark, questions)


def _kind(row: Mapping[str, str]) -> str:
    return row["question_type"].strip().rstrip(".")


def _contexts(path: Path) -> dict[str, tuple[Line, ...]]:
    known = {}
    with opened(path) as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                ((name, messages),) = json.loads(text).items()
                known[name] = tuple(
                    Line(f"{name}:{i}", str(m["role"]), str(m["content"]))
                    for i, m in enumerate(messages)
                )
            except (ValueError, KeyError, TypeError, AttributeError):
                raise InputError("not a shared context", source=path, line=number) from None
    return known


def _personamem_v2(file: Path, rows: Sequence[Mapping[str, str]], size: str) -> Benchmark:
    if size not in ("32k", "128k"):
        raise InputError(f"size {size!r}; expected 32k or 128k")
    link = f"chat_history_{size}_link"
    missing = [name for name in (*_V2_NEEDED, link) if name not in rows[0]]
    if missing:
        raise InputError(f"no column {', '.join(missing)}", source=file)
    histories: dict[str, tuple[Line, ...]] = {}
    found: list[Question] = []
    answers: dict[str, str] = {}
    for place, row in enumerate(rows):
        if row[link] not in histories:
            histories[row[link]] = _history(file, row[link])
        lines = histories[row[link]]
        try:
            choices = [row["correct_answer"], *_literal(row["incorrect_answers"])]
            # The order of the authors' own evaluation.
            random.Random(42 + place).shuffle(choices)
            options = tuple((chr(ord("a") + i), str(text)) for i, text in enumerate(choices))
            query, updated = _query(row["user_query"]), row["updated"].strip().lower() == "true"
        except (KeyError, TypeError, ValueError, SyntaxError) as error:
            raise InputError(
                f"not a PersonaMem-v2 question: {error!r}", source=file, line=place + 2
            ) from None
        id = f"persona{row['persona_id']}-{place}"
        answers[id] = next(k for k, text in options if text == row["correct_answer"])
        found.append(
            Question(
                id=id, kind=row.get("pref_type") or "unnamed", text=query, context=lines,
                group=row["persona_id"], options=options, ability=CHANGE if updated else NEW,
                since=_turns_since(row.get("related_conversation_snippet", ""), lines),
            )
        )  # fmt: skip
    benchmark = Benchmark("personamem v2", tuple(found), answers, since_unit="turns of the user")
    return nonempty(benchmark, file)


def _history(file: Path, link: str) -> tuple[Line, ...]:
    """The chat history that a row links, relative to a folder above the table."""
    places = [parent / link for parent in file.resolve().parents[:4]]
    path = next((place for place in places if place.is_file()), None)
    if path is None or ".." in Path(link).parts:
        raise InputError(f"the linked history {link} is not in a folder above it", source=file)
    content: Any = json_of(path)
    messages = content.get("chat_history", ()) if isinstance(content, dict) else content
    try:
        return tuple(
            Line(f"{path.stem}:{i}", str(m["role"]), _plain(m["content"]))
            for i, m in enumerate(messages)
        )
    except (KeyError, TypeError):
        raise InputError(
            'no messages with role and content in "chat_history"', source=path
        ) from None


def _plain(content: object) -> str:
    """The text of a message, whose content may be parts of which some are pictures."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "[picture]")) for part in content)
    return str(content)


def _query(text: str) -> str:
    """A query is published as the Python literal of a message."""
    if not text.lstrip().startswith("{"):
        return text
    return _plain(ast.literal_eval(text)["content"])


def _literal(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = ast.literal_eval(text)
    if not isinstance(found, list) or not found:
        raise ValueError("incorrect_answers is not a list")
    return found


def _turns_since(snippet: str, lines: Sequence[Line]) -> int | None:
    """Turns of the user after the last one that the snippet quotes; None when none is found."""
    try:
        said = {_plain(m["content"]).strip() for m in _literal(snippet) if m["role"] == "user"}
    except (KeyError, TypeError, ValueError, SyntaxError):
        return None
    last = max((i for i, line in enumerate(lines) if line.text.strip() in said), default=None)
    return None if last is None else sum(x.role == "user" for x in lines[last + 1 :])
