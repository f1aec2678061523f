"""First frames that show what nobody asked for are drawn again.

What others read of a character stays with it: a crown in the frame that shows it first is a crown
in all of them. So the story-world reader looks at a drawing of such a frame (an anchor, see
`story.anchors`), and where it sees headwear, or a sad or angry face, that no word names, the frame
is drawn again from another seed, as often as `StoryPlan.mend` says. The drawing with the fewest
faults is kept, the first of equals.

Frames that read the anchor have begun by then and begin anew, so time is spent only where a fault
is seen. Which drawing is kept follows from the plan and the reader alone: a frame that is drawn
alone is that of its story. Seeds are those of candidates (`best_of.candidate_seed`), and a picture
holds the one that it was drawn from. Wrong colours do not count: the reader is mistaken about them
more often than the model.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from consistent_gen.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np

    from consistent_gen.rewards.looking import Looker
    from consistent_gen.rewards.sight import Sight
    from consistent_gen.story.plan import FramePlan

KEY = "mended"  # in the story part of a picture's metadata
HEADWEAR = ("hat", "crown", "bow")
GLOOMY: Mapping[str, tuple[str, ...]] = {
    "sad": ("sad", "unhappy"),
    "angry": ("angry", "cross", "grumpy"),
}


def record(number: int, seed: int) -> dict[str, Any]:
    """What a picture's metadata say of drawing `number`; nothing of the first. seed: the frame's
    own.
    """
    return {KEY: {"drawing": number + 1, "seed": seed}} if number else {}


class SeesFaults(Protocol):
    """Who looks at drawings of first frames."""

    def __call__(self, picture: np.ndarray, frame: FramePlan) -> tuple[str, ...]:
        """What a picture (uint8 [h w 3]) of `frame` shows and nobody asked for, in words."""


class ReaderSeesFaults:
    """The shipped reader; without its weights nothing is seen. Safe to share between threads."""

    def __init__(self, looker: Looker | None = None) -> None:
        from consistent_gen.rewards.looking import Looker

        self._looker = looker or Looker()

    def __call__(self, picture: np.ndarray, frame: FramePlan) -> tuple[str, ...]:
        """See `SeesFaults`."""
        from consistent_gen.rewards.looking import stacked

        try:
            (sights,) = self._looker.all(stacked([picture]))
        except CheckpointError:
            return ()
        return faults(sights, frame)


@functools.cache
def shipped() -> SeesFaults:
    """The one of this process, so that the reader is loaded once."""
    return ReaderSeesFaults()


def faults(sights: Sequence[Sight], frame: FramePlan) -> tuple[str, ...]:
    """Headwear and gloomy faces among `sights` of a picture of `frame` that no word of it names."""
    from consistent_gen.rewards.guards import SURE

    said = " ".join([frame.prompt, *(member.words for member in frame.members)])
    words = set(said.replace(",", " ").replace(".", " ").lower().split())
    found = []
    for sight in sights if sights[0].present else ():
        worn, face = sight.word("accessory") or "", sight.word("expression") or ""
        if worn in HEADWEAR and worn not in words and sight.subject["accessory"][worn] >= SURE:
            found.append(worn)
        if face in GLOOMY and not words.intersection(GLOOMY[face]):
            found.append(f"{face} face")
    return tuple(found)


@dataclass
class Tries:
    """Drawings of one frame. seen: the faults of each. number: of the one to draw or to keep, from
    0. settled: whether it is kept.
    """

    seen: list[tuple[str, ...]] = field(default_factory=list)
    number: int = 0
    settled: bool = False

    def drawn(self, seen: tuple[str, ...], most: int) -> bool:
        """Note what drawing `number` shows; whether another one has to be drawn now. most: how
        often the frame may be drawn again to get a better one.
        """
        self.seen.append(seen)
        last = self.number
        self.settled = not seen or len(self.seen) > most
        everyone = range(len(self.seen))
        self.number = len(self.seen)
        if self.settled:
            self.number = min(everyone, key=lambda number: (len(self.seen[number]), number))
        return self.number != last

    def to_json(self) -> dict[str, Any]:
        """For reports; drawings count from 1, as people do."""
        return {"kept": self.number + 1, "seen": [list(one) for one in self.seen]}


class Mending:
    """The first frames of one story that were looked at.

    Args:
        most: see `StoryPlan.mend`.
        sees: who looks; None for the shipped reader.
    """

    def __init__(self, most: int, sees: SeesFaults | None = None) -> None:
        self._most = most
        self._sees = sees
        self.tries: dict[int, Tries] = {}  # by index in the story

    def number(self, index: int) -> int:
        """Which drawing of a frame is drawn, or kept, from 0."""
        return self.tries[index].number if index in self.tries else 0

    def again(self, frame: FramePlan, picture: np.ndarray) -> bool:
        """Look at a drawing of a first frame; whether another one takes its place."""
        if not self._most:
            return False
        tries = self.tries.setdefault(frame.index, Tries())
        if tries.settled:
            return False
        return tries.drawn((self._sees or shipped())(picture, frame), self._most)
