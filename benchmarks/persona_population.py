"""Do populations keep what they promise, and at what rate?

`python -m benchmarks.persona_population [--large 50000] [--gate 1000000] [--out FILE.json]` makes
pupils by the shipped spec with a proposer that slips in 30 % of its drafts and copies an earlier
persona in 5 % of the slots, and looks at what comes out: broken rules, quota cells, pairs within
the gate's distance (every pair is compared), a run that is killed in the middle and resumed, the
rate in batches, and the gate alone with random hashes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import multiprocessing
import os
import random
import resource
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consistent_gen.checkpoints import write_json
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.persona.persona import Persona
from consistent_gen.persona.population.near_duplicates import DISTANCE, SimHash, SimHashGate
from consistent_gen.persona.population.proposing import Patch, ScriptedProposer
from consistent_gen.persona.population.quotas import Slot
from consistent_gen.persona.population.revising import Failure, ProposeValidateRevise, persona_from
from consistent_gen.persona.population.spec import Spec, read_spec
from consistent_gen.persona.population.taxonomy import Preset, Taxonomy, stratified_attributes
from consistent_gen.persona.population.writing import PopulationFolder, account, make_population
from consistent_gen.persona.rules import Issue, Values, validate, values_of

SLIP, COPIES = 0.3, 0.05
BATCH = 5_000


class Copying:
    """The scripted proposer that hands in what it wrote for an earlier slot, with a planted
    probability: at the first attempt, and as long as nobody complains.
    """

    def __init__(self, scripted: ScriptedProposer, share: float) -> None:
        self.scripted, self.share, self.owners = scripted, share, scripted.owners
        self.planted = 0
        self._kept: dict[str, dict[str, Patch]] = {}
        self._copied: dict[int, str] = {}
        self._seen: set[int] = set()

    def propose(self, slot: Slot, owner: str, board: Values, draw: random.Random) -> Patch:
        if owner == self.owners[0]:
            first = slot.number not in self._seen
            self._seen.add(slot.number)
            self._copied.pop(slot.number, None)
            coin = random.Random(f"copy/{slot.number}")
            if first and coin.random() < self.share and len(self._kept) > 10:
                self._copied[slot.number] = coin.choice(sorted(self._kept))
                self.planted += 1
        source = self._copied.get(slot.number)
        if source is not None and owner in self._kept[source]:
            return dict(self._kept[source][owner])
        return self.scripted.propose(slot, owner, board, draw)

    def revise(
        self, slot: Slot, owner: str, board: Values, issues: Sequence[Issue], draw: random.Random
    ) -> Patch:
        return self.scripted.revise(slot, owner, board, issues, draw)

    def accepted(self, persona: Persona, owners: Spec) -> None:
        """Remember what stands in an accepted persona, to copy it later."""
        values = values_of(persona)
        self._kept[persona.id] = {
            owner: {name: values[name] for name in fields if name in values}
            for owner, fields in owners.fields.items()
        }


def planted(spec: Spec, n: int) -> dict[str, Any]:
    """A population with copies, in memory."""
    copying = Copying(ScriptedProposer(spec.fields, spec.rules, slip=SLIP), COPIES)
    loop = ProposeValidateRevise(copying, spec.rules, persona_from, spec.text)
    slots, made, failures = spec.slots(n), list[Persona](), 0
    for slot in slots:
        result = loop.fill(slot, 1)
        if isinstance(result, Failure):
            failures += 1
        else:
            made.append(result)
            copying.accepted(result, spec)
    hashes = np.array([loop.hash(loop.text(values_of(p))) for p in made], np.uint64)
    close = sum(
        int(np.sum(np.bitwise_count(hashes[i + 1 :] ^ hashes[i]) <= DISTANCE))
        for i in range(len(hashes))
    )
    return {
        "personas": len(made),
        "failed": failures,
        "drafts_that_broke_a_rule": loop.tally.revised + loop.tally.broken,
        "violations": sum(bool(validate(p, spec.rules)) for p in made),
        "cells": sum(len(q.cells) for q in spec.quotas),
        "cells_off": len(account(made, spec.quotas, slots)["cells_off"]),
        "copies_planted": copying.planted,
        "near_duplicates_refused": loop.tally.duplicates,
        "pairs_within_distance": close,
    }


def _make(folder: str, n: int, spec: Spec) -> None:
    out = PopulationFolder(folder, {"count": n})
    make_population(spec.loop(), spec.slots(n), spec.quotas, out, seed=1)


def resumed(spec: Spec, n: int) -> dict[str, Any]:
    """A run that is killed twice against one that is not: are all files the same?"""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as place:
        whole, broken = f"{place}/whole", f"{place}/broken"
        _make(whole, n, spec)
        at = []
        for share in (0.3, 0.7):
            run = context.Process(target=_make, args=(broken, n, spec))
            run.start()
            while run.is_alive() and _size(broken) < share * _size(whole):
                time.sleep(0.005)
            assert run.pid is not None
            os.kill(run.pid, signal.SIGKILL)
            run.join()
            at.append(sum(f.read_bytes().count(b"\n") for f in Path(broken).glob("*.jsonl")))
        _make(broken, n, spec)
        same = _digest(whole) == _digest(broken)
    return {"personas": n, "killed_after": at, "identical_bytes": same}


def _size(folder: str) -> int:
    return sum(file.stat().st_size for file in Path(folder).glob("*.jsonl"))


def _digest(folder: str) -> dict[str, str]:
    files = sorted(Path(folder).iterdir())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def large(spec: Spec, n: int) -> dict[str, Any]:
    """Rates of one population in batches, written to disk."""
    with tempfile.TemporaryDirectory() as place:
        out = PopulationFolder(f"{place}/p", {"count": n})
        seconds, last, done = list[float](), [time.process_time()], [0]

        def tell(_: int) -> None:
            done[0] += 1
            if done[0] % BATCH == 0:
                now = time.process_time()
                seconds.append(now - last[0])
                last[0] = now

        loop = spec.loop()
        begun, worked = time.perf_counter(), time.process_time()
        report = make_population(loop, spec.slots(n), spec.quotas, out, seed=1, tell=tell)
        took, worked = time.perf_counter() - begun, time.process_time() - worked
        megabytes = _size(f"{place}/p") / 1e6
    return {
        "personas": report["personas"],
        "failed": report["failed"],
        "cells_off": len(report["cells_off"]),
        "near_duplicates_refused": loop.tally.duplicates,
        "per_second": n / took,
        "per_second_of_processor": n / worked,
        "per_second_of_processor_in_batches": [BATCH / s for s in seconds],
        "megabytes": megabytes,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def gate(n: int) -> dict[str, Any]:
    """The gate alone: random hashes, microseconds of the processor for each, in ten parts."""
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**64, n, np.uint64, endpoint=False)
    one, took, refused = SimHashGate(), [], 0
    for part in np.array_split(hashes, 10):
        begun = time.process_time()
        refused += sum(not one.admit(int(value)) for value in part)
        took.append((time.process_time() - begun) / len(part) * 1e6)
    flipped = [
        int(h) ^ sum(1 << int(b) for b in generator.choice(64, 3, False))
        for h in hashes[:: n // 1_000]
    ]
    missed = sum(one.near(value) is None for value in flipped)
    return {
        "hashes": n,
        "refused": refused,
        "microseconds": took,
        "three_bits_flipped": len(flipped),
        "of_these_missed": missed,
    }


def letters(spec: Spec, n: int = 1_000) -> dict[str, float]:
    """Which share of texts with so many words changed the gate still refuses."""
    loop, draw, hash = spec.loop(), random.Random(0), SimHash()
    told = [loop.fill(slot, 1) for slot in spec.slots(n)]
    texts = [spec.text(values_of(p)) for p in told if isinstance(p, Persona)]
    found: dict[str, float] = {}
    for words in (0, 1, 2, 4, 8):
        refused = 0
        for text in texts:
            parts = text.split()
            for place in draw.sample(range(len(parts)), words):
                parts[place] = draw.choice(draw.choice(texts).split())
            distance = (hash(text) ^ hash(" ".join(parts).upper())).bit_count()
            refused += distance <= DISTANCE
        found[str(words)] = refused / len(texts)
    return found


def attributes(rounds: int = 20) -> dict[str, Any]:
    """Shares of near, middle and far attributes for both presets, over a made-up tree whose
    categories are large, and how much of our own tree one choice of 100 takes.
    """
    letters, made = random.Random(0), HashedNgrams()
    words = dict.fromkeys("".join(letters.choices("abcdefghijklmnop", k=8)) for _ in range(1_200))
    tree = Taxonomy(tuple((f"root {i % 4}", word) for i, word in enumerate(words)))
    profile = "a beekeeper who sings in a choir"
    near = made.text([" ".join(leaf) for leaf in tree.leaves]) @ made.text([profile])[0]
    third: dict[tuple[str, ...], int] = {}
    for root in tree.roots:
        own = sorted(
            (i for i, leaf in enumerate(tree.leaves) if leaf[0] == root), key=lambda i: -near[i]
        )
        size = len(own) // 3
        third |= {tree.leaves[i]: min(2, rank // size) for rank, i in enumerate(own)}
    found: dict[str, Any] = {"our_leaves": len(Taxonomy.load().leaves)}
    presets: tuple[Preset, ...] = ("code", "paper")
    for preset in presets:
        counts = np.zeros(3)
        for seed in range(rounds):
            draw = random.Random(seed)
            chosen = stratified_attributes(profile, tree, 200, made, draw, preset=preset)
            counts += np.bincount([third[leaf] for leaf in chosen], minlength=3)
        found[preset] = [float(share) for share in counts / counts.sum()]
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--large", type=int, default=50_000)
    parser.add_argument("--gate", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    spec = dataclasses.replace(read_spec("students"), slip=SLIP)
    result = {
        "slip": SLIP,
        "planted": planted(spec, options.count),
        "resumed": resumed(spec, options.count),
        "words_changed": letters(spec),
        "attributes": attributes(),
        "large": large(spec, options.large),
        "gate": gate(options.gate),
    }
    print(result)
    if options.out is not None:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
