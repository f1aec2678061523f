"""What a persona must satisfy, as data: each rule is a frozen value, and a mapping in a spec file.

The kinds are those that HACHIMI (arXiv 2603.04855) states for its pupils, in a form that serves any
schema: fields are named by the rule, not by the code. A rule never mends; it says what is wrong,
where, and how to mend it, so that a person, a form beside a field and a proposer can all use it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, get_args

from consistent_gen.errors import InputError, all_read
from consistent_gen.inputs import check_choice
from consistent_gen.persona.persona import Json, Persona
from consistent_gen.registry import unknown_name

Severity: TypeAlias = Literal["error", "warning", "note"]
Tier: TypeAlias = Literal["fast", "deep"]
Values: TypeAlias = Mapping[str, Json]

# What a description by somebody who is no clinician must not claim.
DIAGNOSTIC = (
    "adhd", "anorexia", "autism", "bipolar", "borderline", "bulimia", "clinical", "diagnosed",
    "diagnosis", "disorder", "medication", "ocd", "pathological", "patient", "psychosis", "ptsd",
    "schizophrenia", "symptom", "syndrome",
)  # fmt: skip


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong. field: its dotted name; mend: what to do about it.

    An "error" keeps a persona out of a population; a "warning" is worth a look; a "note" tells.
    owner: the part of a proposer that wrote the field, "" where nobody in particular did.
    """

    field: str
    message: str
    severity: Severity = "error"
    mend: str = ""
    owner: str = ""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" + (f"; {self.mend}" if self.mend else "")


class PersonaRule(Protocol):
    """owner: who has to mend it. tier: "deep" rules are asked only after the fast ones spoke."""

    @property
    def owner(self) -> str: ...
    @property
    def tier(self) -> Tier: ...

    def check(self, values: Values) -> Iterator[Issue]:
        """What is wrong with these fields; a field that is not there is `Required`'s business."""


def values_of(persona: Persona) -> dict[str, Json]:
    """What rules look at: the fields, with name, summary, statements and traits beside them."""
    said = [statement.text for statement in persona.statements]
    own = {"name": persona.name, "summary": persona.summary, "statements": said}
    return {**own, "traits": dict(persona.traits), **persona.fields}


def validate(persona: Persona, rules: Sequence[PersonaRule]) -> list[Issue]:
    """All issues of all rules, in their order."""
    return broken(values_of(persona), rules)


def broken(values: Values, rules: Sequence[PersonaRule]) -> list[Issue]:
    """The same of fields that are no persona yet."""
    return [issue for rule in rules for issue in rule.check(values)]


def at(values: Values, name: str) -> Json:
    """The value of a dotted name, None where it is not there."""
    if "." not in name:
        return values.get(name)
    found: Json = values
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _listed(value: Json) -> list[Json]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _names(value: Sequence[Json]) -> str:
    return ", ".join(map(str, value))


@dataclass(frozen=True, kw_only=True)
class _Rule:
    owner: str = ""
    tier: Tier = "fast"
    severity: Severity = "error"

    def _issue(self, field: str, message: str, mend: str) -> Issue:
        return Issue(field, message, self.severity, mend, self.owner)


@dataclass(frozen=True, kw_only=True)
class Required(_Rule):
    """Fields that must be there and not be empty."""

    kind: ClassVar[str] = "required"
    fields: tuple[str, ...]

    def check(self, values: Values) -> Iterator[Issue]:
        for name in self.fields:
            value = at(values, name)
            if value is None or (isinstance(value, str | list | tuple | Mapping) and not value):
                yield self._issue(name, "is missing or empty", "say what it is")


@dataclass(frozen=True, kw_only=True)
class OneOf(_Rule):
    """A closed enumeration. Of a list every entry, of a mapping every value must be in it."""

    kind: ClassVar[str] = "one_of"
    field: str
    values: tuple[Json, ...]

    def check(self, values: Values) -> Iterator[Issue]:
        value = at(values, self.field)
        entries = list(value.values()) if isinstance(value, Mapping) else _listed(value)
        for entry in entries:
            if entry not in self.values:
                yield self._issue(
                    self.field, f"is {entry!r}", f"choose one of {_names(self.values)}"
                )


@dataclass(frozen=True, kw_only=True)
class Range(_Rule):
    """A number from `low` to `high`, both included."""

    kind: ClassVar[str] = "range"
    field: str
    low: float
    high: float

    def check(self, values: Values) -> Iterator[Issue]:
        value = at(values, self.field)
        if value is None:
            return
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high:
            mend = f"give a number from {self.low:g} to {self.high:g}"
            yield self._issue(self.field, f"is {value!r}", mend)


