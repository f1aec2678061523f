"""An idea in a writer's own words: who is in it, what they do, where, when, with what."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from consistent_gen.errors import InputError, LimitError
from consistent_gen.story.types import Character, Frame, Story
from consistent_gen.story.wording import Vocabulary
from consistent_gen.story.wording.lexicon import Sense, lexicon
from consistent_gen.story.wording.people import PRONOUNS, SINGULAR, Genders, given_names
from consistent_gen.story.wording.reading import DETERMINERS, INDEFINITE, Item, items
from consistent_gen.story.wording.scene import Scene
from consistent_gen.story.wording.sheets import GENDERS
from consistent_gen.story.wording.story_reader import StoryReader
from consistent_gen.story.wording.tokens import tokens

MAX_IDEA = 300  # characters
MAX_HEROES = 3  # a picture holds no more
NAMES = {
    "she": ("Fern", "Ada", "Luna", "Poppy", "Nell", "Iris", "Tilda", "Olive", "Juno", "Mia",
            "Hattie", "Rosa", "Elsie", "Nora"),
    "he": ("Milo", "Bruno", "Otto", "Finn", "Theo", "Oscar", "Hugo", "Jasper", "Felix", "Gus",
           "Barnaby", "Emil", "Leo", "Toby"),
}  # fmt: skip
_GROUPS = {"people": ("woman", "man", "woman"), "children": ("girl", "boy", "girl")}
_NUMBERS = {"two": 2, "three": 3, "2": 2, "3": 3, "both": 2, "four": 4, "five": 5}
_LOOKS = ("top", "bottom", "shoes", "accessory", "colour", "pattern", "hair", "hairnoun", "eyes",
          "eyecolour", "cheeks", "garment", "shade", "size")  # fmt: skip
_INTO_LOOKS = ("with", "in", "wearing", "who wears")
_SEEKS = ("looks", "searches", "seeks", "misses", "loses", "hunts", "finds")
_IS = ("is", "are", "was", "were", "become", "becomes", "became")
_ADDRESS = re.compile(r"(https?:|www\.|file:|data:)", re.IGNORECASE)


@dataclass(frozen=True)
class Hero:
    """Somebody of the story. description: the writer's words for it; gender: "she" or "he"."""

    name: str
    description: str
    gender: str


@dataclass
class Idea:
    """What an idea says.

    sentence: the idea retold with the heroes' names, "" where it is no sentence about them.
    heroes: at least one, at most `MAX_HEROES`. alone: whether the idea names nobody. scene: what
    the wording reads of it. thing: the noun for what the heroes get hold of, "" for nothing.
    mood: the writer's adjective for a mood. sought: whether the first of two looks for the other.
    notices: what cannot be drawn as it is said.
    """

    written: str
    sentence: str = ""
    heroes: list[Hero] = field(default_factory=list)
    alone: bool = False
    scene: Scene = field(default_factory=Scene)
    thing: str = ""
    mood: str = ""
    sought: bool = False
    notices: list[str] = field(default_factory=list)


def check_idea(text: str) -> str:
    """The idea on one line.

    Raises:
        InputError: there is no word in it, or it is an address. LimitError: longer than `MAX_IDEA`.
    """
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\r\t" for c in text):
        raise InputError("the idea has a control character; type it anew")
    idea = unicodedata.normalize("NFC", " ".join(text.split()))
    if len(idea) > MAX_IDEA:
        raise LimitError(
            f"the idea has {len(idea):,} characters; the limit is {MAX_IDEA}: say it in a sentence"
        )
    if not any(c.isalpha() for c in idea):
        raise InputError("an idea is a sentence, such as: a shy fox finds a balloon")
    if _ADDRESS.search(idea):
        raise InputError("addresses are not read; say the idea in words")
    return idea


