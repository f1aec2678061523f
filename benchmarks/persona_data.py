"""Loaders for the published memory benchmarks, from files that the user gives by path.

Every question carries its own context, cut where the question was asked, and no answer: the gold
lives in a separate mapping that only the scorer holds. Nothing is downloaded.

Formats: PersonaMem v1 (arXiv 2504.14225), PERMA (arXiv 2603.23231), Persona-MME (arXiv
2604.13074), LoCoMo (arXiv 2402.17753), LongMemEval (arXiv 2410.10813).
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError

MAX_FILE_BYTES = 4 * 1024**3
_OPTION = re.compile(r"^\s*\(?([a-zA-Z])[):.]\s*(.*)$", re.DOTALL)
_DATE_FORMATS = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y/%m/%d (%a) %H:%M", "%Y/%m/%d",
    "%I:%M %p on %d %B, %Y",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One utterance of a context. ``at`` is None where the data has no dates."""

    id: str
    role: str
    text: str
    at: datetime | None = None


@dataclass(frozen=True)
class Question:
    """What a solver sees: no gold. ``options`` are (letter, text); none for recall questions."""

    id: str
    kind: str
    text: str
    context: Sequence[Line]
    group: str
    options: tuple[tuple[str, str], ...] = ()
    asked: datetime | None = None


@dataclass(frozen=True)
class Benchmark:
    """``answers`` (letters) and ``evidence`` (ids of lines, or of sessions) by question id."""

    name: str
    questions: tuple[Question, ...]
    answers: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for question in self.questions:
            check_cut(question)


@dataclass(frozen=True)
class AlignmentItem:
    """Two replies of which one suits the person. Which one, only the scorer may use."""

    question: Question
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Task:
    """A PERMA task: what the person wants, and the dialogues from which one can know how.

    goal and linked are for judges and simulated users alone; a solver sees the question.
    """

    question: Question
    goal: str
    linked: tuple[str, ...]


def check_cut(question: Question) -> None:
    """Raise ``InputError`` when a context holds a line from after the question."""
    if question.asked is None:
        return
    late = [line.id for line in question.context if line.at and line.at > question.asked]
    if late:
        raise InputError(
            f"question {question.id} was asked at {question.asked:%Y-%m-%d %H:%M} but its context "
            f"holds {late[0]} from later: the future leaks"
        )


def load_personamem(questions: Path, contexts: Path) -> Benchmark:
    """``questions_*.csv`` with ``shared_contexts_*.jsonl``; context = messages[:end_index]."""
    known = _contexts(contexts)
    found: list[Question] = []
    answers: dict[str, str] = {}
    with _opened(questions) as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                lines = known[row["shared_context_id"]]
                end = int(row["end_index_in_shared_context"])
                options = _options(ast.literal_eval(row["all_options"]))
                id, gold = row["question_id"], _letter(row["correct_answer"])
                question = Question(
                    id=id, kind=row["question_type"], text=row["user_question_or_message"],
                    context=lines[:end], group=row["persona_id"], options=options,
                )  # fmt: skip
            except (KeyError, TypeError, ValueError, SyntaxError) as error:
                raise InputError(
                    f"not a PersonaMem question: {error!r}", source=questions, line=number
                ) from None
            found.append(question)
            answers[id] = gold
    return Benchmark("personamem", tuple(found), answers)


def _contexts(path: Path) -> dict[str, tuple[Line, ...]]:
    known = {}
    with _opened(path) as file:
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


def load_perma(root: Path, *, variant: str = "input_data_c.json") -> Benchmark:
    """``tasks/user*/VARIANT`` joined with ``evaluation/user*/meta/overall``.

    Questions of type 1 come before any relevant event: their context is empty, as published.
    """
    found: list[Question] = []
    answers: dict[str, str] = {}
    for file in sorted((root / "tasks").glob(f"user*/{variant}")):
        user = file.parent.name
        for task in _json(file)["overall"]:
            name = f"{task['task_id']}_{task['type']}"
            meta = _json(root / "evaluation" / user / "meta" / "overall" / f"{name}.json")
            id = f"{user}/{name}"
            asked = _when(meta.get("question_date"))
            lines: list[Line] = []
            for s, (messages, date) in enumerate(task["context"] if task["type"] != 1 else ()):
                lines += _messages(messages, f"{id}/{s}", _when(date))
            context = tuple(x for x in lines if not (asked and x.at and x.at > asked))
            options = _options(re.split(r"\n(?=\s*[A-H][:.)])", meta["options"].strip()))
            found.append(
                Question(id=id, kind=f"type {task['type']}", text=meta["question"], group=user,
                         context=context, options=options, asked=asked)
            )  # fmt: skip
            answers[id] = str(meta["gold_label"]).strip().lower()
    return _nonempty(Benchmark("perma", tuple(found), answers), root)


