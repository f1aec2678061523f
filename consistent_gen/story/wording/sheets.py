"""A character as the story world draws it: a sheet of factors, and the words for it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

PEOPLE = ("girl", "boy", "woman", "man")
GENDERS = {"girl": "she", "woman": "she", "boy": "he", "man": "he"}
HUES = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")
# Colour -> what clothes come nearest to it; those that are not here are hues themselves.
NEAREST_HUE = {
    "black": "blue", "white": "yellow", "gray": "blue", "brown": "orange", "golden": "yellow",
    "chestnut": "orange", "ginger": "orange", "blond": "yellow", "grayhair": "blue",
    "darkhair": "blue",
}  # fmt: skip
# Colour -> the word for hair, and for fur or metal, of that colour.
HAIR = {
    "black": "black", "brown": "brown", "ginger": "ginger", "golden": "golden", "gray": "gray",
    "white": "white", "orange": "ginger", "red": "ginger", "yellow": "blond", "blond": "blond",
    "chestnut": "chestnut", "grayhair": "gray", "darkhair": "dark",
}  # fmt: skip
FUR = {
    "black": "black", "brown": "brown", "ginger": "ginger", "golden": "golden", "gray": "gray",
    "white": "white", "orange": "orange", "red": "ginger", "yellow": "golden", "blond": "golden",
    "chestnut": "brown",
}  # fmt: skip
EYES = ("brown", "blue", "green", "gray")
NEAREST_EYES = {"teal": "blue", "black": "brown", "chestnut": "brown", "golden": "brown"}
PATTERNS = {"stripes": "striped", "dots": "dotted", "checks": "checked", "plain": "plain"}
PLURAL = ("overalls", "trousers", "shorts", "boots", "sneakers", "sandals", "glasses")
CHEEKS = {"freckles": "freckles", "blush": "rosy cheeks", "stripes": "striped cheeks"}
# What a sheet may leave out to fit into a prompt, the first first.
EXPENDABLE = ("shoes", "eyes", "cheeks", "bottom", "size", "pattern", "hair_style", "accessory",
              "coat", "top")  # fmt: skip


@dataclass
class CharacterSheet:
    """Factors of one character. `factors` holds words of the story world; `said` those factors
    that the writer named, the others are completed.

    Factors: kind, size, coat (hair or fur), hair_style, cheeks, eyes, top, pattern, bottom, shoes,
    accessory, and of these clothes the colour: top_colour, ...; mood where it belongs to the
    character itself.
    """

    name: str
    factors: dict[str, str] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    @property
    def kind(self) -> str:
        """One of the story world's kinds."""
        return self.factors["kind"]

    @property
    def is_person(self) -> bool:
        """Whether it has hair and not fur."""
        return self.kind in PEOPLE

    def say(self, factor: str, value: str) -> bool:
        """Set what the writer said; False where something else was said before."""
        if factor in self.said and self.factors[factor] != value:
            return False
        self.factors[factor] = value
        self.said.add(factor)
        return True

    def drop(self, factor: str) -> None:
        """Leave a factor, and the colour that belongs to it, to the model."""
        for name in (factor, f"{factor}_colour"):
            self.factors.pop(name, None)

    def words(self, knows: Mapping[str, bool] | None = None) -> str:
        """The description, in the order of the captions that the model learned from."""
        get = self.factors.get
        before = [w for w in (get("size"), None if self.is_person else get("coat")) if w]
        text = _article(" ".join([*before, self.kind]))
        withs = [
            w for w in (self._hair(), self._cheeks(), self._eyes(), self._item("accessory")) if w
        ]
        clothes = [w for w in (self._top(), self._item("bottom"), self._item("shoes")) if w]
        text += " with " + " and ".join(withs) if withs else ""
        return text + (" wearing " + " and ".join(clothes) if clothes else "")

    def to_json(self) -> dict[str, str]:
        """Factor -> word; "!" is not used: what the writer said stands in `said`."""
        return dict(self.factors)

    def _hair(self) -> str:
        coat, style = self.factors.get("coat"), self.factors.get("hair_style")
        if not self.is_person:
            return ""
        if style == "ponytail":
            return f"a {coat} ponytail" if coat else "a ponytail"
        style = {"bob": "straight"}.get(style or "", style)
        return " ".join(w for w in (style, coat, "hair") if w) if coat or style else ""

    def _cheeks(self) -> str:
        return CHEEKS.get(self.factors.get("cheeks", ""), "")

    def _eyes(self) -> str:
        return f"{self.factors['eyes']} eyes" if "eyes" in self.factors else ""

    def _item(self, slot: str) -> str:
        noun, colour = self.factors.get(slot), self.factors.get(f"{slot}_colour")
        if noun is None:
            return ""
        text = " ".join(w for w in (colour, noun) if w)
        # Captions give trousers and shorts no article, and shoes none either.
        return text if slot == "shoes" else _article(text)

    def _top(self) -> str:
        noun = self.factors.get("top")
        if noun is None:
            return ""
        pattern = PATTERNS.get(self.factors.get("pattern", ""))
        words = (pattern, self.factors.get("top_colour"), noun)
        return _article(" ".join(w for w in words if w))


def complete(sheet: CharacterSheet, seed: int, taken: Iterable[tuple[str, str]] = ()) -> None:
    """Fill in what a writer leaves open: hair or fur, plain clothes, and nothing on the head.

    seed: of the story; with the name it decides. taken: (kind, colour of the top) of characters
    that were completed before, so that two of a kind are told apart.
    """
    digest = sha256(f"{seed}|{sheet.name}".encode()).digest()
    rng = random.Random(int.from_bytes(digest[:8], "big"))
    fill = sheet.factors.setdefault
    if sheet.is_person:
        fill("coat", rng.choice(("black", "brown", "ginger", "blond", "chestnut")))
        feminine = sheet.kind in ("girl", "woman")
        styles = ("long", "curly", "ponytail") if feminine else ("short", "curly", "spiky")
        fill("hair_style", rng.choice(styles))
    else:
        coats = {"fox": ("orange",), "bear": ("brown",), "robot": ("gray", "silver")}
        fill("coat", rng.choice(coats.get(sheet.kind, ("brown", "gray", "white", "golden"))))
    tops = ("shirt", "sweater", "jacket", "overalls") if sheet.is_person else ("shirt", "sweater")
    fill("top", rng.choice(tops))
    free = [hue for hue in HUES if (sheet.kind, hue) not in set(taken)] or list(HUES)
    fill("top_colour", rng.choice(free))
    fill("pattern", "plain")
    if sheet.factors["top"] not in ("dress", "overalls"):
        others = [hue for hue in HUES if hue != sheet.factors["top_colour"]]
        if sheet.is_person:
            fill("bottom", "trousers")
        if "bottom" in sheet.factors:
            fill("bottom_colour", rng.choice(others))


def shorten(sheet: CharacterSheet, room: int, count: int) -> list[str]:
    """Leave factors out until the description has at most `room` words; those first that nobody
    named. Returns the factors that were named and had to go.

    count: the words that it has now.
    """
    lost: list[str] = []
    for named in (False, True):
        for factor in EXPENDABLE:
            if len(sheet.words().split()) <= room:
                return lost
            if factor in sheet.factors and (factor in sheet.said) == named:
                sheet.drop(factor)
                if named:
                    lost.append(factor)
    return lost


def _article(noun: str) -> str:
    if noun.split()[-1] in PLURAL:
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun
