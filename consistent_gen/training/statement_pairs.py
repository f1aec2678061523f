"""Pairs of a persona's statement and a reply, made from topics, whose labels are known.

A pair is a statement ("I have three daughters."), a question, a reply, whether the reply follows
from the statement, ignores or contradicts it, and whether the question touches it. What differs
between the labels is negation, numbers, years, roles (my sister, I), synonyms, and other values of
the same kind. Every fourth way of saying and every fifth word never appear in training.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from consistent_gen.errors import InputError

T = TypeVar("T")
Part: TypeAlias = Literal["train", "templates", "words", "both"]
CONTRADICTED, NEUTRAL, ENTAILED = range(3)
LABELS = ("contradicted", "neutral", "entailed")
NAMES = ("Mia", "Ada", "Zoe", "Lena", "Ruth", "Nadia")
TABLE = "label\trelevant\tstatement\tquestion\treply"
_PERSON = re.compile(r"([^\s|]+)\|([^\s|]+)")
_POLAR = ("Do ", "Can ", "Are ", "Is ", "Would ", "Will ")
_YES = ("Yes.", "Yes, I do.", "Of course.", "Very much so.", "Sure.", "Certainly.")
_NO = ("No.", "Not at all.", "No, never.", "I'm afraid not.", "Certainly not.", "Nope.")


@dataclass(frozen=True)
class StatementPair:
    """label: of (statement, reply), an index of `LABELS`. relevant: of (statement, question)."""

    statement: str
    question: str
    reply: str
    label: int
    relevant: bool


@dataclass(frozen=True)
class Topic:
    """One kind of fact; `statement_topics.txt` tells what the fields are."""

    name: str
    group: str
    polar: str
    exclusive: bool
    values: tuple[tuple[str, ...], ...]
    lines: dict[str, tuple[str, ...]]


@cache
def topics() -> tuple[tuple[Topic, ...], dict[str, tuple[str, ...]]]:
    """The topics, and the lists that belong to none (small talk, openers)."""
    text = (Path(__file__).parent / "statement_topics.txt").read_text(encoding="utf-8")
    found: list[Topic] = []
    lists: dict[str, tuple[str, ...]] = {}
    for block in text.split("\n[")[1:]:  # before the first head stands a comment
        head, *body = block.splitlines()
        name, _, told = head.partition("]")
        lines: dict[str, list[str]] = {}
        for line in filter(None, body):
            kind, _, rest = line.partition(": ")
            lines.setdefault(kind, []).append(rest)
        values = [part.split("=") for line in lines.pop("values", []) for part in line.split("; ")]
        settings = dict(part.partition("=")[::2] for part in told.split())
        if values:
            found.append(
                Topic(
                    name, settings["group"], settings["polar"], "exclusive" in settings,
                    tuple(map(tuple, values)), {k: tuple(v) for k, v in lines.items()},
                )
            )  # fmt: skip
        elif lines:
            lists[name] = tuple(lines["line"])
    return tuple(found), lists


def generate(part: Part, count: int, seed: int = 0) -> list[StatementPair]:
    """`count` pairs of a part: words and templates that training sees, or never saw."""
    rng = random.Random(f"statement pairs {part} {seed}")
    return [_draw(part, rng) for _ in range(count)]


def read_pairs(path: str | Path) -> list[StatementPair]:
    """Pairs that people wrote, from a table with the columns of `TABLE`.

    Raises:
        InputError: other columns, an unknown label, or a line of another shape, by number.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    if not lines or lines[0] != TABLE:
        raise InputError(f"{path} begins {lines[:1]}; expected the columns {TABLE!r}")
    found = []
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        if len(cells) != 5 or cells[0] not in LABELS or cells[1] not in ("0", "1"):
            raise InputError(f"{path}, line {number}: expected a label, 0 or 1, and three texts")
        found.append(StatementPair(*cells[2:], LABELS.index(cells[0]), cells[1] == "1"))
    return found


