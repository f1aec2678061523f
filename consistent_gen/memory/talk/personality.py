"""How a picture of the user's personality evolves, turn by turn.

The personality evolving mechanism of PersonaVLM (arXiv 2604.13074): five scores from 1 to 5 start
at 3; a turn that gives evidence s for a trait moves it by an exponential moving average

    p <- lambda(n) * p + (1 - lambda(n)) * s

where n counts the observations stored before this one. lambda rises from 0.5 to 0.9 along half a
cosine over the first 50, so that early turns move fast and later ones are damped. A score of 3
means "no evidence" and moves nothing, though the turn still counts towards n.

State is a fold over observation rows and is never stored: forgetting a turn and folding again
gives exactly what would have been without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Literal, TypeVar

from consistent_gen.memory.data.records import BIG_FIVE, Record, TraitObservation
from consistent_gen.memory.data.store import Store

State = TypeVar("State")
NEUTRAL = 3
HORIZON = 50
LAMBDA_START = 0.5
LAMBDA_END = 0.9
# How far from neutral a score must lie before it is worth a line in a prompt.
NOTABLE = 0.5


def ema_weight(observations: int) -> float:
    """lambda(n): the weight in [0.5, 0.9] of the old score after ``observations`` earlier ones."""
    n = min(max(observations, 0), HORIZON)
    speed = (LAMBDA_START - (1 - LAMBDA_END)) * (1 + math.cos(math.pi * n / HORIZON)) / 2
    return 1 - (1 - LAMBDA_END + speed)


@dataclass(frozen=True, kw_only=True)
class Personality:
    """Big Five scores in [1, 5] by trait name, and how many observations they rest on.

    ``evidence`` counts, by trait, the observations that were not neutral.
    """

    scores: Mapping[str, float] = field(
        default_factory=lambda: {trait: float(NEUTRAL) for trait in BIG_FIVE}
    )
    observations: int = 0
    evidence: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(BIG_FIVE, 0))

    def after(self, scores: Mapping[str, int]) -> Personality:
        """The state after one more turn that scored ``scores`` (integers 1..5 by trait name)."""
        weight = ema_weight(self.observations)
        moved, evidence = dict(self.scores), dict(self.evidence)
        for trait, score in scores.items():
            if score != NEUTRAL:
                moved[trait] = weight * moved[trait] + (1 - weight) * score
                evidence[trait] += 1
        return Personality(scores=moved, observations=self.observations + 1, evidence=evidence)


def fold(observations: Iterable[TraitObservation]) -> Personality:
    """The personality after ``observations``, which must be in the order they happened."""
    state = Personality()
    for observation in observations:
        state = state.after(observation.scores)
    return state


class RunningFold(Generic[State]):
    """A fold over the observations of one kind that goes on from where it was.

    What was erased, or observed before what was folded already, makes it begin anew, so that it
    always gives what a fold over the whole list gives.
    """

    def __init__(
        self,
        store: Store,
        kind: Literal["trait_obs", "style_obs"],
        start: State,
        step: Callable[[State, Any], State],
    ) -> None:
        self._store, self._kind, self._start, self._step = store, kind, start, step
        self._state, self._seen = start, (datetime.min.replace(tzinfo=UTC), "")
        self._since: datetime | None = None

    def now(self) -> State:
        """The state after everything that is stored."""
        since, latest = self._since, self._store.last_write
        changes = None if since is None else self._store.changes(since)
        found: Sequence[Record] = ()
        if changes is not None and not changes.erased:
            records = (r for r in self._store.get(changes.ids) if r.kind == self._kind)
            found = sorted(records, key=_when)
        if changes is None or changes.erased or (found and _when(found[0]) <= self._seen):
            found, self._state = self._store.list(self._kind), self._start
        for record in found:
            self._state = self._step(self._state, record)
        self._seen = max([self._seen, *map(_when, found)])
        self._since = latest
        return self._state


def _when(record: Record) -> tuple[datetime, str]:
    assert record.valid_from is not None
    return record.valid_from, record.id


_ADVICE: dict[str, tuple[str, str]] = {
    "openness": ("stay concrete and familiar", "offer unusual ideas and connections"),
    "conscientiousness": ("keep plans light and flexible", "be precise and give clear steps"),
    "extraversion": ("be calm and leave room", "be lively and engaging"),
    "agreeableness": ("be direct and argue on the merits", "be warm and cooperative"),
    "neuroticism": ("be matter-of-fact", "be reassuring and avoid alarm"),
}


def alignment_lines(personality: Personality, notable: float = NOTABLE) -> tuple[str, ...]:
    """Advice to whoever answers, one line per trait at least ``notable`` away from neutral.

    Scores are shown with one decimal. Without evidence there are no lines.
    """
    lines = []
    for trait in BIG_FIVE:
        score = personality.scores[trait]
        if abs(score - NEUTRAL) >= notable:
            low, high = _ADVICE[trait]
            lines.append(f"{trait} {score:.1f} of 5: {high if score > NEUTRAL else low}")
    return tuple(lines)
