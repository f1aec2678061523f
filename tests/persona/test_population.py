"""Populations: exact quotas, no broken rule, no near-duplicate, equal bytes after a crash."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.persona_population import planted
from consistent_gen.errors import InputError
from consistent_gen.persona import Scripted
from consistent_gen.persona.population import (
    PopulationFolder,
    Quotas,
    SimHash,
    SimHashGate,
    allocate,
    make_population,
    read_spec,
    schedule,
)
from consistent_gen.persona.population.cohorts import cohort_agreement, scripted_pupils
from consistent_gen.persona.population.model_proposer import ModelProposer, read_object
from consistent_gen.persona.population.near_duplicates import DISTANCE
from consistent_gen.persona.population.revising import Failure
from consistent_gen.persona.population.spec import Spec, spec_from
from consistent_gen.persona.rules import values_of

SHARES = st.dictionaries(st.tuples(st.integers(0, 20)), st.floats(0.01, 5.0), min_size=1)


@given(st.integers(0, 500), SHARES)
def test_shares_become_whole_numbers_within_one(n: int, shares: dict[tuple[int], float]) -> None:
    counts = allocate(n, shares)  # type: ignore[arg-type]
    total = sum(shares.values())
    assert sum(counts.values()) == n
    assert all(abs(counts[c] - n * shares[c] / total) < 1.0 for c in shares)  # type: ignore[index]


def test_a_schedule_meets_every_quota_and_depends_on_its_seed() -> None:
    quotas = [Quotas.even({"a": [1, 2], "b": ["x", "y", "z"]}), Quotas(("c",), {(0,): 3, (1,): 1})]
    slots = schedule(100, quotas, seed=1)
    for quota in quotas:
        assert Counter(quota.cell(slot.fixed) for slot in slots) == quota.counts(100)
    assert slots == schedule(100, quotas, seed=1)
    assert slots != schedule(100, quotas, seed=2)
    assert len({slot.id for slot in slots}) == 100
    with pytest.raises(InputError, match="several quotas about a"):
        schedule(4, [Quotas.even({"a": [1]}), Quotas.even({"a": [2]})], seed=1)


@given(st.integers(0, 2**32), st.lists(st.integers(0, 63), unique=True, max_size=6))
def test_the_gate_refuses_within_three_bits_and_nothing_beyond(seed: int, bits: list[int]) -> None:
    generator = np.random.default_rng(seed)
    hashes = [int(h) for h in generator.integers(0, 2**64, 300, np.uint64, endpoint=False)]
    gate = SimHashGate(hashes[:200])  # sorted in
    assert all(gate.admit(value) for value in hashes[200:])  # compared one by one
    for value in (hashes[0], hashes[-1]):
        other = value ^ sum(1 << bit for bit in bits)
        assert (gate.near(other) is not None) == (len(bits) <= DISTANCE)


def test_the_gate_says_what_comparing_all_pairs_says() -> None:
    draw = random.Random(3)
    gate, accepted = SimHashGate(), []
    for _ in range(9_000):  # crowded, so that many are refused, on both sides of the index
        value = draw.getrandbits(18) * 0x40010004001 & 2**64 - 1
        known = np.array(accepted, np.uint64) ^ np.uint64(value)
        near = bool((np.bitwise_count(known) <= DISTANCE).any())
        assert gate.admit(value) == (not near)
        if not near:
            accepted.append(value)
    assert 5_000 < len(accepted) < 8_500


def test_texts_that_differ_in_a_word_lie_nearer_than_others() -> None:
    hash = SimHash()
    text = "Nora keeps bees behind the school and sells the honey to her aunts on Sundays in May."
    assert hash(text) == hash(f"  {text.upper()} ")
    near = (hash(text) ^ hash(text.replace("Sundays", "Fridays"))).bit_count()
    far = (hash(text) ^ hash("A tall pilot hates rain, crowds, and everything sweet.")).bit_count()
    assert near < far / 2
    assert hash("") == 0


@pytest.fixture(scope="module")
def spec() -> Spec:
    return dataclasses.replace(read_spec("students"), slip=0.3)


def test_600_slots_by_a_proposer_that_slips_and_copies(spec: Spec) -> None:
    found = planted(spec, 600)  # the check of HACHIMI
    assert found["personas"] == 600
    assert found["drafts_that_broke_a_rule"] > 100
    assert found["violations"] == found["cells_off"] == found["failed"] == 0
    assert found["copies_planted"] >= 15
    assert found["near_duplicates_refused"] >= 10
    assert found["pairs_within_distance"] == 0


def run(folder: Path, spec: Spec, n: int, stop: int | None = None) -> None:
    out = PopulationFolder(folder, {"count": n})

    def tell(done: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    make_population(spec.loop(), spec.slots(n), spec.quotas, out, seed=1, tell=tell)


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, spec: Spec) -> None:
    run(tmp_path / "whole", spec, 130)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", spec, 130, stop=70)
    last = tmp_path / "broken" / "personas_0002.jsonl"
    last.write_bytes(last.read_bytes()[:-200])  # killed in the middle of a line
    run(tmp_path / "broken", spec, 130)
    run(tmp_path / "broken", spec, 130)  # nothing left to do
    names = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "broken").iterdir())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()
    report = json.loads((tmp_path / "whole" / "report.json").read_text())
    assert report == {"personas": 130, "slots": 130, "cells_off": [], "failed": 0}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    PopulationFolder(tmp_path / "a", {"seed": 1})
    with pytest.raises(InputError, match="another spec"):
        PopulationFolder(tmp_path / "a", {"seed": 2})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        PopulationFolder(tmp_path / "mine", {"seed": 1})


def small(rule: dict[str, object], **more: object) -> Spec:
    return spec_from({
        "count": 4, "seed": 1, "owners": {"who": {"mood": {"choice": ["good", "bad"]}}},
        "rules": [{"owner": "who", **rule}], **more,
    })  # fmt: skip


def test_a_slot_that_cannot_be_filled_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    never = small({"rule": "one_of", "field": "mood", "values": ["quiet"]})
    result = never.loop().fill(never.slots()[0], 1)
    assert isinstance(result, Failure)
    assert "choose one of quiet" in result.reasons[0]
    # Two texts exist, so of four slots two stay empty, and their cells are short.
    two = small({"rule": "required", "fields": ["mood"]}, quotas=[{"even": {"n": [1]}}],
                compare=["mood"])  # fmt: skip
    run(tmp_path / "p", two, 4)
    report = json.loads((tmp_path / "p" / "report.json").read_text())
    assert (report["personas"], report["failed"]) == (2, 2)
    assert report["cells_off"] == [{"cell": "1", "wanted": 4, "there": 2}]
    lines = (tmp_path / "p" / "failures.jsonl").read_text().splitlines()
    assert "nearly the same" in json.loads(lines[0])["reasons"][0]
    before = (tmp_path / "p" / "failures.jsonl").read_bytes()
    run(tmp_path / "p", two, 4)
    assert (tmp_path / "p" / "failures.jsonl").read_bytes() == before


def test_a_model_fills_fields_and_what_it_garbles_is_counted() -> None:
    garbled = 0.3

    def answers(messages: object, draw: random.Random) -> str:
        if draw.random() < garbled:
            return "I would rather not."
        mood = draw.choice(["good", "good", "odd"])
        text = json.dumps({"mood": mood, "grade": 99, "note": "x" * draw.randint(1, 9)})
        return draw.choice([text, f"Sure!\n```json\n{text}\n```", f"Here: {text[:-1]},}} Done."])

    wanted = small({"rule": "one_of", "field": "mood", "values": ["good"]},
                   quotas=[{"even": {"grade": [1, 2]}}])  # fmt: skip
    loop = wanted.loop(Scripted(answers))
    loop.gate.admit = lambda value: True  # type: ignore[method-assign]  # one word has no variety
    made = [loop.fill(slot, 1) for slot in wanted.slots(400)]
    assert isinstance(loop.proposer, ModelProposer)
    asked = loop.proposer.asked
    assert abs(asked.unreadable / asked.calls - garbled) < 0.06
    kept = [values_of(p) for p in made if not isinstance(p, Failure)]
    assert {(v["mood"], v["grade"]) for v in kept if "mood" in v} == {("good", 1), ("good", 2)}


def test_objects_are_found_in_what_models_write() -> None:
    for reply in ('{"a": 1}', 'Yes: {"a": 1,} ok', '```json\n{"a": 1}\n```'):
        assert read_object(reply) == {"a": 1}
    for reply in ("", "no", "{'a': 1}", "[1]", "{" * 5_000):
        assert read_object(reply) is None


def test_all_mistakes_of_a_spec_are_told_at_once() -> None:
    told = {
        "cuont": 3, "seed": -1, "attempts": 0, "slip": 2, "quotas": [{"even": {}}],
        "compare": ["height"],
        "owners": {"who": {"mood": {"chioce": []}, "age": {"number": {"low": 1}}}},
        "rules": [{"rule": "required", "fields": ["x"], "owner": "nobody"}],
    }  # fmt: skip
    with pytest.raises(InputError) as caught:
        spec_from(told, source="s.yaml")
    text = str(caught.value)
    for part in ("mean 'count'", "seed is -1", "attempts is 0", "slip is 2", "quota 1", "'chioce'",
                 "who.age", "nobody", "height"):  # fmt: skip
        assert part in text


def test_constructs_that_agree_with_people_are_told_from_noise_and_never_averaged() -> None:
    """Pupils with planted cohort means: signal passes, noise and the wrong way are called weak."""
    signal = {"agrees": 1.0, "noise": 0.0, "wrong way": -1.0}
    report = cohort_agreement(*scripted_pupils(1, signal))
    assert len(report.measurements) == 2 * len(signal)  # and none over all of them
    assert report["agrees, Spearman"].low > 0.6 and report["agrees, Pearson"].value > 0.9
    assert report["wrong way, Pearson"].high < -0.6
    for name in ("noise", "wrong way"):
        assert report[f"{name}, Spearman"].note.startswith("weak")
    shown = [cohort_agreement(*scripted_pupils(seed, {"noise": 0.0})) for seed in range(60)]
    assert sum(not r["noise, Spearman"].note.startswith("weak") for r in shown) <= 6
    made, people = scripted_pupils(1, {"a": 1.0}, cohorts=3)
    with pytest.raises(InputError) as caught:
        cohort_agreement(made | {"b": {}}, people)
    told = str(caught.value)
    assert "'b' is on one side" in told and "3 cohorts; expected 4" in told
