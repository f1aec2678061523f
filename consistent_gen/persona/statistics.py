"""Intervals and tests of the measures of personas, each as a small value; all intervals are 95 %.

What resamples prompts and seeds, and Holm's correction, stand in
`consistent_gen.rewards.statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consistent_gen.errors import MissingExtraError
from consistent_gen.rewards.statistics import Interval, bootstrap

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, the p-value of "it is null", and how many cases it is from."""

    value: float
    low: float
    high: float
    p: float
    n: int

    @property
    def positive(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0.0


NOTHING = Estimate(math.nan, math.nan, math.nan, math.nan, 0)


def scipy_stats() -> Any:
    """`scipy.stats`, imported when it is needed.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        import scipy.stats
    except ModuleNotFoundError:
        raise MissingExtraError("scipy", extra="persona", what="measuring personas") from None
    return scipy.stats


def share(hits: int, n: int) -> Estimate:
    """A share with Wilson's interval (1927); p is of a share of one half, exact."""
    if n == 0:
        return NOTHING
    stats = scipy_stats()
    test = stats.binomtest(hits, n, 0.5)
    limits = test.proportion_ci(LEVEL, method="wilson")
    return Estimate(hits / n, float(limits.low), float(limits.high), float(test.pvalue), n)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The interval of `share` alone, without scipy; n is 1 or more."""
    z = NormalDist().inv_cdf((1.0 + LEVEL) / 2.0)
    middle = (hits + z * z / 2.0) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4.0)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def share_difference(hits: int, n: int, other_hits: int, other_n: int) -> Estimate:
    """A share less another one of other cases; Newcombe's interval (1998, method 10), Fisher's."""
    if n == 0 or other_n == 0:
        return NOTHING
    a, b = share(hits, n), share(other_hits, other_n)
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    table = [[hits, n - hits], [other_hits, other_n - other_hits]]
    return Estimate(value, low, high, float(scipy_stats().fisher_exact(table).pvalue), n + other_n)


def mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """The mean of independent cases with its bootstrap interval; p is Student's, of a mean of 0."""
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 2:
        return Estimate(known[0], math.nan, math.nan, math.nan, 1) if known else NOTHING
    found: Interval = bootstrap([[value] for value in known], resamples=2_000, seed=seed)
    constant = len(set(known)) == 1
    p = float(known[0] == 0.0) if constant else float(scipy_stats().ttest_1samp(known, 0.0).pvalue)
    return Estimate(found.mean, found.low, found.high, p, len(known))


def line(x: Sequence[float], y: Sequence[float]) -> Estimate:
    """The slope of y over x by least squares; its interval allows for unequal spread (HC3).

    NaN where x does not vary. With y constant the slope is 0, surely.
    """
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    kept = np.isfinite(xs) & np.isfinite(ys)
    xs, ys = xs[kept], ys[kept]
    n = len(xs)
    if n < 3 or float(np.ptp(xs)) == 0.0:
        return NOTHING
    d = xs - xs.mean()
    slope = float(d @ ys / (d @ d))
    residuals = ys - ys.mean() - slope * d
    leverage = np.minimum(1.0 / n + d**2 / (d @ d), 1.0 - 1e-9)
    se = math.sqrt(float(((d * residuals / (1.0 - leverage)) ** 2).sum())) / float(d @ d)
    t = scipy_stats().t
    half = float(t.ppf((1.0 + LEVEL) / 2.0, n - 2)) * se
    p = 2.0 * float(t.sf(abs(slope) / se, n - 2)) if se > 0.0 else float(slope == 0.0)
    return Estimate(slope, slope - half, slope + half, p, n)


def correlation(x: Sequence[float], y: Sequence[float], *, ranks: bool = False) -> Estimate:
    """Pearson's r, or Spearman's rho of ranks, with Fisher's interval; NaN where one is constant.

    The standard error of rho's transform is by Bonett and Wright (Psychometrika 2000).
    """
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    kept = np.isfinite(xs) & np.isfinite(ys)
    xs, ys = xs[kept], ys[kept]
    n = len(xs)
    if n < 4 or float(np.ptp(xs)) == 0.0 or float(np.ptp(ys)) == 0.0:
        return NOTHING
    stats = scipy_stats()
    found = stats.spearmanr(xs, ys) if ranks else stats.pearsonr(xs, ys)
    r = float(found.statistic)
    z = math.atanh(min(max(r, -1.0 + 1e-12), 1.0 - 1e-12))
    se = math.sqrt((1.0 + r * r / 2.0 if ranks else 1.0) / (n - 3))
    half = float(stats.norm.ppf((1.0 + LEVEL) / 2.0)) * se
    return Estimate(r, math.tanh(z - half), math.tanh(z + half), float(found.pvalue), n)


def between_variance(rates: Sequence[float], noise: float) -> Estimate:
    """The variance between groups behind noisy rates: their sample variance less the noise's.

    noise: the mean variance of one rate about its own truth. The interval takes the sum of both as
    chi-squared, as it is for rates that spread normally; p is of no variance at all.
    """
    k = len(rates)
    if k < 2:
        return NOTHING
    chi2 = scipy_stats().chi2(k - 1)
    total = float(np.var(np.asarray(rates, float), ddof=1))
    low, high = (
        (k - 1) * total / float(chi2.ppf(q)) - noise for q in ((1 + LEVEL) / 2, (1 - LEVEL) / 2)
    )
    p = float(chi2.sf((k - 1) * total / noise)) if noise > 0.0 else float(total == 0.0)
    return Estimate(total - noise, low, high, p, k)


def mcnemar(only_first: int, only_second: int) -> float:
    """p of "both are right equally often", from the cases where just one is: exact below 25 of
    them (McNemar, 1947), else chi-squared with Edwards' correction.
    """
    n = only_first + only_second
    if n == 0:
        return 1.0
    stats = scipy_stats()
    if n < 25:
        return float(stats.binomtest(only_first, n, 0.5).pvalue)
    return float(stats.chi2(1).sf((abs(only_first - only_second) - 1.0) ** 2 / n))


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Of two vectors; 0 where one of them is."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0.0 else 0.0
