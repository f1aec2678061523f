"""Drawing from real profiles so that rare ones are met (the sampler of USP, arXiv 2502.18968).

The paper has a sampler over profiles by density, and mixes of near neighbours, but neither formula
nor code was published; what is here is our own definition. density(i) = mean cosine of profile i to
its k nearest others; a profile is drawn by `(1 - density + floor)`; a mix takes the facts of one
and the traits of a near neighbour; coverage(drawn) = share of all profiles that have a drawn one
among their k nearest, themselves included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from consistent_gen.errors import InputError
from consistent_gen.language.embedders import TextEmbedder, Vectors

FLOOR = 0.02  # of a draw's weight, so that the densest profile can be drawn too


class ProfileSampler:
    """Profiles as unit vectors in a space; n profiles cost n x n comparisons, in blocks."""

    def __init__(self, profiles: Sequence[str], embedder: TextEmbedder, *, k: int = 5) -> None:
        """Raises ``InputError`` with fewer than two profiles, or k outside 1..n-1."""
        if len(profiles) < 2 or not 1 <= k < len(profiles):
            raise InputError(f"{len(profiles)} profiles and k = {k}; expected 1 <= k < profiles")
        self.profiles, self.k = tuple(profiles), k
        vectors = embedder.text(list(profiles))
        self.neighbours, self.density = _nearest(vectors, k)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Probability of each profile: the lonelier, the likelier."""
        lonely = np.clip(1.0 - self.density, 0.0, None) + FLOOR
        return np.asarray(lonely / lonely.sum(), np.float64)

    def draw(self, n: int, generator: np.random.Generator, *, uniform: bool = False) -> list[int]:
        """`n` different profiles (all of them where there are no more), by inverse density."""
        count = min(n, len(self.profiles))
        p = None if uniform else self.weights
        return [int(i) for i in generator.choice(len(self.profiles), count, replace=False, p=p)]

    def coverage(self, drawn: Sequence[int], among: Sequence[int] | None = None) -> float:
        """Share of profiles (of `among`, or all) with a drawn one among their k nearest or
        themselves, 0..1. Drawing rare ones covers the rare and not the crowd: look at both.
        """
        there = np.zeros(len(self.profiles), bool)
        there[list(drawn)] = True
        covered = there | there[self.neighbours].any(axis=1)
        return float(np.mean(covered if among is None else covered[list(among)]))

    def mix(self, index: int, generator: np.random.Generator) -> str:
        """A profile of two paragraphs: the facts of one and the traits of a near neighbour.

        Raises:
            InputError: a profile has no second paragraph.
        """
        other = int(generator.choice(self.neighbours[index]))
        parts = [self.profiles[i].strip().split("\n\n") for i in (index, other)]
        if min(map(len, parts)) < 2:
            raise InputError("a profile to be mixed has two paragraphs, facts and traits")
        return f"{parts[0][0]}\n\n{parts[1][1]}"


def _nearest(vectors: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Indices [n k] of the nearest others, and the mean cosine to them [n]."""
    n, block = len(vectors), 1_024
    neighbours = np.empty((n, k), np.int64)
    density = np.empty(n, np.float64)
    for start in range(0, n, block):
        cosines = vectors[start : start + block] @ vectors.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        near = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        neighbours[start : start + block] = near
        density[start : start + block] = cosines[rows[:, None], near].mean(axis=1)
    return neighbours, density
