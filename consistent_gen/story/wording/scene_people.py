"""Whom a name, a pronoun or a noun means."""

from __future__ import annotations

from collections.abc import Sequence

from consistent_gen.story.wording.lexicon import Sense
from consistent_gen.story.wording.people import (
    FIRST,
    FIRST_PLURAL,
    IT,
    OWNING,
    PLURAL,
    SINGULAR,
    TITLES,
    Person,
)
from consistent_gen.story.wording.reading import INDEFINITE, OWNERS, PREPOSITIONS, Item
from consistent_gen.story.wording.scene import HARD, MAX_ACTORS, SOFT, Actor
from consistent_gen.story.wording.scene_deeds import Deeds
from consistent_gen.story.wording.sheets import GENDERS, PEOPLE
from consistent_gen.story.wording.tokens import folded
from consistent_gen.story.wording.types import Fate

# Words for a whole group, which the characters of a story are.
_CALLED = ("called", "named", "name")
_OF_FRIENDS = ("party", "gang")  # of the characters, whoever is named
_ALL = ("everyone", "everybody", "party", "gang", "crew", "team", "group", "family", "friends",
        "pair", "couple", "duo", "trio", "company", "lot")  # fmt: skip
_IS = ("is", "are", "was", "were", "am", "be", "been", "he's", "she's", "i'm", "we're", "they're",
       "become", "became", "becomes")  # fmt: skip
_ABSTRACT = ("adult", "child", "person")
_GROUPS = {"people": ("woman", "man"), "children": ("girl", "boy")}
_SAME = {
    **dict.fromkeys(("mummy", "mom", "mommy", "mother", "mama", "mam", "ma"), "mum"),
    **dict.fromkeys(("daddy", "father", "papa", "pa", "pop"), "dad"),
    **dict.fromkeys(("grandma", "granny", "gran", "nan", "nana", "nanna", "oma"), "grandmother"),
    **dict.fromkeys(("grandpa", "granddad", "grandad", "gramps", "opa"), "grandfather"),
}  # fmt: skip


def base_noun(base: str) -> str:
    """One word for the many for the same relative."""
    return _SAME.get(base, base)


