"""Intervals and tests of all measures of personas, each as a small value; all intervals are 95 %.

What resamples prompts and seeds, the limits of resampled values and Holm's correction stand in
`consistent_gen.rewards.statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consistent_gen.errors import MissingExtraError
from consistent_gen.persona.measurement import Direction, MeasuredItem, Measurement
from consistent_gen.rewards.statistics import limits

LEVEL = 0.95
RESAMPLES = 2_000
AT_ONCE = 250  # resamples in memory
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, how many cases it is from, and the p-value of "it is null", NaN
    where that is not told.
    """

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
    """A share with Wilson's interval (1927), which has a width at 0 and at 1, too."""
    if n == 0:
        return NOTHING
    p, z = hits / n, NormalDist().inv_cdf((1.0 + LEVEL) / 2.0)
    middle = (p + z * z / (2 * n)) / (1.0 + z * z / n)
    half = z * math.sqrt(p * (1.0 - p) / n + z * z / (4 * n * n)) / (1.0 + z * z / n)
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return Estimate(p, 0.0 if hits == 0 else low, 1.0 if hits == n else high, math.nan, n)


def share_difference(hits: int, n: int, other_hits: int, other_n: int) -> Estimate:
    """A share less another one of other cases; Newcombe's interval (1998, method 10), Fisher's."""
    if n == 0 or other_n == 0:
        return NOTHING
    a, b = share(hits, n), share(other_hits, other_n)
    table = [[hits, n - hits], [other_hits, other_n - other_hits]]
    p = float(scipy_stats().fisher_exact(table).pvalue)
    return Estimate(*_newcombe(a, b, 0.0), p, n + other_n)


def paired_share_difference(first: Sequence[bool], second: Sequence[bool]) -> Estimate:
    """A share less another one of the same cases; Newcombe's interval for pairs (1998, "Improved
    confidence intervals for the difference between binomial proportions based on paired data",
    method 10), McNemar's p.
    """
    n = len(first)
    if n == 0:
        return NOTHING
    x, y = np.asarray(first, bool), np.asarray(second, bool)
    both, neither = int((x & y).sum()), int((~x & ~y).sum())
    only_first, only_second = int((x & ~y).sum()), int((~x & y).sum())
    spread = math.sqrt(float(x.sum() * (~x).sum()) * float(y.sum() * (~y).sum()))
    together = float(both * neither - only_first * only_second)
    if together > 0:
        together = max(together - n / 2.0, 0.0)
    phi = together / spread if spread > 0.0 else 0.0
    found = _newcombe(share(int(x.sum()), n), share(int(y.sum()), n), phi)
    return Estimate(*found, mcnemar(only_first, only_second), n)


def _newcombe(a: Estimate, b: Estimate, phi: float) -> tuple[float, float, float]:
    """a - b from the limits of both, squared and added; phi: how far cases go together."""
    value = a.value - b.value
    down, up = (a.value - a.low, b.high - b.value), (a.high - a.value, b.value - b.low)
    low, high = (math.sqrt(max(s * s - 2.0 * phi * s * t + t * t, 0.0)) for s, t in (down, up))
    return value, value - low, value + high


def resampled(
    statistic: Callable[[Floats], Floats], n: int, *, seed: int = 0
) -> tuple[float, float, float]:
    """Any statistic of n cases with its bootstrap interval: (value, low, high).

    statistic: from weights [r n] (how often each resample has each case) to values [r]; resamples
    for which it is NaN are left out. NaN limits for fewer than two cases.
    """
    whole = np.ones((1, n))
    value = float(statistic(whole)[0])
    if n < 2:
        return value, math.nan, math.nan
    rng = np.random.default_rng(seed)
    values = np.concatenate([statistic(_weights(rng, n)) for _ in _blocks(RESAMPLES)])
    kept = np.isfinite(values)
    if math.isnan(value) or not kept.any():
        return value, math.nan, math.nan
    left_out = np.concatenate(
        [statistic(whole - np.eye(min(AT_ONCE, n - at), n, at)) for at in _blocks(n)]
    )
    left_out = np.where(np.isfinite(left_out), left_out, value)
    return value, *limits(values[kept], value, left_out)


def _blocks(n: int) -> range:
    return range(0, n, AT_ONCE)