def load_perma_tasks(root: Path, *, variant: str = "input_data_c.json") -> tuple[Task, ...]:
    """The tasks of `load_perma` with their goals and the dialogues that they are linked to."""
    questions = {q.id: q for q in load_perma(root, variant=variant).questions}
    found = []
    for file in sorted((root / "tasks").glob(f"user*/{variant}")):
        for task in _json(file)["overall"]:
            id = f"{file.parent.name}/{task['task_id']}_{task['type']}"
            linked = [
                "\n".join(f"{m.get('role', 'user')}: {m['content']}" for m in link["value"])
                for link in task.get("affinity_links", ())
            ]
            goal = str(task.get("task", {}).get("task_goal", ""))
            found.append(Task(questions[id], goal, tuple(linked)))
    return tuple(found)


def load_persona_mme(file: Path) -> Benchmark:
    """``Persona-MME.json`` beside its ``samples``; the history is cut at the question's time.

    A picture is shown as its file name: this loader is for text solvers. Alignment items have no
    letter and are left out; `Benchmark.questions` tells how many remain.
    """
    found: list[Question] = []
    answers: dict[str, str] = {}
    histories: dict[Path, tuple[Line, ...]] = {}
    for number, item in enumerate(_json(file)):
        if not item.get("choices") or not item.get("answer"):
            continue
        data = _inside(file.parent, item["data_path"])
        if data not in histories:
            histories[data] = tuple(_mme_lines(data))
        asked = _when(item.get("time"))
        context = tuple(
            x for x in histories[data] if asked is None or x.at is None or x.at <= asked
        )
        id = str(number)
        options = _options([f"{k} {v}" for k, v in item["choices"].items()])
        kind = f"{item['type']} / {item['question_type']}"
        found.append(
            Question(id=id, kind=kind, text=item["query"], group=str(item["data_path"]),
                     context=context, options=options, asked=asked)
        )  # fmt: skip
        answers[id] = _letter(item["answer"])
    return _nonempty(Benchmark("persona-mme", tuple(found), answers), file)


def load_alignment(file: Path) -> tuple[AlignmentItem, ...]:
    """The alignment items of ``Persona-MME.json``; the history is cut at the item's time."""
    found = []
    for number, item in enumerate(_json(file)):
        pair = item.get("alignment")
        if not pair:
            continue
        asked = _when(item.get("time"))
        lines = _mme_lines(_inside(file.parent, item["data_path"]))
        question = Question(
            id=str(number), kind=str(item["type"]), text=item["query"],
            group=str(item["data_path"]), asked=asked,
            context=tuple(x for x in lines if not (asked and x.at and x.at > asked)),
        )  # fmt: skip
        check_cut(question)
        found.append(AlignmentItem(question, str(pair["chosen"]), str(pair["rejected"])))
    if not found:
        raise InputError("no alignment item was found", source=file)
    return tuple(found)


def _mme_lines(data: Path) -> Iterator[Line]:
    user = _json(data)
    pictures = iter(Path(str(name)).name for name in user.get("imgs", ()))
    for s, session in enumerate(user["sessions"]):
        for t, turn in enumerate(session):
            text = re.sub(r"<img>", lambda _: f"[{next(pictures, 'picture')}]", turn["user"])
            at = _when(turn.get("time"))
            yield Line(f"{s}.{t}u", "user", text, at)
            yield Line(f"{s}.{t}a", "assistant", str(turn.get("assistant", "")), at)


