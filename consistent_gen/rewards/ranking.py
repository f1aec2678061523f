"""How well scores rank candidates: correlations of rank vectors, and what was published instead.

ConsistencyRank (arXiv 2512.04784) gives a reference, four candidates and their true order. Its
script correlates the two *order lists* (who is first, who is second); that depends on how the
candidates are numbered and is not Kendall's tau. Both are here, the published one by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from consistent_gen.rewards.base import Floats


def ranks(scores: Sequence[float]) -> Floats:
    """Rank of each candidate, 0 the lowest; equal scores share the mean of their ranks."""
    x = np.asarray(scores, float)
    below = (x[None] < x[:, None]).sum(1)
    equal = (x[None] == x[:, None]).sum(1)
    found: Floats = below + (equal - 1) / 2.0
    return found


def kendall(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b of two score vectors; None where one of them ranks nothing."""
    signs = [
        (np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i, j in combinations(range(len(a)), 2)
    ]
    agree = float(sum(x * y for x, y in signs))
    one, other = (sum(pair[k] != 0 for pair in signs) for k in (0, 1))
    return agree / float(np.sqrt(one * other)) if one and other else None


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rho: the correlation of the two rank vectors; None where one ranks nothing."""
    return _correlation(ranks(a), ranks(b))


def order(scores: Sequence[float]) -> list[int]:
    """Candidates from best to worst."""
    return [int(i) for i in np.argsort(-np.asarray(scores, float), kind="stable")]


def kendall_of_order_lists(a: Sequence[float], b: Sequence[float]) -> float | None:
    """As the published script: tau of the order lists. Depends on the candidates' numbers."""
    return kendall(order(a), order(b))


def spearman_of_order_lists(a: Sequence[float], b: Sequence[float]) -> float | None:
    """As the published script: rho of the order lists. Depends on the candidates' numbers."""
    return spearman(order(a), order(b))


def positions_right(scores: Sequence[float], truth: Sequence[float]) -> float:
    """ConsistencyRank's accuracy: the share of places that hold the right candidate."""
    return float(np.mean([a == b for a, b in zip(order(scores), order(truth), strict=True)]))


def top_and_bottom(scores: Sequence[float], truth: Sequence[float]) -> float:
    """The mean of "the first is right" and "the last is right"."""
    a, b = order(scores), order(truth)
    return ((a[0] == b[0]) + (a[-1] == b[-1])) / 2.0


def _correlation(a: Floats, b: Floats) -> float | None:
    if a.std() == 0.0 or b.std() == 0.0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
