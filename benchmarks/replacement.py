"""Learn from conversations what a turn ends: `python -m benchmarks.replacement FOLDER...`.

Readers marked in each conversation which facts end, and in which turn. A pair of an older sentence
and a later turn is positive where the sentence is the one that tells such a fact and the turn the
one that ends it. Pairs of the same fact's turns that are neither are left out. What is printed
goes into `consistent_gen.memory.listening.replacement`; with ``--test FOLDER...`` the same weights
are tried on conversations that they were not learnt from.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.conversations import covered, stems
from consistent_gen.language.embedders import TextEmbedder, default_embedder
from consistent_gen.memory.listening.clauses import own_words, sentences
from consistent_gen.memory.listening.replacement import (
    LEAST,
    TOLD_BY,
    Statements,
    pair_features,
)

# The share of a fact's words that its sentence holds; the ridge of the regression.
_TELLS, _RIDGE = 0.25, 5.0
_STEPS = 30


@dataclass(frozen=True)
class Pairs:
    """Features (n, k), the turn of each pair, and 1 for an end, 0 for none, -1 for left out."""

    features: NDArray[np.float64]
    turns: NDArray[np.int64]
    labels: NDArray[np.int64]


def pairs_of(told: dict[str, Any], embedder: TextEmbedder) -> tuple[Pairs, list[str]]:
    """All pairs of one conversation, and the names of their features."""
    said = [
        (turn["n"], text)
        for turn in told["turns"]
        for text, asked in sentences(own_words(turn["text"]))
        if not asked
    ]
    numbers = np.array([n for n, _ in said])
    texts = [text for _, text in said]
    vectors = embedder.text(texts)
    whole = dict(zip((t["n"] for t in told["turns"]),
                     embedder.text([t["text"] for t in told["turns"]]), strict=True))  # fmt: skip
    turn_vectors = np.stack([whole[n] for n in numbers])
    ends, left_out = _marked(told, said)
    features, turns, labels = [], [], []
    names: list[str] = []
    for n in sorted(set(numbers.tolist())):
        old, new = np.flatnonzero(numbers < n), np.flatnonzero(numbers == n)
        if not len(old):
            continue
        older, later = (
            Statements([texts[i] for i in rows], vectors[rows], turn_vectors[rows])
            for rows in (old, new)
        )
        found = pair_features(older, later)
        names = list(found)
        features.append(np.stack([found[name] for name in names], axis=1))
        turns += [n] * len(old)
        labels += [1 if (i, n) in ends else -1 if (i, n) in left_out else 0 for i in old.tolist()]
    return Pairs(np.concatenate(features), np.array(turns), np.array(labels)), names


def _marked(
    told: dict[str, Any], said: Sequence[tuple[int, str]]
) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Pairs (sentence, turn) that end a fact, and those that are neither an end nor none."""
    ends: set[tuple[int, int]] = set()
    left_out: set[tuple[int, int]] = set()
    for fact in told["facts"]:
        if not fact.get("ended") or "ended_turn" not in fact:
            continue
        last = int(fact["ended_turn"])
        for source in fact["from"]:
            own = [i for i, (n, _) in enumerate(said) if n == source and n < last]
            shares = [(covered(stems(fact["fact"]), stems(said[i][1])), i) for i in own]
            if shares and max(shares)[0] >= _TELLS:
                ends.add((max(shares)[1], last))
            left_out |= {(i, n) for i in own for n in range(last, len(told["turns"]) + 1)}
    return ends, left_out


def fitted(
    features: NDArray[np.float64], labels: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean (k,), deviation (k,), weights (k + 1,), bias last, by Newton's method with a ridge."""
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-9
    rows = np.c_[(features - mean) / deviation, np.ones(len(features))]
    weights = np.zeros(rows.shape[1])
    weights[-1] = np.log(labels.mean() / (1 - labels.mean()))
    ridge = np.r_[np.full(len(weights) - 1, _RIDGE), 0.0]

    def loss(at: NDArray[np.float64]) -> float:
        scores = rows @ at
        penalty = (ridge * at * at).sum() / 2
        return float(np.logaddexp(0, scores).sum() - labels @ scores + penalty)

    for _ in range(_STEPS):
        p = np.exp(-np.logaddexp(0, -rows @ weights))
        gradient = rows.T @ (p - labels) + ridge * weights
        curvature = (rows * (p * (1 - p))[:, None]).T @ rows + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        # A full step overshoots where ends are as rare as here.
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-9:
            step /= 2
        weights -= step
    return mean, deviation, weights


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, print, and try on what was not fitted; see the module."""
    parser = argparse.ArgumentParser(description="which older fact a turn ends")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--test", nargs="*", type=Path, default=[])
    options = parser.parse_args(arguments)
    for folder in (*options.folders, *options.test):
        if not any(folder.glob("*.yaml")):
            parser.error(f"{folder} holds no conversation (*.yaml)")
    embedder = default_embedder()
    learnt, names = _all_pairs(options.folders, embedder)
    used = np.concatenate([p.labels for p in learnt]) >= 0
    features = np.concatenate([p.features for p in learnt])[used]
    labels = np.concatenate([p.labels for p in learnt])[used].astype(np.float64)
    mean, deviation, weights = fitted(features, labels)
    for name, *values in zip(names, mean, deviation, weights[:-1], strict=True):
        print(f'    "{name}": ({", ".join(f"{value:.4f}" for value in values)}),')
    print(f"_BIAS = {weights[-1]:.4f}")
    told = [names.index(name) for name in TOLD_BY]
    for part in _all_pairs(options.test, embedder)[0]:
        scores = (part.features - mean) / deviation @ weights[:-1] + weights[-1]
        scores[part.features[:, told].max(axis=1) <= 0] = -np.inf
        chosen = []
        for n in np.unique(part.turns):
            rows = np.flatnonzero(part.turns == n)
            best = rows[np.argmax(scores[rows])]
            chosen += [part.labels[best]] if scores[best] >= LEAST else []
        print(f"ended {chosen.count(1)} of {(part.labels == 1).sum()}, "
              f"of the same fact {chosen.count(-1)}, others {chosen.count(0)}")  # fmt: skip
    return 0


def _all_pairs(folders: Sequence[Path], embedder: TextEmbedder) -> tuple[list[Pairs], list[str]]:
    paths = [path for folder in folders for path in sorted(folder.glob("*.yaml"))]
    found: list[Pairs] = []
    names: list[str] = []
    for path in paths:
        pairs, names = pairs_of(yaml.safe_load(path.read_text(encoding="utf-8")), embedder)
        found.append(pairs)
    return found, names


if __name__ == "__main__":
    raise SystemExit(main())
