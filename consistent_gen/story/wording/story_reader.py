"""The people of a story and whom its frames speak of; all that an open vocabulary needs."""

from __future__ import annotations

import re
from dataclasses import replace

from consistent_gen.story.types import Frame, Story
from consistent_gen.story.wording.descriptions import describe
from consistent_gen.story.wording.lexicon import lexicon
from consistent_gen.story.wording.people import Genders, Person, Recent
from consistent_gen.story.wording.scene import Scene
from consistent_gen.story.wording.scenes import SceneReader
from consistent_gen.story.wording.sheets import PEOPLE
from consistent_gen.story.wording.tokens import tokens
from consistent_gen.story.wording.types import TextWording, Word, Wording
from consistent_gen.story.wording.vocabulary import Vocabulary
from consistent_gen.story.wording.what_it_is import Described

_TITLES = (
    "mr", "mrs", "ms", "miss", "dr", "nurse", "doctor", "sergeant", "captain", "sir", "lady",
    "madame", "king", "queen", "prince", "princess", "uncle", "aunt", "auntie", "pc",
    "professor", "officer", "granny", "grandma", "grandpa", "old", "little",
)  # fmt: skip


class StoryReader:
    """The people of a story, and how its frames speak of them."""

    def __init__(self, story: Story, vocabulary: Vocabulary) -> None:
        self.story, self.vocabulary = story, vocabulary
        self.lexicon = lexicon()
        self.genders = Genders(frame.prompt for frame in story.frames)
        self.described = {
            name: describe(name, c.description, self.lexicon, self.genders)
            for name, c in story.characters.items()
        }
        self.people = {name: _person(name, found) for name, found in self.described.items()}
        self.recent = Recent(tuple(self.people.values()))
        self.names = {name: _other_forms(name) for name in story.characters}
        self.place: str | None = None  # of the frame before

    def scene(self, text: str) -> Scene:
        """Read one frame, and remember of whom it spoke."""
        found = tokens(text, self.names, self.lexicon.senses)
        reader = SceneReader(
            text, found, self.lexicon, self.people, self.recent, self.genders, self.place
        )
        scene = reader.read()
        shown = [actor.name for actor in scene.actors if actor.name is not None]
        for name in reader.here:
            self.recent.speak(name)
        self.recent.last_frame = shown or self.recent.last_frame
        return scene


class OpenReader(StoryReader):
    """A model that reads any word: names and pronouns become characters, nothing else changes."""

    def wording(self) -> Wording:
        texts, frames = [], []
        for index, frame in enumerate(self.story.frames):
            prompt, words = self._prompt(frame)
            place = f"frames[{index}].prompt"
            line = frame.place_of("prompt").line or 0
            texts.append(TextWording(place, line, frame.prompt, prompt, words))
            frames.append(replace(frame, prompt=prompt))
        story = replace(self.story, frames=tuple(frames))
        return Wording(story, tuple(texts), {}, self.vocabulary.model, open_vocabulary=True)

    def _prompt(self, frame: Frame) -> tuple[str, tuple[Word, ...]]:
        scene = self.scene(frame.prompt)
        text, position, words = "", 0, []
        named = {item.token.name for item in scene.items if item.kind == "name" and item.token}
        for item in scene.items:
            people = list(item.people)
            if item.kind == "name" and item.token is not None:
                if "{" in item.said or "}" in item.said:
                    continue
                people = [item.token.name]
            elif item.kind != "pronoun" or not people or named & set(people):
                continue
            named |= set(people)
            owner = item.possessive or item.low in ("his", "her", "their", "its", "my", "our")
            drawn = " and ".join(f"{{{name}}}" for name in people)
            drawn += "'s" if owner and _owns(frame.prompt, item.end, item.low) else ""
            text += frame.prompt[position : item.start] + drawn
            position = item.end
            words.append(Word(item.start, item.end, item.said, "same", drawn))
        return text + frame.prompt[position:], tuple(words)


def _owns(text: str, end: int, low: str) -> bool:
    """Whether "her" is followed by what is hers: "her hand", unlike "he sees her."."""
    return low != "her" or bool(re.match(r"\s+\w", text[end:]))


def _person(name: str, found: Described) -> Person:
    kind = found.sheet.kind
    baby = bool(found.nouns & {"baby", "infant", "newborn", "toddler"})
    thing = kind not in PEOPLE or baby
    return Person(
        name, kind, found.gender, frozenset(found.nouns), thing, found.narrator, found.pose
    )


def _other_forms(name: str) -> list[str]:
    """Other ways to write a name: without its title, article or dots."""
    found = []
    bare = name.replace(".", "")
    if bare != name:
        found.append(bare)
    first, _, rest = name.partition(" ")
    title = first.lower().rstrip(".")
    if rest and title in ("the", "a", "an"):
        found.append(rest)
    elif rest and title in _TITLES:
        found += [f"{title.capitalize()}. {rest}", f"{title.capitalize()} {rest}"]
        if rest[:1].isupper():
            found.append(rest)
    elif rest and first[:1].isupper() and rest[:1].isupper():
        found += [rest, first]
    return found
