"""A sentence in a writer's own words becomes a scene: who does what, where, when, with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from consistent_gen.story.wording.lexicon import Lexicon, Sense
from consistent_gen.story.wording.people import (
    FIRST,
    FIRST_PLURAL,
    IT,
    OWNING,
    PLURAL,
    PRONOUNS,
    SINGULAR,
    Genders,
    Person,
    Recent,
)
from consistent_gen.story.wording.reading import INDEFINITE, OWNERS, PREPOSITIONS, Item, items
from consistent_gen.story.wording.sheets import FUR, GENDERS, HUES, PEOPLE
from consistent_gen.story.wording.tokens import Token

MAX_ACTORS = 3  # the story world's pictures hold no more
_AWAY = ("from", "out of", "off", "leave", "left", "leaves", "leaving", "away from")
_SOFT = (",", "and", "&", "or", "then", "with")
_HARD = (".", "!", "?", ";", ":", "\u2026", "\u2013", "\u2014", "-", "(", ")", "but", "so", "while",
         "when", "because", "until", "though", "although", "as", "whilst", "if", "since", "that",
         "which", "who", "where")  # fmt: skip
_RANK = {"same": 3.0, "near": 2.0, "hint": 0.9, "far": 1.0}
_IS = ("is", "are", "was", "were", "am", "be", "been", "he's", "she's", "i'm", "we're", "they're",
       "become", "became", "becomes")  # fmt: skip
_SPEAKING = ("say", "says", "said", "ask", "asks", "asked", "tell", "tells", "told", "whisper", "whispers",
             "whispered", "answers", "answered", "replies", "replied", "calls", "called", "shouts",
             "shouted", "explains", "explained", "talks", "talked", "mumbles", "enquired")  # fmt: skip
_OBJECTS = ("him", "them", "me", "us")
_TRAITS = ("colour", "size", "shade", "age", "pattern", "hair")
_ABSTRACT = ("adult", "child", "person")
_GROUPS = {"people": ("woman", "man"), "children": ("girl", "boy")}
_SAME = {
    **dict.fromkeys(("mummy", "mom", "mommy", "mother", "mama", "mam", "ma"), "mum"),
    **dict.fromkeys(("daddy", "father", "papa", "pa", "pop"), "dad"),
    **dict.fromkeys(("grandma", "granny", "gran", "nan", "nana", "nanna", "nanny", "oma"), "grandmother"),
    **dict.fromkeys(("grandpa", "granddad", "grandad", "gramps", "opa"), "grandfather"),
}  # fmt: skip


@dataclass
class Actor:
    """Somebody in a frame: a character of the story (`name`) or somebody else (`kind`).

    action, mood: values of the story world, None where the sentence names none. implied: the mood
    that goes with an action, where none is named. pose: what it does otherwise. rank: how sure the
    action is. traits: words before the noun of somebody else.
    """

    name: str | None
    kind: str
    action: str | None = None
    mood: str | None = None
    rank: float = 0.0
    action_item: Item | None = None
    implied: str | None = None
    pose: str = "standing"
    traits: list[str] = field(default_factory=list)
    wears: str = ""
    subject: bool = False


@dataclass
class Scene:
    """What a frame shows: values of the story world; None where nothing is said.

    items: every word with what became of it. spoken: speech, for bubbles.
    """

    actors: list[Actor] = field(default_factory=list)
    place: str | None = None
    weather: str | None = None
    prop: str | None = None
    camera: str | None = None
    style: str | None = None
    items: list[Item] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)


def base_noun(base: str) -> str:
    """One word for the many for the same relative."""
    return _SAME.get(base, base)


class SceneReader:
    """Reads one sentence (or several) of a frame.

    people: the characters of the story. recent: whom earlier frames spoke of. place: where the
    frame before was.
    """

    def __init__(
        self,
        text: str,
        tokens: Sequence[Token],
        lexicon: Lexicon,
        people: Mapping[str, Person],
        recent: Recent,
        genders: Genders,
        place: str | None = None,
    ) -> None:
        self.people, self.recent, self.genders = people, recent, genders
        self.place = place
        self.items = items(tokens, text, lexicon, PRONOUNS)
        self.scene = Scene(items=self.items)
        self.here: list[str] = []  # characters of this frame, the latest last
        self.extras: dict[str, Actor] = {}  # gender -> somebody else of this frame
        self.current: list[Actor] = []
        self.mentioned: tuple[int, list[Actor]] = (-2, [])  # where somebody was named last, and who
        self.acted = False  # whether the current subject has its verb in this clause
        self.fresh = True  # whether a clause begins
        self.thing = False  # whether a thing is its subject: what it does is not drawn
        self.traits: list[Item] = []
        self.waiting: list[tuple[Item, Sense]] = []  # actions and moods before any subject
        self.found: dict[str, list[tuple[float, Item, Sense]]] = {}

    def read(self) -> Scene:
        """Take every item once, then settle what can be in one picture."""
        self._mark_script()
        for place, item in enumerate(self.items):
            self._take(item, place)
        self._flush_traits("nothing takes it")
        self._settle_waiting()
        self._settle_setting()
        self._keep_listener()
        for actor in self.scene.actors:
            actor.mood = actor.mood or actor.implied
        self._limit()
        self._tell_the_rest()
        return self.scene

    # one item after the other -----------------------------------------------------------------
    def _take(self, item: Item, place: int) -> None:
        if item.word is not None:
            return
        if item.kind == "speech":
            item.become("speech", why="speech")
            self.scene.spoken.append(item.said)
        elif item.kind == "sign" or item.low in _HARD:
            if item.low in _HARD or item.kind == "sign" and item.low not in (",", "&", "'", '"'):
                self.acted, self.fresh, self.thing = False, True, False
            self._flush_traits("nothing takes it") if item.kind == "sign" else None
        elif item.kind == "number":
            self._clock(item, place)
        elif item.kind == "name":
            self._name(item, place)
        elif item.kind == "pronoun":
            self._pronoun(item, place)
        elif item.kind == "sense" and item.sense is not None:
            self._sense(item, item.sense, place)

    def _name(self, item: Item, place: int) -> None:
        assert item.token is not None
        actor = self._character(item.token.name)
        self._adorn(actor)
        self._join(item, [actor], place, owner=item.possessive and self._owns(place))

    def _pronoun(self, item: Item, place: int) -> None:
        names = self._meant(item, place)
        item.people = names
        if names:
            self._join(item, [self._character(n) for n in names], place, owner=item.low in OWNING)
            return
        extra = self.extras.get(SINGULAR.get(item.low, ""))
        if extra is not None and not (self._is_object(item, place) and extra in self.current):
            self._join(item, [extra], place, owner=item.low in OWNING)

    def _meant(self, item: Item, place: int) -> list[str]:
        """The characters that a pronoun stands for."""
        low = item.low
        if low in PLURAL:
            return self.recent.several(self.here)
        if low in FIRST:
            narrator = self.recent.narrator()
            first = next(iter(self.people), None)
            return [n for n in (narrator or first,) if n]
        if low in FIRST_PLURAL:
            narrator = self.recent.narrator()
            listed = [narrator] if narrator else []
            return list(
                dict.fromkeys([*listed, *self.here, *self.recent.last_frame, *self.people])
            )[:3]
        if low in IT and not self._it_acts(place):
            return []
        gender = SINGULAR.get(low)
        known = self.extras.get(gender or "")
        if known and not self._fits_here(gender):
            if not (self._is_object(item, place) and known in self.current):
                return []
        subjects = [a.name for a in self.current if a.name] if self._is_object(item, place) else []
        name = self.recent.one("it" if low in IT else low, self.here, not_=subjects)
        return [name] if name else []

    def _is_object(self, item: Item, place: int) -> bool:
        """Whether a pronoun is what is acted upon, and so is not the subject."""
        if item.low in ("him", "it") or (item.low == "her" and not self._owns(place)):
            return self.acted or (
                place > 0 and self.items[place - 1].low in ("at", "to", "with", "for")
            )
        return False

    def _fits_here(self, gender: str | None) -> bool:
        return any(self.people[name].gender in ("", gender) for name in self.here)

    def _it_acts(self, place: int) -> bool:
        """Whether "it" does or feels something, unlike the one of "it is raining"."""
        before = self.items[place - 1] if place else None
        if before is not None and before.category in ("action",) and before.sense is not None:
            return before.sense.speech == "v"
        for item in self.items[place + 1 : place + 4]:
            if item.kind == "small" and item.low not in _HARD:
                continue
            sense = item.sense
            return (
                sense is not None and sense.category in ("action", "mood") and sense.speech == "v"
            )
        return False

    def _sense(self, item: Item, sense: Sense, place: int) -> None:
        category = sense.category
        if category in ("kind", "none") and self._being(item, sense, place):
            return
        if item.negated:
            self._negated(item, sense)
        elif category in _TRAITS and sense.speech == "a":
            self.traits.append(item)
        elif self.thing and sense.speech == "v":
            item.become("left_out", why="what a thing does is not drawn", nearest=())
        elif category == "action":
            self._act(item, sense, self._object(item, place))
        elif category == "mood":
            self._feel(item, sense, place)
        elif category == "weather" and sense.speech == "a" and self._before_somebody(place):
            self.traits.append(item)
        elif category == "body":
            item.become("near", "of a character", "drawn with everybody")
        elif category in ("place", "part", "weather", "prop", "camera", "style"):
            self._setting(item, sense, place)
        if (
            category not in _TRAITS
            and category not in ("mood", "kind", "small")
            and sense.speech == "n"
        ):
            self._flush_traits("only characters take it")
            self.thing = self.thing or (self.fresh and self._stands_free(place))
        if sense.speech in "nv":
            self.fresh = False

    def _stands_free(self, place: int) -> bool:
        """Whether no preposition stands before a noun, so that it can be a subject."""
        for item in reversed(self.items[max(0, place - 4) : place]):
            if item.low in PREPOSITIONS or item.low in ("to", "there's", "have", "has", "had"):
                return False
            if item.kind == "sign" or item.low in _HARD:
                return True
        return True

    def _before_somebody(self, place: int) -> bool:
        after = self.items[place + 1] if place + 1 < len(self.items) else None
        return after is not None and (after.kind == "name" or after.category == "kind")

    def _negated(self, item: Item, sense: Sense) -> None:
        """What is said not to be; somebody who is not sad is calm."""
        opposite = {
            "sad": "calm",
            "angry": "calm",
            "happy": "sad",
            "sleepy": "calm",
            "surprised": "calm",
        }
        mood = sense.of("mood")
        if mood in opposite and self.current:
            for actor in self.current:
                actor.mood = actor.mood or opposite[mood]
            item.become("near", opposite[mood], "it is said not to be so")
        else:
            item.become("left_out", why="it is said not to be so")

    # who --------------------------------------------------------------------------------------
    def _character(self, name: str) -> Actor:
        for actor in self.scene.actors:
            if actor.name == name:
                break
        else:
            actor = Actor(name, self.people[name].kind, pose=self.people[name].pose)
            self.scene.actors.append(actor)
        if name in self.here:
            self.here.remove(name)
        self.here.append(name)
        return actor

    def _join(self, item: Item, actors: list[Actor], place: int, *, owner: bool) -> None:
        """Make `actors` the subject of what follows, unless they are what is acted upon."""
        self.mentioned = (place, actors)
        self.fresh = self.thing = False
        if item.word is None and item.kind == "name":
            item.become("kept", item.said)
        if owner:
            # "His lunchbox": he is there, and the subject where nobody else is.
            self.current = self.current or actors
            return
        verb_follows = self._verb_follows(place)
        joined = place > 0 and (self.items[place - 1].low in _SOFT or self._listed(place))
        if not self.acted and joined and self.current and not self._after_hard(place):
            self.current = [*self.current, *(a for a in actors if a not in self.current)]
        elif not self.acted or (verb_follows and self._starts_clause(place)):
            self.current, self.acted = actors, False
        for actor in actors:
            actor.subject = actor.subject or actor in self.current

    def _listed(self, place: int) -> bool:
        """Whether only a determiner stands between this and an "and": "Mia and the dog"."""
        before = [i.low for i in self.items[max(0, place - 3) : place] if i.kind != "sense"]
        return any(low in ("and", "&") for low in before)

    def _after_hard(self, place: int) -> bool:
        for item in reversed(self.items[max(0, place - 3) : place]):
            if item.low in _HARD:
                return True
            if item.kind in ("sense", "name", "pronoun"):
                return False
        return False

    def _starts_clause(self, place: int) -> bool:
        for item in reversed(self.items[max(0, place - 4) : place]):
            if item.kind == "sign" or item.low in _HARD or item.low in ("and", "then"):
                return True
            adjective = item.sense is not None and item.sense.speech == "a"
            if item.kind in ("sense", "name", "pronoun") and not adjective:
                return False
        return True

    def _verb_follows(self, place: int) -> bool:
        for item in self.items[place + 1 : place + 5]:
            if item.kind == "sign" and item.low != ",":
                return False
            if item.sense is not None and item.sense.speech == "v":
                return True
            if item.kind == "small" and item.low in (
                "is",
                "are",
                "was",
                "were",
                "has",
                "had",
                "have",
            ):
                return True
            if item.kind == "sense" and item.category not in ("mood", "kind"):
                return False
        return False

    def _owns(self, place: int) -> bool:
        """Whether 's means "of" and not "is"."""
        for item in self.items[place + 1 : place + 3]:
            if item.kind == "small" and item.low not in ("own",):
                return False
            sense = item.sense
            if sense is not None:
                return (
                    sense.speech == "n" or sense.category in _TRAITS or not item.low.endswith("ing")
                )
            return item.kind != "sign"
        return False

    def _being(self, item: Item, sense: Sense, place: int) -> bool:
        """A noun for somebody: a character of the story, or somebody else; False for a thing."""
        if sense.category == "none":
            return False
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
        if item.possessive and self._owns(place):
            item.become("left_out", why="what belongs to somebody who is not in the story")
            return True
        if item.negated:
            item.become("left_out", why="it is said not to be there")
            return True
        return self._somebody_else(item, sense, place)

    def _predicate(self, place: int) -> bool:
        """Whether the noun says what the subject is: "she is a dog", "they were best friends"."""
        for item in reversed(self.items[max(0, place - 4) : place]):
            if item.low in _IS:
                return True
            adjective = item.sense is not None and item.sense.speech == "a"
            if item.kind not in ("small", "number") and not adjective:
                return False
            if item.low in ("the", "there's", *_SOFT):
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
            if item.kind in ("sign", "name", "pronoun") or item.low in _HARD:
                return ""
        return ""

    def _characters_called(self, sense: Sense, before: str, place: int) -> list[str]:
        """Characters of the story that a noun means."""
        noun = base_noun(sense.base)
        exact = [n for n in self.people if noun in self._nouns(n)]
        if sense.plural:
            fits = exact or [n for n, p in self.people.items() if _may_be(p, sense)]
            count = self._count(place)
            if before in INDEFINITE or len(fits) < 2 or (count and count != len(fits)):
                return []
            return fits[:MAX_ACTORS] if before in ("the", "both", "these", "those", *OWNERS) else []
        if exact and (before not in INDEFINITE or self.people[exact[0]].thing):
            return [self._latest(exact)]
        if before in ("the", "this", "that", "'s", *OWNERS) or (before == "" and not sense.plural):
            owners_own = before in (*OWNERS, "'s")
            fits = [n for n, p in self.people.items() if _may_be(p, sense)]
            if owners_own and not any(self.people[n].thing for n in fits):
                return []
            if before == "" and not exact:
                return []
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
            self._setting(item, prop, place)
            self._drop_traits()
            return True
        if sense.relation == "far":
            item.become("left_out", nearest=(sense.value,))
            self.found.setdefault("far", []).append((1.0, item, sense))
            self._drop_traits()
            return True
        if sense.value in _GROUPS:
            kinds = list(_GROUPS[sense.value])
        elif sense.value in _ABSTRACT:
            kinds = [self._some_kind(sense)]
        else:
            kinds = [sense.value]
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
        how = "same" if sense.relation == "same" and not sense.plural else "near"
        why = "one of a kind in a picture" if sense.plural and len(kinds) == 1 else ""
        item.become(how, " and ".join(f"a {kind}" for kind in kinds), why)
        self._join(item, actors, place, owner=False)
        return True

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

    def _adorn(self, actor: Actor) -> None:
        """Moods before a name are its own; other traits belong into its description."""
        for item in self.traits:
            if item.category == "mood" and item.sense is not None:
                self._set_mood(item, item.sense, [actor])
            else:
                item.become("left_out", why="how a character looks is said in its description")
        self.traits = []

    def _adorn_fully(self, actor: Actor, *, keep: bool) -> None:
        for item in self.traits:
            sense = item.sense
            assert sense is not None
            if item.category == "mood":
                self._set_mood(item, sense, [actor])
            elif item.category == "size":
                actor.traits.insert(0, sense.value)
                item.become("same" if sense.relation == "same" else "near", sense.value)
            elif item.category == "colour" and actor.kind not in PEOPLE and sense.value in FUR:
                actor.traits.append(FUR[sense.value])
                item.become("same", FUR[sense.value])
            elif item.category == "colour" and sense.value in HUES:
                actor.wears = f"a {sense.value} shirt"
                item.become("near", actor.wears, f"this model has no {sense.base} {actor.kind}")
            else:
                item.become("left_out", why="not among what a passer-by can look like")
        if keep:
            self.traits = []

    def _drop_traits(self) -> None:
        self._flush_traits("it belongs to what was left out")

    def _flush_traits(self, why: str) -> None:
        for item in self.traits:
            if item.category == "mood" and item.sense is not None:
                self._set_mood(item, item.sense, self.current) if self.current else None
            item.become("left_out", why=why)
        self.traits = []

    # what they do and feel --------------------------------------------------------------------
    def _object(self, item: Item, place: int) -> list[Actor]:
        """Who was acted upon and does this: Bolt in "she finds Bolt sleeping"."""
        at, actors = self.mentioned
        if at != place - 1 or any(actor in self.current for actor in actors):
            return []
        before = self.items[at]
        return actors if item.low.split()[0].endswith("ing") or before.low in _OBJECTS else []

    def _act(self, item: Item, sense: Sense, who: list[Actor] | None = None) -> None:
        rank = _RANK[sense.relation]
        if sense.speech == "n":
            # What is done says more than what it is done with: to sell cake is not to eat it.
            rank -= 1.0 if self.acted and not self._had(item) else 0.5
        if sense.value == "standing" and sense.relation == "near":
            rank -= 0.9
        actors = who or self.current
        if not actors:
            self.waiting.append((item, sense))
            return
        for actor in actors:
            self._set_action(item, sense, actor, rank)
        if sense.speech == "v" and not who:
            self.acted = True
        for actor in actors:
            actor.implied = actor.implied or sense.of("mood")

    def _had(self, item: Item) -> bool:
        """Whether somebody has, gets or does what the noun says: "they had cake"."""
        before = self.items[: self.items.index(item)][-3:]
        return any(i.kind == "small" and i.low in _HAVING for i in before)

    def _set_action(self, item: Item, sense: Sense, actor: Actor, rank: float) -> None:
        value = sense.of("action")
        if value == actor.action or value is None:
            item.become("same" if sense.relation == "same" else "near", _doing(value))
        elif rank > actor.rank:
            old = actor.action_item
            actor.action, actor.rank, actor.action_item = value, rank, item
            if old is not None and all(a.action_item is not old for a in self.scene.actors):
                old.word = None
                old.become("left_out", why=f"one action each; drawn: {_doing(value)}", nearest=())
            item.become("same" if sense.relation == "same" else "near", _doing(value))
        elif item.word is None:
            item.become("left_out", why=f"one action each; drawn: {_doing(actor.action)}")

    def _feel(self, item: Item, sense: Sense, place: int) -> None:
        after = self.items[place + 1] if place + 1 < len(self.items) else None
        attributive = after is not None and (
            after.kind == "name" or (after.sense is not None and after.sense.speech in "na")
        )
        if sense.speech == "a" and attributive:
            self.traits.append(item)
        elif who := self._object(item, place) or self.current:
            self._set_mood(item, sense, who)
            self.acted = self.acted or sense.speech == "v"
        else:
            self.waiting.append((item, sense))

    def _set_mood(self, item: Item, sense: Sense, actors: Sequence[Actor]) -> None:
        mood = sense.of("mood")
        for actor in actors:
            if actor.mood is None:
                actor.mood = mood
        if any(actor.mood == mood for actor in actors):
            item.become("same" if sense.relation == "same" else "near", mood or "")
        else:
            item.become("left_out", why=f"one mood each; drawn: {actors[0].mood}")

    def _settle_waiting(self) -> None:
        """What was done before anybody was named: by the first of this frame, or nobody."""
        if not self.waiting:
            return
        actors = self.current or self.scene.actors[:1] or self._fallback()
        self.current = actors
        for item, sense in self.waiting:
            if not actors:
                item.become("left_out", why="nobody does it")
            elif sense.category == "action":
                self._act(item, sense)
            else:
                self._set_mood(item, sense, actors)

    def _fallback(self) -> list[Actor]:
        """Who a frame shows that names nobody: whom the frame before showed."""
        names = self.recent.last_frame or list(self.people)[:1]
        if names:
            shown = " and ".join(names)
            self.scene.notices.append(f"nobody is named here; it shows {shown} as before")
        return [self._character(name) for name in names]

    # where and when ---------------------------------------------------------------------------
    def _setting(self, item: Item, sense: Sense, place: int) -> None:
        rank = _RANK[sense.relation] - 0.01 * place
        before = [i.low for i in self.items[max(0, place - 3) : place]]
        if sense.category == "place" and any(low in _AWAY for low in before):
            rank -= 1.5
        elif before and any(
            low in ("in", "at", "to", "into", "on", "inside", "over") for low in before
        ):
            rank += 0.3
        self.found.setdefault(sense.category, []).append((rank, item, sense))

    def _clock(self, item: Item, place: int) -> None:
        """ "3 a.m." and "7:30 pm" tell the light."""
        rest = "".join(i.low for i in self.items[place + 1 : place + 4])
        half = rest[:1] if rest.startswith(("am", "a.m", "pm", "p.m")) else ""
        hour = item.low.replace(".", ":").partition(":")[0]
        if not half or not hour.isdigit() or not 0 < int(hour) <= 12:
            return
        clock = int(hour) % 12 + (12 if half == "p" else 0)
        value = "night" if clock < 5 or clock >= 21 else "sunset" if clock >= 18 else "sunny"
        item.become("near", value, "by the hour")
        self.scene.weather = value

    def _settle_setting(self) -> None:
        self._settle_implied()
        for category in ("place", "weather", "prop", "camera", "style"):
            options = sorted(self.found.get(category, []), key=lambda o: -o[0])
            if not options:
                continue
            value = options[0][2].value
            setattr(self.scene, category, value)
            for _, item, sense in options:
                if sense.value == value:
                    item.become("same" if sense.relation == "same" else "near", value)
                else:
                    item.become("left_out", why=f"one {_ONE[category]} a picture; drawn: {value}")
        self._settle_parts()
        if not self.scene.actors:
            far = self.found.get("far", [])[:1]
            if far and not self.people:
                self._draw_far(far[0][1], far[0][2])
            else:
                self._fallback()

    def _settle_parts(self) -> None:
        """A floor, a window: there where the place has one, and a place where none is named."""
        for _, item, sense in self.found.get("part", ()):
            places = sense.value.split("/")
            self.scene.place = self.scene.place or (None if self.place else places[0])
            place = self.scene.place or self.place
            if place in places:
                item.become("near", str(place), "part of the place")
            else:
                item.become(
                    "left_out",
                    why=f"no part of the place, which is: {place}",
                    nearest=tuple(places),
                )

    def _settle_implied(self) -> None:
        """Where and when a thing is usually done, for what nothing else names: baking, a kitchen."""
        for item in self.items:
            sense = item.sense
            if sense is None or item.kind != "sense" or sense.category != "action":
                continue
            for category in ("place", "weather"):
                value = sense.of(category)
                if value is None or self.found.get(category) or getattr(self.scene, category):
                    continue
                indoors = (self.place in _INDOOR, value in _INDOOR)
                # A sale on the beach stays there; somebody who plants flowers went out.
                if category == "weather" or self.place is None or indoors == (True, False):
                    setattr(self.scene, category, value)
                    self.scene.notices.append(
                        f"{item.said!r} is drawn where or when it is usual: {value}"
                    )

    def _draw_far(self, item: Item, sense: Sense) -> None:
        """Nobody else is there: the nearest being stands for one that cannot be drawn."""
        item.word = None
        item.become("near", f"a {sense.value}", "the nearest that it draws")
        self.scene.actors.append(Actor(None, sense.value))

    def _keep_listener(self) -> None:
        """Who was there and is spoken to stays in view."""
        actors = self.scene.actors
        speaks = self.scene.spoken or any(
            i.low.split()[0] in _SPEAKING for i in self.items if i.low
        )
        if not speaks or len(actors) != 1 or actors[0].name is None:
            return
        others = [n for n in self.recent.last_frame if n != actors[0].name]
        if len(others) == 1:
            self._character(others[0])
            self.scene.notices.append(f"{others[0]} stays in view: somebody speaks")

    def _limit(self) -> None:
        """At most three: subjects before others, characters of the story before strangers."""
        order = sorted(self.scene.actors, key=lambda a: (not a.subject, a.name is None))
        for actor in order[MAX_ACTORS:]:
            self.scene.actors.remove(actor)
            who = actor.name or f"the {actor.kind}"
            self.scene.notices.append(f"a picture holds {MAX_ACTORS} at most; {who} is left out")

    # the rest ---------------------------------------------------------------------------------
    def _mark_script(self) -> None:
        """ "GUS: Rough shift?" in a screenplay: what follows the colon is said, not done."""
        for place, item in enumerate(self.items[:-1]):
            starts = place == 0 or self.items[place - 1].low in (".", "!", "?")
            if item.kind == "name" and starts and self.items[place + 1].low == ":":
                rest = self.items[place + 2 :]
                for said in rest:
                    if said.kind not in ("sign", "small"):
                        said.become("speech", why="speech")
                    else:
                        said.kind = "small"
                self.scene.spoken.append(" ".join(said.said for said in rest))
                return

    def _tell_the_rest(self) -> None:
        for item in self.items:
            if item.word is not None or item.kind in ("sign", "small", "number", "pronoun", "name"):
                continue
            sense = item.sense
            if sense is None:
                item.become("left_out", why="an unknown word")
            elif sense.category == "none":
                item.become("left_out", nearest=_values(sense))
            elif (
                sense.category == "hairnoun" or sense.category in _TRAITS or sense.category in _WORN
            ):
                item.become("left_out", why="how a character looks is said in its description")
            else:
                item.become("left_out", nearest=_values(sense))


_HAVING = ("have", "has", "had", "having", "get", "gets", "got", "do", "does", "did", "doing", "at")
_INDOOR = ("bedroom", "kitchen", "library")
_ONE = {
    "place": "place",
    "weather": "weather or hour",
    "prop": "thing",
    "camera": "view",
    "style": "style",
}
_WORN = ("top", "bottom", "shoes", "accessory", "eyes", "cheeks", "garment", "eyecolour")


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


def _doing(action: str | None) -> str:
    return "holding a balloon" if action == "balloon" else action or ""


def _values(sense: Sense) -> tuple[str, ...]:
    return tuple(c.partition(".")[2] for c in sense.concepts if "." in c)
