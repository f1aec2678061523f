"""What a description is of: the noun that names it, its age, and the kind that is drawn for it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from consistent_gen.language.words import COUNTED
from consistent_gen.story.wording.lexicon import Lexicon, Sense
from consistent_gen.story.wording.people import TITLES, Genders, given_name
from consistent_gen.story.wording.reading import OWNERS, Item, items
from consistent_gen.story.wording.sheets import GENDERS, CharacterSheet
from consistent_gen.story.wording.tokens import folded, tokens
from consistent_gen.story.wording.types import Fate, Word

CLOTHES = ("top", "bottom", "shoes", "accessory")
_GROWN = ("mr", "mrs", "ms", "dr", "sir", "lady", "lord", "madame", "uncle", "aunt", "auntie",
          "professor", "prof", "captain", "sergeant", "sgt", "rev", "nurse", "officer", "coach",
          "granny", "grandma", "grandpa", "mum", "dad", "mom", "agent")  # fmt: skip
_MANY = ("people", "children")
_YOUNG = ("calf", "cub", "pup", "puppy", "chick", "foal", "baby", "kitten")
# Nouns that are drawn as a man unless a name or a pronoun says otherwise.
_EITHER = (
    "vicar", "priest", "bishop", "rabbi", "captain", "ship's captain", "sea captain", "skipper",
    "admiral", "sailor", "pirate", "viking", "knight", "samurai", "gladiator", "ninja", "monk",
    "magician", "blacksmith", "butcher", "carpenter", "plumber", "bus driver", "lorry driver",
    "truck driver", "lumberjack", "woodcutter", "villain", "thief", "robber", "burglar", "bandit",
    "outlaw", "superhero", "hero", "giant", "dwarf", "gnome", "leprechaun", "goblin", "troll",
    "ogre", "orc", "vampire", "sheriff", "hermit", "beggar", "tramp", "god", "warlord",
)  # fmt: skip
_ABSTRACT = ("adult", "child", "person", "people", "children")
# What ends the group of words around a noun.
_GROUP_ENDS = (
    "with", "in", "wearing", "wears", "who", "that", "which", "whose", "but", "on", "at", "and",
    "from", "of", "dressed in", "has", "have", "she's", "he's", "is", "for",
)  # fmt: skip
_CHILD_UNTIL = 17
_OLD_FROM = 60
_NUMBERS = COUNTED | {
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
}  # fmt: skip
_UNITS = ("year", "years", "yr", "yrs", "month", "months")
_DECADES = ("twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties",
            "nineties")  # fmt: skip
_ADULT = r"\b(beard(ed)?|moustache|mustache|stubble|bald|husband|wife)\b"


@dataclass
class Described:
    """What a description says: the sheet, what the character may be called, and every word.

    nouns: base words of the nouns that say what it is ("elephant"), for "the elephant".
    narrator: whether the writer speaks of themselves ("that's me"). misfit: whether a colour had
    to go to the clothes, since the kind has no such fur.
    """

    sheet: CharacterSheet
    words: list[Word] = field(default_factory=list)
    nouns: set[str] = field(default_factory=set)
    notices: list[str] = field(default_factory=list)
    narrator: bool = False
    gender: str = ""
    misfit: bool = False
    pose: str = "standing"
    many: bool = False  # whether it is several
    thing: bool = False  # "a small dark cloud": no being, so that "it" means it


class KindReader:
    """Finds what a description is of; `descriptions` reads the rest."""

    def __init__(self, name: str, text: str, lexicon: Lexicon, genders: Genders) -> None:
        self.name, self.text, self.lexicon, self.genders = name, text, lexicon, genders
        found = items(tokens(text, {}, ()), text, lexicon)
        self.items = [item for item in found if item.kind != "sign" or item.low in ",.;:()-\u2013"]
        self.sheet = CharacterSheet(name)
        self.result = Described(self.sheet)
        self.pending: list[Item] = []
        self.beside: list[Sense] = []  # beings named together with the first
        self.loose: list[Item] = []  # colours of nothing in particular
        self.garment = ""  # the last one of this part of the text, for "a cardigan in mustard"
        self.age: int | None = None
        self.old = False
        self.nouns: list[tuple[int, Item, Sense]] = []  # (group of words, where, what)

    def _find_nouns(self) -> None:
        """Nouns for beings, in groups of words; what belongs to another word is none of them."""
        group, opened_by_sign = 0, True
        spare: list[tuple[int, Item, Sense]] = []  # what no kind is near to, after a sign
        for place, item in enumerate(self.items):
            worn = next((s for s in item.options if s.category in CLOTHES), None)
            if worn is not None and item.category not in CLOTHES:
                item.sense = worn
            sense = next((s for s in item.options if s.category == "kind"), None)
            joined = group == 1 and any(
                i.low == "and" for i in self.items[max(0, place - 3) : place]
            )
            if joined and sense is not None and sense.plural and self.nouns:
                self.beside.append(sense)  # "a mother duck and eight ducklings"
            if item.low == "and" and not any(noun[0] == group for noun in self.nouns):
                continue  # "a warm and kind rabbit"
            if item.kind == "sign" or item.low in _GROUP_ENDS:
                # "A picture of a wizard", "a group of foxes": what it is stands after "of".
                of = item.low == "of" and all(n[2].value in _MANY for n in self.nouns)
                group, opened_by_sign = group + 1, item.kind == "sign" or of
            elif sense is None or item.possessive or worn is not None or self._of_another(place):
                continue
            elif group == 0 or (opened_by_sign and sense.relation != "far"):
                item.sense = sense
                self.nouns.append((group, item, sense))
            elif opened_by_sign and not self._carried(place):
                spare.append((group, item, sense))
        if not self.nouns and spare:
            self.nouns.append(spare[0])

    def _of_another(self, place: int) -> bool:
        """Whether a thing follows that the word belongs to: the unicorn of "unicorn wellies"."""
        after = self.items[place + 1] if place + 1 < len(self.items) else None
        return after is not None and any(
            s.category in (*CLOTHES, "hairnoun", "eyes") for s in after.options
        )

    def _carried(self, place: int) -> bool:
        """Whether it is somebody's: the guitar of "guitar on his back"."""
        after = [item.low for item in self.items[place + 1 : place + 3]]
        return len(after) == 2 and after[0] in ("on", "in", "under") and after[1] in OWNERS

    def _set_kind(self) -> None:
        """The last noun of the first group that names somebody; "robot" before "sidekick"."""
        head: tuple[int, Item, Sense] | None = None
        for group in sorted({g for g, _, _ in self.nouns}):
            here = [noun for noun in self.nouns if noun[0] == group]
            plain = [n for n in here if n[2].value not in _ABSTRACT]
            if plain or head is None:
                head = _head(plain or here)
            if plain or group > 0:
                break
        sense = head[2] if head else None
        self._read_age()
        if sense is None or (sense.value in _ABSTRACT and sense.relation == "near"):
            named = self._kind_of_name()
            sense = (
                named
                if named is not None and (sense is None or named.value not in _ABSTRACT)
                else sense
            )
        kind = self._settled(sense)
        self.sheet.say("kind", kind)
        self.result.gender = GENDERS.get(kind) or self.genders.told(self.name, self.text)
        if sense is None:
            self.result.thing = bool(self.items) and self.items[0].low in ("a", "an", "the")
            if self.result.thing:
                self.result.gender = self.genders.told(self.name, self.text)
            self.result.notices.append(
                f"nothing says what {self.name} is; drawn as a {kind} (write a noun to choose)"
            )
        elif sense.relation == "far":
            self.result.notices.append(
                f"this model cannot draw {_a(sense.base)}; {self.name} is drawn as the nearest, "
                f"a {kind}"
            )
        for _, item, found in self.nouns:
            if head is not None and item is head[1]:
                how: Fate = "same" if found.relation == "same" else "near"
                item.become(
                    how, kind, "" if how == "same" else f"the nearest that it draws is a {kind}"
                )
                self.result.nouns.add(found.base)
        if head is None and sense is not None:
            self.result.nouns.add(sense.base)
        self.result.nouns |= {other.base for other in self.beside}
        self.result.many = bool(self.beside) or (head is not None and head[2].plural)
        for other in self.nouns:
            if head is not None and other[0] == head[0] and other[2].value not in _ABSTRACT:
                self.result.nouns.add(other[2].base)

    def _kind_of_name(self) -> Sense | None:
        words = re.findall(r"[^\W\d_]+", folded(self.name))
        titled = bool(words) and words[0] in TITLES
        person = self.age is not None or bool(self.genders.of_text(self.text))
        for start in range(len(words)):
            _, senses = self.lexicon.match(words[start:])
            found = next((s for s in senses if s.category == "kind"), None)
            # "Mrs Finch" is no bird, and Teddy, five, no bear.
            surname = found is not None and titled and start > 0 and found.relation == "far"
            if found is None or surname or (person and given_name(words[start])):
                continue
            return found
        return None

    def _told_woman(self, sense: Sense) -> bool:
        """Whether a name or a pronoun says that a vicar or a captain is a woman."""
        first = re.findall(r"[^\W\d_]+", folded(self.name))
        known = [gender for word in first if (gender := given_name(word))]
        votes = self.genders.by_votes(self.name)
        return sense.base in _EITHER and "she" in (self.genders.of_text(self.text), *known, votes)

    def _settled(self, sense: Sense | None) -> str:
        """A kind that the world has, by age and gender where the noun leaves them open."""
        if sense is not None and sense.value not in _ABSTRACT:
            kind = sense.value
            if kind == "man" and self._told_woman(sense):
                kind = "woman"
            if sense.relation == "near" and kind in GENDERS and self.age is not None:
                return self._aged(GENDERS[kind])
            return kind
        gender = self.genders.of(self.name, self.text)
        if self.age is None and folded(self.name).replace(".", "").partition(" ")[0] in _GROWN:
            self.age = 40
        if self.age is None and sense is not None and sense.value in ("adult", "people"):
            self.age = 40
        return self._aged(gender)

    def _aged(self, gender: str) -> str:
        young = self.age is None or self.age <= _CHILD_UNTIL
        return {"she": "girl" if young else "woman", "he": "boy" if young else "man"}[gender]

    def _read_age(self) -> None:
        for place, item in enumerate(self.items):
            number = (
                int(item.low)
                if item.low.isdecimal() and len(item.low) < 4
                else _NUMBERS.get(item.low)
            )
            following = self.items[place + 1] if place + 1 < len(self.items) else None
            if number is None or (following is not None and not _ends_an_age(following)):
                continue
            for unit in self.items[place + 1 : place + 3]:
                if unit.low in _UNITS or unit.low == "old":
                    unit.become("near", "by the age")
            before = self.items[place - 1] if place else None
            if before is not None and before.low == "year":
                number += 5
            if self.age is None and (
                place == 0 or before is None or before.kind in ("sign", "small", "sense")
            ):
                self.age = number
                item.become(
                    "near", "a child" if number <= _CHILD_UNTIL else "an adult", "by the age"
                )
        words = folded(self.text)
        if re.search(r"\b\d0s\b|\b(" + "|".join(_DECADES) + r")\b", words) and self.age is None:
            old = re.search(r"\b[6-9]0s\b|sixties|seventies|eighties|nineties", words)
            self.age = _OLD_FROM if old else 40
        self.old = self.age is not None and self.age >= _OLD_FROM
        if self.age is None and re.search(_ADULT, words):
            self.age = 40


def _head(nouns: list[tuple[int, Item, Sense]]) -> tuple[int, Item, Sense]:
    """The last noun of a group; but an elephant calf is an elephant, a robot butler a robot."""
    last = nouns[-1]
    for other in nouns[-2:-1]:
        young = last[2].base in _YOUNG
        served = other[2].value not in GENDERS and other[2].relation != "far"
        if young or (served and last[2].relation == "near" and last[2].value in GENDERS):
            return other
    return last


def _ends_an_age(item: Item) -> bool:
    return item.kind == "sign" or item.low in (*_UNITS, "or", "and", "ish", "s")


def _a(noun: str) -> str:
    return ("an " if noun[:1] in "aeiou" and not noun.startswith("uni") else "a ") + noun