def read_idea(text: str, vocabulary: Vocabulary, rng: random.Random) -> Idea:
    """Read an idea with the hand-written lexicon; nothing is loaded. rng: chooses names.

    Raises:
        InputError, LimitError: as `check_idea`.
    """
    idea = Idea(check_idea(text))
    found = _Heroes(idea, rng)
    found.find()
    retold = idea.sentence
    idea.mood = next(
        (i.low for i in found.items if i.category == "mood" and i.sense and i.sense.speech == "a"),
        "",
    )
    if not idea.heroes:
        idea.alone = True
        kinds = ("girl", "boy", "fox", "cat", "bear", "rabbit", "dog", "robot")
        known = [kind for kind in kinds if vocabulary.knows(kind)] or ["character"]
        kind = rng.choice(known)
        hero = Hero(_name(rng, GENDERS.get(kind, ""), ()), f"a {kind}", "")
        idea.heroes.append(_gendered(hero, kind))
        idea.notices.append(f"the idea names nobody; {hero.name}, a {kind}, plays in it")
    characters = {h.name: Character(name=h.name, description=h.description) for h in idea.heroes}
    frame = Frame(prompt=retold)
    story = Story(title=idea.written, characters=characters, frames=(frame,))
    reader = StoryReader(story, vocabulary)
    idea.scene = reader.scene(retold)
    for hero in idea.heroes:
        mood = reader.described[hero.name].sheet.factors.get("mood")
        actor = next((a for a in idea.scene.actors if a.name == hero.name), None)
        if actor is not None:
            actor.mood = actor.mood or mood
    idea.thing = _thing(idea.scene)
    if vocabulary.words is not None:
        idea.notices += _unseen(idea.scene)
        idea.notices += [n for h in idea.heroes for n in reader.described[h.name].notices]
        idea.notices += [
            str(word)
            for h in idea.heroes
            for word in reader.described[h.name].words
            if word.fate == "left_out"
        ]
    idea.sentence = "" if idea.alone else _sentence(retold, [h.name for h in idea.heroes])
    verb = idea.sentence.split()[1:2]
    idea.sought = len(idea.heroes) == 2 and bool(verb) and verb[0] in _SEEKS
    return idea


