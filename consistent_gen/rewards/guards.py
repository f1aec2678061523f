"""Ways to look consistent without drawing the same somebody, each with a measure of its own.

A set of copies agrees with itself perfectly. So beside every consistency stand: do the pictures
still fit their own prompts, are they different pictures, do their backgrounds and seeds differ, are
there as many characters as asked for, and is there anything that nobody asked for?
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from consistent_gen.rewards.base import Floats, Picture, Plane
from consistent_gen.rewards.colors import oklab
from consistent_gen.rewards.pairs import mean_pair, off_diagonal
from consistent_gen.rewards.sight import Sight

DUPLICATE = 0.02  # difference of two pictures below which they are one (`difference`)
COPIED = 0.04  # difference of two backgrounds below which they are one
SMALL = 32  # pixels a side at which pictures are compared for being the same
COUNT_EPS = 1.0
# Objects that stand out, and the word that says there is none.
CONSPICUOUS = {"accessory": "none", "prop": "none"}
SURE = 0.5  # probability from which on a thing counts as seen


class Asked(Protocol):
    """What a prompt says, by whoever knows its words (of the story world: `world.naming`).

    factors: factor -> word. unread: words that say something and that were not understood.
    characters: how many are named.
    """

    @property
    def factors(self) -> Mapping[str, str]: ...
    @property
    def unread(self) -> tuple[str, ...]: ...
    @property
    def characters(self) -> int: ...


def prompt_matching(fit: Floats) -> float | None:
    """Share of pictures whose own prompt fits them better than every other prompt of the set.

    fit: n n, how well picture i fits prompt j. A tie with another prompt counts as its share of
    the tie, so that a set of copies gets 1 / n. None for one picture.
    """
    if len(fit) < 2:
        return None
    best = fit >= fit.max(1, keepdims=True)
    return float((best.diagonal() / best.sum(1)).mean())


def difference(a: Picture, b: Picture) -> float:
    """Root mean square difference in OKLab of two pictures at SMALL pixels; 0 for equal ones."""
    x, y = (oklab(_small(p)) for p in (a, b))
    return float(np.sqrt(((x - y) ** 2).sum(-1).mean()))


def differences(pictures: Sequence[Picture]) -> Floats:
    """`difference` of all pairs, n n."""
    small = [oklab(_small(p)) for p in pictures]
    found: Floats = np.array(
        [[np.sqrt(((x - y) ** 2).sum(-1).mean()) for y in small] for x in small], float
    ).reshape(len(small), len(small))
    return found


def duplicate_rate(pictures: Sequence[Picture], below: float = DUPLICATE) -> float | None:
    """Share of pairs that are nearly the same picture; None for one picture."""
    values = off_diagonal(differences(pictures))
    return float((values < below).mean()) if len(values) else None


def background_differences(pictures: Sequence[Picture], subjects: Sequence[Plane]) -> Floats:
    """`difference` of what is behind the subjects, n n: where neither picture has one. NaN where
    next to nothing is left to compare.
    """
    small = [oklab(_small(p)) for p in pictures]
    free = [~_small_plane(m) for m in subjects]
    found = np.full((len(small), len(small)), np.nan)
    for i, x in enumerate(small):
        for j, y in enumerate(small):
            both = free[i] & free[j]
            if both.mean() >= 0.05:
                found[i, j] = np.sqrt(((x - y)[both] ** 2).sum(-1).mean())
    return found


def background_diversity(differences: Floats) -> float | None:
    """1 - mean similarity of backgrounds, in [0, 1]; None for one picture. Similarity falls
    linearly to 0 at a difference of 0.5.
    """
    return mean_pair(np.minimum(1.0, 2.0 * differences))


def copied_backgrounds(differences: Floats, below: float = COPIED) -> float | None:
    """Share of pairs with nearly the same background; None for one picture. A mean over pairs does
    not see one copy among backgrounds that are like each other anyway.
    """
    values = off_diagonal(differences)
    return float((values < below).mean()) if len(values) else None


def diversity_ratio(own: Sequence[Picture], base: Sequence[Picture]) -> float | None:
    """Mean difference of one prompt's pictures over several seeds (or of several identities),
    relative to what the base model gives; below about 0.9 something has collapsed.
    """
    a, b = (off_diagonal(differences(pictures)) for pictures in (own, base))
    if not len(a) or not len(b) or not b.mean():
        return None
    return float(a.mean() / b.mean())


def count_match(seen: int, expected: int) -> float:
    """ViStoryBench's on-stage count exp(-|D - E| / (eps + E)), in (0, 1]."""
    return math.exp(-abs(seen - expected) / (COUNT_EPS + expected))


@dataclass(frozen=True)
class Unasked:
    """Conspicuous things that a picture shows: those asked for, and the others, by name.

    value: share of the pictures' conspicuous factors that hold nothing unasked, in [0, 1].
    """

    asked: tuple[str, ...]
    unasked: tuple[str, ...]

    @property
    def value(self) -> float:
        """1 when nothing is there that nobody asked for."""
        return 1.0 - len(self.unasked) / len(CONSPICUOUS) if self.unasked else 1.0


def unasked(sights: Sequence[Sight], wanted: Mapping[str, str]) -> Unasked:
    """What nobody asked for in a picture with these characters.

    Absent words ask for nothing: a prompt that names no hat does not forbid one where the words
    leave a character open, so this is a measure beside the alignment and no part of it.
    """
    asked: list[str] = []
    others: list[str] = []
    for factor, nothing in CONSPICUOUS.items():
        for sight in sights:
            shares = sight.subject.get(factor) or sight.scene.get(factor) or {}
            word = max(shares, key=lambda name: shares[name], default=nothing)
            if word == nothing or shares[word] < SURE:
                continue
            if factor in sight.subject and not sight.present:
                continue
            (asked if wanted.get(factor) == word else others).append(word)
    return Unasked(tuple(dict.fromkeys(asked)), tuple(dict.fromkeys(others)))


def _small(picture: Picture) -> Picture:
    fitted = Image.fromarray(picture).resize((SMALL, SMALL), Image.Resampling.BOX)
    return np.asarray(fitted, np.uint8)


def _small_plane(mask: Plane) -> Plane:
    """Where a mask is at SMALL pixels, and one pixel around it: shadows and soft edges."""
    shown = Image.fromarray(mask.astype(np.uint8) * 255).resize(
        (SMALL, SMALL), Image.Resampling.BOX
    )
    padded = np.pad(np.asarray(shown) > 0, 1)
    found: Plane = np.zeros((SMALL, SMALL), bool)
    for y in range(3):
        for x in range(3):
            found |= padded[y : y + SMALL, x : x + SMALL]
    return found
