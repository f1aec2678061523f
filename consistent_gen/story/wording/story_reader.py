"""The people of a story and whom its frames speak of; all that an open vocabulary needs."""

from __future__ import annotations

import re
from dataclasses import replace

from consistent_gen.story.types import Frame, Story
from consistent_gen.story.wording.descriptions import describe
from consistent_gen.story.wording.lexicon import lexicon
from consistent_gen.story.wording.people import FIRST, FIRST_PLURAL, Genders, Person, Recent
from consistent_gen.story.wording.scene import Scene
from consistent_gen.story.wording.scenes import SceneReader
from consistent_gen.story.wording.sheets import PEOPLE
from consistent_gen.story.wording.tokens import Token, folded, tokens
from consistent_gen.story.wording.types import TextWording, Word, Wording
from consistent_gen.story.wording.vocabulary import Vocabulary
from consistent_gen.story.wording.what_it_is import Described

_TITLES = (
    "mr", "mrs", "ms", "miss", "dr", "nurse", "doctor", "sergeant", "captain", "sir", "lady",
    "madame", "king", "queen", "prince", "princess", "uncle", "aunt", "auntie", "pc",
    "professor", "officer", "granny", "grandma", "grandpa", "old", "little",
)  # fmt: skip


_OWN = re.compile(r"my\b")  # "my five-year-old": the writer is somebody else


class StoryReader:
    """The people of a story, and how its frames speak of them."""

    def __init__(self, story: Story, vocabulary: Vocabulary) -> None:
        self.story, self.vocabulary = story, vocabulary
        self._cut: dict[str, list[Token]] = {}  # of texts that were cut into tokens
        self.lexicon = lexicon()
        self.genders = Genders(frame.prompt for frame in story.frames)
        self.names = {name: _other_forms(name) for name in story.characters}
        self._vote()
        self.described = {
            name: describe(name, c.description, self.lexicon, self.genders)
            for name, c in story.characters.items()
        }
        self.people = {
            name: _person(name, found, self._noun_of_name(name))
            for name, found in self.described.items()
        }
        self._find_narrator()
        self.place: str | None = None  # of the frame before

    def _vote(self) -> None:
        """What pronouns follow whose name, for names of which no list tells more."""
        for frame in self.story.frames:
            found = self._tokens(frame.prompt)
            named = [token.name for token in found if token.kind == "name"]
            first = next((i for i, t in enumerate(found) if t.kind == "name"), 0)
            self.genders.vote(named, [t.low for t in found[first:] if t.kind == "word"])

    def _noun_of_name(self, name: str) -> frozenset[str]:
        """What a name says by itself: "Boss", "Leprechaun", "The Ducks"."""
        bare = folded(name).removeprefix("the ")
        return frozenset(s.base for s in self.lexicon.of(bare) if s.category == "kind")

    def _find_narrator(self) -> None:
        """Who says "I": by the description, else who is never named; or nobody of the story."""
        found = [t for f in self.story.frames for t in self._tokens(f.prompt)]
        named = {token.name for token in found if token.kind == "name"}
        told = any(person.narrator for person in self.people.values())
        words = {token.low for token in found if token.kind == "word"}
        first_person = bool(words & {*FIRST, *FIRST_PLURAL})
        owned = {
            name for name, c in self.story.characters.items() if _OWN.match(folded(c.description))
        }
        if first_person and not told:
            others = [n for n, p in self.people.items() if n not in named and n not in owned]
            for name in others[:1]:
                self.people[name] = replace(self.people[name], narrator=True)
                told = True
        self.recent = Recent(tuple(self.people.values()), first_person=first_person)
        adults = [n for n, p in self.people.items() if p.kind in ("woman", "man")]
        if first_person and not told and owned and not set(adults) - owned:
            # The other parent where one is spoken of; else somebody, always the same.
            dad, mum = words & {"dad", "daddy"}, words & {"mum", "mummy", "mom", "mommy"}
            self.recent.writer = "woman" if dad and not mum else "man" if mum else "woman"

    def _tokens(self, text: str) -> list[Token]:
        if text not in self._cut:
            self._cut[text] = tokens(text, self.names, self.lexicon.senses)
        return self._cut[text]

    def scene(self, text: str) -> Scene:
        """Read one frame, and remember of whom it spoke."""
        reader = SceneReader(
            text,
            self._tokens(text),
            self.lexicon,
            self.people,
            self.recent,
            self.genders,
            self.place,
        )
        scene = reader.read()
        shown = [actor.name for actor in scene.actors if actor.name is not None]
        named = any(token.kind == "name" for token in self._tokens(text))
        for name in reader.here:
            if named or name not in self.recent.spoken or len(reader.here) == 1:
                self.recent.speak(name)  # "they" leaves who was spoken of last as it is
        self.recent.last_frame = shown or self.recent.last_frame
        self.recent.shown = shown
        self.recent.strangers = [actor.kind for actor in scene.actors if actor.name is None]
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


def _person(name: str, found: Described, named: frozenset[str]) -> Person:
    kind = found.sheet.kind
    baby = bool(found.nouns & {"baby", "infant", "newborn", "toddler"})
    thing = kind not in PEOPLE or baby or found.thing
    narrator = found.narrator or folded(name) in ("me", "i", "myself")
    nouns = frozenset(found.nouns) | named
    return Person(name, kind, found.gender, nouns, thing, narrator, found.pose, found.many)


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
