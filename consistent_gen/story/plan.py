"""Story + model -> one `FramePlan` per frame: everything settled, every name and word checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from consistent_gen.diffusion.readers import PromptReader, cut_short_words, longest
from consistent_gen.draw_settings import (
    BEST_OF,
    MEND,
    OFF,
    USUAL_MEND,
    DrawSettings,
    chosen,
    fitting_mistake,
    mistakes,
)
from consistent_gen.engine.request import Subject, unable_words
from consistent_gen.errors import CheckpointError, InputError, all_of, all_read
from consistent_gen.methods import DEFAULT_METHOD, METHODS, default_method, why_not
from consistent_gen.models.loras import Lora, LoraFile, identified
from consistent_gen.registry import nearest, unknown_name
from consistent_gen.runtime import frame_seed
from consistent_gen.story.boxes import check_boxed, told_in_order
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
from consistent_gen.story.types import SEED, STRENGTH, Frame, PictureBox, SourcePlace, Story
from consistent_gen.story.yaml_tree import refusal, shown

DEFAULT_SEED = 0

_Value = TypeVar("_Value")


class Model(Protocol):
    """What planning asks of a model (`models.backbone.Backbone` answers it)."""

    @property
    def name(self) -> str:
        """The model's name, for messages."""

    @property
    def readers(self) -> tuple[PromptReader, ...]:
        """Whose tokens stand in what it reads of a prompt."""

    @property
    def unable(self) -> Mapping[str, str]:
        """What it cannot do, by the names of settings and "negative": why."""

    @property
    def default_size(self) -> tuple[int, int]:
        """(width, height) in pixels."""

    @property
    def size_multiple(self) -> int:
        """What both sides must be multiples of."""

    @property
    def recommended(self) -> Mapping[str, float]:
        """Settings that its folder recommends, by name."""

    @property
    def loras(self) -> tuple[Lora, ...]:
        """The LoRA files that it was loaded with."""

    def vocabulary(self) -> frozenset[str] | None:
        """The words of a closed vocabulary, None for an open one."""

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` that a closed vocabulary lacks."""


@dataclass(frozen=True, kw_only=True)
class FramePlan:
    """One frame, settled. `subjects` are where `prompt` speaks of `members`, whom it shows; `boxes`
    say where some of these stand, by name.
    """

    index: int
    prompt: str
    negative: str
    caption: str
    style: str | None
    seed: int
    subjects: tuple[Subject, ...]
    members: tuple[CastMember, ...]
    boxes: Mapping[str, PictureBox] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoryPlan:
    """A story, settled for one model. Its `settings` know the size; what else they leave to the
    model holds as its folder recommends. Of each frame `best_of` candidates are drawn,
    or its anchors are drawn again up to `mend` times (see `story.mending`).
    """

    title: str
    method: str
    seed: int
    settings: DrawSettings
    frames: tuple[FramePlan, ...]
    best_of: int = 1
    mend: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        assert self.settings.size is not None
        return self.settings.size


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What the command line (or a caller) says over the story file; None means nothing.

    `settings` are those of `DrawSettings` that are said, by name. `strengths` are by character;
    that of "" holds for all that have none of their own. `loras` stand for the story's, if any do.
    """

    method: str | None = None
    seed: int | None = None
    best_of: int | None = None
    mend: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    strengths: Mapping[str, float] = field(default_factory=dict)
    loras: tuple[LoraFile, ...] = ()


def loras_of(story: Story, overrides: Overrides, folder: Path | None) -> tuple[LoraFile, ...]:
    """The LoRA files with which a model for `story` is loaded; `folder` is the story file's.

    Raises:
        StoryError, InputError: one is missing, too large, no .safetensors file, or given twice.
    """
    start = Path() if folder is None else folder
    own = tuple(replace(lora, path=start / lora.path) for lora in story.loras)
    try:
        identified(overrides.loras or own)
    except (CheckpointError, InputError) as error:
        place = SourcePlace("--lora") if overrides.loras else story.place_of("loras")
        raise refusal(error.message, place) from error
    return overrides.loras or own


def plan_story(
    story: Story,
    backbone: Model,
    overrides: Overrides | None = None,
    folder: Path | None = None,
) -> StoryPlan:
    """Settle `story` for `backbone`. `folder` is where relative reference paths start.

    Raises:
        StoryError, UnknownNameError: the story names an unknown method, scheduler, style or word,
            a size the model cannot draw, or a prompt longer than it reads; says file and line.
        InputError: the same for an option of the command line; names the option.
    """
    overrides = overrides or Overrides()
    cast = _bound(cast_members(story, folder), overrides.strengths)
    all_read(_checks(story, overrides, cast, backbone))
    _check_loras(story, overrides, backbone, folder)
    said = chosen({**story.settings, **overrides.settings}, backbone.recommended)
    settings = DrawSettings(**{**said, "size": _size(story, overrides, backbone)})
    seed = _first(overrides.seed, story.seed, DEFAULT_SEED)
    return StoryPlan(
        title=story.title,
        method=_first(overrides.method, story.method, default_method(backbone.unable)),
        seed=seed,
        settings=settings,
        best_of=_best_of(story, overrides, backbone),
        mend=_mend(story, overrides, backbone),
        frames=tuple(
            _plan_frame(story, frame, i, cast, backbone, seed)
            for i, frame in enumerate(story.frames)
        ),
    )


def _checks(
    story: Story, overrides: Overrides, cast: Mapping[str, CastMember], backbone: Model
) -> Iterator[Callable[[], Any]]:
    """Everything that may be wrong, so that it can be told at once."""
    yield partial(check_names, story, overrides)
    yield partial(_size, story, overrides, backbone)
    yield partial(_best_of, story, overrides, backbone)
    yield partial(_mend, story, overrides, backbone)
    yield partial(_check_able, story, overrides, backbone)
    yield partial(_check_method, story, overrides, backbone)
    for member in cast.values():
        # The article of later mentions may be the only new word: check both forms at once.
        words = f"{member.words} {member.later_mention()}"
        yield partial(_check_words, words, backbone, cast, member.place)
    for frame in story.frames:
        prompt, negative = frame.place_of("prompt"), frame.place_of("negative")
        literal = literal_words(frame.prompt, cast)
        yield partial(check_boxed, frame, cast)
        yield partial(_check_placing, frame, backbone)
        yield partial(_check_negative, frame, backbone)
        yield partial(_check_words, literal, backbone, cast, prompt)
        yield partial(_check_words, frame.negative, backbone, cast, negative)
        yield partial(_check_rendered, story, frame, cast, backbone)
        yield partial(_check_length, Prompt(frame.negative), backbone, negative)


def check_names(story: Story, overrides: Overrides) -> None:
    """Check what needs no model: the method, and what `overrides` say. Errors as `plan_story`."""
    method = _first(overrides.method, story.method, DEFAULT_METHOD)
    if method not in METHODS:
        place = story.place_of("method") if overrides.method is None else SourcePlace("--method")
        raise unknown_name("method", method, METHODS, **place._asdict())
    for name in overrides.strengths:
        if name and name not in story.characters:
            raise unknown_name("character", name, story.characters, source="--strength")
    if wrong := list(_mistakes(overrides)):
        raise all_of(wrong)


def _mistakes(overrides: Overrides) -> Iterator[InputError]:
    for name, wrong in mistakes(overrides.settings).items():
        yield wrong.at(option_of(name))
    if overrides.seed is not None and (mistake := SEED.mistake("seed", overrides.seed)):
        yield mistake.at("--seed")
    best_of = overrides.best_of
    if best_of is not None and (mistake := BEST_OF.mistake("best_of", best_of)):
        yield mistake.at("--best-of")
    if overrides.mend is not None and (mistake := MEND.mistake("mend", overrides.mend)):
        yield mistake.at("--mend")
    for strength in overrides.strengths.values():
        if mistake := STRENGTH.mistake("strength", strength):
            yield mistake.at("--strength")


def _first(by_option: _Value | None, by_story: _Value | None, default: _Value) -> _Value:
    return next(said for said in (by_option, by_story, default) if said is not None)


def option_of(name: str) -> str:
    """What a setting is called on the command line: "--guidance-until"."""
    return f"--{name.replace('_', '-')}"


def _bound(cast: Mapping[str, CastMember], said: Mapping[str, float]) -> dict[str, CastMember]:
    """The cast with the strengths of the command line."""
    return {
        name: replace(member, strength=said.get(name, said.get("", member.strength)))
        for name, member in cast.items()
    }


def _size(story: Story, overrides: Overrides, backbone: Model) -> tuple[int, int]:
    by_option = overrides.settings.get("size")
    size: tuple[int, int] | None = by_option or story.settings.get("size")
    if size is None:
        return backbone.default_size
    if mistake := fitting_mistake(size, backbone.size_multiple):
        raise mistake.at(*(SourcePlace("--size") if by_option else story.place_of("size")))
    return size


def _best_of(story: Story, overrides: Overrides, backbone: Model) -> int:
    found = _first(overrides.best_of, story.best_of, 1)
    if found > 1 and backbone.vocabulary() is None:
        by_option = overrides.best_of is not None
        raise refusal(
            f"best_of is {found}, but what chooses knows the pictures of the story world only, "
            f"and {shown(backbone.name)} draws others; leave it out",
            SourcePlace("--best-of") if by_option else story.place_of("best_of"),
        )
    return found


def _mend(story: Story, overrides: Overrides, backbone: Model) -> int:
    """How often first frames may be drawn again: never where the best of several is kept anyway."""
    said = _first(overrides.mend, story.mend, 0)
    if said > 0 and backbone.vocabulary() is None:
        raise refusal(
            f"mend is {said}, but who looks knows the pictures of the story world only, and "
            f"{shown(backbone.name)} draws others; leave it out",
            SourcePlace("--mend") if overrides.mend is not None else story.place_of("mend"),
        )
    return 0 if _best_of(story, overrides, backbone) > 1 else said


def usual_mend(backbone: Model) -> int | None:
    """What `mend` is in a new story that says nothing of it; None where nobody can look. A story
    that was stored without it stays as it was drawn.
    """
    return None if backbone.vocabulary() is None else USUAL_MEND


def _plan_frame(
    story: Story,
    frame: Frame,
    index: int,
    cast: Mapping[str, CastMember],
    backbone: Model,
    story_seed: int,
) -> FramePlan:
    story_world = backbone.vocabulary() is not None
    prompt = _rendered(story, frame, cast, backbone)
    template = _template(frame, cast, backbone)
    names = dict.fromkeys(found.name for found in placeholders(template, cast))
    return FramePlan(
        index=index,
        prompt=prompt.text,
        negative=frame.negative.lower() if story_world else frame.negative,
        caption=frame.caption or "",
        style=frame.style or story.style,
        seed=frame_seed(story_seed, index) if frame.seed is None else frame.seed,
        subjects=subjects_of(prompt, backbone.readers),
        members=tuple(cast[name] for name in names),
        boxes=frame.boxes,
    )


def _rendered(
    story: Story, frame: Frame, cast: Mapping[str, CastMember], backbone: Model
) -> Prompt:
    style = frame.style or story.style
    template = _template(frame, cast, backbone)
    return render(template, cast, style, story_world=backbone.vocabulary() is not None)


def _template(frame: Frame, cast: Mapping[str, CastMember], backbone: Model) -> str:
    """The prompt as it is told to the model."""
    told = frame.boxes and backbone.vocabulary() is not None
    return told_in_order(frame, cast) if told else frame.prompt


def _check_rendered(
    story: Story, frame: Frame, cast: Mapping[str, CastMember], backbone: Model
) -> None:
    _check_style(story, frame, frame.style or story.style, backbone)
    _check_length(_rendered(story, frame, cast, backbone), backbone, frame.place_of("prompt"))


def _check_able(story: Story, overrides: Overrides, backbone: Model) -> None:
    """Refuse settings that were said and that the model cannot act on."""
    found = []
    for name, reason in backbone.unable.items():
        by_option = overrides.settings.get(name)
        said = story.settings.get(name) if by_option is None else by_option
        if said is not None and said != backbone.recommended.get(name, OFF.get(name)):
            place = story.place_of(name) if by_option is None else SourcePlace(option_of(name))
            found.append(refusal(unable_words(name, backbone.name, reason), place))
    if found:
        raise all_of(found)


def _check_method(story: Story, overrides: Overrides, backbone: Model) -> None:
    """Refuse a method that the model cannot be drawn with."""
    method = _first(overrides.method, story.method, default_method(backbone.unable))
    if method in METHODS and (reason := why_not(method, backbone.unable)):
        place = story.place_of("method") if overrides.method is None else SourcePlace("--method")
        message = f"method {method!r} cannot be used with model {shown(backbone.name)}: {reason}"
        raise refusal(message, place)


def _check_loras(story: Story, overrides: Overrides, backbone: Model, folder: Path | None) -> None:
    """Refuse a model that was loaded with other LoRAs than the story is drawn with."""
    files = loras_of(story, overrides, folder)
    if not files:
        return  # a story that names none is drawn with the model as it is given
    asked = identified(files)
    if [(lora.sha256, lora.weight) for lora in asked] != [
        (lora.sha256, lora.weight) for lora in backbone.loras
    ]:
        has = ", ".join(lora.words for lora in backbone.loras) or "none"
        asks = ", ".join(lora.words for lora in asked) or "none"
        message = f"the story asks for the LoRAs {asks}; {shown(backbone.name)} was loaded with "
        raise refusal(
            f"{message}{has}; load it with those of the story (loras=)", story.place_of("loras")
        )


def _check_negative(frame: Frame, backbone: Model) -> None:
    if frame.negative and (reason := backbone.unable.get("negative")):
        words = unable_words("negative", backbone.name, reason)
        raise refusal(words, frame.place_of("negative"))


def _check_placing(frame: Frame, backbone: Model) -> None:
    if frame.boxes and backbone.vocabulary() is None:
        message = f"where the model {shown(backbone.name)} draws somebody cannot be said"
        hint = "boxes are for models of the story world; leave them out"
        raise refusal(f"{message}; {hint}", frame.place_of("boxes"))


def _check_style(story: Story, frame: Frame, style: str | None, backbone: Model) -> None:
    if style is None or backbone.vocabulary() is None:
        return
    place = story.place_of("style") if frame.style is None else frame.place_of("style")
    if style.lower() not in story_world_styles():
        raise unknown_name("style", style, story_world_styles(), **place._asdict())
    words = "".join(style_affixes(style, story_world=True))
    _check_words(words, backbone, {}, place)


def _check_words(
    text: str, backbone: Model, cast: Mapping[str, CastMember], place: SourcePlace
) -> None:
    if unknown := backbone.unknown_words(text):
        raise all_of(_unknown(word, backbone, cast, place) for word in unknown)


def _unknown(
    word: str, backbone: Model, cast: Mapping[str, CastMember], place: SourcePlace
) -> InputError:
    named = nearest(word, cast)
    close = nearest(word.lower(), backbone.vocabulary() or ())
    if named is not None and named.casefold() == word.casefold():
        hint = f"write {{{named}}} for the character"
    elif close is not None:
        hint = f"did you mean {close!r}?"
    else:
        hint = "list its words with: consistent-gen models --words"
    message = f"the model {shown(backbone.name)} never saw the word {shown(word)}; {hint}"
    return refusal(message, place)


def _check_length(prompt: Prompt, backbone: Model, place: SourcePlace) -> None:
    for each in backbone.readers:
        if whole := each.cut_short(prompt.text):
            raise refusal(cut_short_words(backbone.name, whole), place)
    reader = longest(backbone.readers)
    count, limit = reader.count(prompt.text), reader.length
    if count > limit:
        # Both counts without the marks around a prompt, which nobody typed.
        marks = reader.count("")
        words = re.sub(r"\s+", " ", prompt.text)
        message = (
            f"with its characters written out the prompt has {count - marks} tokens, the model "
            f"reads {limit - marks}; shorten it or the descriptions: {shown(words, 60)}"
        )
        raise refusal(message, place)
