"""ConsistencyRank-format evaluation: does a score rank candidates against a reference as people do?

    python -m benchmarks.suite_ranking rank.jsonl --backend photo --out out/ranking.json

Each line is one instance: a reference, its candidates and their true order, best first:

    {"reference": "ref.png", "candidates": ["a.png", "b.png", "c.png", "d.png"],
     "ranking": [2, 0, 3, 1]}

Paths are relative to the file, numbers count candidates from 0. The published script correlates
order lists, which depends on how candidates are numbered; rank vectors do not. Both are printed,
with the share of places that hold the right candidate and of first and last ones that are right.
What cannot be read is told and left out of everything.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consistent_gen.checkpoints import write_json
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.registry import unknown_name
from consistent_gen.rewards import ranking
from consistent_gen.rewards.base import ImageSet
from consistent_gen.rewards.files import read_file
from consistent_gen.rewards.folder import BACKENDS, rewards_of
from consistent_gen.rewards.pair_network import PairNetworkReward
from consistent_gen.rewards.pairs import MatrixReward
from consistent_gen.rewards.statistics import bootstrap

PAIR = "pair_network"
MEASURES: dict[str, Callable[[Sequence[float], Sequence[float]], float | None]] = {
    "accuracy": ranking.positions_right,
    "tau": ranking.kendall,
    "rho": ranking.spearman,
    "tau of order lists, as published": ranking.kendall_of_order_lists,
    "rho of order lists, as published": ranking.spearman_of_order_lists,
    "first and last": ranking.top_and_bottom,
}


def read_instances(file: Path) -> list[dict[str, Any]]:
    """The instances of a file, checked.

    Raises:
        InputError: no such file, or a line that is none; names it.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError("cannot be read; expected JSON lines", source=file) from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            found.append(_instance(line, file, number))
    if not found:
        raise InputError("no instance in it", source=file)
    return found


def _instance(line: str, file: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
        reference, names, order = (value[k] for k in ("reference", "candidates", "ranking"))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            'expected {"reference": ..., "candidates": [...], "ranking": [...]}',
            source=file, line=number,
        ) from None  # fmt: skip
    texts = (
        isinstance(reference, str)
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
    )
    if (
        not texts
        or not isinstance(order, list)
        or len(names) < 2
        or (sorted(map(str, order)) != sorted(map(str, range(len(names)))))
    ):
        raise InputError(
            "ranking holds each candidate's number once, from 0, of two candidates at least",
            source=file, line=number,
        )  # fmt: skip
    return {"reference": reference, "candidates": names, "ranking": order, "line": number}


def truth_of(order: Sequence[int]) -> list[float]:
    """A score for each candidate from their order, best first."""
    return [float(len(order) - order.index(number)) for number in range(len(order))]


def evaluate(
    instances: Sequence[Mapping[str, Any]], folder: Path, reward: MatrixReward
) -> dict[str, Any]:
    """Every measure with its interval over instances, and what was left out."""
    values: dict[str, list[list[float]]] = {name: [] for name in MEASURES}
    left_out = []
    for one in instances:
        files = [read_file(folder / name) for name in (one["reference"], *one["candidates"])]
        broken = [f"{file.name}: {file.reason}" for file in files if file.picture is None]
        if broken:
            left_out.append(f"line {one['line']}: {'; '.join(broken)}")
            continue
        reference, *candidates = [file.picture for file in files if file.picture is not None]
        matrix = reward.matrix(ImageSet(pictures=tuple(candidates), references=(reference,)))
        scores = matrix[: len(candidates), len(candidates)]
        if not np.isfinite(scores).all():
            left_out.append(f"line {one['line']}: a candidate cannot be compared")
            continue
        truth = truth_of(one["ranking"])
        for name, measure in MEASURES.items():
            value = measure(scores.tolist(), truth)
            values[name].append([float("nan") if value is None else float(value)])
    count = len(values["accuracy"])
    means = {n: vars(bootstrap(v)) for n, v in values.items() if np.isfinite(v).any()}
    return {"score": reward.name, "instances": count, "means": means, "left_out": left_out}


def main(argv: Sequence[str] | None = None) -> int:
    """Rank and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--backend", default=PAIR, help=f"one of: {', '.join((PAIR, *BACKENDS))}")
    parser.add_argument("--model", default=None, help="a vision model's folder")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args(argv)
    try:
        found = evaluate(read_instances(options.file), options.file.parent, _reward(options))
    except ConsistentGenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if options.out is not None:
        write_json(options.out, found)
    print(f"{found['score']}, {found['instances']} instances")
    for name, value in found["means"].items():
        print(f"{name:<34} {value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})")
    for told in found["left_out"]:
        print(f"left out: {told}")
    return 0


def _reward(options: argparse.Namespace) -> MatrixReward:
    if options.backend == PAIR:
        return PairNetworkReward()
    if options.backend not in BACKENDS:
        raise unknown_name("backend", options.backend, (PAIR, *BACKENDS), source="--backend")
    from consistent_gen.world.naming import read_prompt
    from consistent_gen.world.palette import hue_anchors

    rewards = rewards_of(
        options.backend, model=options.model, asks=read_prompt, anchors=hue_anchors()
    )
    first = rewards[0]
    assert isinstance(first, MatrixReward), "a backend's first reward is its consistency"
    return first


if __name__ == "__main__":
    raise SystemExit(main())
