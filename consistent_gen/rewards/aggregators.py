"""Several rewards to one advantage per sample.

The only contract: a sample that has no valid reward gets 0 and moves nobody else, and the
advantages of every group sum to 0. `total` is what is optimised: centring it by group gives the
advantages, so what is logged cannot differ from what is learnt from.

Samples of one group (one prompt) are compared with each other. In a sharded run whole groups stay
in one process, and `gather` (an array of this process to that of all) serves the statistics that
need the whole batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consistent_gen.errors import InputError
from consistent_gen.rewards.base import Floats, Scores
from consistent_gen.rewards.ranking import ranks

Flags = NDArray[np.bool_]
Places = NDArray[np.intp]
Gather = Callable[[Floats], Floats]
LEAST_STD = 1e-6


@dataclass(frozen=True)
class Advantages:
    """values: b, 0 where not valid. total: b, the aggregated reward, NaN where not valid."""

    values: Floats
    valid: Flags
    total: Floats


class Aggregator(ABC):
    """weights: reward name -> weight. scale: divide a group's centred totals by "group" std, by
    "batch" std, or by nothing ("none").
    """

    def __init__(self, weights: Mapping[str, float], *, scale: str = "none") -> None:
        if not weights:
            raise InputError("no reward is weighted; name at least one")
        if scale not in ("none", "group", "batch"):
            raise InputError(f"scale {scale!r}; expected none, group or batch")
        self.weights, self.scale = dict(weights), scale

    def __call__(
        self,
        scores: Mapping[str, Scores],
        groups: Sequence[str],
        gather: Gather = lambda local: local,
    ) -> Advantages:
        """Advantages of b samples.

        Raises:
            InputError: a weighted reward is missing, or the lengths differ.
        """
        values, valid = self._read(scores, len(groups))
        at = _places(groups)
        total = np.where(valid, self.total(values, valid, at, gather), np.nan)
        centred = _by_group(total, valid, at, lambda x: x - x.mean())
        if self.scale == "group":
            centred = _by_group(centred, valid, at, _divided)
        elif self.scale == "batch":
            centred = centred / max(_std(_batch(centred, valid, gather)), LEAST_STD)
        return Advantages(np.where(valid, centred, 0.0), valid, total)

    @abstractmethod
    def total(
        self, values: Mapping[str, Floats], valid: Flags, at: Sequence[Places], gather: Gather
    ) -> Floats:
        """The aggregated reward, b. at: the places of each group's samples."""

    def _read(self, scores: Mapping[str, Scores], count: int) -> tuple[dict[str, Floats], Flags]:
        missing = sorted(self.weights.keys() - scores.keys())
        if missing:
            raise InputError(f"no scores of {', '.join(missing)}; given: {', '.join(scores)}")
        values = {name: np.array(scores[name].values, float) for name in self.weights}
        if any(len(v) != count for v in values.values()):
            raise InputError(f"{count} groups, and another number of scores")
        valid = np.ones(count, bool)
        for name in self.weights:
            valid &= np.array(scores[name].valid, bool)
        return values, valid


class WeightedSum(Aggregator):
    """sum_k w_k R_k, as every released configuration of PaCo-RL runs."""

    def total(
        self, values: Mapping[str, Floats], valid: Flags, at: Sequence[Places], gather: Gather
    ) -> Floats:
        """See `Aggregator`."""
        return _weighted(values, self.weights)


class LogTamed(Aggregator):
    """PaCo-GRPO's log-taming (arXiv 2512.04784): R_k becomes log(1 + R_k) where its coefficient of
    variation h_k = std / (mean + 1e-6) over the batch exceeds a threshold.

    delta: the threshold, a number or "mean" or "median" of all h_k. ranges: lowest and highest
    value of each reward, as their cards state; below 0 the logarithm is not defined.
    hysteresis: once tamed, a reward stays so until h_k <= delta (1 - hysteresis), so that what is
    optimised does not change its form every epoch; published is 0.

    Raises:
        InputError: a reward may be negative.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        ranges: Mapping[str, tuple[float, float]],
        *,
        delta: float | str = 0.2,
        hysteresis: float = 0.0,
        scale: str = "none",
    ) -> None:
        super().__init__(weights, scale=scale)
        for name in weights:
            if name not in ranges or ranges[name][0] < 0.0:
                raise InputError(
                    f"reward {name!r} has range {ranges.get(name)}; log-taming needs a declared "
                    "range that begins at 0 or above"
                )
        if isinstance(delta, str) and delta not in ("mean", "median"):
            raise InputError(f"delta {delta!r}; expected a number, mean or median")
        self.delta, self.hysteresis = delta, hysteresis
        self.tamed: frozenset[str] = frozenset()
        self.variation: dict[str, float] = {}

    def total(
        self, values: Mapping[str, Floats], valid: Flags, at: Sequence[Places], gather: Gather
    ) -> Floats:
        """See `Aggregator`; afterwards `variation` holds h_k and `tamed` who was tamed."""
        whole = {name: _batch(v, valid, gather) for name, v in values.items()}
        self.variation = {
            name: float(v.std() / (v.mean() + 1e-6)) if len(v) else 0.0 for name, v in whole.items()
        }
        h = list(self.variation.values())
        if isinstance(self.delta, str):
            delta = float(np.mean(h) if self.delta == "mean" else np.median(h))
        else:
            delta = self.delta
        keep = delta * (1.0 - self.hysteresis)
        self.tamed = frozenset(
            name
            for name, found in self.variation.items()
            if found > (keep if name in self.tamed else delta)
        )
        tame = {name: np.log1p(v) if name in self.tamed else v for name, v in values.items()}
        return _weighted(tame, self.weights)


class GDPO(Aggregator):
    """Each reward z-scored in its group, weighted, summed, then divided by the batch's std
    (arXiv 2601.05242): rewards of any scale have the say that their weights give them.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights, scale="none")

    def total(
        self, values: Mapping[str, Floats], valid: Flags, at: Sequence[Places], gather: Gather
    ) -> Floats:
        """See `Aggregator`."""
        summed = _weighted(_z_scores(values, valid, at), self.weights)
        found: Floats = summed / max(_std(_batch(summed, valid, gather)), LEAST_STD)
        return found


