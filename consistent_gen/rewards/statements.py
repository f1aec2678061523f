"""How well an answer keeps to the statements that make a persona: APC (arXiv 2405.07726).

APC = sum over statements of p_rel P(entail) + (1 - p_rel) (1 - P(contradict)): a relevant statement
is to be entailed, any other only not contradicted. Where the probabilities come from is the
caller's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consistent_gen.errors import InputError


@dataclass(frozen=True)
class Judged:
    """Probabilities of one statement: relevant to the question, entailed, contradicted."""

    relevant: float
    entailed: float
    contradicted: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} is {value}; expected a probability in [0, 1]")


def active_passive(statements: Sequence[Judged]) -> float:
    """APC, in [0, number of statements]; divide by their number to compare personas."""
    return sum(
        s.relevant * s.entailed + (1.0 - s.relevant) * (1.0 - s.contradicted) for s in statements
    )
