"""Remembered identities to pictures: the drawer that `consistent-gen chat` gives its assistant."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from consistent_gen.errors import InputError

if TYPE_CHECKING:
    from consistent_gen.engine.loop import Engine
    from consistent_gen.engine.request import FrameRequest, Subject
    from consistent_gen.memory.assistant import DrawJob
    from consistent_gen.memory.concepts import RememberedIdentity
    from consistent_gen.memory.embedders import Picture
    from consistent_gen.models.backbone import Backbone
    from consistent_gen.story.casting import Identity
    from consistent_gen.story.prompts import Prompt

_PORTRAITS = 1 << 32  # frame numbers that no attempt reaches


class StoryDrawer:
    """Draws `DrawJob`s with one story model, which is loaded when the first picture is asked for.

    Each attempt has a seed of its own. With a method that shares attention, the confirmed crops
    of a character are its anchors: at every step the model looks at them, noised to that step,
    and the new picture reads what it saw there. Where there are fewer crops than the method has
    anchors, neutral portraits in words take the open places. With `vanilla` words alone draw.
    The crops stay in memory; nothing is written to the disk.
    """

    def __init__(
        self, model: str | None, *, method: str | None = None, seed: int = 1, steps: int = 25
    ) -> None:
        """method: a name of `METHODS`; None is the default. Raises ``UnknownNameError``."""
        from consistent_gen.methods import DEFAULT_METHOD, METHODS
        from consistent_gen.registry import resolve

        self.method = DEFAULT_METHOD if method is None else method
        self._couples = bool(resolve(METHODS, self.method, kind="method").rules)
        self._model, self._seed, self._steps = model, seed, steps
        self._loaded: Backbone | None = None

    @property
    def details(self) -> Mapping[str, Any]:
        """What, with the prompt and the number of the attempt, draws a picture again."""
        name = "" if self._loaded is None else self._loaded.name
        return {"method": self.method, "seed": self._seed, "steps": self._steps, "model": name}

    def __call__(self, job: DrawJob) -> Picture:
        """Draw one attempt. Raises ``InputError`` for words that the model never learned."""
        from consistent_gen.engine.loop import Engine

        backbone = self._backbone()
        cast = [_cast(number, found) for number, found in enumerate(job.identities)]
        prompt = prompt_of(job.prompt, cast, story_world=backbone.vocabulary() is not None)
        _check_words(backbone, prompt.text)
        engine = Engine(backbone, bucket=4)
        request = self._request(job, prompt, backbone)
        if self._couples and job.identities:
            self._submit_shared(engine, request, cast, job.identities)
        else:
            engine.submit(request)
        return _drawn(engine)

    def _backbone(self) -> Backbone:
        if self._loaded is None:
            from consistent_gen.cli.loading import load_model

            self._loaded = load_model(self._model)
        return self._loaded

    def _request(self, job: DrawJob, prompt: Prompt, backbone: Backbone) -> FrameRequest:
        from consistent_gen.engine.request import FrameRequest
        from consistent_gen.runtime import frame_seed

        avoid = [word for identity in job.identities for word in identity.avoid]
        known = [word for word in avoid if not backbone.unknown_words(word)]
        return FrameRequest(
            prompt=prompt.text, negative=", ".join(known), steps=self._steps, method=self.method,
            seed=frame_seed(self._seed, job.attempt), subjects=_subjects(prompt, backbone),
        )  # fmt: skip

    def _submit_shared(
        self,
        engine: Engine,
        request: FrameRequest,
        cast: Sequence[Identity],
        remembered: Sequence[RememberedIdentity],
    ) -> None:
        from consistent_gen.engine.sharing import SharedStory
        from consistent_gen.methods.tuning import tuned

        recipe = tuned(self.method, engine.backbone)
        story = SharedStory(engine, recipe, seed=self._seed)
        for identity, found in zip(cast, remembered, strict=True):
            anchors = [
                self._anchor(engine.backbone, request, identity, number, found.references)
                for number in range(story.run.recipe.anchors)
            ]
            story.cast(identity.name, anchors)
        story.submit(request)

    def _anchor(
        self,
        backbone: Backbone,
        like: FrameRequest,
        identity: Identity,
        number: int,
        references: Sequence[bytes],
    ) -> FrameRequest:
        from consistent_gen.runtime import frame_seed
        from consistent_gen.story.sharing import portrait_words

        doing = portrait_words(backbone, number, drawn=number >= len(references))
        words = f"{identity.words} {doing}".strip()
        prompt = prompt_of(words, [identity], story_world=backbone.vocabulary() is not None)
        picture = None
        if number < len(references):
            picture = _fitted(references[number], like.size(backbone))
        return replace(
            like, prompt=prompt.text, negative="", subjects=_subjects(prompt, backbone),
            seed=frame_seed(self._seed, _PORTRAITS, number), hidden=True, reference=picture,
            id=f"anchor {number + 1} of {identity.name}",
        )  # fmt: skip


def prompt_of(text: str, cast: Sequence[Identity], *, story_world: bool) -> Prompt:
    """A prompt that holds each identity's words, with where they and their nouns stand in it."""
    from consistent_gen.story.prompts import Mention, Prompt

    text = text.lower() if story_world else text
    mentions = []
    searched: dict[str, int] = {}  # two characters may have the same words
    for identity in cast:
        words = identity.words.lower() if story_world else identity.words
        start = text.find(words, searched.get(words, 0))
        noun = re.search(rf"(?<!\w){re.escape(identity.noun)}(?!\w)", words, re.IGNORECASE)
        if start >= 0 and noun is not None:
            searched[words] = end = start + len(words)
            place = (start + noun.start(), start + noun.end())
            mentions.append(Mention(identity.name, start, end, *place))
    return Prompt(text, tuple(mentions))


def _cast(number: int, identity: RememberedIdentity) -> Identity:
    from consistent_gen.story.casting import Identity

    # Names are the user's and may be anything; inside the engine a number does.
    return Identity(name=f"character {number + 1}", words=identity.words, noun=identity.noun)


def _subjects(prompt: Prompt, backbone: Backbone) -> tuple[Subject, ...]:
    from consistent_gen.engine.request import Subject
    from consistent_gen.story.prompts import subject_spans

    spans = subject_spans(prompt, backbone.tokenizer)
    return tuple(Subject(name=s.name, tokens=tuple(range(*s.noun))) for s in spans)


def _fitted(data: bytes, size: tuple[int, int]) -> Picture:
    import numpy as np
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data)) as opened:
        fitted = ImageOps.fit(opened.convert("RGB"), size)
    return np.asarray(fitted)


def _check_words(backbone: Backbone, text: str) -> None:
    unknown = backbone.unknown_words(text)
    if unknown:
        raise InputError(
            f"this model does not know the words {', '.join(unknown[:8])}; describe the "
            "character and the scene with words of `consistent-gen models --words`"
        )


def _drawn(engine: Engine) -> Picture:
    (done,) = engine.drain().values()
    return done.image
