"""The SCIR filter: learn from a pair only where independent judges prefer the same one.

SCIR (arXiv 2502.08922) makes several reward models inside one model consistent while it learns; the
filter of pairs is the smaller half of it, and it is all that is here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consistent_gen.errors import InputError


@dataclass(frozen=True)
class Agreed:
    """preferences: per pair 1 (the first is better), -1 (the second), or 0: masked.

    disagreement: share of the pairs that all judges could compare and on which they are not of one
    mind; None without any. uncompared: pairs that some judge could not compare or called a tie.
    """

    preferences: tuple[int, ...]
    disagreement: float | None
    uncompared: int


def agreed(differences: Mapping[str, Sequence[float | None]], margin: float = 0.0) -> Agreed:
    """Preferences that all judges share.

    Args:
        differences: judge -> per pair its score of the first less that of the second; None where
        it could not score. margin: smaller differences are ties.

    Raises:
        InputError: fewer than two judges, or of other numbers of pairs.
    """
    if len(differences) < 2:
        raise InputError(f"{len(differences)} judges; agreement takes at least two")
    if len({len(values) for values in differences.values()}) > 1:
        raise InputError("the judges compared other numbers of pairs")
    signs = [
        [0 if d is None or abs(d) <= margin else 1 if d > 0.0 else -1 for d in row]
        for row in zip(*differences.values(), strict=True)
    ]
    shared = tuple(row[0] if len(set(row)) == 1 else 0 for row in signs)
    compared = [row for row in signs if 0 not in row]
    apart = sum(len(set(row)) > 1 for row in compared)
    return Agreed(shared, apart / len(compared) if compared else None, len(signs) - len(compared))
