"""The best of several candidates: which drawing of a frame is kept, and why.

With `best_of` K a frame is drawn K times, from its own seed and from K - 1 that are derived from
it, and one is kept: of those that show most of what the frame's words name, the one that is most
like the frames in which its characters were seen first. Those are chosen before all others, by
their words alone, since there is nothing yet that they could be like; where methods let frames
read them, it is what was chosen that is read. So which candidate a frame gets follows from the
plan, as its picture does without candidates: a frame that is drawn alone is that of its story.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from consistent_gen.runtime import frame_seed

if TYPE_CHECKING:
    import numpy as np

    from consistent_gen.engine.events import FrameDone
    from consistent_gen.story.plan import FramePlan

KEY = "best_of"  # in the story part of a picture's metadata
_SURE = 1e-6  # alignments that differ by less are equal


class ScoresFrames(Protocol):
    """What candidates are chosen by (see `scoring.FrameScorer`)."""

    def __call__(
        self,
        pictures: Sequence[np.ndarray],
        frame: FramePlan,
        others: Sequence[np.ndarray] = (),
    ) -> list[dict[str, float]]:
        """alignment, likeness and whatever else is known of each picture."""


@dataclass(frozen=True, kw_only=True)
class ChosenFrame:
    """Which candidate was kept.

    number: of the candidate, from 0. done: its drawing. seeds, scores: of all candidates.
    """

    number: int
    done: FrameDone
    seeds: tuple[int, ...]
    scores: tuple[Mapping[str, float], ...]

    @property
    def seed(self) -> int:
        """What the kept candidate was drawn from."""
        return self.seeds[self.number]

    def to_json(self) -> dict[str, Any]:
        """For reports; candidates count from 1, as people do."""
        candidates = [
            {"seed": seed, "scores": dict(scores)}
            for seed, scores in zip(self.seeds, self.scores, strict=True)
        ]
        return {"chosen": self.number + 1, "candidates": candidates}


def candidate_seed(seed: int, number: int) -> int:
    """The seed of candidate `number` of a frame with that seed; the first one has the frame's."""
    return frame_seed(seed, number) if number else seed


def candidate_seeds(seed: int, count: int) -> tuple[int, ...]:
    """Of all candidates of a frame."""
    return tuple(candidate_seed(seed, number) for number in range(count))


def best(scores: Sequence[Mapping[str, float]]) -> int:
    """The candidate that is kept: most words shown, then most alike, then the first one.

    Words go first, so that no likeness is bought with what a frame was to show.
    """
    most = max(one.get("alignment", 0.0) for one in scores)
    fit = [n for n, one in enumerate(scores) if one.get("alignment", 0.0) >= most - _SURE]
    return max(fit, key=lambda n: (scores[n].get("likeness", 0.0), -n))


def choose(
    frame: FramePlan,
    drawn: Sequence[FrameDone],
    others: Sequence[np.ndarray],
    scorer: ScoresFrames,
) -> ChosenFrame:
    """Choose among a frame's candidates, in their order. others: pictures that show its
    characters.

    Raises:
        CheckpointError: the weights of what chooses are missing or damaged.
    """
    scores = scorer([done.image for done in drawn], frame, others)
    seeds = candidate_seeds(frame.seed, len(drawn))
    number = best(scores)
    return ChosenFrame(number=number, done=drawn[number], seeds=seeds, scores=tuple(scores))


@dataclass
class Trial:
    """Candidates of frames that are chosen before others, while they are drawn.

    ids: of the engine's frames -> (index in the story, number of the candidate).
    """

    ids: dict[str, tuple[int, int]]
    drawn: dict[tuple[int, int], FrameDone] = field(default_factory=dict)

    @property
    def left(self) -> tuple[str, ...]:
        """Ids of what is not drawn yet."""
        return tuple(id_ for id_, place in self.ids.items() if place not in self.drawn)

    def take(self, done: FrameDone) -> None:
        """Note a drawing if it is one of these."""
        if done.id in self.ids:
            self.drawn[self.ids[done.id]] = done

    def of(self, index: int) -> list[FrameDone]:
        """The candidates of a frame, in order."""
        return [self.drawn[place] for place in sorted(self.drawn) if place[0] == index]
