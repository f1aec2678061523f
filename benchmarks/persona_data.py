"""Loaders for published memory benchmarks, from files that the user gives by path.

Every question carries its own context, cut where the question was asked, and no answer: the gold
lives in a separate mapping that only the scorer holds. Nothing is downloaded.

Formats: Persona-MME (arXiv 2604.13074), LoCoMo (arXiv 2402.17753), LongMemEval (arXiv 2410.10813).
PERMA and both versions of PersonaMem are in `benchmarks.persona_files`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from consistent_gen.errors import InputError

MAX_FILE_BYTES = 4 * 1024**3
_OPTION = re.compile(r"^\s*\(?([a-zA-Z])[):.]\s*(.*)$", re.DOTALL)
_DATE_FORMATS = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y/%m/%d (%a) %H:%M", "%Y/%m/%d",
    "%I:%M %p on %d %B, %Y",
)  # fmt: skip
# PERMA dates sessions by the part of the day; the first three hours are its authors', the others
# lie between and after.
_PARTS_OF_DAY = {"morning": 6, "afternoon": 15, "evening": 19, "noon": 12, "night": 22}


@dataclass(frozen=True)
class Line:
    """One utterance of a context. ``at`` is None where the data has no dates."""

    id: str
    role: str
    text: str
    at: datetime | None = None


@dataclass(frozen=True)
class Question:
    """What a solver sees: no gold. ``options`` are (letter, text); none for recall questions.

    ability: what the question tests, where its benchmark has such groups. since: sessions (or
    turns, `Benchmark.since_unit`) between what it asks about and the question.
    """

    id: str
    kind: str
    text: str
    context: Sequence[Line]
    group: str
    options: tuple[tuple[str, str], ...] = ()
    asked: datetime | None = None
    ability: str = ""
    since: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """``answers`` (letters) and ``evidence`` (ids of lines, or of sessions) by question id.

    axes: of PERMA, by question id and letter whether the option completes the task, keeps to the
    preferences, and is sure. left_out: how many rows were not read, by reason.
    """

    name: str
    questions: tuple[Question, ...]
    answers: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, frozenset[str]] = field(default_factory=dict)
    axes: Mapping[str, Mapping[str, tuple[int, int, int]]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    since_unit: str = "sessions"

    def __post_init__(self) -> None:
        for question in self.questions:
            check_cut(question)


@dataclass(frozen=True)
class AlignmentItem:
    """Two replies of which one suits the person. Which one, only the scorer may use."""

    question: Question
    chosen: str
    rejected: str


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


def load_persona_mme(file: Path, *, size: str = "") -> Benchmark:
    """``Persona-MME.json`` with ``samples`` beside it; the history is cut at the question's time.

    Its paths are relative to the root of its repository ("./data/Persona-MME/samples/50/0/..."):
    what counts is the part from ``samples`` on. A picture is shown as its file name: this loader
    is for text solvers. Items without choices are left out.

    size: "32k" (samples of 50 and 100 turns), "128k" (200 and 500), or all of them.
    """
    found: list[Question] = []
    answers: dict[str, str] = {}
    histories: dict[Path, tuple[Line, ...]] = {}
    for number, item in _mme_items(file, size):
        if not item.get("choices") or not item.get("answer"):
            continue
        data = _history(file, item)
        if data not in histories:
            histories[data] = tuple(_mme_lines(data))
        try:
            options = options_of([f"{k} {v}" for k, v in item["choices"].items()])
            kind = f"{item['type']} / {str(item['question_type']).lstrip('*')}"
            query, gold = item["query"], letter_of(item["answer"])
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise InputError(f"item {number} is not a question: {error!r}", source=file) from None
        asked = _mme_time(item)
        context = tuple(
            x for x in histories[data] if asked is None or x.at is None or x.at <= asked
        )
        id = str(number)
        found.append(
            Question(id=id, kind=kind, text=query, group=str(item["data_path"]), context=context,
                     options=options, asked=asked, ability=str(item["type"]))
        )  # fmt: skip
        answers[id] = gold
    return nonempty(Benchmark("persona-mme", tuple(found), answers), file)


def load_alignment(file: Path) -> tuple[AlignmentItem, ...]:
    """The alignment items of ``Persona-MME.json``; the history is cut at the item's time."""
    found = []
    for number, item in _mme_items(file, ""):
        pair = item.get("alignment")
        if not pair:
            continue
        asked = _mme_time(item)
        lines = _mme_lines(_history(file, item))
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


_MME_SIZES = {"32k": ("50", "100"), "128k": ("200", "500")}


