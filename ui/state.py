"""The story on the writing desk: what the browser holds, and the request that it becomes.

Pure functions of values. The browser keeps the desk as JSON (`script`) and the settings as form
fields; nothing that comes from there is trusted to have the right type.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from consistent_gen.client.types import (
    MAX_CHARACTERS,
    MAX_FRAMES,
    CharacterIn,
    FrameIn,
    FramePatch,
    StoryChange,
    StoryIn,
    StoryOut,
    StoryPatch,
)
from consistent_gen.draw_settings import MAX_SEED
from consistent_gen.errors import InputError
from consistent_gen.registry import nearest
from consistent_gen.story.script import placeholders
from consistent_gen.story.types import PLACES, PictureBox, Story

# What the studio chooses itself stays short enough to be read out and typed again.
MAX_DRAWN_SEED = 2**31 - 1
MAX_TITLE = 120
# An edited scene is this much like the one that it was.
_LIKE = 0.5
_OF_THE_DESK = (
    *("title", "style", "method", "steps", "best_of", "mend"),
    *("preview_every", "words", "characters", "frames"),
)  # fmt: skip


@dataclass(frozen=True)
class CastCard:
    """A character on the desk. `library` is the id of a library character or "" for words alone."""

    name: str = ""
    description: str = ""
    library: str = ""
    strength: float | None = None


@dataclass(frozen=True)
class SceneCard:
    """A scene on the desk; empty texts mean "not said", `seed` is the text of a number, `where`
    says where characters stand ("Mia left, Bruno 0.5 0 1 1").
    """

    prompt: str = ""
    caption: str = ""
    style: str = ""
    seed: str = ""
    negative: str = ""
    where: str = ""


@dataclass(frozen=True)
class Draft:
    """Everything on the desk. `locked` keeps the seed from one drawing to the next; `best_of` is
    None for one drawing of each scene, and `mend` for as often as is usual.
    """

    title: str = ""
    style: str = ""
    method: str = ""
    steps: int | None = None
    seed: str = ""
    locked: bool = False
    best_of: int | None = None
    mend: int | None = None
    cast: tuple[CastCard, ...] = ()
    scenes: tuple[SceneCard, ...] = ()


# The browser's JSON ----------------------------------------------------
def read_script(value: object) -> tuple[tuple[CastCard, ...], tuple[SceneCard, ...]]:
    """Cast and scenes of the desk's JSON; what is of no use there reads as empty."""
    tree = value if isinstance(value, Mapping) else {}
    cast = tuple(
        CastCard(
            name=_line(card.get("name")),
            description=_line(card.get("description")),
            library=_line(card.get("library")),
            strength=_fraction(card.get("strength")),
        )
        for card in _cards(tree.get("cast"), MAX_CHARACTERS)
    )
    scenes = tuple(
        SceneCard(**{key: _line(card.get(key)) for key in SceneCard.__dataclass_fields__})
        for card in _cards(tree.get("scenes"), MAX_FRAMES)
    )
    return cast, scenes


def write_script(draft: Draft) -> dict[str, Any]:
    """The desk's JSON; the reverse of `read_script`."""
    return {
        "cast": [asdict(card) for card in draft.cast],
        "scenes": [asdict(scene) for scene in draft.scenes],
    }


def read_draft(value: object) -> Draft:
    """A draft from the JSON that `write_draft` made."""
    tree = value if isinstance(value, Mapping) else {}
    cast, scenes = read_script(tree)
    steps, best_of, mend = (
        found if isinstance(found, int) and not isinstance(found, bool) else None
        for found in (tree.get("steps"), tree.get("best_of"), tree.get("mend"))
    )
    return Draft(
        title=_line(tree.get("title")),
        style=_line(tree.get("style")),
        method=_line(tree.get("method")),
        steps=steps,
        best_of=best_of,
        mend=mend,
        seed=_line(tree.get("seed")),
        locked=tree.get("locked") is True,
        cast=cast,
        scenes=scenes,
    )


