"""A `Measurement` from one value a case: its mean with an interval, failures counted; and the
functions of scipy and scikit-learn that measures use, found when they are needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from consistent_gen.persona.measurement import Direction, MeasuredItem, Measurement
from consistent_gen.registry import resolve
from consistent_gen.rewards.statistics import bootstrap

RESAMPLES = 2000
LIBRARY: dict[str, str] = {
    "mannwhitneyu": "scipy.stats:mannwhitneyu",
    "rankdata": "scipy.stats:rankdata",
    "TfidfVectorizer": "sklearn.feature_extraction.text:TfidfVectorizer",
}


def library(name: str) -> Any:
    """A function of `LIBRARY`. Raises ``MissingExtraError`` without the extra ``persona``."""
    return resolve(LIBRARY, name, kind="statistic")


def measured(
    name: str, values: Sequence[float], *, direction: Direction = "higher", failed: int = 0,
    tools: Mapping[str, str] | None = None, items: Sequence[MeasuredItem] = (),
    null: float = math.nan, reference: float = math.nan, unit: str = "", note: str = "",
    seed: int = 0,
) -> Measurement:  # fmt: skip
    """The mean of `values` with its 95 % bootstrap interval over cases.

    values: NaN for a case that failed; it is left out of the mean and counted, beside `failed`.
    """
    kept = [value for value in values if not math.isnan(value)]
    mean = low = high = math.nan
    if kept:
        interval = bootstrap([[v] for v in kept], resamples=RESAMPLES, seed=seed)
        mean, low, high = interval.mean, interval.low, interval.high
    return Measurement(
        name, mean, low, high, len(kept), failed + len(values) - len(kept), direction, unit,
        reference, null, dict(tools or {}), tuple(items), note,
    )  # fmt: skip
