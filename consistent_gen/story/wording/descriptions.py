"""A description in a writer's own words becomes a character sheet."""

from __future__ import annotations

import re

from consistent_gen.story.wording.lexicon import Lexicon, Sense
from consistent_gen.story.wording.people import Genders
from consistent_gen.story.wording.reading import Item
from consistent_gen.story.wording.sheets import EYES, FUR, HAIR, HUES, NEAREST_EYES, NEAREST_HUE
from consistent_gen.story.wording.tokens import folded
from consistent_gen.story.wording.what_it_is import CLOTHES, Described, KindReader

_BEARDS = ("beard", "moustache", "mustache", "stubble", "goatee", "sideburns", "eyebrows")
# Words that begin another part of a description, about the character itself.
_ANEW = ("with", "who", "that", "she's", "he's", "it's", "she", "he", "it", "shes", "hes", "but",
         "on", "at")  # fmt: skip
_OF_PEOPLE = ("ginger", "blond", "grayhair", "darkhair", "chestnut")  # colours that hair alone has


def describe(name: str, text: str, lexicon: Lexicon, genders: Genders) -> Described:
    """Read the description of the character `name`. genders: what names and pronouns tell."""
    return _Reader(name, text, lexicon, genders).read()


class _Reader(KindReader):
    def read(self) -> Described:
        """Every item is taken once; then what was found is made to fit the kind."""
        self.result.narrator = bool(
            re.search(r"(?<![\w'])(me|i'm|myself)(?![\w'])", folded(self.text))
        )
        self._find_nouns()
        self._set_kind()
        for place, item in enumerate(self.items):
            if item.low in _ANEW or any(item is noun[1] for noun in self.nouns):
                self._flush()
            self._take(item, place)
            if item.low == "," and self._same_noun_follows(place):
                continue  # "a long, flowing beard"
            if item.kind == "sign" or item.low == "but":
                before = self.items[place - 1] if place else item
                self._flush()
                # "A hijab, light pink": a colour after a comma is of the clothes before it.
                self.garment = self.garment if before.category in CLOTHES else ""
        self._flush()
        for item in self.loose:
            self._top_colour(item)
        self._finish()
        self.result.words = [item.word for item in self.items if item.word is not None]
        return self.result

    def _take(self, item: Item, place: int) -> None:
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
        elif sense.base == "coat" and not self.sheet.is_person and not self._worn(place):
            item.become("near", "fur")
            self._colour_hair()
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
        elif sense.speech == "n" and self._of_another(place):
            item.become("left_out", why="what is on clothes is not drawn", nearest=_nearest(sense))
        else:
            self._leave(item, sense)

    def _same_noun_follows(self, place: int) -> bool:
        """Whether adjectives of hair go on after a comma, up to their noun."""
        if not self.pending or any(i.category not in ("hair", "shade") for i in self.pending):
            return False
        after = [item.sense for item in self.items[place + 1 : place + 3]]
        return [sense.speech for sense in after if sense is not None] == ["a", "n"]

    def _worn(self, place: int) -> bool:
        """Whether an animal wears its coat, and does not grow it."""
        before = [item.low for item in self.items[max(0, place - 4) : place]]
        return any(low in ("in", "wearing", "wears", "dressed in") for low in before)

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
            said = adjective.sense.value
            value = NEAREST_EYES.get(said, said)
            if value in EYES and self.sheet.say("eyes", value):
                item.become("same", f"{value} eyes")
                adjective.become("same" if value == said else "near", value)
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
            and (not self.sheet.is_person or sense.value in _OF_PEOPLE)
        ):
            self._coat(item)
        else:
            self.loose.append(item)

    def _top_colour(self, item: Item) -> None:
        """A colour of nothing in particular goes to what is worn on top, if nothing else did."""
        sense = item.sense
        assert sense is not None
        if "top_colour" not in self.sheet.said and (self.sheet.is_person or sense.value not in FUR):
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
