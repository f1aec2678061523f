"""Rules: each kind lets what it allows pass, names what it refuses, and is read from data."""

from __future__ import annotations

from typing import Any

import pytest

from consistent_gen.errors import InputError
from consistent_gen.persona import Persona
from consistent_gen.persona.rules import broken, rules_from, validate

LEVELS = ["low", "middle", "high"]
CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"rule": "required", "fields": ["a"]}, {"a": "x"}, {"a": ""}),
    ({"rule": "one_of", "field": "a", "values": ["x"]}, {"a": {"k": "x"}}, {"a": ["x", "y"]}),
    ({"rule": "range", "field": "a", "low": 1, "high": 3}, {"a": 3}, {"a": True}),
    (
        {"rule": "stage_by_age", "age": "age", "stage": "s", "table": {"c": [6, 11], "f": [12, 18]},
         "slack": 1},
        {"age": 12, "s": "c"}, {"age": 13, "s": "c"},
    ),
    ({"rule": "disjoint", "fields": ["a", "b"]}, {"a": ["x"], "b": ["y"]},
     {"a": ["x"], "b": ["x"]}),
    (
        {"rule": "implies", "when": "a.f", "has": ["low"], "then": "a.p", "levels": LEVELS,
         "at_most": "middle"},
        {"a": {"f": "low", "p": "middle"}}, {"a": {"f": "low", "p": "high"}},
    ),
    (
        {"rule": "forbids", "field": "t", "terms": ["despair"], "when": "s", "has": ["high"]},
        {"t": "despair", "s": "low"}, {"t": {"x": "In Despair."}, "s": "high"},
    ),
    ({"rule": "non_diagnostic", "field": "t"}, {"t": "worries a lot"}, {"t": "has ADHD"}),
    ({"rule": "single_paragraph", "field": "t", "most": 5}, {"t": "one two"}, {"t": "one\n\ntwo"}),
    (
        {"rule": "optimism", "anchor": "l", "field": "v", "low": ["low"], "least": {"poor": 2}},
        {"l": "poor", "v": {"a": "low", "b": "low"}}, {"l": "poor", "v": {"a": "low", "b": "high"}},
    ),
    ({"rule": "not_all", "fields": ["a", "b"], "value": "low"}, {"a": "low", "b": "high"},
     {"a": "low", "b": "low"}),
]  # fmt: skip


@pytest.mark.parametrize(("told", "good", "bad"), CASES, ids=lambda v: v.get("rule", ""))
def test_a_rule_refuses_what_breaks_it_and_nothing_else(
    told: dict[str, Any], good: dict[str, Any], bad: dict[str, Any]
) -> None:
    rules = rules_from([{**told, "owner": "me"}])
    assert broken(good, rules) == []
    found = broken(bad, rules)
    assert found
    assert all(i.owner == "me" and i.message and i.mend and i.severity == "error" for i in found)


def test_a_persona_is_held_to_rules() -> None:
    rules = rules_from([{"rule": "range", "field": "traits.openness", "low": 0.5, "high": 1}])
    assert (
        validate(Persona("m", "Mia", traits={"openness": 0.4}), rules)[0].field == "traits.openness"
    )
    assert validate(Persona("m", "Mia", traits={"openness": 0.6}), rules) == []


def test_all_mistakes_of_rules_are_told_at_once() -> None:
    told = [
        {"rule": "rang"}, {"rule": "range", "field": 3, "hihg": 1, "low": 0},
        {"rule": "stage_by_age", "age": "a", "stage": "s", "table": {"x": [3]}}, "nothing",
        {"rule": "required", "fields": ["a"], "severity": "bad"},
    ]  # fmt: skip
    with pytest.raises(InputError) as caught:
        rules_from(told, source="spec.yaml")  # type: ignore[arg-type]
    text = str(caught.value)
    for part in ("did you mean 'range'", "'hihg'", "field is 3", "needs 'high'", "two ages",
                 "rule 4", "severity is 'bad'"):  # fmt: skip
        assert part in text