@dataclass(frozen=True, kw_only=True)
class StageByAge(_Rule):
    """A stage that fits an age. table: stage -> (youngest, oldest) in years; `slack` years more
    on either side are let pass, since nobody changes on a birthday.
    """

    kind: ClassVar[str] = "stage_by_age"
    age: str
    stage: str
    table: Mapping[str, tuple[float, float]]
    slack: float = 1.0

    def check(self, values: Values) -> Iterator[Issue]:
        age, stage = at(values, self.age), at(values, self.stage)
        if stage is None or isinstance(age, bool) or not isinstance(age, int | float):
            return
        fits = [
            name
            for name, (low, high) in self.table.items()
            if low - self.slack <= age <= high + self.slack
        ]
        if str(stage) not in fits:
            yield self._issue(
                self.stage, f"is {stage!r} at {self.age} {age}", f"choose {_names(fits)}"
            )


@dataclass(frozen=True, kw_only=True)
class Disjoint(_Rule):
    """Lists that share no entry, and none of which is empty."""

    kind: ClassVar[str] = "disjoint"
    fields: tuple[str, ...]

    def check(self, values: Values) -> Iterator[Issue]:
        seen: dict[str, str] = {}
        for name in self.fields:
            entries = _listed(at(values, name))
            if not entries:
                yield self._issue(name, "is empty", "name at least one")
            for entry in entries:
                if str(entry) in seen:
                    message = f"has {entry!r}, which {seen[str(entry)]} has too"
                    yield self._issue(name, message, "let each stand in one of them")
                seen[str(entry)] = name


@dataclass(frozen=True, kw_only=True)
class Implies(_Rule):
    """When `when` has one of the levels `has`, `then` lies within `at_least` and `at_most`.

    levels: from the lowest to the highest. then may be a mapping, whose every value is meant.
    """

    kind: ClassVar[str] = "implies"
    when: str
    has: tuple[str, ...]
    then: str
    levels: tuple[str, ...]
    at_least: str = ""
    at_most: str = ""

    def __post_init__(self) -> None:
        for bound in (self.at_least, self.at_most):
            if bound:
                check_choice(bound, self.levels, f"bound of {self.then}")

    def check(self, values: Values) -> Iterator[Issue]:
        if at(values, self.when) not in self.has:
            return
        low = self.levels.index(self.at_least) if self.at_least else 0
        high = self.levels.index(self.at_most) if self.at_most else len(self.levels) - 1
        told = at(values, self.then)
        for value in told.values() if isinstance(told, Mapping) else _listed(told):
            if value in self.levels and not low <= self.levels.index(value) <= high:
                reason = f"is {value!r} although {self.when} is {at(values, self.when)!r}"
                mend = f"choose {_names(self.levels[low : high + 1])}"
                yield self._issue(self.then, reason, mend)


@dataclass(frozen=True, kw_only=True)
class Forbids(_Rule):
    """When `when` has one of the levels `has`, no term of `terms` stands in `field`.

    Without `when` the terms are forbidden always.
    """

    kind: ClassVar[str] = "forbids"
    field: str
    terms: tuple[str, ...]
    when: str = ""
    has: tuple[str, ...] = ()

    def check(self, values: Values) -> Iterator[Issue]:
        if self.when and at(values, self.when) not in self.has:
            return
        text = _prose(at(values, self.field)).casefold()
        for term in self.terms:
            if re.search(rf"\b{re.escape(term.casefold())}\b", text):
                because = f" although {self.when} is {at(values, self.when)!r}" if self.when else ""
                yield self._issue(self.field, f"says {term!r}{because}", "say it more mildly")


@dataclass(frozen=True, kw_only=True)
class NonDiagnostic(_Rule):
    """No clinical vocabulary: a persona describes how somebody is, and diagnoses nobody."""

    kind: ClassVar[str] = "non_diagnostic"
    field: str
    terms: tuple[str, ...] = DIAGNOSTIC

    def check(self, values: Values) -> Iterator[Issue]:
        words = set(re.findall(r"[a-z]+", _prose(at(values, self.field)).casefold()))
        for term in self.terms:
            if term in words:
                mend = "describe what can be seen instead"
                yield self._issue(self.field, f"uses the clinical word {term!r}", mend)


@dataclass(frozen=True, kw_only=True)
class SingleParagraph(_Rule):
    """Prose of one paragraph, no list, of `fewest` to `most` words."""

    kind: ClassVar[str] = "single_paragraph"
    field: str
    fewest: int = 1
    most: int = 1000

    def check(self, values: Values) -> Iterator[Issue]:
        text = at(values, self.field)
        if not isinstance(text, str):
            return
        if "\n" in text.strip() or re.match(r"\s*(?:[-*\u2022]|\d+[.)])\s", text):
            yield self._issue(
                self.field, "is a list or has several paragraphs", "write one paragraph"
            )
        words = len(text.split())
        if not self.fewest <= words <= self.most:
            mend = f"write {self.fewest} to {self.most}"
            yield self._issue(self.field, f"has {words} words", mend)


