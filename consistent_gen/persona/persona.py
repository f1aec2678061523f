"""A persona as one typed object: what is true of somebody, and where each piece came from.

The same object is generated (`population`), speaks (`simulate`), is measured (`evaluate`), is drawn
(its appearance is a story's character) and remembers (`consistent_gen.memory`). It is data alone: a
frozen value that equals its JSON.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

from consistent_gen.errors import InputError, UnknownNameError, all_of
from consistent_gen.inputs import check_text
from consistent_gen.registry import nearest

Json: TypeAlias = Any  # None, a bool, number, text, list or mapping of these; checked when made

FORMAT = "consistent_gen/persona/1"
BIG_FIVE = ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")
MAX_STATEMENTS = 2_000
MAX_STATEMENT = 2_000  # characters
MAX_SUMMARY = 100_000
MAX_DEPTH = 16  # of fields


@dataclass(frozen=True)
class Statement:
    """One thing that holds of a persona, as a sentence: "I keep bees".

    source: who said so ("author", "card:description", "turn:17", "proposer"). weight: how much it
    counts in a mean over statements, 0 or more.
    """

    text: str
    source: str = "author"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_text(self.text, "a statement", MAX_STATEMENT)
        if not (math.isfinite(self.weight) and self.weight >= 0.0):
            raise InputError(f"weight of a statement is {self.weight}; expected 0 or more")


@dataclass(frozen=True)
class Persona:
    """Who somebody is.

    traits: simulated trait levels in 0..1 by name (`BIG_FIVE` and others); 0.5 is the middle.
    fields: whatever else is known, as JSON; "appearance" is what a picture is drawn from, in words.
    anchors: dotted names of fields and traits that no proposer may change, as a user gave them.
    provenance: where the object came from (format, file hash, seed, proposer), never a file's path.
    """

    id: str
    name: str
    summary: str = ""
    statements: tuple[Statement, ...] = ()
    traits: Mapping[str, float] = field(default_factory=dict)
    fields: Mapping[str, Json] = field(default_factory=dict)
    anchors: frozenset[str] = frozenset()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found: list[InputError] = []
        for check in (self._check_texts, self._check_traits, self._check_fields):
            try:
                check()
            except InputError as error:
                found.append(error)
        if found:
            raise all_of(found)

    def _check_texts(self) -> None:
        check_text(self.id, "id of a persona", 200)
        check_text(self.name, "name of a persona", 200)
        if len(self.summary) > MAX_SUMMARY:
            raise InputError(
                f"the summary of {self.name!r} has {len(self.summary):,} characters; at most "
                f"{MAX_SUMMARY:,} are read"
            )
        if len(self.statements) > MAX_STATEMENTS:
            raise InputError(
                f"{self.name!r} has {len(self.statements):,} statements; at most {MAX_STATEMENTS:,}"
            )

    def _check_traits(self) -> None:
        wrong = {
            k: v
            for k, v in self.traits.items()
            if isinstance(v, bool) or not isinstance(v, int | float) or not 0.0 <= v <= 1.0
        }
        if wrong:
            told = ", ".join(f"{name} is {value!r}" for name, value in sorted(wrong.items()))
            raise InputError(f"traits of {self.name!r} are numbers from 0 to 1; {told}")

    def _check_fields(self) -> None:
        for name, value in self.fields.items():
            _check_json(value, f"field {name!r} of {self.name!r}")

    @property
    def appearance(self) -> str | None:
        """What a picture of them is drawn from, in words; None where nobody said."""
        told = self.fields.get("appearance")
        return told if isinstance(told, str) and told.strip() else None

    def prompt(self) -> str:
        """The persona in the second person's place: a system message that a model speaks from."""
        lines = [f"You are {self.name}."]
        if self.summary.strip():
            lines.append(self.summary.strip())
        lines += [f"- {statement.text}" for statement in self.statements]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Json]:
        """What `from_json` reads back as an equal persona."""
        told = dataclasses.asdict(self)
        told["statements"] = [dataclasses.asdict(s) for s in self.statements]
        told["anchors"] = sorted(self.anchors)
        return {"format": FORMAT, **{k: _plain(v) for k, v in told.items()}}

    @classmethod
    def from_json(cls, told: Mapping[str, Any], *, source: str | None = None) -> Self:
        """A persona from what `as_json` gave, or a person wrote by hand.

        Raises:
            InputError: another format, an unknown key (the nearest valid one is named), a value of
                another type; all mistakes at once.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        given = dict(told)
        stated = given.pop("format", FORMAT)
        found: list[InputError] = []
        if stated != FORMAT:
            found.append(InputError(f"format is {stated!r}; expected {FORMAT!r}", source=source))
        for key in sorted(set(given) - set(names)):
            close = nearest(key, names)
            hint = f"; did you mean {close!r}?" if close else f"; keys are {', '.join(names)}"
            found.append(UnknownNameError(f"a persona has no {key!r}{hint}", source=source))
        shapes: dict[str, type] = {
            "id": str, "name": str, "summary": str, "statements": list, "traits": dict,
            "fields": dict, "anchors": list, "provenance": dict,
        }  # fmt: skip
        for key in ("id", "name"):
            if key not in given:
                found.append(InputError(f"a persona needs {key!r}", source=source))
        for key, value in given.items():
            if key in shapes and not isinstance(value, shapes[key]):
                kind = {"str": "a text", "list": "a list", "dict": "a mapping"}
                expected = kind[shapes[key].__name__]
                message = f"{key!r} is {type(value).__name__}; expected {expected}"
                found.append(InputError(message, source=source))
        statements: list[Statement] = []
        for number, entry in enumerate(given.get("statements") or [], 1):
            try:
                statements.append(_statement(entry))
            except (InputError, TypeError) as error:
                found.append(InputError(f"statement {number}: {error}", source=source))
        if found:
            raise all_of(found)
        given |= {
            "statements": tuple(statements),
            "anchors": frozenset(map(str, given.get("anchors", ()))),
        }
        return cls(**given)


def _statement(entry: object) -> Statement:
    if isinstance(entry, str):
        return Statement(entry)
    if not isinstance(entry, Mapping):
        raise InputError(f"is {type(entry).__name__}; expected a sentence or a mapping")
    unknown = set(entry) - {"text", "source", "weight"}
    if unknown or "text" not in entry:
        raise InputError("has the keys text, source and weight, and needs text")
    return Statement(**{str(k): v for k, v in entry.items()})


def _check_json(value: object, what: str, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise InputError(f"{what} is nested deeper than {MAX_DEPTH}")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InputError(f"{what} has the key {key!r}; expected a text")
            _check_json(inner, what, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_json(inner, what, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{what} holds {value}, which JSON has no word for")
    elif not isinstance(value, str | int | float | None):
        raise InputError(f"{what} holds a {type(value).__name__}; expected JSON")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