class _Heroes:
    """Finds who is in an idea, names them, and puts the names into its words."""

    def __init__(self, idea: Idea, rng: random.Random) -> None:
        self.idea, self.rng = idea, rng
        self.text = idea.written
        found = tokens(self.text, {}, lexicon().senses)
        self.items = items(found, self.text, lexicon(), PRONOUNS)
        said = {SINGULAR[i.low] for i in self.items if i.low in SINGULAR}
        self.gender = said.pop() if len(said) == 1 else ""
        self.names = {at for at, item in enumerate(self.items) if self._is_name(at, item)}
        self.edits: list[tuple[int, int, str]] = []  # from, to, names in its place
        self.used: set[int] = set()

    def find(self) -> None:
        for at in range(len(self.items)):
            if at in self.used or len(self.idea.heroes) >= MAX_HEROES:
                continue
            if at in self.names:
                self._named(at)
            elif self._is_being(at):
                self._being(at)
        text = self.text
        for start, end, names in reversed(self.edits):
            text = text[:start] + names + text[end:]
        self.idea.sentence = text

    def _is_name(self, at: int, item: Item) -> bool:
        """A capital letter and no ordinary word, or a given name; "The" and "I" are neither."""
        said = item.said.removesuffix("'s").removesuffix("\u2019s")
        if not said[:1].isupper() or not said.isalpha() or len(said) > 20 or item.low in PRONOUNS:
            return False
        if item.category == "kind" and not item.named:  # "the King"
            return False
        if item.low in given_names() or said.casefold() in given_names():
            return not (item.kind == "small" and at == 0)
        return item.kind == "unknown" and not (at == 0 and said.endswith("ing"))

    def _is_being(self, at: int) -> bool:
        item = self.items[at]
        if item.kind != "sense" or item.sense is None or item.category != "kind":
            return False
        if item.possessive or item.negated:
            return False
        before = [i.low for i in self.items[max(0, at - 4) : at]]
        if any(low in _IS for low in before) and self.idea.heroes:  # "they are best friends"
            return False
        # A toy or a car that somebody finds is no hero, though a robot comes nearest to it.
        first, _ = self._start(at)
        joined = first > 0 and self.items[first - 1].low in ("and", "&", ",")
        return item.sense.relation != "far" or not self.idea.heroes or joined

    def _named(self, at: int) -> None:
        """ "Mia", "Mia the girl", "Mia, a shy fox"."""
        item = self.items[at]
        name = item.said.removesuffix("'s").removesuffix("\u2019s")
        name = name[:1].upper() + name[1:]
        if any(hero.name == name for hero in self.idea.heroes):
            return
        noun = self._apposed(at)
        end = item.start + len(name)
        description = f"a {self._gendered_noun(name)}"
        if noun is not None:
            start, end = self.items[at + 1].end if self.items[at + 1].low == "," else item.end, 0
            end = self._with_looks(noun)
            description = _described(self.text[start:end])
            self.used |= set(range(at + 1, noun + 1))
            if self.items[noun + 1 : noun + 2] and self.items[noun + 1].low == ",":
                end = self.items[noun + 1].end
        self._add(name, description, self.items[noun].sense if noun is not None else None)
        self.edits.append((item.start, end, name))

    def _gendered_noun(self, name: str) -> str:
        return "girl" if Genders([self.text]).of(name) == "she" else "boy"

    def _apposed(self, at: int) -> int | None:
        """The place of the noun in "Mia the shy fox" and "Mia, a shy fox,"; None without one."""
        after = at + 1
        comma = after < len(self.items) and self.items[after].low == ","
        after += comma
        if after >= len(self.items) or self.items[after].low not in ("the", "a", "an"):
            return None
        for place in range(after + 1, min(after + 5, len(self.items))):
            item = self.items[place]
            if item.category == "kind" and not (item.sense and item.sense.plural):
                return place
            if item.sense is None or item.sense.speech != "a":
                return None
        return None

    def _being(self, at: int) -> None:
        """ "a shy fox", "her dog Bo", "two little cats", "a girl in a red hat"."""
        item = self.items[at]
        assert item.sense is not None
        first, count = self._start(at)
        end = self._with_looks(at)
        if item.sense.plural or count > 1:
            self._several(item, first, end, min(count or 2, MAX_HEROES))
            return
        named = at + 1
        if named < len(self.items) and self.items[named].low in ("named", "called"):
            named += 1
        description = _described(self.text[self.items[first].start : end])
        if named < len(self.items) and named in self.names and named not in self.used:
            name, end = self.items[named].said, self.items[named].end
            self.used.add(named)
        else:
            name = ""
        name = self._add(name, description, item.sense)
        self.edits.append((self.items[first].start, end, name))

    def _several(self, item: Item, first: int, end: int, count: int) -> None:
        """Each of several gets a name; a group of people has its kinds."""
        assert item.sense is not None
        kinds: Sequence[str] = _GROUPS.get(item.sense.value, (item.sense.value,) * 3)
        start = self.items[first].start
        before = self.text[start : item.start].split()
        words = " ".join(w for w in before if w.lower() not in (*_NUMBERS, *DETERMINERS))
        base = item.sense.base if item.sense.value not in _GROUPS else ""
        room = MAX_HEROES - len(self.idea.heroes)
        names = [
            self._add("", _described(f"{words} {base or kind}"), None, kind)
            for kind in kinds[: min(count, room)]
        ]
        listed = " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), names[-1]])
        self.edits.append((start, end, listed))

    def _start(self, at: int) -> tuple[int, int]:
        """(where the words for a noun begin, how many it says there are; 0 where it does not)."""
        first, count = at, 0
        while first > 0:
            item = self.items[first - 1]
            number = _NUMBERS.get(item.low, 0)
            adjective = item.sense is not None and item.sense.speech == "a"
            determiner = item.low in (*DETERMINERS, *INDEFINITE) or item.possessive
            if not (number or adjective or determiner or item.low == "very"):
                break
            count, first = count or number, first - 1
            if determiner and not number and item.low != "the":
                break
        return first, count

    def _with_looks(self, at: int) -> int:
        """Where the words for a noun end, with what it wears: " in a red hat"."""
        end, place = self.items[at].end, at + 1
        if place >= len(self.items) or self.items[place].low not in _INTO_LOOKS:
            return end
        for item in self.items[place + 1 :]:
            looks = any(sense.category in _LOOKS for sense in item.options)
            if looks:
                end = item.end
                self.used.add(self.items.index(item))
            elif item.low not in ("a", "an", "the", "and", *_INTO_LOOKS):
                break
        return end

    def _add(self, name: str, description: str, sense: Sense | None, kind: str = "") -> str:
        kind = kind or (sense.value if sense is not None else "")
        gender = GENDERS.get(kind, "") or self.gender
        taken = {hero.name for hero in self.idea.heroes} | {self.items[i].said for i in self.names}
        name = name or _name(self.rng, gender, taken)
        self.idea.heroes.append(_gendered(Hero(name, description, gender), kind))
        return name