class People(Deeds):
    """A character of the story where one fits, otherwise somebody of a kind that the world has."""

    def _name(self, item: Item, place: int) -> None:
        assert item.token is not None
        actor = self._character(item.token.name)
        self._adorn(actor)
        self._join(item, [actor], place, owner=item.possessive and self._owns(place))

    def _pronoun(self, item: Item, place: int) -> None:
        of_it = item.low in SINGULAR or item.low in IT
        if of_it and self.far > self.mentioned[0] and not self._is_object(item, place):
            if item.low not in OWNING:  # "One old ram came; he butted me"
                self.current, self.acted, self.thing, self.fresh = [], False, True, False
            return
        names = self._meant(item, place)
        item.people = names
        owner = item.low in OWNING and (item.low != "her" or self._owns(place))
        if names:
            alone = item.low in PLURAL and not self.here and not self._one_of(place)
            actors = [self._character(n) for n in names]
            more = self._strangers() if alone else self._writer(item, names)
            self._join(item, [*actors, *more], place, owner=owner)
            return
        gender = SINGULAR.get(item.low, "")
        extra = self.extras.get(gender) or self._stranger(gender)
        if extra is not None and not (self._is_object(item, place) and extra in self.current):
            self._join(item, [extra], place, owner=owner)
        elif item.low in (*FIRST, *FIRST_PLURAL) and not owner:
            self._join(item, self._writer(item, []), place, owner=False)
        elif item.low in IT and self._it_acts(place) and not self._is_object(item, place):
            self.current, self.acted, self.thing, self.fresh = [], False, True, False

    def _writer(self, item: Item, names: Sequence[str]) -> list[Actor]:
        """Somebody who says "I" or "we" and is no character of the story."""
        kind = self.recent.writer
        if not kind or item.low not in (*FIRST, *FIRST_PLURAL) or item.low in OWNING:
            return []
        if (known := self.extras.get("i")) is not None:
            return [known]
        if len(self.scene.actors) >= MAX_ACTORS:
            return []
        self.extras["i"] = actor = Actor(None, kind)
        self.scene.actors.append(actor)
        self.scene.notices.append(
            f"who says {item.said!r} is no character of this story; drawn as a {kind} "
            "(a character with 'me' in its description would be drawn)"
        )
        return [actor]

    def _of_before(self, gender: str) -> bool:
        """Whether the frame before showed a stranger of this gender, and no such character."""
        shown = [self.people[n].gender for n in self.recent.shown]
        strangers = [GENDERS.get(kind) for kind in self.recent.strangers]
        return gender not in shown and strangers == [gender]

    def _strangers(self) -> list[Actor]:
        """Who was with the characters in the frame before: cubs, of whom "they" is said, too."""
        found = []
        for kind in self.recent.strangers if self.recent.shown else ():
            if len(self.scene.actors) < MAX_ACTORS:
                self.extras[GENDERS.get(kind, "it")] = actor = Actor(None, kind)
                self.scene.actors.append(actor)
                found.append(actor)
        return found

    def _stranger(self, gender: str) -> Actor | None:
        """Somebody whom the frame before showed and who is no character: "He laughs"."""
        for kind in self.recent.strangers if gender and not self.here else ():
            if GENDERS.get(kind) == gender:
                self.extras[gender] = actor = Actor(None, kind)
                self.scene.actors.append(actor)
                return actor
        return None

    def _meant(self, item: Item, place: int) -> list[str]:
        """The characters that a pronoun stands for."""
        low = item.low
        named = {i.token.name for i in self.items if i.kind == "name" and i.token is not None}
        if low in PLURAL:
            one_of = self._one_of(place)
            meant = self.recent.several([] if one_of else self.here)
            things = [n for n in meant if self.people[n].thing]
            return (things or meant)[-1:] if one_of else meant
        if low in FIRST:
            narrator = self.recent.narrator()
            # "Max and I": who is named is somebody else.
            other = next((n for n in self.people if n not in named), None)
            return [n for n in (narrator or (None if self.recent.writer else other),) if n]
        if low in FIRST_PLURAL:
            narrator = self.recent.narrator()
            listed = [narrator] if narrator else []
            return list(
                dict.fromkeys([*listed, *self.here, *self.recent.last_frame, *self.people])
            )[:3]
        if low in IT and not self._it_acts(place):
            return []
        gender = SINGULAR.get(low)
        if gender and not self.here and self._of_before(gender):
            return []
        known = self.extras.get(gender or "")
        acted_upon = self._is_object(item, place)
        if known and not self._fits_here(gender) and not (acted_upon and known in self.current):
            return []
        subjects = [a.name for a in self.current if a.name] if acted_upon else []
        subjects += self._named_later(place)
        narrator = self.recent.narrator()
        if narrator and self.recent.first_person and low not in IT and narrator not in named:
            subjects.append(narrator)  # "he" is not who says "I"
        name = self.recent.one("it" if low in IT else low, self.here, not_=subjects)
        return [name] if name else []

    def _one_of(self, place: int) -> bool:
        return [item.low for item in self.items[max(0, place - 2) : place]] == ["one", "of"]

    def _named_later(self, place: int) -> list[str]:
        """Who is named after a pronoun, and so is not meant by it: Al in "he took Al's hat"."""
        found: list[str] = []
        clause = True
        for item in self.items[place + 1 :]:
            if item.low in (".", "!", "?", ";", "\u2026"):
                break
            clause = clause and item.low not in (*HARD, ",", "and")
            if item.kind == "name" and item.token is not None and (clause or item.possessive):
                found.append(item.token.name)
        return found

    def _is_object(self, item: Item, place: int) -> bool:
        """Whether a pronoun is what is acted upon, and so is not the subject."""
        if item.low == "him" or (item.low == "her" and not self._owns(place)):
            return True
        if item.low == "it":
            return self.acted or (place > 0 and self.items[place - 1].low in (*PREPOSITIONS, "to"))
        return False

    def _fits_here(self, gender: str | None) -> bool:
        return any(self.people[name].gender == gender for name in self.here)

    def _it_acts(self, place: int) -> bool:
        """Whether "it" does or feels something, unlike the one of "it is raining"."""
        before = self.items[place - 1] if place else None
        if before is not None and before.category in ("action",) and before.sense is not None:
            return before.sense.speech == "v"
        for item in self.items[place + 1 : place + 4]:
            if item.kind == "small" and item.low not in HARD:
                continue
            sense = item.sense
            return (
                sense is not None and sense.category in ("action", "mood") and sense.speech == "v"
            )
        return False

    def _being(self, item: Item, sense: Sense, place: int) -> bool:
        """A noun for somebody: a character of the story, or somebody else; False for a thing."""
        if sense.category == "none":
            return False
        if sense.base in _ALL and self._everybody(item, sense, place):
            return True
        if self.current and self._predicate(place):
            return self._what_it_is(item)
        before = self._determiner(place)
        names = self._characters_called(sense, before, place)
        if names:
            if item.possessive and sense.base not in self._nouns(names[0]):
                names = []
            else:
                actors = [self._character(name) for name in names]
                item.become(
                    "kept" if len(names) == 1 else "same", " and ".join(names), "of the story"
                )
                item.people = names
                for actor in actors:
                    self._adorn(actor)
                self._join(item, actors, place, owner=item.possessive and self._owns(place))
                return True
        if item.possessive and not item.named and self._at_home_of(place):
            shop = Sense(("place.city",), "near", "n", f"{sense.base}'s")  # "at the baker's"
            item.sense = shop
            self._setting(item, shop, place)
            return True
        if item.possessive and self._owns(place) and not self._of_body(place):
            item.become("left_out", why="what belongs to somebody who is not in the story")
            return True
        if item.negated:
            item.become("left_out", why="it is said not to be there")
            return True
        if item.named and any(i.low in _CALLED for i in self.items[max(0, place - 2) : place]):
            item.become("left_out", why="a name that is given")
            return True
        return self._somebody_else(item, sense, place)

    def _at_home_of(self, place: int) -> bool:
        """Whether "the baker's" is where something is, as nothing of his is named."""
        after = self.items[place + 1] if place + 1 < len(self.items) else None
        ends = after is None or after.kind == "sign" or after.low in (*PREPOSITIONS, "and", "to")
        before = [item.low for item in self.items[max(0, place - 3) : place]]
        return ends and any(low in ("at", "to", "from", "into") for low in before)

    def _of_body(self, place: int) -> bool:
        """Whether a part of a body follows: whose mouth falls open is there."""
        after = self.items[place + 1 : place + 2]
        return any(sense.category in ("body", "eyes") for item in after for sense in item.options)

    def _everybody(self, item: Item, sense: Sense, place: int) -> bool:
        """ "Everybody" and "the gang" are the characters of a story, where nobody is named."""
        whole = sense.base in ("everyone", "everybody")
        named = sense.base not in _OF_FRIENDS and any(i.kind == "name" for i in self.items)
        determined = self._determiner(place) in ("the", "our", "my", "both")
        strangers = sense.base in self.recent.groups  # "the couple" of before
        if len(self.people) < 2 or named or strangers or item.negated or not (whole or determined):
            return False
        names = list(dict.fromkeys([*self.recent.last_frame, *self.people]))[:MAX_ACTORS]
        item.become("same", " and ".join(names), "of the story")
        item.people = names
        self._join(item, [self._character(name) for name in names], place, owner=False)
        return True

    def _predicate(self, place: int) -> bool:
        """Whether the noun says what the subject is: "she is a dog", "they were best friends"."""
        for item in reversed(self.items[max(0, place - 4) : place]):
            if item.low in _IS:
                return True
            adjective = item.sense is not None and item.sense.speech == "a"
            if item.kind not in ("small", "number") and not adjective:
                return False
            if item.low in ("the", "there's", *SOFT):
                return False
        return False

    def _what_it_is(self, item: Item) -> bool:
        mood = next((s for s in item.options if s.category == "mood"), None)
        if mood is not None:
            self._set_mood(item, mood, self.current)
        item.become("left_out", why="what somebody is stands in a description")
        self._drop_traits()
        return True

    def _nouns(self, name: str) -> frozenset[str]:
        return frozenset(base_noun(n) for n in self.people[name].nouns)

    def _determiner(self, place: int) -> str:
        for item in reversed(self.items[max(0, place - 4) : place]):
            if item.low in (*INDEFINITE, *OWNERS, "the", "this", "that", "these", "those", "both"):
                return item.low
            if item.possessive:
                return "'s"
            if item.kind in ("sign", "name", "pronoun") or item.low in HARD:
                return ""
        return ""

    def _characters_called(self, sense: Sense, before: str, place: int) -> list[str]:
        """Characters of the story that a noun means."""
        noun = base_noun(sense.base)
        exact = [n for n in self.people if noun in self._nouns(n)]
        many = [n for n in exact if self.people[n].many]
        if many and before not in INDEFINITE:
            return many[:1]
        if sense.plural:
            fits = exact or [n for n, p in self.people.items() if _may_be(p, sense)]
            count = self._count(place)
            if before in INDEFINITE or len(fits) < 2 or (count and count != len(fits)):
                return []
            return fits[:MAX_ACTORS] if before in ("the", "both", "these", "those", *OWNERS) else []
        called = [n for n in exact if folded(n).removeprefix("the ") == sense.base]
        if exact and (called or before not in INDEFINITE or self.people[exact[0]].thing):
            return [self._latest(called or exact)]
        if before in ("the", "this", "that", "'s", *OWNERS) or (before == "" and not sense.plural):
            owners_own = before in (*OWNERS, "'s")
            fits = [n for n, p in self.people.items() if _may_be(p, sense)]
            if owners_own and not any(self.people[n].thing for n in fits):
                return []
            if before == "":  # "dog asleep" in short sentences; "girl" would be anybody
                fits = [n for n in fits if self.people[n].kind not in PEOPLE]
            last = [n for n in fits if n not in self.here or not owners_own]
            known = self.extras.get(_gender(sense) or "")
            return (
                [self._latest(last)]
                if last and (len(last) == 1 or before == "the") and not known
                else []
            )
        return []

    def _count(self, place: int) -> int | None:
        numbers = {"two": 2, "three": 3, "2": 2, "3": 3, "both": 2}
        lows = [item.low for item in self.items[max(0, place - 3) : place]]
        return next((numbers[low] for low in lows if low in numbers), None)

    def _latest(self, names: Sequence[str]) -> str:
        order = [*self.recent.spoken, *self.here]
        return max(names, key=lambda n: order.index(n) if n in order else -1)

    def _somebody_else(self, item: Item, sense: Sense, place: int) -> bool:
        """Somebody who is no character: drawn if the world has such a kind."""
        prop = next((s for s in item.options if s.category == "prop"), None)
        if sense.relation == "far" and prop is not None:
            item.sense = prop
            self.thing = self.thing or (self.fresh and self._stands_free(place))
            self._setting(item, prop, place)
            self._drop_traits()
            return True
        if sense.relation == "far":
            if self.fresh and self._stands_free(place):
                self.far, self.thing = place, True
            item.become("left_out", nearest=(sense.value,))
            self.found.setdefault("far", []).append((1.0, item, sense))
            self._drop_traits()
            return True
        if sense.value in _GROUPS:
            self.recent.groups.add(sense.base)
            kinds = list(_GROUPS[sense.value])
        elif sense.value in _ABSTRACT:
            kinds = [self._some_kind(sense)]
        else:
            kinds = [self._young(sense) or self._named_kind(item, sense) or sense.value]
        free = MAX_ACTORS - len(self.scene.actors)
        taken = [a.kind for a in self.scene.actors if a.name is None]
        kinds = [kind for kind in kinds if kind not in taken][: max(free, 0)]
        if not kinds and taken and sense.value in taken:
            item.become("kept" if sense.relation == "same" else "near", f"the {sense.value}")
            self._join(
                item, [a for a in self.scene.actors if a.kind == sense.value], place, owner=False
            )
            return True
        if not kinds:
            item.become("left_out", why=f"a picture holds {MAX_ACTORS} at most")
            self._drop_traits()
            return True
        actors = [Actor(None, kind) for kind in kinds]
        self.scene.actors += actors
        for actor in actors:
            self._adorn_fully(actor, keep=actor is actors[-1])
            self.extras[GENDERS.get(actor.kind, "it")] = actor
        how: Fate = "same" if sense.relation == "same" and not sense.plural else "near"
        why = "one of a kind in a picture" if sense.plural and len(kinds) == 1 else ""
        item.become(how, " and ".join(f"a {kind}" for kind in kinds), why)
        self._join(item, actors, place, owner=False)
        return True

    def _young(self, sense: Sense) -> str:
        """The cubs of a fox are foxes."""
        animals = [self.people[n].kind for n in (*self.here, *self.recent.last_frame)]
        animals = [kind for kind in animals if kind not in (*PEOPLE, "robot")]
        return animals[-1] if sense.base in ("cub", "pup") and animals else ""

    def _named_kind(self, item: Item, sense: Sense) -> str:
        """Who has only a name is a child where all people of the story are."""
        kinds = {person.kind for person in self.people.values()} & set(PEOPLE)
        titled = item.token is not None and item.token.low in TITLES
        if not item.named or titled:
            return ""
        young = {"woman": "girl", "man": "boy"}
        return young.get(sense.value, "") if kinds and kinds <= {"girl", "boy"} else ""

    def _some_kind(self, sense: Sense) -> str:
        """A kind for "a teacher" or "a child": of the gender of the pronouns around, if any."""
        said = " ".join(i.low for i in self.items if i.kind == "pronoun")
        gender = self.genders.of_text(f". {said}") if not self.here else ""
        gender = gender or self.genders.of(sense.base)
        young = sense.value == "child"
        pair = ("girl", "woman") if gender == "she" else ("boy", "man")
        kind = pair[0] if young else pair[1]
        other = {"girl": "boy", "boy": "girl", "woman": "man", "man": "woman"}[kind]
        return other if kind in [a.kind for a in self.scene.actors] else kind


def _gender(sense: Sense) -> str | None:
    return GENDERS.get(sense.value)


def _may_be(person: Person, sense: Sense) -> bool:
    """Whether a noun may mean a character: "the boy" or "the child" a boy, "her pet" no boy."""
    if sense.value in ("child", "children"):
        return person.kind in ("girl", "boy")
    if sense.value in ("adult", "person", "people"):
        return sense.value != "adult" and person.kind in PEOPLE and sense.plural
    return person.kind == sense.value and sense.relation == "same" and _own_kind(person)


def _own_kind(person: Person) -> bool:
    return person.kind in PEOPLE or not person.thing or bool(person.nouns)
