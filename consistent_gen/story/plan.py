"""Story + model -> one `FramePlan` per frame: everything settled, every name and word checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from consistent_gen.engine.request import Subject
from consistent_gen.errors import InputError, StoryError
from consistent_gen.methods import DEFAULT_METHOD, METHODS
from consistent_gen.registry import nearest, unknown_name
from consistent_gen.runtime import frame_seed
from consistent_gen.story.cast import CastMember, cast_members
from consistent_gen.story.prompts import (
    Prompt,
    literal_words,
    render,
    story_world_styles,
    style_affixes,
    subjects_of,
)
from consistent_gen.story.script import placeholders
from consistent_gen.story.settings import Overrides, range_problem, size_problem
from consistent_gen.story.types import Frame, Story
from consistent_gen.story.yaml_tree import shown

DEFAULT_SEED = 0

_Value = TypeVar("_Value")


class Model(Protocol):
    """What planning asks of a model (`models.backbone.Backbone` answers it)."""

    @property
    def name(self) -> str:
        """The model's name, for messages."""

    @property
    def tokenizer(self) -> Any:
        """A fast tokenizer of transformers."""

    @property
    def default_size(self) -> tuple[int, int]:
        """(width, height) in pixels."""

    @property
    def size_multiple(self) -> int:
        """What both sides must be multiples of."""

    def vocabulary(self) -> frozenset[str] | None:
        """The words of a closed vocabulary, None for an open one."""

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` that a closed vocabulary lacks."""


@dataclass(frozen=True, kw_only=True)
class FramePlan:
    """One frame, settled. `subjects` are where `prompt` speaks of `members`, whom it shows."""

    index: int
    prompt: str
    negative: str
    caption: str
    style: str | None
    seed: int
    subjects: tuple[Subject, ...]
    members: tuple[CastMember, ...]


@dataclass(frozen=True, kw_only=True)
class StoryPlan:
    """A story, settled for one model. `width` and `height` are in pixels; `contours` and
    `guidance_until` are None where the model's own recommendation holds.
    """

    title: str
    method: str
    scheduler: str
    steps: int
    guidance: float
    contours: float | None
    guidance_until: float | None
    seed: int
    width: int
    height: int
    frames: tuple[FramePlan, ...]


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What holds when neither the command line nor the story says anything."""

    scheduler: str
    steps: int
    guidance: float
    schedulers: Sequence[str]


def plan_story(
    story: Story,
    backbone: Model,
    defaults: Defaults,
    overrides: Overrides | None = None,
    folder: Path | None = None,
) -> StoryPlan:
    """Settle `story` for `backbone`. `folder` is where relative reference paths start.

    Raises:
        StoryError, UnknownNameError: the story names an unknown method, scheduler, style or word,
            a size the model cannot draw, or a prompt longer than it reads; says file and line.
        InputError: the same for an option of the command line; names the option.
    """
    check_names(story, defaults.schedulers, overrides)
    settings = _Settings(story, overrides or Overrides())
    width, height = settings.size(backbone)
    seed = settings.pick("seed", DEFAULT_SEED)
    cast = settings.bind(cast_members(story, folder))
    _check_cast(story, cast, backbone)
    return StoryPlan(
        title=story.title,
        method=settings.pick("method", DEFAULT_METHOD),
        scheduler=settings.pick("scheduler", defaults.scheduler),
        steps=settings.pick("steps", defaults.steps),
        guidance=settings.pick("guidance", defaults.guidance),
        contours=settings.pick("contours", None),
        guidance_until=settings.pick("guidance_until", None),
        seed=seed,
        width=width,
        height=height,
        frames=tuple(
            _plan_frame(story, frame, i, cast, backbone, seed)
            for i, frame in enumerate(story.frames)
        ),
    )


def check_names(
    story: Story, schedulers: Sequence[str], overrides: Overrides | None = None
) -> None:
    """Check what needs no model: method, scheduler, ranges. Errors as `plan_story`."""
    settings = _Settings(story, overrides or Overrides())
    for key, options in (("method", tuple(METHODS)), ("scheduler", tuple(schedulers))):
        name, source, line = settings.said(key)
        if name is not None and name not in options:
            raise unknown_name(key, name, options, source=source, line=line)
    for name in settings.overrides.strengths:
        if name and name not in story.characters:
            raise unknown_name("character", name, story.characters, source="--strength")
    for value in settings.overrides.strengths.values():
        problem = range_problem("strength", value)
        if problem is not None:
            raise InputError(problem, source="--strength")
    for key in ("seed", "steps", "guidance", "contours", "guidance_until"):
        value, source, line = settings.said(key)
        problem = None if value is None else range_problem(key, value)
        if problem is not None:
            raise InputError(problem, source=source, line=line)


class _Settings:
    """Command line over story file, remembering who said what for the error message."""

    def __init__(self, story: Story, overrides: Overrides) -> None:
        self.story = story
        self.overrides = overrides

    def said(self, key: str) -> tuple[Any, str, int | None]:
        """(value, source, line) of a setting; the value is None when nobody said anything."""
        value = getattr(self.overrides, key)
        if value is not None:
            return value, f"--{key}", None
        return getattr(self.story, key), self.story.source, self.story.line_of(key)

    def pick(self, key: str, default: _Value) -> _Value:
        value: _Value | None = self.said(key)[0]
        return default if value is None else value

    def bind(self, cast: Mapping[str, CastMember]) -> dict[str, CastMember]:
        """The cast with the strengths of the command line."""
        said = self.overrides.strengths
        return {
            name: replace(member, strength=said.get(name, said.get("", member.strength)))
            for name, member in cast.items()
        }

    def size(self, backbone: Model) -> tuple[int, int]:
        size, source, line = self.said("size")
        if size is None:
            return backbone.default_size
        problem = size_problem(size, backbone.size_multiple)
        if problem is not None:
            raise InputError(problem, source=source, line=line)
        width, height = size
        return width, height


def _plan_frame(
    story: Story,
    frame: Frame,
    index: int,
    cast: Mapping[str, CastMember],
    backbone: Model,
    story_seed: int,
) -> FramePlan:
    style = frame.style or story.style
    story_world = backbone.vocabulary() is not None
    _check_style(story, frame, style, backbone)
    line = frame.line_of("prompt")
    _check_words(literal_words(frame.prompt, cast), backbone, cast, story.source, line)
    _check_words(frame.negative, backbone, cast, story.source, frame.line_of("negative"))
    prompt = render(frame.prompt, cast, style, story_world=story_world)
    _check_length(prompt, backbone, story.source, line)
    _check_length(Prompt(frame.negative), backbone, story.source, frame.line_of("negative"))
    names = dict.fromkeys(found.name for found in placeholders(frame.prompt, cast))
    return FramePlan(
        index=index,
        prompt=prompt.text,
        negative=frame.negative.lower() if story_world else frame.negative,
        caption=frame.caption or "",
        style=style,
        seed=frame_seed(story_seed, index) if frame.seed is None else frame.seed,
        subjects=subjects_of(prompt, backbone.tokenizer),
        members=tuple(cast[name] for name in names),
    )


def _check_style(story: Story, frame: Frame, style: str | None, backbone: Model) -> None:
    if style is None or backbone.vocabulary() is None:
        return
    line = frame.line_of("style") if frame.style is not None else story.line_of("style")
    if style.lower() not in story_world_styles():
        raise unknown_name("style", style, story_world_styles(), source=story.source, line=line)
    words = "".join(style_affixes(style, story_world=True))
    _check_words(words, backbone, {}, story.source, line)


def _check_cast(story: Story, cast: Mapping[str, CastMember], backbone: Model) -> None:
    for member in cast.values():
        # The article of later mentions may be the only new word: check both forms at once.
        words = f"{member.words} {member.later_mention()}"
        _check_words(words, backbone, cast, story.source, member.line)


def _check_words(
    text: str, backbone: Model, cast: Mapping[str, CastMember], source: str, line: int
) -> None:
    unknown = backbone.unknown_words(text)
    if not unknown:
        return
    word = unknown[0]
    named = nearest(word, cast)
    close = nearest(word.lower(), backbone.vocabulary() or ())
    if named is not None and named.casefold() == word.casefold():
        hint = f"write {{{named}}} for the character"
    elif close is not None:
        hint = f"did you mean {close!r}?"
    else:
        hint = "list its words with: consistent-gen models --words"
    message = f"the model {shown(backbone.name)} never saw the word {shown(word)}; {hint}"
    raise StoryError(message, source=source, line=line)


def _check_length(prompt: Prompt, backbone: Model, source: str, line: int) -> None:
    limit = backbone.tokenizer.model_max_length
    count = len(backbone.tokenizer(prompt.text, truncation=False, verbose=False)["input_ids"])
    if count > limit:
        # Both counts without the start and end token, which nobody typed.
        words = re.sub(r"\s+", " ", prompt.text)
        message = (
            f"with its characters written out the prompt has {count - 2} tokens, the model reads "
            f"{limit - 2}; shorten it or the descriptions: {shown(words, 60)}"
        )
        raise StoryError(message, source=source, line=line)