def write_draft(draft: Draft) -> dict[str, Any]:
    """A draft as JSON, for the project's file."""
    names = ("title", "style", "method", "steps", "best_of", "mend", "seed")
    settings = {key: getattr(draft, key) for key in names}
    return settings | {"locked": draft.locked} | write_script(draft)


# Stories to drafts ----------------------------------------------------
def draft_of_file(story: Story) -> Draft:
    """A story file on the desk. Its pictures, if it names any, are not taken along."""
    return Draft(
        title=story.title,
        style=story.style or "",
        method=story.method or "",
        steps=story.settings.get("steps"),
        best_of=story.best_of,
        mend=story.mend,
        seed="" if story.seed is None else str(story.seed),
        locked=story.seed is not None,
        cast=tuple(
            CastCard(c.name, c.description, strength=c.strength) for c in story.characters.values()
        ),
        scenes=tuple(
            SceneCard(
                prompt=frame.prompt,
                caption=frame.caption or "",
                style=frame.style or "",
                seed="" if frame.seed is None else str(frame.seed),
                negative=frame.negative,
                where=write_where(frame.boxes),
            )
            for frame in story.frames
        ),
    )


def draft_of_story(story: StoryOut) -> Draft:
    """A drawn story back on the desk, with the captions and prompts that it has now."""
    asked = story.request
    scenes = []
    for frame, wanted in zip(story.frames, asked.frames, strict=False):
        scenes.append(
            SceneCard(
                prompt=frame.prompt,
                caption=frame.caption,
                style=wanted.style or "",
                seed="" if wanted.seed is None else str(wanted.seed),
                negative=wanted.negative,
                where=write_where(wanted.boxes or {}),
            )
        )
    return Draft(
        title=story.title,
        style=asked.style or "",
        method=asked.method or "",
        steps=asked.steps,
        best_of=asked.best_of,
        mend=asked.mend or 0,
        seed="" if asked.seed is None else str(asked.seed),
        locked=asked.seed is not None,
        cast=tuple(
            CastCard(name, c.description, c.library or "", c.strength)
            for name, c in asked.characters.items()
        ),
        scenes=tuple(scenes),
    )


# Drafts to requests ----------------------------------------------------
def story_request(draft: Draft, *, preview_every: int = 5) -> StoryIn:
    """What is sent to be drawn.

    Raises:
        InputError: something is missing or cannot be meant; one sentence for each, a line each.
    """
    problems = draft_problems(draft)
    if problems:
        raise InputError("\n".join(problems))
    return StoryIn(
        title=draft.title or "A story",
        style=draft.style or None,
        method=draft.method or None,
        steps=draft.steps,
        best_of=draft.best_of,
        mend=draft.mend,
        seed=read_seed(draft.seed),
        preview_every=preview_every,
        words="own",
        characters={
            card.name: CharacterIn(
                description=card.description,
                strength=card.strength,
                library=card.library or None,
            )
            for card in draft.cast
        },
        frames=[
            FrameIn(
                prompt=scene.prompt,
                caption=scene.caption or None,
                style=scene.style or None,
                seed=read_seed(scene.seed),
                negative=scene.negative,
                boxes=read_where(scene.where, [card.name for card in draft.cast]) or None,
            )
            for scene in draft.scenes
        ],
    )


def draft_problems(draft: Draft) -> list[str]:
    """What keeps a draft from being drawn, in sentences for its writer; empty when nothing does."""
    return [
        f"Scene {index + 1}: {text}" if place == "scenes" else text
        for place, index, text in placed_problems(draft)
    ]