def _mme_items(file: Path, size: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The items of one size with their numbers."""
    if size and size not in _MME_SIZES:
        raise InputError(f"size {size!r}; expected one of {', '.join(_MME_SIZES)}")
    items = json_of(file)
    if not isinstance(items, list):
        raise InputError("expected a list of items", source=file)
    for number, item in enumerate(items):
        if not isinstance(item, dict) or "data_path" not in item:
            raise InputError(f"item {number} has no data_path", source=file)
        parts = _from_samples(str(item["data_path"]))
        if not size or (len(parts) > 1 and parts[1] in _MME_SIZES[size]):
            yield number, item


def _from_samples(data_path: str) -> tuple[str, ...]:
    parts = PurePosixPath(data_path).parts
    return parts[parts.index("samples") :] if "samples" in parts else parts


def _history(file: Path, item: Mapping[str, Any]) -> Path:
    """The history that an item names. Raises ``InputError`` when it is not there."""
    given = str(item["data_path"])
    root = file.parent.resolve()
    path = root.joinpath(*_from_samples(given)).resolve()
    if not path.is_relative_to(root):
        raise InputError(f"data_path {given!r} leads out of {root}", source=file)
    path = path / "user_data.json" if path.suffix != ".json" else path
    if not path.is_file():
        raise InputError(f"{given} is not there; put the samples beside {file.name}", source=path)
    return path


def _mme_time(item: Mapping[str, Any]) -> datetime | None:
    """When an item is asked; a remark in parentheses may follow."""
    return moment_of(str(item.get("time") or "").split("(")[0])


def _mme_lines(data: Path) -> Iterator[Line]:
    user = json_of(data)
    if not isinstance(user, dict) or not isinstance(user.get("sessions"), list):
        raise InputError("expected an object with sessions", source=data)
    pictures = iter(Path(str(name)).name for name in user.get("imgs", ()))
    for s, session in enumerate(user["sessions"]):
        for t, turn in enumerate(session):
            if not isinstance(turn, dict) or "user" not in turn:
                raise InputError(f"turn {t} of session {s} has no user text", source=data)
            text = re.sub(r"<img>", lambda _: f"[{next(pictures, 'picture')}]", turn["user"])
            at = moment_of(turn.get("time"))
            yield Line(f"{s}.{t}u", "user", text, at)
            yield Line(f"{s}.{t}a", "assistant", str(turn.get("assistant", "")), at)


def load_locomo(file: Path) -> Benchmark:
    """``locomo10.json``; evidence are dialogue ids such as ``D1:3``. Recall only."""
    found: list[Question] = []
    evidence: dict[str, frozenset[str]] = {}
    for sample in json_of(file):
        talk = sample["conversation"]
        lines: list[Line] = []
        numbers = sorted(int(k[8:]) for k in talk if re.fullmatch(r"session_\d+", k))
        for number in numbers:
            at = moment_of(talk.get(f"session_{number}_date_time"))
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
    return nonempty(Benchmark("locomo", tuple(found), evidence=evidence), file)


def load_longmemeval(file: Path) -> Benchmark:
    """``longmemeval_*.json``; evidence are session ids (line ids start with them). Recall only.

    Questions to abstain from (``_abs``) have no evidence and are left out.
    """
    found: list[Question] = []
    evidence: dict[str, frozenset[str]] = {}
    for item in json_of(file):
        if item["question_id"].endswith("_abs") or not item["answer_session_ids"]:
            continue
        asked = moment_of(item.get("question_date"))
        sessions = zip(
            item["haystack_session_ids"],
            item["haystack_dates"],
            item["haystack_sessions"],
            strict=True,
        )
        lines: list[Line] = []
        for session, date, messages in sessions:
            at = moment_of(date)
            if not (asked and at and at > asked):
                lines += messages_of(messages, str(session), at)
        id = item["question_id"]
        evidence[id] = frozenset(map(str, item["answer_session_ids"]))
        found.append(
            Question(id=id, kind=item["question_type"], text=item["question"], group=id,
                     context=tuple(lines), asked=asked)
        )  # fmt: skip
    return nonempty(Benchmark("longmemeval", tuple(found), evidence=evidence), file)


def messages_of(messages: Iterable[Any], prefix: str, at: datetime | None) -> list[Line]:
    """Lines of messages with role and content, all of one time; ids are ``prefix#number``."""
    return [
        Line(f"{prefix}#{i}", str(m.get("role", "user")), str(m["content"]), at)
        for i, m in enumerate(messages)
    ]


def options_of(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(letter, text) of "(a) text" or "A: text". Raises ``ValueError`` without letters."""
    found = []
    for text in texts:
        match = _OPTION.match(text)
        if match is None:
            raise ValueError(f"option {text[:40]!r} has no letter")
        found.append((match[1].lower(), match[2].strip()))
    if len(found) < 2 or len({letter for letter, _ in found}) != len(found):
        raise ValueError("options need two or more different letters")
    return tuple(found)


def letter_of(text: str) -> str:
    """The letter of "(c)" or "C", in lower case. Raises ``ValueError`` for anything else."""
    match = re.fullmatch(r"\s*\(?([a-zA-Z])\)?\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a letter such as (c)")
    return match[1].lower()


def moment_of(text: object) -> datetime | None:
    """A date of one of the published forms, in UTC; None for nothing.

    Raises ``InputError`` for any other text.
    """
    if not isinstance(text, str) or not text.strip():
        return None
    day, _, part = text.strip().rpartition(" ")
    hours = _PARTS_OF_DAY.get(part.casefold())
    whole = text.strip() if hours is None else day
    try:
        moment = datetime.fromisoformat(whole)
    except ValueError:
        for form in _DATE_FORMATS:
            try:
                moment = datetime.strptime(whole, form)
                break
            except ValueError:
                continue
        else:
            raise InputError(f"{text!r} is not a date of a known form") from None
    moment += timedelta(hours=hours or 0)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def opened(path: Path) -> Any:
    """The file as text. Raises ``InputError`` that names it when it cannot be read."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"larger than {MAX_FILE_BYTES:,} bytes", source=path)
        csv.field_size_limit(16 * 1024**2)
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", source=path) from None


def json_of(path: Path) -> Any:
    """What a JSON file holds. Raises ``InputError`` that names it."""
    with opened(path) as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise InputError(f"not JSON: {error}", source=path) from None


def nonempty(benchmark: Benchmark, source: Path) -> Benchmark:
    """The benchmark. Raises ``InputError`` when it has no question."""
    if not benchmark.questions:
        raise InputError(f"no {benchmark.name} question was found", source=source)
    return benchmark