def _draw(part: Part, rng: random.Random) -> StatementPair:
    all_topics, lists = topics()
    unseen = part in ("words", "both")
    usable = [t for t in all_topics if not unseen or len(t.values) >= 10]
    topic = rng.choice(usable)
    value, other = rng.sample(_kept(topic.values, unseen, 5), 2) if len(topic.values) > 1 else (
        topic.values[0], topic.values[0]
    )  # fmt: skip
    label = rng.randrange(3)
    said = rng.choice(value) if topic.name in ("meat", "drink") else value[0]
    statement = _person(_pick(topic, "say", part, rng).format(v=said), rng)
    strangers = [t for t in usable if t.group != topic.group]
    relevant = rng.random() < (0.75 if label != NEUTRAL else 0.5)
    asked = _pick(topic, "ask", part, rng)
    if not relevant:
        aside = rng.choice(strangers)
        asked = rng.choice([rng.choice(lists["other_questions"]), _pick(aside, "ask", part, rng)])
    polar = "{v}" in asked and asked.startswith(_POLAR) and topic.polar != "none" and relevant
    question = asked.format(v=value[0] if relevant else rng.choice(strangers[0].values)[0])
    if polar and label != NEUTRAL and rng.random() < 0.3:
        agrees = (label == ENTAILED) == (topic.polar == "yes")
        reply = rng.choice(_YES if agrees else _NO)
    elif label == NEUTRAL:
        reply = _neutral(topic, value, other, strangers, part, rng)
    else:
        reply = _decided(topic, value, other, label, part, rng)
    if rng.random() < 0.25:
        reply = f"{rng.choice(lists['openers'])} {reply}"
    if rng.random() < 0.25:
        reply = f"{reply} {rng.choice(lists['closers'])}"
    return StatementPair(_sentence(statement), _sentence(question), _sentence(reply), label,
                         relevant)  # fmt: skip


def _decided(
    topic: Topic, value: Sequence[str], other: Sequence[str], label: int, part: Part,
    rng: random.Random,
) -> str:  # fmt: skip
    if label == ENTAILED:
        kind = "say" if rng.random() < 0.1 else "yes"
    else:
        kind = "other" if topic.exclusive and rng.random() < 0.5 else "no"
    template = _pick(topic, kind, part, rng)
    if kind == "say":
        template = _PERSON.sub(r"\1", template)
    return template.format(v=rng.choice(value), o=rng.choice(other))


def _neutral(
    topic: Topic, value: Sequence[str], other: Sequence[str], strangers: Sequence[Topic],
    part: Part, rng: random.Random,
) -> str:  # fmt: skip
    kinds = ["aside", "stranger", "stranger", "talk"] + ["other"] * (not topic.exclusive)
    kind = rng.choice(kinds)
    if kind == "talk":
        return rng.choice(topics()[1]["small_talk"])
    if kind == "stranger":
        topic = rng.choice(strangers)
        value, other = (rng.choice(topic.values) for _ in range(2))
        kind = rng.choice(("yes", "no", "aside"))
    return _pick(topic, kind, part, rng).format(v=rng.choice(value), o=rng.choice(other))


def _pick(topic: Topic, kind: str, part: Part, rng: random.Random) -> str:
    return rng.choice(_kept(topic.lines[kind], part in ("templates", "both"), 4))


def _kept(items: Sequence[T], unseen: bool, every: int) -> Sequence[T]:
    """What training sees of a list, or the rest; short lists are seen whole."""
    if len(items) < every:
        return items
    return [x for i, x in enumerate(items) if (i % every == every - 1) == unseen]


def _person(template: str, rng: random.Random) -> str:
    if rng.random() < 0.75:
        return _PERSON.sub(r"\1", template)
    return _PERSON.sub(r"\2", template).replace("Mia", rng.choice(NAMES))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
