"""How sure a difference is: intervals over prompts and seeds, non-inferiority, many tests at once.

A measurement is a list of prompts, each a list of values by seed. Two systems are compared on the
same prompts and seeds. What could not be scored is NaN and is left out of both systems.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from consistent_gen.errors import InputError
from consistent_gen.rewards.base import Floats

Values = Sequence[Sequence[float]]
RESAMPLES = 10_000
SKEWED = 0.5  # skewness of the resampled means above which percentiles are corrected (BCa)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval. above: the share of resamples above zero."""

    mean: float
    low: float
    high: float
    above: float


def bootstrap(values: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean over prompts of means over seeds, with its interval.

    Prompts are resampled, then seeds inside each, as the values are nested so (Davison and Hinkley,
    "Bootstrap methods and their application", section 3.8). With few seeds that differ a lot the
    interval is somewhat too wide, never too narrow.

    Raises:
        InputError: nothing could be scored.
    """
    rows = [[v for v in row if np.isfinite(v)] for row in values]
    rows = [row for row in rows if row]
    if not rows:
        raise InputError("no value to take an interval of; nothing could be scored")
    means = resampled_means(rows, resamples, seed)
    prompts = np.array([np.mean(row) for row in rows])
    centre = float(prompts.mean())
    low, high = limits(means, centre, (prompts.sum() - prompts) / max(len(prompts) - 1, 1))
    return Interval(centre, low, high, float((means > 0.0).mean()))


def paired(
    candidate: Values, baseline: Values, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The interval of candidate less baseline, on the same prompts and seeds.

    Raises:
        InputError: they have other prompts or seeds, or no pair could be scored.
    """
    shapes = [[len(row) for row in values] for values in (candidate, baseline)]
    if shapes[0] != shapes[1]:
        raise InputError("the two systems have other numbers of prompts or seeds; pair them first")
    differences = [
        [a - b for a, b in zip(x, y, strict=True)] for x, y in zip(candidate, baseline, strict=True)
    ]
    return bootstrap(differences, resamples=resamples, seed=seed)


def resampled_means(rows: Values, resamples: int, seed: int) -> Floats:
    """Means of `resamples` draws: prompts with replacement, then seeds inside each."""
    rng = np.random.default_rng(seed)
    counts = np.array([len(row) for row in rows])
    table = np.zeros((len(rows), counts.max()))
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    total = np.zeros(resamples)
    for _ in rows:
        prompt = rng.integers(0, len(rows), resamples)
        n = counts[prompt]
        picks = (rng.random((resamples, counts.max())) * n[:, None]).astype(int)
        drawn = np.take_along_axis(table[prompt], picks, 1)
        kept = np.arange(counts.max()) < n[:, None]
        total += (drawn * kept).sum(1) / n
    found: Floats = total / len(rows)
    return found


def limits(resampled: Floats, centre: float, left_out: Floats) -> tuple[float, float]:
    """Percentiles, a little further out for few cases (Hesterberg, American Statistician 2015,
    section 4.1.3); corrected for bias and acceleration (BCa) where what is resampled is skewed.

    resampled: a statistic of each resample; centre: of the cases as they are; left_out: without
    each case in turn.
    """
    spread = resampled.std()
    outer = NormalDist().cdf(-_students_t(len(left_out)))
    shares = np.array([outer, 1.0 - outer])
    if spread > 0 and abs(float((((resampled - resampled.mean()) / spread) ** 3).mean())) > SKEWED:
        normal = NormalDist()
        below = float(np.clip((resampled < centre).mean(), 1e-4, 1 - 1e-4))
        bias = normal.inv_cdf(below)
        d = left_out.mean() - left_out
        bend = float((d**3).sum() / (6.0 * max(float((d**2).sum()), 1e-12) ** 1.5))
        z = [bias + normal.inv_cdf(float(share)) for share in shares]
        shares = np.array([normal.cdf(bias + x / (1.0 - bend * x)) for x in z])
    low, high = np.quantile(resampled, shares)
    return float(low), float(high)


def _students_t(n: int) -> float:
    """sqrt(n / (n - 1)) times the 97.5 % point of Student's t with n - 1 degrees of freedom, by
    its expansion around the normal one (Abramowitz and Stegun 26.7.5).
    """
    if n < 3:
        return 3.0  # nothing that is resampled from two values is an interval
    z, v = NormalDist().inv_cdf(0.975), n - 1
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    return math.sqrt(n / v) * t


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values: each may be read as if it were the only test (Holm, 1979)."""
    ordered = sorted(p, key=lambda name: p[name])
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - rank) * p[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p}