def _weights(rng: np.random.Generator, n: int) -> Floats:
    """How often each of n cases is drawn in each of `AT_ONCE` resamples."""
    drawn = rng.integers(0, n, (AT_ONCE, n)) + n * np.arange(AT_ONCE)[:, None]
    return np.bincount(drawn.ravel(), minlength=AT_ONCE * n).reshape(AT_ONCE, n).astype(float)


def mean(
    values: Sequence[float], *, groups: Sequence[Hashable] | None = None, seed: int = 0
) -> Estimate:
    """The mean of the finite ones among `values`, with its interval.

    groups: to which dialogue, user or the like each value belongs, where those of one are not
    independent; groups are resampled then, with all of theirs, and where all values are alike a
    group counts as one case. Zeros and ones of independent cases are a share (Wilson's interval);
    all else is resampled. NaN limits for a single case or group.
    """
    kept = [i for i, value in enumerate(values) if math.isfinite(value)]
    known = np.array([values[i] for i in kept], float)
    if not kept:
        return NOTHING
    binary = bool(np.isin(known, (0.0, 1.0)).all())
    if groups is None:
        if binary:
            return share(int(known.sum()), len(known))
        if len(known) < 2:
            return Estimate(float(known[0]), math.nan, math.nan, math.nan, 1)
        n = len(known)
        return Estimate(*resampled(lambda w: w @ known / w.sum(1), n, seed=seed), math.nan, n)
    of, at = np.unique([str(groups[i]) for i in kept], return_inverse=True)
    if binary and np.ptp(known) == 0.0:
        alike = share(int(known[0]) * len(of), len(of))
        return Estimate(alike.value, alike.low, alike.high, math.nan, len(known))
    sums, counts = np.bincount(at, known), np.bincount(at)
    value, low, high = resampled(lambda w: (w @ sums) / (w @ counts), len(of), seed=seed)
    return Estimate(value, low, high, math.nan, len(known))


def p_of_zero_mean(values: Sequence[float]) -> float:
    """Student's p of "the mean is 0", of independent cases."""
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 2:
        return math.nan
    if len(set(known)) == 1:
        return float(known[0] == 0.0)
    return float(scipy_stats().ttest_1samp(known, 0.0).pvalue)


def measured(
    name: str, values: Sequence[float], *, groups: Sequence[Hashable] | None = None,
    direction: Direction = "higher", failed: int = 0, tools: Mapping[str, str] | None = None,
    items: Sequence[MeasuredItem] = (), null: float = math.nan, reference: float = math.nan,
    unit: str = "", note: str = "", seed: int = 0,
) -> Measurement:  # fmt: skip
    """A `Measurement` from one value a case: their `mean` with its interval.

    values: NaN for a case that failed; it is left out of the mean and counted, beside `failed`.
    """
    found = mean(values, groups=groups, seed=seed)
    return Measurement(
        name, found.value, found.low, found.high, found.n, failed + len(values) - found.n,
        direction, unit, reference, null, dict(tools or {}), tuple(items), note,
    )  # fmt: skip


def line(x: Sequence[float], y: Sequence[float], *, reliability: float = 1.0) -> Estimate:
    """The slope of y over x by least squares; its interval allows for unequal spread (HC3).

    NaN where x does not vary. With y constant the slope is 0, surely.

    reliability: the share of x's variance that is no error of measurement (`cronbach_alpha`). Such
    errors make slopes too flat by just that factor (Spearman, 1904), so slope and interval are
    divided by it; its own uncertainty is not in the interval.
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
    return Estimate(
        slope / reliability, (slope - half) / reliability, (slope + half) / reliability, p, n
    )


def cronbach_alpha(scores: NDArray[Any]) -> float:
    """How far items measure one thing (Cronbach, 1951). scores: subjects x items, complete rows
    only; NaN with fewer than two items or subjects, or where sums do not vary.
    """
    n, k = scores.shape
    if n < 2 or k < 2:
        return math.nan
    whole = float(scores.sum(1).var(ddof=1))
    if whole == 0.0:
        return math.nan
    of_items = float(scores.var(0, ddof=1).sum())
    return float(k / (k - 1)) * (1.0 - of_items / whole)


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
