"""A description in a writer's own words becomes a character sheet."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from consistent_gen.story.wording.lexicon import Lexicon, Sense
from consistent_gen.story.wording.people import Genders
from consistent_gen.story.wording.reading import Item, items
from consistent_gen.story.wording.sheets import EYES, FUR, GENDERS, HAIR, HUES, NEAREST_HUE, Sheet
from consistent_gen.story.wording.tokens import folded, tokens
from consistent_gen.story.wording.types import Word

CLOTHES = ("top", "bottom", "shoes", "accessory")
_ABSTRACT = ("adult", "child", "person", "people", "children")
# What ends the group of words around a noun.
_GROUP_ENDS = ("with", "in", "wearing", "wears", "who", "that", "which", "whose", "but", "on", "at",
               "and", "from", "of", "dressed in", "has", "have", "she's", "he's", "is", "for")  # fmt: skip
_CHILD_UNTIL = 17
_OLD_FROM = 60
_NUMBERS = {
    name: number
    for number, name in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty".split()
    )
} | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80}
_UNITS = ("year", "years", "yr", "yrs", "month", "months")
_BEARDS = ("beard", "moustache", "mustache", "stubble", "goatee", "sideburns", "eyebrows")
# Words that begin another part of a description, about the character itself.
_ANEW = (
    "with",
    "who",
    "that",
    "she's",
    "he's",
    "it's",
    "she",
    "he",
    "it",
    "shes",
    "hes",
    "but",
    "on",
    "at",
)
_DECADES = ("twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties",
            "nineties")  # fmt: skip


@dataclass
class Described:
    """What a description says: the sheet, what the character may be called, and every word.

    nouns: base words of the nouns that say what it is ("elephant"), for "the elephant".
    narrator: whether the writer speaks of themselves ("that's me"). misfit: whether a colour had
    to go to the clothes, since the kind has no such fur.
    """

    sheet: Sheet
    words: list[Word] = field(default_factory=list)
    nouns: set[str] = field(default_factory=set)
    notices: list[str] = field(default_factory=list)
    narrator: bool = False
    gender: str = ""
    misfit: bool = False
    pose: str = "standing"


def describe(name: str, text: str, lexicon: Lexicon, genders: Genders) -> Described:
    """Read the description of the character `name`. genders: what names and pronouns tell."""
    return _Reader(name, text, lexicon, genders).read()


class _Reader:
    def __init__(self, name: str, text: str, lexicon: Lexicon, genders: Genders) -> None:
        self.name, self.text, self.lexicon, self.genders = name, text, lexicon, genders
        found = items(tokens(text, {}, ()), text, lexicon)
        self.items = [item for item in found if item.kind != "sign" or item.low in ",.;:()-\u2013"]
        self.sheet = Sheet(name)
        self.result = Described(self.sheet)
        self.pending: list[Item] = []
        self.garment = ""  # the last one of this part of the text, for "a cardigan in mustard"
        self.age: int | None = None
        self.old = False
        self.nouns: list[tuple[int, Item, Sense]] = []  # (group of words, where, what)

    def read(self) -> Described:
        """Every item is taken once; then what was found is made to fit the kind."""
        self.result.narrator = bool(
            re.search(r"(?<![\w'])(me|i'm|myself)(?![\w'])", folded(self.text))
        )
        self._find_nouns()
        self._set_kind()
        for item in self.items:
            if item.low in _ANEW or any(item is noun[1] for noun in self.nouns):
                self._flush()
            self._take(item)
            if item.kind == "sign" or item.low == "but":
                self._flush()
                self.garment = ""
        self._flush()
        self._finish()
        self.result.words = [item.word for item in self.items if item.word is not None]
        return self.result

    # what it is -----------------------------------------------------------------------------
    def _find_nouns(self) -> None:
        """Nouns for beings, in groups of words; what belongs to another word is none of them."""
        group, opened_by_sign = 0, True
        for place, item in enumerate(self.items):
            worn = next((s for s in item.options if s.category in CLOTHES), None)
            if worn is not None and item.category not in CLOTHES:
                item.sense = worn
            sense = next((s for s in item.options if s.category == "kind"), None)
            if item.kind == "sign" or item.low in _GROUP_ENDS:
                group, opened_by_sign = group + 1, item.kind == "sign"
            elif sense is None or item.possessive or worn is not None or self._of_another(place):
                continue
            elif group == 0 or (opened_by_sign and sense.relation != "far"):
                item.sense = sense
                self.nouns.append((group, item, sense))

    def _of_another(self, place: int) -> bool:
        """Whether a thing follows that the word belongs to: the unicorn of "unicorn wellies"."""
        after = self.items[place + 1] if place + 1 < len(self.items) else None
        return after is not None and any(
            s.category in (*CLOTHES, "hairnoun", "eyes") for s in after.options
        )

    def _set_kind(self) -> None:
        """The last noun of the first group that names somebody; "robot" before "sidekick"."""
        head: tuple[int, Item, Sense] | None = None
        for group in sorted({g for g, _, _ in self.nouns}):
            here = [noun for noun in self.nouns if noun[0] == group]
            plain = [n for n in here if n[2].value not in _ABSTRACT]
            if plain or head is None:
                head = (plain or here)[-1]
            if plain or group > 0:
                break
        sense = head[2] if head else None
        if sense is None or (sense.value in _ABSTRACT and sense.relation == "near"):
            named = self._kind_of_name()
            sense = (
                named
                if named is not None and (sense is None or named.value not in _ABSTRACT)
                else sense
            )
        self._read_age()
        kind = self._settled(sense)
        self.sheet.say("kind", kind)
        self.result.gender = GENDERS.get(kind) or self.genders.told(self.name, self.text)
        if sense is None:
            self.result.notices.append(
                f"nothing says what {self.name} is; drawn as a {kind} (write a noun to choose)"
            )
        elif sense.relation == "far":
            self.result.notices.append(
                f"this model cannot draw {_a(sense.base)}; {self.name} is drawn as the nearest, a {kind}"
            )
        for _, item, found in self.nouns:
            if head is not None and item is head[1]:
                how = "same" if found.relation == "same" else "near"
                item.become(
                    how, kind, "" if how == "same" else f"the nearest that it draws is a {kind}"
                )
                self.result.nouns.add(found.base)
        if head is None and sense is not None:
            self.result.nouns.add(sense.base)
        for other in self.nouns:
            if head is not None and other[0] == head[0] and other[2].value not in _ABSTRACT:
                self.result.nouns.add(other[2].base)

    def _kind_of_name(self) -> Sense | None:
        words = re.findall(r"[^\W\d_]+", folded(self.name))
        for start in range(len(words)):
            _, senses = self.lexicon.match(words[start:])
            found = next((s for s in senses if s.category == "kind"), None)
            if found is not None:
                return found
        return None

    def _settled(self, sense: Sense | None) -> str:
        """A kind that the world has, by age and gender where the noun leaves them open."""
        if sense is not None and sense.value not in _ABSTRACT:
            kind = sense.value
            if sense.relation == "near" and kind in GENDERS and self.age is not None:
                return self._aged(GENDERS[kind])
            return kind
        gender = self.genders.of(self.name, self.text)
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
                if item.low.isdigit() and len(item.low) < 4
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
        if self.age is None and re.search(
            r"\b(beard(ed)?|moustache|mustache|stubble|bald|husband|wife)\b", words
        ):
            self.age = 40

    # what it looks like ---------------------------------------------------------------------
    def _take(self, item: Item) -> None:
        if item.word is not None or item.kind in ("sign", "small", "number", "name"):
            return
        sense = item.sense
        if item.kind == "speech":
            item.become("speech")
        elif sense is None:
            item.become("left_out", why="an unknown word")
        elif item.negated:
            item.become("left_out", why="it is said not to be there")
        elif (
            sense.category in ("colour", "pattern", "size", "shade", "age", "hair")
            and sense.speech == "a"
        ):
            self.pending.append(item)
        elif sense.category in CLOTHES:
            self._clothe(item, sense)
        elif sense.category == "hairnoun":
            self._hair(item, sense.value)
        elif sense.category == "hair":
            self._hair_style(item, sense)
            self._colour_hair()
        elif sense.category == "eyes":
            self._eyes(item)
        elif sense.category in ("eyecolour", "cheeks"):
            self._plain(item, sense)
        elif sense.category == "mood":
            self._mood(item, sense)
        elif sense.category == "pattern":
            self._pattern(item, sense)
        else:
            self._leave(item, sense)

    def _clothe(self, item: Item, sense: Sense) -> None:
        slot, noun = sense.category, sense.value
        before = [i for i in self.pending if i.category in ("colour", "pattern")]
        manly = self.sheet.kind in ("boy", "man")
        if manly and noun in ("dress", "skirt"):
            noun = {"dress": "jacket", "skirt": "shorts"}[noun]
            sense = sense._replace(relation="near")
        if not self.sheet.say(slot, noun):
            item.become(
                "left_out", why=f"one {slot} a character; it has {self.sheet.factors[slot]}"
            )
        else:
            item.become("same" if sense.relation == "same" else "near", noun)
        for adjective in before:
            self.pending.remove(adjective)
            if self.sheet.factors[slot] != noun:
                adjective.become("left_out", why="it belongs to what was left out")
            elif adjective.category == "colour":
                self._colour_clothes(adjective, slot)
            elif slot == "top":
                self._pattern(adjective, adjective.sense)
            else:
                adjective.become("left_out", why="only what is worn on top has a pattern")
        self._drop_pending("it belongs to clothes, which have colour and pattern alone")
        self.garment = slot

    def _colour_clothes(self, item: Item, slot: str) -> None:
        assert item.sense is not None
        colour = item.sense.value
        hue = colour if colour in HUES else NEAREST_HUE[colour]
        if not self.sheet.say(f"{slot}_colour", hue):
            item.become("left_out", why="one colour a piece of clothing")
        elif hue == colour:
            item.become("same" if item.sense.relation == "same" else "near", hue)
        else:
            item.become("near", hue, f"clothes come in {', '.join(HUES)}")

    def _hair(self, item: Item, what: str) -> None:
        item.become("same", "fur" if what == "fur" or not self.sheet.is_person else "hair")
        self._colour_hair()
        for adjective in [i for i in self.pending if i.category == "hair" or i.low == "short"]:
            self.pending.remove(adjective)
            adjective.sense = next(s for s in adjective.options if s.category == "hair")
            self._hair_style(adjective, adjective.sense)
        self._drop_pending("hair has a colour and a style alone")
        self.garment = "hair"

    def _colour_hair(self) -> None:
        for adjective in [i for i in self.pending if i.category == "colour"]:
            self.pending.remove(adjective)
            self._coat(adjective)

    def _coat(self, item: Item) -> None:
        assert item.sense is not None
        table = HAIR if self.sheet.is_person else FUR
        word = table.get(item.sense.value)
        what = "hair" if self.sheet.is_person else "fur"
        if word is None:
            item.become(
                "left_out",
                why=f"{what} has no such colour",
                nearest=tuple(dict.fromkeys(table.values())),
            )
        elif not self.sheet.say("coat", word):
            item.become("left_out", why=f"one colour of {what} a character")
        else:
            item.become("same" if word == item.sense.value else "near", word)

    def _hair_style(self, item: Item, sense: Sense | None) -> None:
        assert sense is not None
        if not self.sheet.is_person:
            item.become("left_out", why="only people have hair")
        elif not self.sheet.say("hair_style", sense.value):
            item.become("left_out", why="one hair style a character")
        else:
            item.become("same" if sense.relation == "same" else "near", f"{sense.value} hair")

    def _eyes(self, item: Item) -> None:
        colours = [i for i in self.pending if i.category == "colour"]
        if not colours:
            item.become("left_out", why="eyes are drawn anyway; only their colour can be told")
        for adjective in colours:
            self.pending.remove(adjective)
            assert adjective.sense is not None
            value = adjective.sense.value
            if value in EYES and self.sheet.say("eyes", value):
                item.become("same", f"{value} eyes")
                adjective.become("same", value)
            else:
                item.become(
                    "left_out", why="no such eyes", nearest=tuple(f"{e} eyes" for e in EYES)
                )
                adjective.become("left_out", why="no such eyes", nearest=EYES)
        self._drop_pending("eyes have a colour alone")

    def _plain(self, item: Item, sense: Sense) -> None:
        factor = {"eyecolour": "eyes"}.get(sense.category, sense.category)
        if self.sheet.say(factor, sense.value):
            item.become("same" if sense.relation == "same" else "near", sense.value)
        else:
            item.become("left_out", why="one of its kind a character")

    def _mood(self, item: Item, sense: Sense) -> None:
        if self.sheet.say("mood", sense.value):
            item.become("same" if sense.relation == "same" else "near", sense.value)
        else:
            item.become("left_out", why=f"one mood a character; it is {self.sheet.factors['mood']}")

    def _pattern(self, item: Item, sense: Sense | None) -> None:
        assert sense is not None
        if self.sheet.say("pattern", sense.value):
            item.become("same" if sense.relation == "same" else "near", sense.value)
        else:
            item.become("left_out", why="one pattern a character")

    def _leave(self, item: Item, sense: Sense) -> None:
        """A word for something that no description can draw; its colour may still say something."""
        if sense.base.startswith("wheelchair"):
            self.result.pose = "sitting"
            item.become("near", "sitting", "where nothing else is said")
            self._drop_pending("it belongs to what is not drawn")
            return
        if sense.speech == "a":  # of the same noun as what is pending
            item.become("left_out", nearest=_nearest(sense))
            return
        colours = [i for i in self.pending if i.category == "colour"]
        furry = not self.sheet.is_person and sense.category in ("none", "prop", "body")
        if furry or sense.base in _BEARDS:
            for adjective in colours:
                self.pending.remove(adjective)
                self._coat(adjective)
        why = "not part of how a character looks" if sense.category != "none" else ""
        item.become("left_out", why=why, nearest=_nearest(sense))
        self._drop_pending("it belongs to what was left out")

    def _flush(self) -> None:
        """What stands at the end of a part of the text: it describes the clothes or the whole."""
        for item in self.pending:
            sense = item.sense
            assert sense is not None
            if item.category == "colour":
                self._loose_colour(item, sense)
            elif item.category == "size" and self.sheet.say("size", sense.value):
                item.become("same" if sense.relation == "same" else "near", sense.value)
            elif item.category == "hair":
                self._hair_style(item, sense)
            elif item.category == "pattern":
                self._pattern(item, sense)
            elif item.category == "age":
                self._aged_word(item, sense)
            else:
                item.become("left_out", why="nothing takes it")
        self.pending = []

    def _loose_colour(self, item: Item, sense: Sense) -> None:
        table = HAIR if self.sheet.is_person else FUR
        if self.garment in CLOTHES and f"{self.garment}_colour" not in self.sheet.said:
            self._colour_clothes(item, self.garment)
        elif (
            sense.value in table
            and "coat" not in self.sheet.said
            and (
                not self.sheet.is_person
                or sense.value in ("ginger", "blond", "grayhair", "darkhair", "chestnut")
            )
        ):
            self._coat(item)
        elif "top_colour" not in self.sheet.said and (
            self.sheet.is_person or sense.value not in FUR
        ):
            hue = sense.value if sense.value in HUES else NEAREST_HUE[sense.value]
            self.sheet.factors.setdefault("top", "shirt")
            self.sheet.say("top_colour", hue)
            what = self.sheet.factors["top"]
            self.result.misfit = True
            item.become(
                "near", f"a {hue} {what}", f"this model has no {sense.base} {self.sheet.kind}"
            )
        else:
            item.become("left_out", why="it has its colours already")

    def _aged_word(self, item: Item, sense: Sense) -> None:
        if sense.value == "old" and self.sheet.is_person and "coat" not in self.sheet.factors:
            self.sheet.say("coat", "gray")
            item.become("near", "gray hair")
        elif sense.value == "adult":
            item.become("near", self.sheet.kind, "by the age")
        else:
            item.become(
                "left_out", why="age is drawn by the kind alone", nearest=(self.sheet.kind,)
            )

    def _drop_pending(self, why: str) -> None:
        for item in self.pending:
            item.become("left_out", why=why)
        self.pending = []

    def _finish(self) -> None:
        if self.old and self.sheet.is_person and "coat" not in self.sheet.said:
            self.sheet.say("coat", "gray")
        for item in self.items:
            if item.kind not in ("sign", "small", "number", "name"):
                item.become("left_out", why="somebody else", nearest=())


def _nearest(sense: Sense) -> tuple[str, ...]:
    return tuple(c.partition(".")[2] for c in sense.concepts if c not in ("-", "none"))


def _ends_an_age(item: Item) -> bool:
    return item.kind == "sign" or item.low in (*_UNITS, "or", "and")


def _a(noun: str) -> str:
    return ("an " if noun[:1] in "aeiou" and not noun.startswith("uni") else "a ") + noun
