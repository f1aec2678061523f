"""What a reward must pass before anything may be trained on it.

"Trickle-down" (arXiv 2309.16155) asks whether a reward model tells apart what differs little. Here:
two characters whose words differ in one attribute, each drawn (or rendered) in several pictures.
- response consistency: the right picture scores above the other one, under the same words;
- instruction consistency: a picture scores higher under its own words than under the other's;
- symmetry: s(a, b) = s(b, a) to the bit;
- invariance: the same subjects before another background score the same;
- scale: rank correlation of scores at half and at full size.
Comparisons are strict: a tie is no success, and ties are counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from consistent_gen.rewards.base import Floats, Picture
from consistent_gen.rewards.pairs import PairFunction
from consistent_gen.rewards.ranking import spearman

LEAST_CONTRAST = 0.9
MOST_CHANGE = 0.03
LEAST_SCALE = 0.7


@dataclass(frozen=True)
class Contrast:
    """Shares of comparisons that went the right way, and of ties; None without a comparison."""

    right: float | None
    ties: float | None
    count: int


def contrast(better: Sequence[float] | Floats, worse: Sequence[float] | Floats) -> Contrast:
    """Strict comparison of scores that should be higher with ones that should be lower; what could
    not be scored (NaN) is left out.
    """
    a, b = np.array(better, float), np.array(worse, float)
    known = np.isfinite(a) & np.isfinite(b)
    if not known.any():
        return Contrast(None, None, 0)
    a, b = a[known], b[known]
    return Contrast(float((a > b).mean()), float((a == b).mean()), int(known.sum()))


def response_and_instruction(scores: Floats) -> tuple[Contrast, Contrast]:
    """C_res and C_ins of quadruples, scores k 2 2: score of response j under instruction i.

    Both directions of each quadruple count: R(i, i) against R(i, j), and against R(j, i).
    """
    own = np.concatenate([scores[:, 0, 0], scores[:, 1, 1]])
    response = np.concatenate([scores[:, 0, 1], scores[:, 1, 0]])
    instruction = np.concatenate([scores[:, 1, 0], scores[:, 0, 1]])
    return contrast(own, response), contrast(own, instruction)


def asymmetry(pair: PairFunction, pairs: Sequence[tuple[Picture, Picture]]) -> float:
    """The largest |s(a, b) - s(b, a)|."""
    found = [(pair(a, b), pair(b, a)) for a, b in pairs]
    return max((abs(x - y) for x, y in found if x is not None and y is not None), default=0.0)


def background_change(
    pair: PairFunction, pairs: Sequence[tuple[Picture, Picture]], changed: Sequence[Picture]
) -> float | None:
    """Mean drop of s(a, b) when b stands before another background (`changed`)."""
    found = [(pair(a, b), pair(a, other)) for (a, b), other in zip(pairs, changed, strict=True)]
    drops = [x - y for x, y in found if x is not None and y is not None]
    return float(np.mean(drops)) if drops else None


def scale_correlation(
    pair: PairFunction,
    pairs: Sequence[tuple[Picture, Picture]],
    halved: Callable[[Picture], Picture],
) -> float | None:
    """Spearman's rho of the scores of pairs at full size and at half of it."""
    full = [pair(a, b) for a, b in pairs]
    half = [pair(halved(a), halved(b)) for a, b in pairs]
    known = [(x, y) for x, y in zip(full, half, strict=True) if x is not None and y is not None]
    return spearman([x for x, _ in known], [y for _, y in known]) if known else None


@dataclass(frozen=True, kw_only=True)
class RewardChecks:
    """What the checks found. None: not checked, which admits nothing."""

    response: float | None
    instruction: float | None
    asymmetry: float
    background: float | None
    scale: float | None

    def failures(self) -> list[str]:
        """Why the reward may not be trained on, one sentence each; none if it may."""
        found = []
        for name, value in (("response", self.response), ("instruction", self.instruction)):
            if value is None or value < LEAST_CONTRAST:
                found.append(f"{name} consistency {_told(value)}; at least {LEAST_CONTRAST}")
        if self.asymmetry != 0.0:
            found.append(f"differs by {self.asymmetry:.2g} with the order of the pictures")
        if self.background is None or self.background > MOST_CHANGE:
            found.append(
                f"drops by {_told(self.background)} under another background; at most {MOST_CHANGE}"
            )
        if self.scale is None or self.scale < LEAST_SCALE:
            found.append(f"rank correlation {_told(self.scale)} with half size; at least "
                         f"{LEAST_SCALE}")  # fmt: skip
        return found


def _told(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
