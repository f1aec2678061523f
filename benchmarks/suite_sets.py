"""The stories that the offline benchmark draws or scores, by what a set is called on its command.

    world:20            20 stories of held-out characters of the story world, 5 frames each
    world:20x4          the same with their first 4 frames; world-styles:20 has a style per frame
    prompts.yaml        ConsiStory+ YAML, T2IS JSON lines, a ViStoryBench story.json, or any other
    story.json:10       format that `consistent-gen import` reads; :10 takes the first ten stories
    my_story.yaml       a story file of ours
    pictures/           a folder with a manifest.json: pictures that somebody drew, to be scored

A manifest lists stories, each with its prompts (or none) and its pictures by system and seed:

    {"stories": [{"name": "fox", "prompts": ["a fox in a forest", "the fox sleeping"],
                  "pictures": {"mine": {"1": ["a.png", "b.png"]}}}]}
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.consistency_stories import FRAMES, make_story
from benchmarks.suite_tasks import SetEntry
from consistent_gen.checkpoints import read_json
from consistent_gen.errors import InputError
from consistent_gen.story.foreign import import_story
from consistent_gen.story.script import STORY_SUFFIXES, dump_story, load_story
from consistent_gen.story.types import Character, Frame, Story
from consistent_gen.story.wording import read_vocabulary, telling, word_story
from consistent_gen.world import phrases

MANIFEST = "manifest.json"
MOST_STORIES = 1000
HERO = "Ada"
_WORLD = re.compile(r"world(-styles)?:(\d+)(?:x(\d))?")


def read_set(said: str, model: str | None = None) -> tuple[list[SetEntry], list[str]]:
    """(the stories of a set, what is to be told of it). model: in whose words foreign ones are put.

    Raises:
        InputError: there is no such set, or it has no story that can be used.
    """
    if match := _WORLD.fullmatch(said):
        count, frames = int(match[2]), int(match[3] or FRAMES)
        if not (1 <= count <= MOST_STORIES and 2 <= frames <= FRAMES):
            raise InputError(
                f"{said}: expected 1 to {MOST_STORIES} stories of 2 to {FRAMES} frames"
            )
        return [world_entry(n, frames, bool(match[1])) for n in range(count)], []
    name, _, number = said.rpartition(":")
    name, most = (name, int(number)) if name and number.isdigit() else (said, MOST_STORIES)
    place = Path(name)
    if place.is_dir():
        return picture_entries(place)[:most], []
    return foreign_entries(place, most, model)


def world_entry(number: int, frames: int, style_diverse: bool) -> SetEntry:
    """The story of that number of `benchmarks.consistency`, as a story file."""
    made = make_story(number, style_diverse=style_diverse)
    shown = [
        Frame(
            prompt=f"{{{HERO}}} {phrases.ACTION_PHRASES[scene.action][0][0]} "
            f"{phrases.PLACE_PHRASES[scene.place][0]}",
            style=scene.style,
        )
        for scene in made.scenes[:frames]
    ]
    hero = Character(name=HERO, description=made.words)
    story = Story(title=f"story {number}", characters={HERO: hero}, frames=tuple(shown))
    return SetEntry(name=f"story {number}", number=number, text=dump_story(story))


def foreign_entries(file: Path, most: int, model: str | None) -> tuple[list[SetEntry], list[str]]:
    """The stories of a file in the model's words, and why others are left out.

    Raises:
        InputError: no story of the file can be drawn; says why.
    """
    vocabulary = read_vocabulary(model)
    entries: list[SetEntry] = []
    told: list[str] = []
    for number, story in _stories(file, most):
        name = f"{file.stem} {number}"
        wording = word_story(story, vocabulary)
        if wrong := telling.problems(wording, vocabulary, strict=False):
            told.append(f"{name} is left out: {wrong[0]}")
            continue
        entries.append(SetEntry(name=name, number=number, text=dump_story(wording.story)))
    if not entries:
        raise InputError(f"no story of it can be drawn ({'; '.join(told[:3])})", source=file)
    return entries, told


def _stories(file: Path, most: int) -> Iterator[tuple[int, Story]]:
    mistake: InputError | None = None
    if file.suffix.lower() in STORY_SUFFIXES:
        try:
            yield 1, load_story(file)
            return
        except InputError as error:
            mistake = error
    try:
        found = import_story(file)
    except InputError as error:
        raise mistake or error from None  # a story file of ours, with something wrong in it
    yield 1, found.story
    for number in range(2, min(found.count, most) + 1):
        yield number, import_story(file, number=number).story


def picture_entries(folder: Path) -> list[SetEntry]:
    """The stories of a folder's manifest, with the places of their pictures.

    Raises:
        InputError: no manifest, or it says something else than the module's text asks for.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise InputError(f"this folder has no {MANIFEST}", source=folder)
    content = read_json(file)
    stories = content.get("stories") if isinstance(content, dict) else None
    if not isinstance(stories, list) or not stories:
        raise InputError('expected {"stories": [...]} with one story at least', source=file)
    return [_pictured(file, number, story) for number, story in enumerate(stories, 1)]


def _pictured(file: Path, number: int, story: Any) -> SetEntry:
    def fail(what: str) -> InputError:
        return InputError(f"stories[{number - 1}]: {what}", source=file)

    if not isinstance(story, dict) or not isinstance(story.get("pictures"), dict):
        raise fail('expected "pictures": {"system": {"seed": ["a.png", ...]}}')
    prompts = story.get("prompts", [])
    if not isinstance(prompts, list) or not all(isinstance(text, str) for text in prompts):
        raise fail('"prompts" is a list of texts')
    pictures: dict[str, dict[str, list[str]]] = {}
    for system, by_seed in story["pictures"].items():
        if not isinstance(by_seed, dict):
            raise fail(f"the pictures of {system!r} are no mapping from seeds to files")
        for seed, names in by_seed.items():
            if not isinstance(names, list) or not names:
                raise fail(f"{system!r}, seed {seed}: expected a list of files")
            if prompts and len(names) != len(prompts):
                raise fail(f"{system!r}, seed {seed}: {len(names)} files, {len(prompts)} prompts")
            paths = [_inside(file.parent, str(name), fail) for name in names]
            pictures.setdefault(system, {})[seed] = paths
    if not pictures:
        raise fail("no pictures")
    name = str(story.get("name", f"story {number}"))
    return SetEntry(name=name, number=number, pictures=pictures, prompts=prompts)


def _inside(folder: Path, name: str, fail: Any) -> str:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise fail(f"{name[:60]!r} lies outside of the folder")
    if not path.is_file():
        raise fail(f"there is no file {name[:60]!r}")
    return str(path)
