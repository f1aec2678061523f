"""Solvers for multiple choice, and the scoring that only it sees the gold."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from benchmarks.persona_data import Benchmark, Question
from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.memory.recall.prompts import BLOCK_END, BLOCK_START, one_line

_FINAL = re.compile(r"<final_answer>(.*)", re.DOTALL | re.IGNORECASE)
BOOTSTRAP = 2_000


class Solver(Protocol):
    """A letter for a question, given what a memory found. ``passages`` may be empty."""

    name: str

    def solve(self, question: Question, passages: Sequence[str]) -> str: ...


class FirstOption:
    """Always the first option: with shuffled options this is chance."""

    name = "first option"

    def solve(self, question: Question, passages: Sequence[str]) -> str:
        return question.options[0][0]


class EmbeddingChoice:
    """The option that the memories speak for.

    score = cos(option, [question; memories]) - cos(option, question); ties go to the first.
    """

    def __init__(self, embedder: TextEmbedder) -> None:
        self._embedder = embedder
        self.name = f"embedding choice ({embedder.space})"

    def solve(self, question: Question, passages: Sequence[str]) -> str:
        together = " ".join([question.text, *passages])
        texts = [together, question.text, *(text for _, text in question.options)]
        vectors = self._embedder.text(texts)
        scores = vectors[2:] @ vectors[0] - vectors[2:] @ vectors[1]
        return question.options[int(np.argmax(np.round(scores, 6)))][0]


class ChatChoice:
    """Any chat model; memory is a data block in the user message."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.name = f"chat ({model.name})"

    def solve(self, question: Question, passages: Sequence[str]) -> str:
        block = "\n".join([BLOCK_START, *map(one_line, passages), BLOCK_END])
        options = "\n".join(f"({letter}) {text}" for letter, text in question.options)
        content = (
            f"{block}\n\nThe person says: {question.text}\n\nWhich reply suits this person best?\n"
            f"{options}\n\nEnd with <final_answer> and one letter in parentheses."
        )
        return read_choice(self._model.chat([Message("user", content)], max_tokens=400))


def read_choice(reply: str) -> str:
    """The chosen letter by the published rule of PersonaMem, or the empty string.

    The text after ``<final_answer>`` (else all of it): letters in parentheses, else bare letters
    a-h that stand alone; exactly one different letter is an answer.
    """
    for text in [m[1] for m in [_FINAL.search(reply)] if m] + [reply]:
        letters = re.findall(r"\(([a-hA-H])\)", text) or re.findall(r"\b([a-hA-H])\b", text)
        chosen: set[str] = {letter.lower() for letter in letters}
        if len(chosen) == 1:
            return chosen.pop()
    return ""


def shuffled(question: Question, seed: int) -> tuple[Question, Mapping[str, str]]:
    """The question with its option texts permuted, and new letter -> old letter."""
    digest = hashlib.sha256(f"{seed}/{question.id}".encode()).digest()
    order = list(range(len(question.options)))
    random.Random(int.from_bytes(digest[:8], "big")).shuffle(order)
    letters = [letter for letter, _ in question.options]
    options = tuple((letters[i], question.options[o][1]) for i, o in enumerate(order))
    return replace(question, options=options), {letters[i]: letters[o] for i, o in enumerate(order)}


# Edges of the groups of `Question.since`: 0, 1, 2, 3 to 5, 6 to 10, more.
SINCE = (0, 1, 2, 5, 10)


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers with a 95 % interval (bootstrap over groups), and by parts.

    Each part is (share, questions): by kind, by ability, and by how much lies between what is
    asked about and the question.
    """

    value: float
    low: float
    high: float
    count: int
    by_kind: Mapping[str, tuple[float, int]]
    by_ability: Mapping[str, tuple[float, int]]
    by_since: Mapping[str, tuple[float, int]]

    def as_json(self) -> dict[str, object]:
        """Plain values, rounded; parts that the benchmark does not have are left out."""
        parts = {
            name: {k: {"accuracy": round(v, 4), "n": n} for k, (v, n) in part.items()}
            for name, part in (("by_ability", self.by_ability), ("by_since", self.by_since))
            if part
        }
        return {
            "accuracy": round(self.value, 4), "low": round(self.low, 4),
            "high": round(self.high, 4), "n": self.count,
            "by_kind": {k: round(v, 4) for k, (v, _) in self.by_kind.items()}, **parts,
        }  # fmt: skip


def since_group(since: int) -> str:
    """The group of a distance in words."""
    low = 0
    for edge in SINCE:
        if since <= edge:
            return str(edge) if low == edge else f"{low} to {edge}"
        low = edge + 1
    return f"{low} or more"


def score(benchmark: Benchmark, chosen: Mapping[str, str], *, seed: int = 0) -> Accuracy:
    """Compare chosen letters with the gold."""
    right = {q.id: chosen.get(q.id) == benchmark.answers[q.id] for q in benchmark.questions}
    groups: dict[str, list[bool]] = {}
    for question in benchmark.questions:
        groups.setdefault(question.group, []).append(right[question.id])
    low, high = interval([list(map(float, g)) for g in groups.values()], seed=seed)
    asked = benchmark.questions
    near = sorted((q for q in asked if q.since is not None), key=lambda q: q.since or 0)
    return Accuracy(
        sum(right.values()) / len(right), low, high, len(right),
        _shares([(q.kind, right[q.id]) for q in sorted(asked, key=lambda q: q.kind)]),
        _shares([(q.ability, right[q.id]) for q in asked if q.ability]),
        _shares([(since_group(q.since or 0), right[q.id]) for q in near]),
    )  # fmt: skip


def _shares(parts: Sequence[tuple[str, bool]]) -> dict[str, tuple[float, int]]:
    found: dict[str, list[bool]] = {}
    for name, right in parts:
        found.setdefault(name, []).append(right)
    return {name: (sum(v) / len(v), len(v)) for name, v in found.items()}


def axis_accuracy(
    benchmark: Benchmark, chosen: Mapping[str, str], names: Sequence[str]
) -> dict[str, float]:
    """PERMA's three axes: the share of chosen options that are right on each; no choice is wrong.

    Empty where the files do not say what the options are.
    """
    if not benchmark.axes:
        return {}
    picked = [benchmark.axes[id].get(chosen.get(id, ""), (0, 0, 0)) for id in benchmark.axes]
    columns = np.array(picked).mean(0)
    return {name: round(float(mean), 4) for name, mean in zip(names, columns, strict=True)}


def majority_share(benchmark: Benchmark) -> float:
    """The accuracy of always giving the most common gold letter: what a blind guess can reach."""
    counts = Counter(benchmark.answers[q.id] for q in benchmark.questions)
    return counts.most_common(1)[0][1] / len(benchmark.questions)


def interval(groups: Sequence[Sequence[float]], *, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, resampling whole groups (questions of one person
    are not independent)."""
    rng = np.random.default_rng(seed)
    sums = np.array([sum(group) for group in groups])
    sizes = np.array([len(group) for group in groups])
    picks = rng.integers(0, len(groups), (BOOTSTRAP, len(groups)))
    means = sums[picks].sum(1) / sizes[picks].sum(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