def placed_problems(draft: Draft) -> Iterator[tuple[str, int, str]]:
    """The same with their places: "story", "cast" or "scenes", and the index there."""
    if not draft.scenes:
        yield "story", 0, "There is no scene yet. Add one and say what is in the picture."
    if len(draft.title) > MAX_TITLE:
        yield "story", 0, f"The title has {len(draft.title)} letters; at most {MAX_TITLE} fit."
    for index, text in _cast_problems(draft.cast):
        yield "cast", index, text
    names = [card.name for card in draft.cast if card.name]
    for index, scene in enumerate(draft.scenes):
        for text in _scene_problems(scene, names):
            yield "scenes", index, text
    if not _is_seed(draft.seed):
        seed = draft.seed[:24]
        yield "story", 0, f"The seed {seed!r} is not a whole number from 0 to 2^63 - 1."


def read_seed(text: str) -> int | None:
    """The seed in a form field, None when it is empty or is no seed."""
    return int(text) if text and _is_seed(text) else None


def with_seed(draft: Draft) -> Draft:
    """The draft with the seed to draw it with: its own when locked, otherwise a new one."""
    if draft.locked and draft.seed:
        return draft
    return replace(draft, seed=new_seed())


def new_seed() -> str:
    """A seed nobody chose, as text."""
    return str(secrets.randbelow(MAX_DRAWN_SEED))