def _name(rng: random.Random, gender: str, taken: Sequence[str] | set[str]) -> str:
    gender = gender or rng.choice(("she", "he"))
    return rng.choice([name for name in NAMES[gender] if name not in taken])


def _gendered(hero: Hero, kind: str) -> Hero:
    gender = hero.gender or GENDERS.get(kind, "") or Genders().of(hero.name)
    return Hero(hero.name, hero.description, gender)


def _described(phrase: str) -> str:
    """A noun phrase with an article of its own: "her old dog" is "an old dog"."""
    words = phrase.strip(" ,.;:").split()
    while words and (words[0].lower() in (*DETERMINERS, *_NUMBERS) or words[0].endswith("'s")):
        words = words[1:]
    text = " ".join(words)
    return ("an " if text[:1].lower() in tuple("aeiou") else "a ") + text


def _thing(scene: Scene) -> str:
    """The writer's noun for a balloon or for the prop of the scene."""
    for item in scene.items:
        sense = item.sense
        if sense is None or item.kind != "sense" or sense.speech != "n":
            continue
        balloon = sense.category == "action" and sense.value == "balloon"
        if balloon or (sense.category == "prop" and sense.value == scene.prop):
            return item.low if sense.plural else sense.base
    return ""


def _unseen(scene: Scene) -> list[str]:
    """What of an idea is not drawn as it is said; verbs are told in the captions anyway."""
    told = []
    for item in scene.items:
        word, sense = item.word, item.sense
        if word is None or (sense is not None and sense.speech == "v"):
            continue
        if word.fate == "left_out" or (
            word.fate == "near" and item.category in ("place", "prop", "kind")
        ):
            told.append(str(word))
    return list(dict.fromkeys(told))


def _sentence(retold: str, names: Sequence[str]) -> str:
    """ "Fern finds a balloon." of an idea that says what its heroes do now; "" of any other."""
    text = retold.strip(" .!?\u2026,;:")
    subject = re.match(
        rf"({'|'.join(map(re.escape, names))})(?:(?:, | and |, and )"
        rf"({'|'.join(map(re.escape, names))}))*",
        text,
    )
    if subject is None or subject.end() == len(text):
        return ""
    several = bool(re.search(r", | and ", subject[0]))
    rest = re.sub(r"^\s*,?\s*(who|that|which)\s+", " ", text[subject.end() :])
    if not rest.startswith(" ") or not rest[1:2].isalpha():
        return ""
    verb = re.match(r"[^\W\d_]+(?:'[^\W\d_]+)?", rest[1:])
    assert verb is not None
    low = verb[0].lower()
    if low.endswith("ing"):
        return f"{subject[0]} {'are' if several else 'is'}{rest}."
    senses = lexicon().of(low)
    auxiliary = ("is", "are", "has", "have", "can", "cannot", "can't", "wants", "want", "does",
                 "must", "will", "do", "go", "goes")  # fmt: skip
    if low in auxiliary:
        fits = low.endswith("s") != several or low in ("can", "cannot", "can't", "must", "will")
    elif several:
        fits = any(s.speech == "v" and s.base.split()[0] == low for s in senses)
    else:
        fits = low.endswith("s") and not low.endswith("ss") and (
            not senses or any(s.speech == "v" for s in senses)
        )  # fmt: skip
    return f"{subject[0]}{rest}." if fits else ""
