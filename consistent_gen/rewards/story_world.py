"""Rewards of story-world pictures: what the shipped reader sees of a set, next to its words.

Every one looks through the same `Looker`, which keeps the last pictures, so that a table of all of
them reads each picture once. What prompts say is told by a function (`asks`), since the words are
the world's and not ours.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consistent_gen.rewards.base import (
    Floats,
    ImageSet,
    MetricCard,
    Picture,
    Reward,
    SetScore,
    mean,
)
from consistent_gen.rewards.colors import color_similarities
from consistent_gen.rewards.guards import (
    Asked,
    background_differences,
    background_diversity,
    copied_backgrounds,
    count_match,
    duplicate_rate,
    prompt_matching,
    unasked,
)
from consistent_gen.rewards.looking import SIDE, Looker, stacked
from consistent_gen.rewards.looks import Looks
from consistent_gen.rewards.pairs import TOO_FEW, MatrixReward
from consistent_gen.rewards.sight import Sight, agreement, aligned

Asks = Callable[[str], Asked]
READER = "story-world reader"
NO_PROMPTS = "the set has no prompts"
NOBODY = "nobody is seen"
_READER_CARD: dict[str, Any] = {
    "features": READER,
    "resolution": f"{SIDE} x {SIDE}",
    "direction": "higher is better",
    "range": (0.0, 1.0),
    "symmetric": True,
    "version": 1,
}


class Views:
    """What a looker sees of sets, kept for the last set that was asked about."""

    def __init__(self, looker: Looker | None = None) -> None:
        self.looker = looker or Looker()
        self._last: tuple[ImageSet, NDArray[np.uint8], list[list[Sight]], NDArray[Any]] | None
        self._last = None

    def sights(self, item: ImageSet) -> list[list[Sight]]:
        """All characters of each picture. Raises ``CheckpointError`` without weights."""
        return self.everything(item)[1][: len(item.pictures)]

    def backgrounds(self, item: ImageSet) -> Floats:
        """How different the backgrounds are, n n."""
        small, _, planes = self.everything(item)
        count = len(item.pictures)
        return background_differences(list(small[:count]), [plane > 0 for plane in planes[:count]])

    def everything(
        self, item: ImageSet
    ) -> tuple[NDArray[np.uint8], list[list[Sight]], NDArray[Any]]:
        """Of the pictures and then the references: they themselves (n + r SIDE SIDE 3), all
        characters of each, and whose each pixel is (n + r SIDE SIDE). Read once for all rewards.
        """
        if self._last is None or self._last[0] is not item:
            shown: Sequence[Picture] = (*item.pictures, *item.references)
            small = stacked(shown) if shown else np.zeros((0, SIDE, SIDE, 3), np.uint8)
            self._last = item, small, *self.looker.all_with_planes(small)
        return self._last[1:]


class ReaderConsistency(MatrixReward):
    """Agreement of the main characters, by factors."""

    card = MetricCard(
        name="reader_consistency",
        says="how well the main characters of a set agree in the factors that make somebody",
        mask="the largest figure, by the reader's masks",
        known_failure="a picture of anything but the story world is read as if it were one",
        trained_on=True,
        **_READER_CARD,
    )

    def __init__(self, views: Views) -> None:
        self._views = views

    def matrix(self, item: ImageSet) -> Floats:
        """See `MatrixReward`."""
        return _agreements([_main(sights) for sights in self._views.everything(item)[1]])


class _OfPrompts(Reward):
    """What needs to know what was asked for.

    asks: what a prompt says. anchors: colour name -> place on the hue circle, in [0, 1).
    """

    def __init__(
        self, views: Views, asks: Asks, anchors: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        self._views, self._asks, self._anchors = views, asks, anchors

    def one(self, item: ImageSet) -> SetScore:
        """See `Reward`."""
        return self.prompted(item) if item.prompts else SetScore(None, reason=NO_PROMPTS)

    @abstractmethod
    def prompted(self, item: ImageSet) -> SetScore:
        """`one` of a set that has prompts."""


class ReaderAlignment(_OfPrompts):
    """Share of what the prompts name that is shown."""

    card = MetricCard(
        name="alignment",
        says="share of the attributes named in a prompt that its picture shows",
        mask="none; each attribute is read where the reader finds it",
        known_failure="words that are not understood count neither way: see `unread`",
        trained_on=True,
        **_READER_CARD,
    )

    def prompted(self, item: ImageSet) -> SetScore:
        """See `Reward`; the mean over pictures."""
        found = []
        unread: list[str] = []
        for sights, prompt in zip(self._views.sights(item), item.prompts, strict=True):
            asked = self._asks(prompt)
            one = aligned(_main(sights), asked.factors, self._anchors, asked.unread)
            found.append(one.value)
            unread += one.unread
        value = mean(found)
        told = f"could not read: {', '.join(dict.fromkeys(unread))}" if unread else ""
        parts = {"unread words": float(len(unread)) / len(item.prompts)}
        return SetScore(value, parts, told or ("" if value is not None else "nothing is named"))


class PromptMatching(_OfPrompts):
    """Do pictures fit their own prompts best?"""

    card = MetricCard(
        name="prompt_matching",
        says="share of pictures that fit their own prompt better than any other of the set",
        mask="none",
        known_failure="prompts that name the same cannot be told apart and share the credit",
        trained_on=False,
        **_READER_CARD,
    )

    def prompted(self, item: ImageSet) -> SetScore:
        """See `Reward`."""
        wanted = [self._asks(prompt).factors for prompt in item.prompts]
        fit = np.array(
            [
                [aligned(_main(sights), words, self._anchors).value or 0.0 for words in wanted]
                for sights in self._views.sights(item)
            ]
        )
        value = prompt_matching(fit)
        return SetScore(
            value, reason="" if value is not None else "one picture has no other prompt"
        )


class CharacterCount(_OfPrompts):
    """Are there as many characters as asked for?"""

    card = MetricCard(
        name="character_count",
        says="exp(-miscount / (1 + asked)), the mean over pictures",
        mask="none",
        known_failure="more than three characters are not counted; props are none",
        trained_on=False,
        **_READER_CARD,
    )

    def prompted(self, item: ImageSet) -> SetScore:
        """See `Reward`; prompts that name nobody are left out."""
        found = []
        for sights, prompt in zip(self._views.sights(item), item.prompts, strict=True):
            expected = self._asks(prompt).characters
            seen = len(sights) if sights[0].present else 0
            found.append(count_match(seen, expected) if expected else None)
        value = mean(found)
        return SetScore(value, reason="" if value is not None else "no prompt names a character")


class NothingUnasked(_OfPrompts):
    """Is anything there that nobody asked for?"""

    card = MetricCard(
        name="nothing_unasked",
        says="1 less the share of conspicuous things (accessories, props) that nobody asked for",
        mask="none",
        known_failure="only what the reader has a class for is seen",
        trained_on=False,
        **_READER_CARD,
    )

    def prompted(self, item: ImageSet) -> SetScore:
        """See `Reward`; `reason` names what is there, where something is."""
        found = [
            unasked(sights, self._asks(prompt).factors)
            for sights, prompt in zip(self._views.sights(item), item.prompts, strict=True)
        ]
        extra = dict.fromkeys(word for one in found for word in one.unasked)
        told = f"nobody asked for: {', '.join(extra)}" if extra else ""
        return SetScore(mean(one.value for one in found), reason=told)


class FigureColors(MatrixReward):
    """Do the figures have the same colours, whole?"""

    card = MetricCard(
        name="figure_colors",
        says="overlap of the colour histograms of the main figures, mean over pairs",
        mask="the largest figure, by the reader's masks",
        known_failure="a change of style or light changes colours without changing who it is",
        trained_on=False,
        **_READER_CARD,
    )

    def __init__(self, views: Views) -> None:
        self._views = views

    def matrix(self, item: ImageSet) -> Floats:
        """See `MatrixReward`."""
        small, seen, planes = self._views.everything(item)
        masks = [plane == _largest(sights) for plane, sights in zip(planes, seen, strict=True)]
        return color_similarities(list(small), masks)


class BackgroundDiversity(Reward):
    """Are the surroundings different?"""

    card = MetricCard(
        name="background_diversity",
        says="1 less the similarity of what is behind the figures, mean over pairs",
        mask="everything but the figures, by the reader's masks",
        known_failure="pictures in one place are meant to be alike; compare with the base model",
        trained_on=False,
        **_READER_CARD,
    )

    def __init__(self, views: Views) -> None:
        self._views = views

    def one(self, item: ImageSet) -> SetScore:
        """See `Reward`."""
        value = background_diversity(self._views.backgrounds(item))
        return SetScore(value, reason="" if value is not None else TOO_FEW)


class DifferentBackgrounds(Reward):
    """Is no background a copy of another one?"""

    card = MetricCard(
        name="different_backgrounds",
        says="1 less the share of pairs with nearly the same background",
        mask="everything but the figures, by the reader's masks",
        known_failure="a background that was moved or recoloured is another one",
        trained_on=False,
        **_READER_CARD,
    )

    def __init__(self, views: Views) -> None:
        self._views = views

    def one(self, item: ImageSet) -> SetScore:
        """See `Reward`."""
        rate = copied_backgrounds(self._views.backgrounds(item))
        if rate is None:
            return SetScore(None, reason=TOO_FEW)
        return SetScore(1.0 - rate)


class DifferentPictures(Reward):
    """Is it not one picture again and again?"""

    card = MetricCard(
        name="different_pictures",
        says="1 less the share of pairs that are nearly the same picture",
        features="OKLab at 32 x 32 pixels",
        resolution="32 x 32",
        mask="none",
        direction="higher is better",
        range=(0.0, 1.0),
        symmetric=True,
        version=1,
        known_failure="a copy that was moved by some pixels is another picture",
        trained_on=False,
    )

    def one(self, item: ImageSet) -> SetScore:
        """See `Reward`."""
        rate = duplicate_rate(item.pictures)
        if rate is None:
            return SetScore(None, reason=TOO_FEW)
        return SetScore(1.0 - rate)


STORY_WORLD: tuple[type[Reward], ...] = (
    ReaderConsistency,
    ReaderAlignment,
    PromptMatching,
    CharacterCount,
    NothingUnasked,
    FigureColors,
    BackgroundDiversity,
    DifferentBackgrounds,
    DifferentPictures,
    Looks,
)


def story_world_rewards(
    looker: Looker | None, asks: Asks, anchors: Mapping[str, float]
) -> list[Reward]:
    """All rewards of story-world pictures, which share what one looker sees.

    asks: what a prompt says. anchors: colour name -> place on the hue circle, in [0, 1).

    Raises:
        CheckpointError: the reader's weights are missing.
    """
    views = Views(looker)
    rewards: list[Reward] = [
        ReaderConsistency(views),
        ReaderAlignment(views, asks, anchors),
        PromptMatching(views, asks, anchors),
        CharacterCount(views, asks),
        NothingUnasked(views, asks),
        FigureColors(views),
        BackgroundDiversity(views),
        DifferentBackgrounds(views),
        DifferentPictures(),
        Looks(),
    ]
    digest = views.looker.sha256()
    for reward in rewards:
        if reward.card.features == READER:
            reward.card = replace(reward.card, sha256=digest)
    return rewards


def _main(sights: Sequence[Sight]) -> Sight:
    return max(sights, key=lambda sight: sight.area)


def _largest(sights: Sequence[Sight]) -> int:
    """The number of the main figure in a plane of owners; one that no pixel has for nobody."""
    if not sights[0].present:
        return -1
    return 1 + max(range(len(sights)), key=lambda k: sights[k].area)


def _agreements(sights: Sequence[Sight]) -> Floats:
    found = [[agreement(x, y) for y in sights] for x in sights]
    rows = [[np.nan if v is None else v for v in row] for row in found]
    return np.array(rows, float).reshape(len(sights), len(sights))
