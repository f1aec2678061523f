"""From pairs to sets: what a matrix of similarities says about the pictures it compares.

s is n n and symmetric, with values in [0, 1]; NaN where a pair could not be compared. Pairs of one
set share pictures and are not independent, so uncertainty is computed over sets, never over pairs
(`statistics`).
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from consistent_gen.rewards.base import Floats, ImageSet, MetricCard, Picture, Reward, SetScore

PairFunction = Callable[[Picture, Picture], float | None]
TAU = 0.1  # of the soft minimum
TOO_FEW = "fewer than two pictures that can be compared"


def similarities(
    pictures: Sequence[Picture],
    pair: PairFunction,
    *,
    both_orders: bool = False,
    among: int | None = None,
) -> Floats:
    """The matrix s of a pair function; its diagonal is NaN.

    both_orders: average s(a, b) and s(b, a), for judges that are not symmetric by construction; the
    matrix is symmetric to the bit either way. among: leave out pairs beyond the first so many.
    """
    s = np.full((len(pictures), len(pictures)), np.nan)
    first = len(pictures) if among is None else among
    for i, j in itertools.combinations(range(len(pictures)), 2):
        if i >= first:
            continue
        found = [pair(pictures[i], pictures[j])]
        if both_orders:
            found.append(pair(pictures[j], pictures[i]))
        known = [value for value in found if value is not None]
        if len(known) == len(found):
            s[i, j] = s[j, i] = sum(known) / len(known)
    return s


def off_diagonal(s: Floats) -> Floats:
    """The values of all pairs i < j that could be compared."""
    values = s[np.triu_indices(len(s), 1)]
    found: Floats = values[np.isfinite(values)]
    return found


def mean_pair(s: Floats) -> float | None:
    """C: the mean over pairs; None with fewer than two comparable pictures."""
    values = off_diagonal(s)
    # math.fsum: the same sum in whatever order the pictures come.
    return math.fsum(values) / len(values) if len(values) else None


def members(s: Floats) -> list[float | None]:
    """c_i: how well each picture agrees with the others."""
    found: list[float | None] = []
    for i in range(len(s)):
        values = np.delete(s[i], i)
        values = values[np.isfinite(values)]
        found.append(math.fsum(values) / len(values) if len(values) else None)
    return found


def weakest_member(s: Floats) -> float | None:
    """min c_i: one stranger among nine good pictures is seen here, and hardly in the mean."""
    known = [c for c in members(s) if c is not None]
    return min(known) if known else None


def soft_minimum(values: Sequence[float | None], tau: float = TAU) -> float | None:
    """-tau log mean exp(-c / tau): the weakest with a gradient for all; between min and mean."""
    known = np.array([v for v in values if v is not None], float)
    if not len(known):
        return None
    low = known.min()
    return float(low - tau * math.log(math.fsum(np.exp(-(known - low) / tau)) / len(known)))


def anchored(to_references: Floats) -> float | None:
    """C_ref: the mean over pictures of how well each agrees with the references (n r)."""
    values = to_references[np.isfinite(to_references)]
    return math.fsum(values) / len(values) if len(values) else None


def excess_consistency(within: float | None, between: float | None) -> float | None:
    """C* = (within - between) / (1 - between); `between` is of other identities under the same
    prompts. Collapse and shared backgrounds raise both and leave C* at about 0.
    """
    if within is None or between is None:
        return None
    return 0.0 if between >= 1.0 else (within - between) / (1.0 - between)


def unit_rows(features: Floats) -> Floats:
    """Rows n d of length 1; rows of zeros stay zeros."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    found: Floats = features / np.where(length > 0.0, length, 1.0)
    return found


def cosine(a: Floats, b: Floats) -> float:
    """Cosine of two vectors, in [-1, 1] whatever rounding says; 0 if one of them is nothing."""
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return max(-1.0, min(1.0, float(a @ b) / length)) if length else 0.0


class MatrixReward(Reward):
    """A reward of sets that begins with how alike every two pictures are.

    reduce: "mean", "weakest" or "soft minimum"; the others stand in the parts. A set with
    references is scored against them ("anchored").
    """

    REDUCTIONS = ("mean", "weakest", "soft minimum")
    reduce = "mean"

    @abstractmethod
    def matrix(self, item: ImageSet) -> Floats:
        """s of the pictures and then the references, (n + r) (n + r); the pairs of two references
        may be NaN.
        """

    def one(self, item: ImageSet) -> SetScore:
        """See `Reward`."""
        return self.of_matrix(self.matrix(item), len(item.pictures))

    def of_matrix(self, s: Floats, count: int) -> SetScore:
        """The score of `count` pictures by a matrix that `matrix` gave."""
        return set_score(s[:count, :count], self.reduce, s[:count, count:])


class PairReward(MatrixReward):
    """Any similarity of two pictures as a reward of sets.

    both_orders: for pair functions that are not symmetric.
    """

    def __init__(
        self,
        card: MetricCard,
        pair: PairFunction,
        *,
        reduce: str = "mean",
        both_orders: bool = False,
    ) -> None:
        assert reduce in self.REDUCTIONS, f"{reduce!r} is not in {self.REDUCTIONS}"
        self.card, self.reduce = card, reduce
        self._pair, self._both_orders = pair, both_orders

    def matrix(self, item: ImageSet) -> Floats:
        """See `MatrixReward`."""
        shown = (*item.pictures, *item.references)
        return similarities(
            shown, self._pair, both_orders=self._both_orders, among=len(item.pictures)
        )


def set_score(s: Floats, reduce: str = "mean", to_references: Floats | None = None) -> SetScore:
    """A set's score by its matrix, with all reductions in the parts.

    With references (n r) the value is that against them: a set of one picture has it, too.
    """
    parts: dict[str, float | None] = {
        "mean": mean_pair(s),
        "weakest": weakest_member(s),
        "soft minimum": soft_minimum(members(s)),
    }
    value = parts[reduce]
    if to_references is not None and to_references.shape[1]:
        parts["anchored"] = anchored(to_references)
        value = value if parts["anchored"] is None else parts["anchored"]
    return SetScore(value, parts, "" if value is not None else TOO_FEW)
