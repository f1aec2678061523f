"""What a reader of another format finds, and the story that it becomes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from consistent_gen.story.script import MAX_CHARACTERS, MAX_CHARS, MAX_FRAMES
from consistent_gen.story.types import Character, Frame, Story

_NAME = re.compile(r"[^\W\d_][\w .'\u2019-]{0,39}")


@dataclass
class ForeignStory:
    """A story in another format: names with descriptions, and frames with texts."""

    title: str = ""
    style: str | None = None
    seed: int | None = None
    characters: dict[str, str] = field(default_factory=dict)
    frames: list[ForeignFrame] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class ForeignFrame:
    """prompt: with characters in braces or by name. negative: what should not be there."""

    prompt: str
    caption: str = ""
    negative: str = ""


@dataclass(frozen=True)
class Imported:
    """A story of another format. format: its name. count: stories in the file. notes: what has no
    place in a story file and was left behind.
    """

    story: Story
    format: str
    count: int
    notes: tuple[str, ...] = ()


def as_story(found: ForeignStory, name: str) -> tuple[Story, list[str]]:
    """The story, within the bounds of a story file, and what had to be left behind."""
    notes = [*found.notes]
    characters: dict[str, Character] = {}
    for written, description in found.characters.items():
        known = clean_name(written)
        if known is None or len(characters) == MAX_CHARACTERS or known in characters:
            notes.append(
                f"the character {written[:40]!r} was left behind: no name for a story file"
            )
            continue
        text = _cut(_line(description) or known, "description", notes)
        characters[known] = Character(name=known, description=text)
    frames = []
    for frame in found.frames[:MAX_FRAMES]:
        prompt = _cut(_braced(_line(frame.prompt), characters), "prompt", notes)
        caption = _cut(_line(frame.caption), "caption", notes) or None
        negative = _cut(_line(frame.negative), "negative", notes)
        frames.append(Frame(prompt=prompt, caption=caption, negative=negative))
    if len(found.frames) > MAX_FRAMES:
        notes.append(
            f"{len(found.frames) - MAX_FRAMES} frames were left behind; at most {MAX_FRAMES}"
        )
    style = None if found.style is None else _cut(_line(found.style), "style", notes) or None
    title = _cut(_line(found.title) or name, "title", notes)
    story = Story(title=title, style=style, seed=found.seed, characters=characters,
                  frames=tuple(frames))  # fmt: skip
    return story, notes


def clean_name(text: str) -> str | None:
    """`text` as a character's name, None where it cannot be one."""
    name = re.sub(r"[^\w .'\u2019-]", " ", text)
    name = " ".join(re.sub(r"^[\W\d_]+", "", name).split())[:40].strip()
    return name if _NAME.fullmatch(name) else None


def _braced(prompt: str, characters: dict[str, Character]) -> str:
    """The prompt with braces for characters alone."""
    kept = re.sub(r"\{([^{}]*)\}", lambda m: m[0] if m[1] in characters else m[1], prompt)
    outside = re.split(r"(\{[^{}]*\})", kept)
    return "".join(
        p if p[1:-1] in characters and p[:1] == "{" else p.translate(_NO_BRACES) for p in outside
    )


_NO_BRACES = str.maketrans("", "", "{}")


def _line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, key: str, notes: list[str]) -> str:
    limit = MAX_CHARS[key]
    if len(text) <= limit:
        return text
    notes.append(f"a {key} of {len(text)} characters was cut to {limit}")
    return text[:limit].rsplit(" ", 1)[0]