@dataclass(frozen=True, kw_only=True)
class Optimism(_Rule):
    """A low anchor asks for a minimum of low levels, against the drift towards "all is well".

    least: value of `anchor` -> how many values of the mapping `field` must be among `low`.
    """

    kind: ClassVar[str] = "optimism"
    anchor: str
    field: str
    low: tuple[str, ...]
    least: Mapping[str, int]

    def check(self, values: Values) -> Iterator[Issue]:
        least = self.least.get(str(at(values, self.anchor)), 0)
        told = at(values, self.field)
        entries = list(told.values()) if isinstance(told, Mapping) else _listed(told)
        found = sum(entry in self.low for entry in entries)
        if found < least:
            message = f"has {found} low levels although {self.anchor} is "
            message += f"{at(values, self.anchor)!r}"
            mend = f"let at least {least} be {_names(self.low)}"
            yield self._issue(self.field, message, mend)


@dataclass(frozen=True, kw_only=True)
class NotAll(_Rule):
    """Fields that do not all have the value `value` when `when` has one of `has`."""

    kind: ClassVar[str] = "not_all"
    fields: tuple[str, ...]
    value: str
    when: str = ""
    has: tuple[str, ...] = ()

    def check(self, values: Values) -> Iterator[Issue]:
        if self.when and at(values, self.when) not in self.has:
            return
        if all(at(values, name) == self.value for name in self.fields):
            mend = f"let one of {_names(self.fields)} be another"
            yield self._issue(self.fields[0], f"is {self.value!r}, as all of them are", mend)


def _prose(value: Json) -> str:
    if isinstance(value, Mapping):
        return ". ".join(_prose(inner) for inner in value.values())
    return ". ".join(_prose(inner) for inner in value) if isinstance(value, list | tuple) else (
        "" if value is None else str(value)
    )  # fmt: skip


RULES: dict[str, type[Any]] = {
    rule.kind: rule
    for rule in (
        Required, OneOf, Range, StageByAge, Disjoint, Implies, Forbids, NonDiagnostic,
        SingleParagraph, Optimism, NotAll,
    )
}  # fmt: skip


def rules_from(
    told: Sequence[Mapping[str, Any]], *, source: str | None = None
) -> tuple[PersonaRule, ...]:
    """Rules out of a spec file: mappings with `rule` and the fields of that kind.

    Raises:
        InputError: an unknown kind or key, a missing one, a value of another type; all at once.
    """
    readings = [functools.partial(_rule, n, entry, source) for n, entry in enumerate(told, 1)]
    return all_read(readings)


def _rule(number: int, told: object, source: str | None) -> PersonaRule:
    where = f"rule {number}"
    if not isinstance(told, Mapping) or not isinstance(told.get("rule"), str):
        raise InputError(f"{where} needs 'rule', one of {', '.join(RULES)}", source=source)
    if told["rule"] not in RULES:
        raise unknown_name("rule", told["rule"], RULES, source=source)
    made = RULES[told["rule"]]
    fields = {f.name: f for f in dataclasses.fields(made)}
    wrong: list[str] = []
    given: dict[str, Any] = {}
    for key, value in told.items():
        if key == "rule":
            continue
        if key not in fields:
            wrong.append(f"has no {key!r}; {told['rule']} has {', '.join(fields)}")
            continue
        text = str(fields[key].type)
        kind = (
            list if text.startswith("tuple") else dict if text.startswith("Mapping")
            else int if text == "int" else float if text == "float" else str
        )  # fmt: skip
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or isinstance(value, bool):
            wrong.append(f"{key} is {value!r}; expected a {kind.__name__}")
            continue
        given[key] = tuple(value) if isinstance(value, list) else value
    needed = [
        n for n, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]  # fmt: skip
    wrong += [f"needs {name!r}" for name in needed if name not in told]
    for key, choices in (("severity", get_args(Severity)), ("tier", get_args(Tier))):
        if given.get(key, choices[0]) not in choices:
            wrong.append(f"{key} is {given[key]!r}; expected {', '.join(choices)}")
    if wrong:
        raise InputError(f"{where} ({told['rule']}): {'; '.join(wrong)}", source=source)
    if "table" in given:
        given["table"] = {str(k): _span(where, k, v, source) for k, v in given["table"].items()}
    return made(**given)  # type: ignore[no-any-return]


def _span(where: str, name: object, value: object, source: str | None) -> tuple[float, float]:
    if isinstance(value, list | tuple) and len(value) == 2:
        low, high = value
        if all(isinstance(v, int | float) for v in value) and low <= high:
            return float(low), float(high)
    raise InputError(
        f"{where}: {name!r} is {value!r}; expected two ages [low, high]", source=source
    )
