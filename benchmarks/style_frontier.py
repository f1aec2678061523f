"""The synchrony-stability frontier (arXiv 2510.00339) of all five policies, on real turns.

    python -m benchmarks.style_frontier FOLDER... [--out FILE.json]

FOLDER holds conversations as `benchmarks.conversations` reads them, or text files with one turn of
a user on each line and an empty line between users (DailyDialog, Persona-Chat and
EmpatheticDialogues are easily brought into that form; none is shipped). Each policy runs over every
user with each of its constants; its measures are those of `measure_policy`, averaged over users.
A register flip is a turn at which one of our eight dimensions jumped by more than `FLIP`. On the
frontier are the settings that no other setting beats in synchrony and stability at once.

The loop is open: u is the style of the person's own turns, read by counting words, and no model
writes replies. The paper's dimensions, constants and corpora are not ours, so what is compared is
the order of the policies and not their values.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from consistent_gen.checkpoints import write_json
from consistent_gen.memory.talk.style_policy import (
    FLIP,
    Style,
    StylePolicy,
    StyleReport,
    measure_policy,
    read_style,
)

ALPHAS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
KAPPAS = (0.02, 0.05, 0.1, 0.2, 0.4)
DELTAS = (0.1, 0.2, 0.3, 0.5, 0.7)
MEASURES = ("synchrony", "stability", "churn", "register_flips")


def sweep() -> Iterator[StylePolicy]:
    """Every policy with every one of its constants, and the one that never moves."""
    yield StylePolicy(name="static")
    yield StylePolicy(name="uncapped")
    for kappa in KAPPAS:
        yield StylePolicy(name="cap", kappa=kappa)
    for alpha in ALPHAS:
        yield StylePolicy(name="ema", alpha=alpha)
    for delta in DELTAS:
        yield StylePolicy(name="dead-band", delta=delta)
    for alpha in ALPHAS:
        for kappa in KAPPAS:
            yield StylePolicy(name="hybrid", alpha=alpha, kappa=kappa)


def constants(policy: StylePolicy) -> dict[str, float]:
    """The constants that this policy uses."""
    used = {"cap": ("kappa",), "ema": ("alpha",), "dead-band": ("delta",),
            "hybrid": ("alpha", "kappa")}.get(policy.name, ())  # fmt: skip
    return {name: getattr(policy, name) for name in used}


@dataclass(frozen=True)
class StyleSetting:
    """A policy with its constants, its mean measures over users, and whether none beats it."""

    policy: str
    constants: dict[str, float]
    measures: dict[str, float]
    best: bool = False


def frontier(users: Sequence[Sequence[Style]]) -> list[StyleSetting]:
    """All settings; those on the frontier are marked, ties included."""
    found = []
    for policy in sweep():
        reports = [measure_policy(policy, styles) for styles in users]
        means = {name: _mean(reports, name) for name in MEASURES}
        found.append(StyleSetting(policy.name, constants(policy), means))
    return [
        StyleSetting(
            one.policy, one.constants, one.measures, not any(_beats(o, one) for o in found)
        )
        for one in found
    ]


def _mean(reports: Sequence[StyleReport], name: str) -> float:
    return round(float(np.mean([getattr(report, name) for report in reports])), 4)


def _beats(one: StyleSetting, other: StyleSetting) -> bool:
    pairs = [(one.measures[n], other.measures[n]) for n in ("synchrony", "stability")]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def users_of(paths: Sequence[Path]) -> list[list[Style]]:
    """The styles of each user's turns, of users with two or more."""
    texts: list[list[str]] = []
    for path in paths:
        content = path.read_text(encoding="utf-8")
        if path.suffix == ".yaml":
            texts.append([turn["text"] for turn in yaml.safe_load(content)["turns"]])
        else:
            texts += [block.splitlines() for block in content.split("\n\n")]
    spoken = [[line for line in user if line.strip()] for user in texts]
    return [[read_style(line) for line in user] for user in spoken if len(user) > 1]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the frontier and what follows from each policy's default constants."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    paths = [p for folder in options.folders for p in sorted(folder.glob("*.yaml"))]
    paths += [p for folder in options.folders for p in sorted(folder.glob("*.txt"))]
    users = users_of(paths)
    if not users:
        parser.error(f"no user with two turns in {', '.join(map(str, options.folders))}")
    settings = frontier(users)
    for one in settings:
        if one.best:
            told = " ".join(f"{name} {value}" for name, value in one.constants.items())
            print(f"{one.policy} {told}: {one.measures}")
    result: dict[str, Any] = {
        "users": len(users), "turns": sum(map(len, users)), "flip": round(FLIP, 4),
        "settings": [vars(one) for one in settings],
    }  # fmt: skip
    if options.out is not None:
        write_json(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
