"""The stories that the consistency benchmark draws: held-out characters under sparing words."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine.request import FrameRequest, Subject
from consistent_gen.runtime import frame_seed
from consistent_gen.story.types import Character, Frame, Story
from consistent_gen.story.wording import Vocabulary, word_story
from consistent_gen.world import phrases
from consistent_gen.world.captions import describe, style_phrase, words_of
from consistent_gen.world.spec import (
    ACTIONS,
    EXPRESSIONS,
    INDOOR,
    PLACES,
    STYLES,
    WEATHERS,
    FrameSpec,
    Identity,
    sample_identity,
    scene_held_out,
)
from consistent_gen.world.spec import (
    SubjectSpec as Figure,
)

FRAMES = 5
NAMED_SHARE = 0.35  # of the factors that could be named; the rest only sharing can keep
HERO = "hero"
# Beside the story's own frames: a character standing nowhere in particular, then other poses.
PORTRAIT_ACTIONS = ("standing", "waving", "walking", "sitting")
_PORTRAIT_INDEX = 10_000


@dataclass(frozen=True)
class SceneWords:
    """One frame's words: what happens where, in which style."""

    action: str
    place: str
    style: str

    @property
    def named(self) -> dict[str, int]:
        """Factor -> class number."""
        return {"action": ACTIONS.index(self.action), "place": PLACES.index(self.place)}


@dataclass(frozen=True)
class BenchmarkStory:
    """A character's words, what they name (factor -> word), and the scenes."""

    number: int
    words: str
    named: Mapping[str, str]
    scenes: tuple[SceneWords, ...]
    identity: Identity

    def requests(self, seed: int, steps: int, guidance: float) -> list[FrameRequest]:
        """All frames of the story."""
        return [self.request(i, seed, steps, guidance) for i in range(len(self.scenes))]

    def request(self, index: int, seed: int, steps: int, guidance: float) -> FrameRequest:
        """Frame `index` of the story under story seed `seed`."""
        return self._request(
            self.scenes[index], frame_seed(seed, index), f"{index}", steps, guidance
        )

    def portrait(self, number: int, seed: int, steps: int, guidance: float) -> FrameRequest:
        """A neutral picture of the character, in the first scene's style and place; never shown."""
        action = PORTRAIT_ACTIONS[number % len(PORTRAIT_ACTIONS)]
        scene = SceneWords(action, self.scenes[0].place, self.scenes[0].style)
        return self._request(
            scene, frame_seed(seed, _PORTRAIT_INDEX + number), f"portrait{number}", steps, guidance
        )

    def _request(
        self, scene: SceneWords, seed: int, name: str, steps: int, guidance: float
    ) -> FrameRequest:
        start = f"{style_phrase(scene.style)} of"
        what = phrases.ACTION_PHRASES[scene.action][0][0]
        where = phrases.PLACE_PHRASES[scene.place][0]
        text = " ".join(f"{start} {self.words} {what} {where}".split())
        # The start mark is token 0, and every word is one token.
        noun = 1 + len(words_of(start)) + noun_index(self.words)
        return FrameRequest(
            id=f"{self.number}-{seed}-{name}",
            prompt=text,
            seed=seed,
            settings=DrawSettings(steps=steps, guidance=guidance),
            subjects=(Subject(name=HERO, tokens=(noun,)),),
        )


def with_sheet(story: BenchmarkStory, seed: int, vocabulary: Vocabulary) -> BenchmarkStory:
    """The story with what its words leave open completed by a character sheet, as in stories that
    people write. The seed decides it, so two drawings of the story have two sheets, and what they
    have in common is still only what the writer named.
    """
    hero = Character(name="Ada", description=story.words)
    frames = (Frame(prompt="{Ada} stands in a meadow"),)
    one = Story(title="", seed=seed, characters={"Ada": hero}, frames=frames)
    completed = word_story(one, vocabulary, sheets=True).story.characters["Ada"].description
    return replace(story, words=completed)


def noun_index(words: str) -> int:
    """Where the head noun stands in a character's words, counted from 0."""
    nouns = {options.split()[-1] for group in phrases.KIND_NOUNS.values() for options in group}
    return next(i for i, word in enumerate(words_of(words)) if word in nouns)


def make_story(number: int, *, style_diverse: bool, seed: int = 0) -> BenchmarkStory:
    """Story `number`: a held-out identity, five different actions in five different places.

    The scenes are of combinations that training shows; with `style_diverse` every frame names
    another style, otherwise all name one.
    """
    rng = random.Random(f"consistency {seed} {number}")
    identity = sample_identity(rng, held_out=True)
    words, named = describe(identity, rng, share=NAMED_SHARE)
    scenes = sample_scenes(rng, style_diverse=style_diverse)
    return BenchmarkStory(number, words, named, scenes, identity)


def sample_scenes(rng: random.Random, *, style_diverse: bool) -> tuple[SceneWords, ...]:
    """Different actions in different places, in combinations that training shows."""
    styles = rng.sample(STYLES, FRAMES) if style_diverse else [rng.choice(STYLES)] * FRAMES
    while True:
        pairs = list(zip(rng.sample(ACTIONS, FRAMES), rng.sample(PLACES, FRAMES), strict=True))
        if not any(scene_held_out(*pair) for pair in pairs):
            break
    return tuple(SceneWords(a, p, s) for (a, p), s in zip(pairs, styles, strict=True))


def same_words(identity: Identity, named: Mapping[str, str], rng: random.Random) -> Identity:
    """Somebody else whom the same words describe: what they leave open is drawn anew."""
    other = sample_identity(rng, kind=identity.kind)
    return replace(other, **{n: getattr(identity, n) for n in named if hasattr(identity, n)})


def true_frames(story: BenchmarkStory, rng: random.Random) -> list[FrameSpec]:
    """The story's scenes with one person whom its words describe, for the world to draw."""
    who = same_words(story.identity, story.named, rng)
    frames = []
    for scene in story.scenes:
        weather = "sunny" if scene.place in INDOOR else rng.choice(WEATHERS)
        figure = Figure(
            identity=who, action=scene.action, expression=rng.choice(EXPRESSIONS),
            x=0.5 + rng.uniform(-0.05, 0.05), facing=rng.choice((-1, 1)),
        )  # fmt: skip
        frames.append(
            FrameSpec(
                place=scene.place,
                weather="night" if scene.place == "moon" else weather,
                style=scene.style,
                camera="medium",
                prop="none",
                subjects=(figure,),
                layout_seed=rng.getrandbits(32),
            )
        )
    return frames