def read_where(text: str, names: Iterable[str]) -> dict[str, str | list[float]]:
    """Where characters stand, as a request says it.

    Raises:
        InputError: a sentence on what is not understood.
    """
    found: dict[str, str | list[float]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name = next(
            (n for n in sorted(names, key=len, reverse=True) if part.startswith(f"{n} ")), ""
        )
        place = part.removeprefix(name).strip()
        try:
            sides = PictureBox(*map(float, place.split()))
        except (TypeError, ValueError):
            sides = None
        if not name or not (place in PLACES or (sides is not None and sides.fits)):
            raise InputError(
                f"where is {part[:40]!r}? Write a character and a place: a name, then "
                f"{', '.join(PLACES)}, or four shares of the picture such as 0.5 0 1 1."
            )
        found[name] = place if sides is None else list(sides)
    return found


def write_where(boxes: Mapping[str, str | Sequence[float]]) -> str:
    """The reverse of `read_where`."""
    named = {tuple(box): place for place, box in PLACES.items()}

    def written(place: str | Sequence[float]) -> str:
        if isinstance(place, str):
            return place
        return named.get(tuple(place)) or " ".join(f"{side:g}" for side in place)

    return ", ".join(f"{name} {written(place)}" for name, place in boxes.items())


def spoken_of(prompt: str, names: Iterable[str]) -> list[str]:
    """The characters of a prompt, each once, in order."""
    known = list(names)
    found = (p.name for p in placeholders(prompt, known))
    return list(dict.fromkeys(name for name in found if name in known))


# A drawn story against the desk ----------------------------------------------------
def origins_of(draft: Draft, story: StoryOut) -> list[int | None]:
    """Which frame of the drawn story each scene was, None for one that was added.

    Scenes with the words of a frame are that frame, the nearest one first; of the others each is
    the frame that is most like it, or that stood between the same neighbours.
    """
    left = dict(enumerate(draft_of_story(story).scenes))
    found: dict[int, int] = {}
    for index, scene in enumerate(draft.scenes):
        same = [i for i, was in left.items() if was.prompt == scene.prompt]
        if same:
            found[index] = min(same, key=lambda i: (left[i] != scene, abs(i - index)))
            del left[found[index]]
    others = [index for index in range(len(draft.scenes)) if index not in found]
    pairs = [
        (_likeness(draft.scenes[index], was), -abs(i - index), index, i)
        for index in others
        for i, was in left.items()
    ]
    for likeness, _, index, i in sorted(pairs, reverse=True):
        between = found.get(index - 1, -1) + 1 == i or found.get(index + 1, -1) - 1 == i
        if index not in found and i in left and (likeness >= _LIKE or between):
            found[index] = i
            del left[i]
    return [found.get(index) for index in range(len(draft.scenes))]


def _likeness(scene: SceneCard, was: SceneCard) -> float:
    caption = 0.5 if scene.caption and scene.caption == was.caption else 0.0
    words = SequenceMatcher(None, scene.prompt.split(), was.prompt.split(), autojunk=False)
    return caption + words.ratio()


def change_request(draft: Draft, story: StoryOut, *, preview_every: int = 5) -> StoryChange:
    """What makes the drawn story the one on the desk; what the desk does not say stays as it is.

    Raises:
        InputError: as `story_request`.
    """
    told = story_request(draft, preview_every=preview_every)
    seed = told.seed if draft.locked and told.seed is not None else story.request.seed
    desk = {name: getattr(told, name) for name in _OF_THE_DESK} | {"seed": seed}
    return StoryChange(
        revision=story.revision,
        story=story.request.model_copy(update=desk),
        origins=origins_of(draft, story),
    )


def caption_patch(draft: Draft, story: StoryOut) -> StoryPatch | None:
    """What brings title and captions of a drawn story up to the desk; None when they agree.

    Scenes are compared by place, so nothing is sent for a desk with another number of scenes.
    """
    if len(draft.scenes) != len(story.frames):
        return None
    frames = [
        FramePatch(index=index, caption=scene.caption)
        for index, (scene, frame) in enumerate(zip(draft.scenes, story.frames, strict=True))
        if scene.caption != frame.caption
    ]
    title = draft.title if draft.title and draft.title != story.title else None
    if not frames and title is None:
        return None
    return StoryPatch(revision=story.revision, title=title, frames=frames)


def _cast_problems(cast: Iterable[CastCard]) -> Iterator[tuple[int, str]]:
    seen: set[str] = set()
    for index, card in enumerate(cast):
        who = card.name or f"Character {index + 1}"
        if not card.name:
            yield index, f"Character {index + 1} has no name."
        elif len(card.name) > 40 or not card.name[0].isalpha() or set("{}") & set(card.name):
            yield index, f"{who[:40]!r} cannot be a name: a letter first, at most 40 letters."
        elif card.name in seen:
            yield index, f"Two characters are called {card.name}."
        seen.add(card.name)
        if not card.description:
            yield index, f"{who}: say what {card.name or 'it'} looks like, such as 'a red fox'."
        elif len(card.description) > 400:
            yield index, f"{who}: the description is longer than 400 letters."


def _scene_problems(scene: SceneCard, names: list[str]) -> list[str]:
    if not scene.prompt:
        return ["say what is in the picture, or remove the scene."]
    problems = []
    if len(scene.prompt) > 800:
        problems.append(f"the prompt has {len(scene.prompt)} letters; at most 800 are read.")
    if len(scene.caption) > 600:
        problems.append(f"the caption has {len(scene.caption)} letters; at most 600 fit.")
    for found in placeholders(scene.prompt, names):
        if found.name not in names:
            close = nearest(found.name.rpartition(" ")[2], names)
            hint = (
                f"did you mean {{{close}}}?" if close else "add that character, or mend the name."
            )
            problems.append(f"nobody is called {found.name[:40]!r}; {hint}")
    if re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", scene.prompt)):
        problems.append("there is a '{' or '}' without its partner.")
    try:
        read_where(scene.where, names)
    except InputError as error:
        problems.append(error.message)
    if not _is_seed(scene.seed):
        problems.append(f"the seed {scene.seed[:24]!r} is not a whole number from 0 to 2^63 - 1.")
    return problems


def _is_seed(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and int(text[:20]) <= MAX_SEED)


def _cards(value: object, most: int) -> list[Mapping[str, Any]]:
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, Mapping)][:most]


def _line(value: object) -> str:
    """A text without line breaks and control signs; numbers are written out."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value:.0f}"
    if not isinstance(value, str):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())


def _fraction(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return min(1.0, max(0.0, float(value)))
