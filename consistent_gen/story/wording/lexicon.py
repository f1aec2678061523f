"""The lexicon: everyday English by what the story world draws for it (`lexicon.txt`).

The file is read once, in milliseconds, without any library. Its head says what its columns mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).parent / "lexicon.txt"
RELATIONS = ("same", "near", "hint", "far", "none")
_VOWELS = "aeiou"
# Doubled before -ed and -ing: one vowel and one of these at the end of a short word.
_DOUBLED = "bdgmnprt"
_NONE = "none:"


class Sense(NamedTuple):
    """What a word or phrase can mean.

    concepts: what is drawn, as "category.value"; for relation "none" the nearest that can be.
    relation: one of `RELATIONS`. speech: "n", "v", "a", or "x" for what is not inflected.
    base: the entry of the lexicon. plural: whether the form is the plural of a noun.
    """

    concepts: tuple[str, ...]
    relation: str
    speech: str
    base: str
    plural: bool = False

    @property
    def category(self) -> str:
        """The category of the first concept: "kind", "action", "place", ..."""
        return "none" if self.relation == "none" else self.concepts[0].partition(".")[0]

    @property
    def value(self) -> str:
        """The first concept without its category."""
        return self.concepts[0].partition(".")[2]

    def of(self, category: str) -> str | None:
        """The value of the concept of `category`, None where there is none."""
        found = (c.partition(".") for c in self.concepts)
        return next((value for name, _, value in found if name == category), None)


class Lexicon:
    """Forms of words and phrases, in lower case with single spaces, and their senses."""

    def __init__(self, text: str) -> None:
        self.senses: dict[str, list[Sense]] = {}
        self.entries = 0
        rows = [_row(line) for line in text.splitlines() if line and not line.startswith("#")]
        special = ("irregular", "plural")
        verbs, nouns = ({r[1]: _listed(r[2]) for r in rows if r[0] == kind} for kind in special)
        for row in rows:
            if row[0] not in special:
                self._add(row, nouns if row[2] == "n" else verbs)
        self.longest = max(form.count(" ") + 1 for form in self.senses)

    def __contains__(self, form: str) -> bool:
        return form in self.senses

    def of(self, form: str) -> Sequence[Sense]:
        """The senses of a form, those first that stand first in the file."""
        return self.senses.get(form, ())

    def match(self, words: Sequence[str]) -> tuple[int, Sequence[Sense]]:
        """(how many of the first `words` the longest known phrase takes, its senses); (0, ())."""
        for count in range(min(self.longest, len(words)), 0, -1):
            found = self.senses.get(" ".join(words[:count]))
            if found:
                return count, found
        return 0, ()

    def _add(self, row: list[str], irregular: dict[str, list[str]]) -> None:
        what, relation, speech, listed = row
        concepts = tuple(what.removeprefix(_NONE).replace(",", "+").split("+"))
        assert relation in RELATIONS and (relation == "none") == what.startswith(_NONE), row
        adverb = what.startswith("mood")
        for base in _listed(listed):
            self.entries += 1
            one, many = (Sense(concepts, relation, speech, base, plural=p) for p in (False, True))
            for form, plural in _forms(base, speech, irregular, adverb=adverb):
                sense, form = (many if plural else one), form.replace("-", " ")
                known = self.senses.get(form)
                if known is None:
                    self.senses[form] = [sense]
                elif not any(s[0] == concepts and s[2] == speech for s in known):
                    known.append(sense)


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """The one lexicon."""
    return Lexicon(FILE.read_text(encoding="utf-8"))


def _row(line: str) -> list[str]:
    return [part.strip() for part in line.split(" | ")]


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _forms(
    base: str, speech: str, irregular: dict[str, list[str]], *, adverb: bool
) -> Iterator[tuple[str, bool]]:
    """(form, whether it is a plural) of an entry, itself first; "sadly" too where `adverb`."""
    yield base, False
    head, _, rest = base.partition(" ")
    if speech == "v":
        made = [*_verb_forms(head), *irregular.get(head, ())]
        yield from ((f"{form} {rest}".strip(), False) for form in made)
    elif speech == "n":
        start, _, last = base.rpartition(" ")
        made = [*irregular.get(last, ())] or [_with_s(last)]
        yield from ((f"{start} {form}".strip(), True) for form in made)
    elif speech == "a" and " " not in base and len(base) > 2:
        if base.endswith(("ed", "ing")):  # no "boreder"
            if adverb:
                yield base + "ly", False
            return
        stem = base[:-1] + "i" if base.endswith("y") else base.removesuffix("e")
        yield from ((stem + "er", False), (stem + "est", False))
        if adverb:
            yield (stem + "ly" if base.endswith("y") else base + "ly"), False


def _verb_forms(verb: str) -> list[str]:
    if verb.endswith("ie"):
        stem, ing = verb, verb[:-2] + "ying"
    elif verb.endswith("e") and not verb.endswith(("ee", "oe")):
        stem, ing = verb, verb[:-1] + "ing"
    elif _doubles(verb):
        stem, ing = verb + verb[-1] + "e", verb + verb[-1] + "ing"
    elif verb.endswith("y") and verb[-2:-1] not in _VOWELS:
        stem, ing = verb[:-1] + "ie", verb + "ing"
    else:
        stem, ing = verb + "e", verb + "ing"
    return [_with_s(verb), stem + "d", ing]


def _doubles(verb: str) -> bool:
    single = len(verb) >= 3 and verb[-2] in _VOWELS and verb[-3] not in _VOWELS
    vowels = sum(letter in _VOWELS for letter in verb)
    return single and vowels == 1 and verb[-1] in _DOUBLED


def _with_s(word: str) -> str:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in _VOWELS:
        return word[:-1] + "ies"
    return word + "es" if word.endswith("o") and word != "photo" else word + "s"
