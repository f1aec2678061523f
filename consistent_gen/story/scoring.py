"""What the shipped networks see of a drawn story: the scores of report.json and of single frames.

alignment: share of the attributes named in a frame's prompt that its picture shows.
consistency: how well the characters of a frame agree with themselves in the story's other frames.
likeness: how surely the pair network says that a picture and others show the same somebody.
nothing_unasked: 1 less the share of conspicuous things that nobody asked for.
reference_likeness: how well a character who has reference pictures agrees with these, as the reader
sees it; of a frame the mean of its characters, and of each by name.
What cannot be told has no score, which is not a score of 0.

The reader knows the story world, so pictures of other models are not scored, and neither is
anything where its weights are missing. Characters stand from left to right in the order in which
the prompt mentions them, as the story-world model was taught; a frame in which more or fewer are
seen does not tell who is who and counts for no character's consistency.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, permutations
from typing import TYPE_CHECKING

import numpy as np

from consistent_gen.checkpoints import weights_folder
from consistent_gen.errors import CheckpointError
from consistent_gen.inputs import open_picture
from consistent_gen.registry import resolve
from consistent_gen.rewards.base import Scores, mean
from consistent_gen.rewards.consistency import character_consistency
from consistent_gen.rewards.guards import CONSPICUOUS, unasked
from consistent_gen.rewards.looking import MAX_SUBJECTS, READER, Looker, stacked
from consistent_gen.rewards.sight import Sight, agreement, alignment
from consistent_gen.story.plan import FramePlan, Model, StoryPlan
from consistent_gen.story.report import Scorer, StoryScores

if TYPE_CHECKING:
    from pathlib import Path

    from consistent_gen.rewards.pair_network import PairNetworkReward

# The story world's own words; looked up by name, as other models draw without it.
WORLD_WORDS = {
    "factors": "consistent_gen.world.naming:named_factors",
    "colors": "consistent_gen.world.palette:hue_anchors",
}
NamedFactors = Callable[[str], dict[str, str]]
LIKENESS = "reference_likeness"
KEPT_REFERENCES = 256  # sights of reference pictures that are kept


def reader_scorers(model: Model, looker: Looker | None = None) -> dict[str, Scorer]:
    """The scorers for what `model` draws; none where the reader does not apply or is missing.

    looker: instead of one over the shipped weights.

    Raises:
        CheckpointError: the reader's weights are there and damaged.
    """
    if model.vocabulary() is None:
        return {}
    if looker is None:
        try:
            weights_folder(READER)
        except CheckpointError:
            return {}
        looker = Looker()
    looker.load()
    reading = _Reading(looker)
    return {
        "alignment": reading.alignment,
        "consistency": reading.consistency,
        LIKENESS: reading.reference_likeness,
    }


def missing(sights: Sequence[Sight], frame: FramePlan) -> list[str]:
    """Names of the characters of a frame that its picture does not show, as far as can be told.

    Where fewer are seen than the prompt mentions, those are missing whose words fit none of them.
    Of more characters than the reader can see nobody is called missing.
    """
    names = _mentioned(frame)
    seen = len(sights) if sights[0].present else 0
    if seen >= len(names) or len(names) > MAX_SUBJECTS:
        return []
    if not seen:
        return names
    anchors: Mapping[str, float] = resolve(WORLD_WORDS, "colors")()
    there = _best(sights, _told(frame, sights[0]), anchors)[1]
    return [name for index, name in enumerate(names) if index not in there]


class FrameScorer:
    """Scores of single pictures of a frame: of its candidates, and of what a server draws.

    looker, pair: instead of those with the shipped weights. Safe to share between threads.
    """

    def __init__(self, looker: Looker | None = None, pair: PairNetworkReward | None = None) -> None:
        from consistent_gen.rewards.pair_network import PairNetworkReward

        self._looker = looker or Looker()
        self._pair = pair or PairNetworkReward()
        self._references = ReferenceSights(self._looker)

    def __call__(
        self,
        pictures: Sequence[np.ndarray],
        frame: FramePlan,
        others: Sequence[np.ndarray] = (),
    ) -> list[dict[str, float]]:
        """alignment, nothing_unasked, likeness and reference_likeness of each picture (uint8
        [h w 3]), where they apply; the last also of each character, as "reference_likeness/Mia".
        others: pictures of the story's other frames that show the same characters.

        Raises:
            CheckpointError: the weights are missing or damaged.
        """
        anchors: Mapping[str, float] = resolve(WORLD_WORDS, "colors")()
        seen = self._looker.all(stacked(pictures))
        likeness = self._likeness(pictures, others) if frame.members else [None] * len(pictures)
        found = []
        for sights, alike in zip(seen, likeness, strict=True):
            extra = things_unasked(sights, frame)
            values = {
                "alignment": _aligned(sights, frame, anchors),
                "likeness": alike,
                "nothing_unasked": 1.0 - len(extra) / max(len(CONSPICUOUS), len(extra)),
            }
            like = self._references.likeness(sights, frame)
            values |= {LIKENESS: mean(like.values())} if like else {}
            values |= {f"{LIKENESS}/{name}": value for name, value in like.items()}
            found.append({name: value for name, value in values.items() if value is not None})
        return found

    def _likeness(
        self, pictures: Sequence[np.ndarray], others: Sequence[np.ndarray]
    ) -> list[float | None]:
        if not others:
            return [None] * len(pictures)
        count = len(pictures)
        similar = self._pair.similarities((*pictures, *others))[:count, count:]
        return [float(row.mean()) for row in similar]


class ReferenceSights:
    """What a looker sees of reference pictures, by their contents; the last ones are kept. Safe to
    share between threads.
    """

    def __init__(self, looker: Looker) -> None:
        self._looker = looker
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Sight] = OrderedDict()

    def likeness(self, sights: Sequence[Sight], frame: FramePlan) -> dict[str, float]:
        """Characters of a frame who have pictures: how well they agree with these in a picture of
        it, in [0, 1]. Nobody where the picture does not tell who is who.

        Raises:
            CheckpointError: the reader's weights are missing or damaged.
        """
        given = {member.name: member.references for member in frame.members if member.references}
        seen = _who_is_who(sights, frame) if given else {}
        found = {
            name: mean(agreement(seen[name], self._sight(one)) for one in pictures)
            for name, pictures in given.items()
            if name in seen
        }
        return {name: value for name, value in found.items() if value is not None}

    def _sight(self, given: Path | bytes) -> Sight:
        data = given if isinstance(given, bytes) else given.read_bytes()
        key = hashlib.sha256(data).hexdigest()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        (sight,) = self._looker.main(stacked([np.asarray(open_picture(data), np.uint8)]))
        with self._lock:
            self._kept[key] = sight
            if len(self._kept) > KEPT_REFERENCES:
                self._kept.popitem(last=False)
        return sight


def things_unasked(sights: Sequence[Sight], frame: FramePlan) -> list[str]:
    """Conspicuous things in a picture of `frame` for which no word of its asks."""
    factors: NamedFactors = resolve(WORLD_WORDS, "factors")
    asked = [factors(frame.prompt), *(factors(member.words) for member in frame.members)]
    wanted = {words[name] for words in asked for name in CONSPICUOUS if name in words}
    return [thing for thing in unasked(sights, {}).unasked if thing not in wanted]


class _Reading:
    """What a looker sees of the story at hand; both scorers ask for the same pictures."""

    def __init__(self, looker: Looker) -> None:
        self._looker = looker
        self._references = ReferenceSights(looker)
        self._seen: tuple[Sequence[np.ndarray], list[list[Sight]]] | None = None

    def alignment(self, pictures: Sequence[np.ndarray], plan: StoryPlan) -> StoryScores:
        """See `report.Scorer`."""
        anchors: Mapping[str, float] = resolve(WORLD_WORDS, "colors")()
        scores = Scores.of(
            _aligned(sights, frame, anchors)
            for sights, frame in zip(self._sights(pictures), plan.frames, strict=True)
        )
        return StoryScores(story=scores.mean(), frames=scores.optional())

    def consistency(self, pictures: Sequence[np.ndarray], plan: StoryPlan) -> StoryScores:
        """See `report.Scorer`."""
        scores = character_consistency(
            [
                _who_is_who(sights, frame)
                for sights, frame in zip(self._sights(pictures), plan.frames, strict=True)
            ]
        )
        parts = scores.parts
        names = dict.fromkeys(i.name for frame in plan.frames for i in frame.members)
        characters = {n: parts[n].mean() if n in parts else None for n in names}
        return StoryScores(
            story=mean(characters.values()), frames=scores.optional(), characters=characters
        )

    def reference_likeness(self, pictures: Sequence[np.ndarray], plan: StoryPlan) -> StoryScores:
        """See `report.Scorer`. Nothing is looked at where nobody has pictures."""
        if not any(member.references for frame in plan.frames for member in frame.members):
            return StoryScores(story=None, frames=(None,) * len(pictures))
        shown = tuple(
            self._references.likeness(sights, frame)
            for sights, frame in zip(self._sights(pictures), plan.frames, strict=True)
        )
        frames = tuple(mean(like.values()) for like in shown)
        names = dict.fromkeys(name for like in shown for name in like)
        characters = {n: mean(like[n] for like in shown if n in like) for n in names}
        return StoryScores(
            story=mean(characters.values()), frames=frames, characters=characters, shown=shown
        )

    def _sights(self, pictures: Sequence[np.ndarray]) -> list[list[Sight]]:
        if self._seen is None or self._seen[0] is not pictures:
            self._seen = pictures, self._looker.all(stacked(pictures))
        return self._seen[1]


def _who_is_who(sights: Sequence[Sight], frame: FramePlan) -> dict[str, Sight]:
    """name -> sight, in a picture that shows as many characters as its prompt mentions."""
    names = _mentioned(frame)
    if not sights[0].present or len(sights) != len(names):
        return {}
    return dict(zip(names, sights, strict=True))


def _mentioned(frame: FramePlan) -> list[str]:
    return list(dict.fromkeys(subject.name for subject in frame.subjects))


def _aligned(
    sights: Sequence[Sight], frame: FramePlan, anchors: Mapping[str, float]
) -> float | None:
    """Share of what is named that is shown. Several characters are told by their own words."""
    factors: NamedFactors = resolve(WORLD_WORDS, "factors")
    named, scene = factors(frame.prompt), sights[0].scene
    names = _mentioned(frame)
    if len(names) < 2:
        return alignment(max(sights, key=lambda sight: sight.area), named, anchors)
    told = _told(frame, sights[0])
    around = {k: v for k, v in named.items() if k in scene}
    hits = _hits(sights[0], around, anchors) + _best(sights, told, anchors)[0]
    count = len(around) + sum(map(len, told))
    return hits / count if count else None


def _told(frame: FramePlan, sight: Sight) -> list[dict[str, str]]:
    """What the words say of each character, without the scene."""
    factors: NamedFactors = resolve(WORLD_WORDS, "factors")
    words = {member.name: factors(member.words) for member in frame.members}
    return [{k: v for k, v in words[n].items() if k not in sight.scene} for n in _mentioned(frame)]


def _best(
    sights: Sequence[Sight], told: Sequence[Mapping[str, str]], anchors: Mapping[str, float]
) -> tuple[int, tuple[int, ...]]:
    """Most attributes shown when every sight is one of the characters, and which these are then.

    Who has no sight shows nothing: somebody who was left out is a miss and not a failure.
    """
    pairs = min(len(sights), len(told))
    every = [
        (sum(_hits(s, told[who], anchors) for s, who in zip(some, whose, strict=True)), whose)
        for some in combinations(sights, pairs)
        for whose in permutations(range(len(told)), pairs)
    ]
    return max(every, key=lambda one: one[0])


def _hits(sight: Sight, wanted: Mapping[str, str], anchors: Mapping[str, float]) -> int:
    return sum(sight.shows(factor, word, anchors) for factor, word in wanted.items())
