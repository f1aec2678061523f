"""Several metrics at once, and never one number that hides a conflict.

"Embracing Contradiction" (arXiv 2505.18139) argues for metrics that disagree as separate
objectives with stated tolerances; its subject is responsible AI, and taking it to pictures is ours.
Points are n m, one row a system, one column a metric, and higher is better in every column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from consistent_gen.rewards.base import Floats

Z95 = 1.959964


def front(points: Floats) -> NDArray[np.bool_]:
    """Which points no other point dominates (as good in everything, better in something)."""
    as_good = (points[:, None] >= points[None]).all(2)  # row i is as good as row j
    better = (points[:, None] > points[None]).any(2)
    dominated: NDArray[np.bool_] = np.asarray((as_good & better).any(0))
    return ~dominated


def hypervolume(points: Floats, reference: Floats) -> float:
    """Volume that the points dominate above `reference` (m), by slicing along the last metric.

    What does not exceed the reference in every metric adds nothing.
    """
    above = points[(points > reference).all(1)]
    if not len(above):
        return 0.0
    if points.shape[1] == 1:
        return float(above.max() - reference[0])
    above = above[np.argsort(-above[:, -1])]
    edges = [*above[:, -1], float(reference[-1])]
    total = 0.0
    for i in range(len(above)):
        height = edges[i] - edges[i + 1]
        if height > 0.0:
            total += height * hypervolume(above[: i + 1, :-1], reference[:-1])
    return total


def membership(draws: Floats) -> Floats:
    """Probability of each system to be on the front; draws: b n m, one resample of all values a
    row (the same prompts for all systems).
    """
    found: Floats = np.mean([front(points) for points in draws], axis=0)
    return found


def tolerance(repeats: Sequence[Sequence[float]]) -> float:
    """What a metric differs by when nothing differs: from repeats of the same systems.

    repeats: a system's values under several seeds, for each system. A difference of two means of
    one run each stays within this in 95 % of cases.
    """
    spreads = [np.var(values, ddof=1) for values in repeats if len(values) > 1]
    return float(Z95 * np.sqrt(2.0 * np.mean(spreads))) if spreads else 0.0


@dataclass(frozen=True)
class MetricConflict:
    """`better` is ahead in `gains` and behind in `losses`, each by more than its tolerance."""

    better: str
    than: str
    gains: tuple[str, ...]
    losses: tuple[str, ...]


def conflicts(
    systems: Mapping[str, Mapping[str, float]], tolerances: Mapping[str, float]
) -> list[MetricConflict]:
    """Every pair of systems that the metrics disagree about; the reader decides, not a sum."""
    found = []
    for (a, x), (b, y) in combinations(systems.items(), 2):
        shared = [name for name in x if name in y]
        up = tuple(n for n in shared if x[n] - y[n] > tolerances.get(n, 0.0))
        down = tuple(n for n in shared if y[n] - x[n] > tolerances.get(n, 0.0))
        if up and down:
            found.append(MetricConflict(a, b, up, down))
    return found


@dataclass(frozen=True)
class ParetoStanding:
    """One system's vector, and how surely it is on the front. values keep the metrics' order."""

    name: str
    values: Mapping[str, float]
    on_front: bool
    probability: float


def standings(
    samples: Mapping[str, Mapping[str, Sequence[float]]], *, resamples: int = 2000, seed: int = 0
) -> list[ParetoStanding]:
    """Vectors of several systems with front and membership.

    samples: system -> metric -> a value per prompt; higher is better; the same prompts for all.
    """
    names, metrics = list(samples), list(next(iter(samples.values())))
    values = np.array([[samples[s][m] for m in metrics] for s in names], float)  # n m p
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, values.shape[2], (resamples, values.shape[2]))
    draws = np.stack([values[:, :, pick].mean(2) for pick in picks])
    means = values.mean(2)
    on, probable = front(means), membership(draws)
    return [
        ParetoStanding(name, dict(zip(metrics, means[i].tolist(), strict=True)), bool(on[i]),
                 float(probable[i]))
        for i, name in enumerate(names)
    ]  # fmt: skip
