"""A population as a file: how many, which quotas, who writes what, which rules hold.

A spec is YAML. `students` is shipped: HACHIMI's schema of pupils in our own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from consistent_gen.errors import InputError, LimitError, all_of
from consistent_gen.inputs import missing_file
from consistent_gen.language.models import LanguageModel
from consistent_gen.persona.population.model_proposer import ModelProposer, in_words
from consistent_gen.persona.population.proposing import (
    By,
    Draw,
    Levels,
    Mapped,
    Number,
    Phrase,
    Pick,
    Proposer,
    ScriptedProposer,
)
from consistent_gen.persona.population.quotas import Quotas, Slot, schedule
from consistent_gen.persona.population.revising import ATTEMPTS, ProposeValidateRevise, persona_from
from consistent_gen.persona.rules import PersonaRule, Values, at, rules_from
from consistent_gen.registry import nearest

SPECS = {"students": Path(__file__).parent / "students.yaml"}
MAX_SPEC = 1 << 20  # bytes
MAX_COUNT = 10_000_000
KEYS = ("about", "count", "seed", "id", "slip", "attempts", "compare", "quotas", "owners", "rules")


@dataclass(frozen=True)
class Spec:
    """A population that can be made. compare: the fields whose text the gate looks at."""

    count: int
    seed: int
    prefix: str
    slip: float
    attempts: int
    compare: tuple[str, ...]
    quotas: tuple[Quotas, ...]
    fields: Mapping[str, Mapping[str, Draw]]
    rules: tuple[PersonaRule, ...]
    told: Mapping[str, Any]

    def slots(self, count: int | None = None, seed: int | None = None) -> list[Slot]:
        """The schedule, for another number or seed where one is given."""
        n = self.count if count is None else count
        at_seed = self.seed if seed is None else seed
        return schedule(n, self.quotas, seed=at_seed, prefix=self.prefix)

    def text(self, values: Values) -> str:
        """What the gate compares: the fields joined by a bar."""
        return " | ".join(_told(at(values, name)) for name in self.compare)

    def loop(self, model: LanguageModel | None = None) -> ProposeValidateRevise:
        """The loop with the scripted proposer of this spec, or with a model that is asked."""
        proposer: Proposer = ScriptedProposer(self.fields, self.rules, slip=self.slip)
        if model is not None:
            wanted = {
                owner: {name: in_words(how) for name, how in fields.items()}
                for owner, fields in self.fields.items()
            }
            proposer = ModelProposer(model, wanted)
        return ProposeValidateRevise(
            proposer, self.rules, persona_from, self.text, attempts=self.attempts
        )


def _told(value: Any) -> str:
    if isinstance(value, Mapping):  # in an order that a file does not change
        return ", ".join(f"{key} {_told(value[key])}" for key in sorted(value))
    return ", ".join(map(_told, value)) if isinstance(value, list | tuple) else str(value)


def read_spec(name: str) -> Spec:
    """The spec in a file, or a shipped one by its name.

    Raises:
        InputError: no such file or name; all that is wrong in it at once.
    """
    path = SPECS.get(name, Path(name))
    try:
        if path.stat().st_size > MAX_SPEC:
            raise LimitError(f"is larger than {MAX_SPEC:,} bytes", source=name)
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        error = missing_file(path, (".yaml", ".yml"))
        shipped = ", ".join(SPECS)
        raise InputError(f"{error.message} (shipped specs: {shipped})", source=name) from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"cannot be read: {error}", source=name) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        problem = getattr(error, "problem", None) or "it does not parse"
        raise InputError(f"is not YAML: {problem}", source=name, line=line) from None
    return spec_from(told, source=name)


def spec_from(told: Any, *, source: str | None = None) -> Spec:
    """The spec in a mapping."""
    if not isinstance(told, Mapping):
        raise InputError(f"a spec is a mapping with {', '.join(KEYS)}", source=source)
    wrong: list[InputError] = []

    def fail(message: str) -> None:
        wrong.append(InputError(message, source=source))

    for key in told:
        if key not in KEYS:
            close = nearest(str(key), KEYS)
            fail(f"a spec has no {key!r}" + (f"; did you mean {close!r}?" if close else ""))
    numbers = {"count": (1, MAX_COUNT, 1), "seed": (0, 2**63, 0), "attempts": (1, 1_000, ATTEMPTS)}
    for key, (low, high, default) in numbers.items():
        value = told.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            fail(f"{key} is {value!r}; expected a whole number from {low} to {high}")
    slip = told.get("slip", 0.0)
    if not isinstance(slip, int | float) or not 0.0 <= slip <= 1.0:
        fail(f"slip is {slip!r}; expected a probability")
    fields: dict[str, dict[str, Draw]] = {}
    for owner, entries in _mapping(told, "owners", fail).items():
        if not isinstance(entries, Mapping):
            fail(f"owner {owner!r} needs 'field: how it is drawn' lines")
            continue
        fields[str(owner)] = {}
        for name, how in entries.items():
            try:
                fields[str(owner)][str(name)] = _draw(f"{owner}.{name}", how)
            except InputError as error:
                wrong += [part.at(source) for part in error.all]
    if not fields:
        fail("owners is missing; say who writes which fields")
    quotas: list[Quotas] = []
    for number, entry in enumerate(_list(told, "quotas", fail), 1):
        try:
            quotas.append(_quota(f"quota {number}", entry))
        except InputError as error:
            wrong += [part.at(source) for part in error.all]
    rules: tuple[PersonaRule, ...] = ()
    try:
        rules = rules_from(_list(told, "rules", fail), source=source)
    except InputError as error:
        wrong += error.all
    strangers = sorted({r.owner for r in rules} - set(fields) - {""})
    if strangers:
        fail(f"rules name the owners {', '.join(strangers)}; there are {', '.join(fields)}")
    known = {name for entries in fields.values() for name in entries}
    known |= {name for quota in quotas for name in quota.fields}
    compare = tuple(map(str, _list(told, "compare", fail))) or tuple(sorted(known))
    unknown = [name for name in compare if name.split(".")[0] not in known]
    if unknown:
        fail(f"compare names {', '.join(unknown)}, which nobody writes")
    if wrong:
        raise all_of(wrong)
    prefix = str(told.get("id", "persona"))
    return Spec(
        count=told.get("count", 1),
        seed=told.get("seed", 0),
        prefix=prefix,
        slip=float(slip),
        attempts=told.get("attempts", ATTEMPTS),
        compare=compare,
        quotas=tuple(quotas),
        fields=fields,
        rules=rules,
        told=dict(told),
    )


def _mapping(told: Mapping[str, Any], key: str, fail: Any) -> Mapping[Any, Any]:
    value = told.get(key) or {}
    if not isinstance(value, Mapping):
        fail(f"{key} is a {type(value).__name__}; expected a mapping")
        return {}
    return value


def _list(told: Mapping[str, Any], key: str, fail: Any) -> list[Any]:
    value = told.get(key) or []
    if not isinstance(value, list):
        fail(f"{key} is a {type(value).__name__}; expected a list")
        return []
    return value


def _quota(where: str, told: Any) -> Quotas:
    """`even: {field: [values], ...}` or `shares: {field: {value: share}}`."""
    if isinstance(told, Mapping) and len(told) == 1:
        ((kind, inner),) = told.items()
        listed = isinstance(inner, Mapping) and inner
        if kind == "even" and listed and all(isinstance(v, list) and v for v in inner.values()):
            return Quotas.even({str(k): v for k, v in inner.items()})
        if kind == "shares" and isinstance(inner, Mapping) and len(inner) == 1:
            ((name, shares),) = inner.items()
            numbers = isinstance(shares, Mapping) and all(
                isinstance(s, int | float) and not isinstance(s, bool) for s in shares.values()
            )
            if numbers:
                return Quotas((str(name),), {(v,): float(s) for v, s in shares.items()})
    raise InputError(
        f"{where} is 'even: {{field: [values], ...}}' or 'shares: {{field: {{value: share}}}}'"
    )


def _draw(where: str, told: Any) -> Draw:
    kinds = "choice, sample, number, levels, text, mapping or by"
    if not isinstance(told, Mapping) or len(told) != 1:
        raise InputError(f"{where} is drawn in one way: {kinds}")
    ((kind, inner),) = told.items()
    try:
        if kind == "choice":
            return Pick(_some(inner))
        if kind == "sample":
            low, high = inner["count"]
            return Pick(_some(inner["from"]), (int(low), int(high)), str(inner.get("unlike", "")))
        if kind == "number":
            return Number(int(inner["low"]), int(inner["high"]), str(inner.get("of", "")))
        if kind == "levels":
            return Levels(_some(inner["names"]), _some(inner["values"]))
        if kind == "text":
            lists = {str(k): tuple(map(str, _some(v))) for k, v in inner.get("lists", {}).items()}
            return Phrase(tuple(map(str, _some(inner["patterns"]))), lists)
        if kind == "mapping":
            return Mapped({str(k): _draw(f"{where}.{k}", v) for k, v in inner.items()})
        if kind == "by":
            draws = {str(k): _draw(f"{where}.{k}", v) for k, v in inner["draws"].items()}
            return By(str(inner["field"]), draws)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where} cannot be drawn by {kind!r}: {error}") from None
    raise InputError(f"{where} cannot be drawn by {kind!r}; expected {kinds}")


def _some(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no list of values")
    return tuple(value)
