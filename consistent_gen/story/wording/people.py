"""Who is meant: genders that names tell, and the people of a story whom words can stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from consistent_gen.story.wording.tokens import folded

_FILE = Path(__file__).parent / "names.txt"
_SHE = frozenset({"she", "her", "hers", "herself", "she's", "she'll", "she'd", "shes"})
_HE = frozenset({"he", "him", "his", "himself", "he's", "he'll", "he'd", "hes"})
SINGULAR = {**dict.fromkeys(_SHE, "she"), **dict.fromkeys(_HE, "he")}
IT = ("it", "its", "itself", "it's")
PLURAL = ("they", "them", "their", "theirs", "themselves", "they're", "they've", "they'll",
          "they'd", "theyre", "both")  # fmt: skip
FIRST = ("i", "me", "my", "mine", "myself", "i'm", "i've", "i'd", "i'll", "im")
FIRST_PLURAL = ("we", "us", "our", "ours", "ourselves", "we're", "we've", "we'll", "we'd")
PRONOUNS = (*SINGULAR, *IT, *PLURAL, *FIRST, *FIRST_PLURAL)
OWNING = ("her", "his", "its", "their", "my", "our")


def given_name(word: str) -> str:
    """ "she" or "he" of a given name or a title in lower case, "" of other words."""
    return given_names().get(word, "")


class Genders:
    """ "she" or "he" of a name. texts: of the story, in which pronouns may tell."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._words = [re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", folded(text)) for text in texts]
        self.votes: dict[str, int] = {}  # name -> how often "she" follows it, less how often "he"

    def of(self, name: str, description: str = "") -> str:
        """By a title, the description's pronouns, the name, the story's pronouns, else at random
        but always the same."""
        parts = re.findall(r"[^\W\d_]+", folded(name))
        known = given_names()
        # "Nurse Bev": the title says more where it says anything, and stands first.
        for word in parts[:1]:
            if word in TITLES:
                return known[word]
        told = self.of_text(description) or next((known[w] for w in parts if w in known), "")
        told = told or _told_within(description)
        told = told or self.by_votes(name) or _by_sound(parts)
        return told or self._of_story() or ("she", "he")[sha256(name.encode()).digest()[0] % 2]

    def by_votes(self, name: str) -> str:
        """By the pronouns that follow a name; "" where none does."""
        votes = self.votes.get(name, 0)
        return "she" if votes > 0 else "he" if votes < 0 else ""

    def vote(self, named: Sequence[str], words: Sequence[str]) -> None:
        """A frame names only `named`; what subjects follow in `words`?"""
        if len(set(named)) == 1:
            she = sum(word in ("she", "she's", "shes", "herself") for word in words)
            he = sum(word in ("he", "he's", "hes", "himself") for word in words)
            if bool(she) != bool(he):
                self.votes[named[0]] = self.votes.get(named[0], 0) + (1 if she else -1)

    def told(self, name: str, description: str) -> str:
        """As `of`, but "" where nothing tells: of animals and things."""
        parts = re.findall(r"[^\W\d_]+", folded(name))
        title = next((given_names()[word] for word in parts[:1] if word in TITLES), "")
        return title or self.of_text(description)

    @staticmethod
    def of_text(text: str) -> str:
        """By the pronouns in a text; "" when it has none or both."""
        words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", folded(text))
        # "her classmate" is somebody else; "a boy in her class" is not told by it either.
        told = set(words[1:]) | (set(words[:1]) - set(OWNING))
        she, he = bool(told & _SHE), bool(told & _HE)
        if she == he:  # "a female sergeant"
            she, he = "female" in words, "male" in words
        return "" if she == he else "she" if she else "he"

    def _of_story(self) -> str:
        words = {word for text in self._words for word in text}
        she, he = bool(words & _SHE), bool(words & _HE)
        return "" if she == he else "she" if she else "he"


TITLES = ("mrs", "ms", "miss", "madame", "madam", "lady", "princess", "queen", "aunt", "auntie",
           "mr", "sir", "lord", "prince", "king", "uncle")  # fmt: skip


def _by_sound(parts: Sequence[str]) -> str:
    """What the ends of names that no list has often tell: Seraphine, Ornella; Lio, Radomir."""
    for part in parts:
        if part.endswith(("a", "ine", "elle", "ette", "lyn", "yn", "issa")) and len(part) > 3:
            return "she"
        if (
            part.endswith(("o", "us", "rick", "bert", "ard", "mir", "ton", "fred"))
            and len(part) > 2
        ):
            return "he"
    return ""


def _told_within(text: str) -> str:
    """By a title or a given name within a text, unless it is an owner: "Mrs. Kowalski"."""
    for match in re.finditer(r"\b([A-Z][a-z]+)\b(?!\.?(?: [A-Z][a-z]+)?['\u2019]s\b)", text):
        if match[1].lower() in (*TITLES, *given_names()):
            return given_names()[match[1].lower()]
    return ""


@lru_cache(maxsize=1)
def given_names() -> dict[str, str]:
    """Given names and titles in lower case, and the gender that each tells."""
    found: dict[str, str] = {}
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        gender, _, names = line.partition(" | ")
        if names:
            found |= {folded(name.strip()): gender for name in names.split(",")}
    return found


@dataclass(frozen=True)
class Person:
    """A character that words can stand for.

    nouns: base words for what it is. kind: as drawn. gender: "she", "he" or "" for either; thing:
    whether "it" can stand for it. narrator: whether "I" does. pose: what it does where nothing is
    said, such as sitting in a wheelchair. many: whether it is several: "four firefighters".
    """

    name: str
    kind: str
    gender: str
    nouns: frozenset[str] = frozenset()
    thing: bool = False
    narrator: bool = False
    pose: str = "standing"
    many: bool = False


@dataclass
class Recent:
    """Whom a story spoke of, the latest last; across frames."""

    people: Sequence[Person]
    spoken: list[str] = field(default_factory=list)
    last_frame: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)  # characters of the frame before, if any
    strangers: list[str] = field(default_factory=list)  # kinds of others whom it showed
    groups: set[str] = field(default_factory=set)  # words for groups that are no characters
    first_person: bool = False
    writer: str = ""  # the kind of somebody who says "I" and is no character

    def speak(self, name: str) -> None:
        """Note a mention."""
        if name in self.spoken:
            self.spoken.remove(name)
        self.spoken.append(name)

    def one(self, pronoun: str, here: Sequence[str], not_: Sequence[str] = ()) -> str | None:
        """Whom a singular pronoun stands for: somebody of this frame first. here: the latest last.
        not_: who it cannot be.
        """
        for fits in (
            [p.name for p in self.people if p.gender == SINGULAR.get(pronoun)],
            [p.name for p in self.people if _fits(p, pronoun)],
        ):
            for name in [*reversed(here), *reversed(self.spoken), *fits]:
                if name in fits and name not in not_:
                    return name
        return None

    def several(self, here: Sequence[str]) -> list[str]:
        """Whom "they" stands for."""
        found = list(dict.fromkeys(here))
        if len(found) < 2:
            found = list(dict.fromkeys([*here, *self.last_frame]))
        for name in [*reversed(self.spoken), *(p.name for p in self.people)]:
            if len(found) < 2 and name not in found:
                found.append(name)
        return found[:3]

    def narrator(self) -> str | None:
        """Who says "I"."""
        return next((p.name for p in self.people if p.narrator), None)


def _fits(person: Person, pronoun: str) -> bool:
    if pronoun in IT:
        return person.thing
    return person.gender in ("", SINGULAR[pronoun])