def load_locomo(file: Path) -> Benchmark:
    """``locomo10.json``; evidence are dialogue ids such as ``D1:3``. Recall only."""
    found: list[Question] = []
    evidence: dict[str, frozenset[str]] = {}
    for sample in _json(file):
        talk = sample["conversation"]
        lines: list[Line] = []
        numbers = sorted(int(k[8:]) for k in talk if re.fullmatch(r"session_\d+", k))
        for number in numbers:
            at = _when(talk.get(f"session_{number}_date_time"))
            for turn in talk[f"session_{number}"]:
                caption = f" [shares {turn['blip_caption']}]" if turn.get("blip_caption") else ""
                text = f"{turn['speaker']}: {turn['text']}{caption}"
                role = "user" if turn["speaker"] == talk["speaker_a"] else "assistant"
                lines.append(Line(turn["dia_id"], role, text, at))
        known = {line.id for line in lines}
        for number, qa in enumerate(sample["qa"]):
            gold = frozenset(
                e for entry in qa.get("evidence", ()) for e in re.findall(r"D\d+:\d+", str(entry))
            )
            if gold and gold <= known:
                id = f"{sample['sample_id']}/{number}"
                evidence[id] = gold
                found.append(
                    Question(id=id, kind=f"category {qa['category']}", text=qa["question"],
                             context=tuple(lines), group=str(sample["sample_id"]))
                )  # fmt: skip
    return _nonempty(Benchmark("locomo", tuple(found), evidence=evidence), file)


def load_longmemeval(file: Path) -> Benchmark:
    """``longmemeval_*.json``; evidence are session ids (line ids start with them). Recall only.

    Questions to abstain from (``_abs``) have no evidence and are left out.
    """
    found: list[Question] = []
    evidence: dict[str, frozenset[str]] = {}
    for item in _json(file):
        if item["question_id"].endswith("_abs") or not item["answer_session_ids"]:
            continue
        asked = _when(item.get("question_date"))
        sessions = zip(
            item["haystack_session_ids"],
            item["haystack_dates"],
            item["haystack_sessions"],
            strict=True,
        )
        lines: list[Line] = []
        for session, date, messages in sessions:
            at = _when(date)
            if not (asked and at and at > asked):
                lines += _messages(messages, str(session), at)
        id = item["question_id"]
        evidence[id] = frozenset(map(str, item["answer_session_ids"]))
        found.append(
            Question(id=id, kind=item["question_type"], text=item["question"], group=id,
                     context=tuple(lines), asked=asked)
        )  # fmt: skip
    return _nonempty(Benchmark("longmemeval", tuple(found), evidence=evidence), file)


def _messages(messages: Iterable[Any], prefix: str, at: datetime | None) -> list[Line]:
    return [
        Line(f"{prefix}#{i}", str(m.get("role", "user")), str(m["content"]), at)
        for i, m in enumerate(messages)
    ]


def _options(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for text in texts:
        match = _OPTION.match(text)
        if match is None:
            raise ValueError(f"option {text[:40]!r} has no letter")
        found.append((match[1].lower(), match[2].strip()))
    if len(found) < 2 or len({letter for letter, _ in found}) != len(found):
        raise ValueError("options need two or more different letters")
    return tuple(found)


def _letter(text: str) -> str:
    match = re.fullmatch(r"\s*\(?([a-zA-Z])\)?\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a letter such as (c)")
    return match[1].lower()


def _when(text: object) -> datetime | None:
    if not isinstance(text, str) or not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        for form in _DATE_FORMATS:
            try:
                moment = datetime.strptime(text.strip(), form)
                break
            except ValueError:
                continue
        else:
            raise InputError(f"{text!r} is not a date of a known form") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _inside(root: Path, relative: str) -> Path:
    path = (root / relative).resolve()
    if not path.is_relative_to(root.resolve()):
        raise InputError(f"data_path {relative!r} leads out of the folder of the benchmark")
    return path / "user_data.json" if path.is_dir() else path


def _opened(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"larger than {MAX_FILE_BYTES:,} bytes", source=path)
        csv.field_size_limit(16 * 1024**2)
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", source=path) from None


def _json(path: Path) -> Any:
    with _opened(path) as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise InputError(f"not JSON: {error}", source=path) from None


def _nonempty(benchmark: Benchmark, source: Path) -> Benchmark:
    if not benchmark.questions:
        raise InputError(f"no {benchmark.name} question was found", source=source)
    return benchmark