class Rank(Aggregator):
    """Each reward by its rank in the group, in [-1, 1]; outliers have no more say than others."""

    def total(
        self, values: Mapping[str, Floats], valid: Flags, at: Sequence[Places], gather: Gather
    ) -> Floats:
        """See `Aggregator`."""
        return _weighted({n: _by_group(v, valid, at, _ranked) for n, v in values.items()},
                         self.weights)  # fmt: skip


class SoftMinimum(Aggregator):
    """-tau log sum_k w_k exp(-z_k / tau) of z-scored rewards: the worst one counts most, so that
    none is bought with another. Weights are normalised.
    """

    def __init__(
        self, weights: Mapping[str, float], *, tau: float = 0.5, scale: str = "none"
    ) -> None:
        super().__init__(weights, scale=scale)
        if any(weight < 0.0 for weight in weights.values()) or sum(weights.values()) <= 0.0:
            raise InputError(f"weights {dict(weights)}; expected none below 0 and one above")
        self.tau = tau

    def total(
        self, values: Mapping[str, Floats], valid: Flags, at: Sequence[Places], gather: Gather
    ) -> Floats:
        """See `Aggregator`."""
        whole = sum(self.weights.values())
        z = _z_scores(values, valid, at)
        shares = sum(
            (weight / whole) * np.exp(-z[name] / self.tau) for name, weight in self.weights.items()
        )
        found: Floats = -self.tau * np.log(np.asarray(shares, float))
        return found


AGGREGATORS: dict[str, str] = {
    "weighted_sum": "consistent_gen.rewards.aggregators:WeightedSum",
    "log_tamed": "consistent_gen.rewards.aggregators:LogTamed",
    "gdpo": "consistent_gen.rewards.aggregators:GDPO",
    "rank": "consistent_gen.rewards.aggregators:Rank",
    "soft_minimum": "consistent_gen.rewards.aggregators:SoftMinimum",
}


def _weighted(values: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    found: Floats = np.sum([weights[name] * values[name] for name in weights], axis=0)
    return found


def _places(groups: Sequence[str]) -> list[Places]:
    names = np.array(groups)
    return [np.flatnonzero(names == name) for name in dict.fromkeys(groups)]


def _by_group(
    values: Floats, valid: Flags, at: Sequence[Places], change: Callable[[Floats], Floats]
) -> Floats:
    """`change` applied to the valid values of each group; 0 where there are none."""
    found = np.zeros(len(values))
    for places in at:
        there = places[valid[places]]
        if len(there):
            found[there] = change(values[there])
    return found


def _z_scores(
    values: Mapping[str, Floats], valid: Flags, at: Sequence[Places]
) -> dict[str, Floats]:
    return {
        name: _by_group(v, valid, at, lambda x: _divided(x - x.mean()))
        for name, v in values.items()
    }


def _divided(x: Floats) -> Floats:
    """Centred values over their std; equal values are 0, whatever rounding says."""
    spread = _std(x)
    return np.zeros_like(x) if spread < LEAST_STD else x / spread


def _std(x: Floats) -> float:
    return float(x.std()) if len(x) else 0.0


def _ranked(x: Floats) -> Floats:
    found: Floats = np.zeros(1) if len(x) < 2 else 2.0 * ranks(list(x)) / (len(x) - 1) - 1.0
    return found


def _batch(values: Floats, valid: Flags, gather: Gather) -> Floats:
    """The valid values of the whole batch."""
    whole, there = gather(np.where(valid, values, 0.0)), gather(valid.astype(float))
    found: Floats = whole[there > 0.5]
    return found
