"""The two judgements that most measures of personas are made of, each behind one protocol.

`PairScorer`: does one sentence bear on another, does it follow from it, does it contradict it.
`PairwiseJudge`: which of two answers is better, asked in both orders, with the right to abstain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from consistent_gen.errors import InputError


@dataclass(frozen=True)
class Nli:
    """Probabilities that a hypothesis contradicts, ignores or follows from a premise; sum 1."""

    contradicted: float
    neutral: float
    entailed: float

    def __post_init__(self) -> None:
        parts = (self.contradicted, self.neutral, self.entailed)
        if min(parts) < 0.0 or abs(sum(parts) - 1.0) > 1e-4:
            raise InputError(f"probabilities {parts} are negative or do not sum to 1")

    @property
    def label(self) -> int:
        """-1, 0 or 1 for the likeliest; of equals the middle one wins."""
        if self.entailed > max(self.neutral, self.contradicted):
            return 1
        return -1 if self.contradicted > max(self.neutral, self.entailed) else 0


@runtime_checkable
class PairScorer(Protocol):
    """Scores sentence pairs. Batched, since a cross-encoder is slow one by one.

    name: identifies weights and version. accuracy: its own accuracy in one sentence ("0.93 on 2,000
    held-out pairs"), printed wherever its scores are.
    """

    @property
    def name(self) -> str: ...
    @property
    def accuracy(self) -> str: ...

    def relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Of (statement, question): the probability that the answer must respect the statement."""

    def nli(self, pairs: Sequence[tuple[str, str]]) -> list[Nli]:
        """Of (premise, hypothesis): a persona's statement first, then what was replied."""


@dataclass(frozen=True)
class Choice:
    """Which of two answers is better. p_a: probability that the first is, both orders averaged.

    certainty: 0..1, what the judge says of itself or how far the orders agree. abstained: the judge
    would rather not say; `p_a` is then 0.5. flipped: the two orders disagreed. calls: questions
    that it took.
    """

    p_a: float
    certainty: float
    abstained: bool = False
    flipped: bool = False
    calls: int = 2


@runtime_checkable
class PairwiseJudge(Protocol):
    """Compares two answers. Position bias is the judge's to remove."""

    @property
    def name(self) -> str: ...

    def compare(self, context: str, a: str, b: str) -> Choice:
        """Which of `a` and `b` answers better, in a context (profile, question, rubric)."""


class OrderSwapped:
    """A judge that is asked in both orders.

    ask: probability that the answer shown first is better, from (context, first, second). A judge
    that always likes the first answer comes out at 0.5 for everything, and flipped.
    """

    def __init__(self, name: str, ask: Callable[[str, str, str], float]) -> None:
        self.name, self._ask = name, ask

    def compare(self, context: str, a: str, b: str) -> Choice:
        """Both orders averaged; flipped where they lie on different sides of one half."""
        forward, backward = self._ask(context, a, b), 1.0 - self._ask(context, b, a)
        for p in (forward, backward):
            if not 0.0 <= p <= 1.0:
                raise InputError(f"{self.name} answered {p}; expected a probability in 0..1")
        p_a = (forward + backward) / 2.0
        flipped = (forward - 0.5) * (backward - 0.5) < 0.0
        return Choice(p_a, 2.0 * abs(p_a - 0.5), flipped=flipped)
