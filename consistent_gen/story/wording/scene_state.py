"""The state of reading a frame: who is its subject, and whose words wait for a noun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consistent_gen.story.wording.lexicon import Lexicon, Sense
from consistent_gen.story.wording.people import PRONOUNS, Genders, Person, Recent
from consistent_gen.story.wording.reading import DETERMINERS, PREPOSITIONS, Item, items
from consistent_gen.story.wording.scene import HARD, SOFT, TRAITS, Actor, Scene
from consistent_gen.story.wording.sheets import FUR, HUES, PEOPLE
from consistent_gen.story.wording.tokens import Token

_THERE = ("in", "on", "at", "to", "into", "onto", "inside", "aboard", "around", "round", "past",
          "through", "across", "from", "towards", "for", "over", "near", "under")  # fmt: skip
_AWAY = ("from", "out of", "off", "leave", "left", "leaves", "leaving", "away from")
_RANK = {"same": 3.0, "near": 2.0, "hint": 0.9, "far": 1.0}


class SceneState:
    """Shared by the readers of deeds, people and settings, which build on each other.

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
        self.far = -2  # where a being was the subject that cannot be drawn
        self.thing = False  # whether a thing is its subject: what it does is not drawn
        self.traits: list[Item] = []
        self.waiting: list[tuple[Item, Sense]] = []  # actions and moods before any subject
        self.found: dict[str, list[tuple[float, Item, Sense]]] = {}

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
        joined = place > 0 and (self.items[place - 1].low in SOFT or self._listed(place))
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
            if item.low in HARD:
                return True
            if item.kind in ("sense", "name", "pronoun"):
                return False
        return False

    def _starts_clause(self, place: int) -> bool:
        for item in reversed(self.items[max(0, place - 4) : place]):
            if item.kind == "sign" or item.low in HARD or item.low in ("and", "then"):
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

    def _stands_free(self, place: int) -> bool:
        """Whether no preposition stands before a noun, so that it can be a subject."""
        begun = False  # whether its article was passed
        for item in reversed(self.items[max(0, place - 5) : place]):
            if item.low in PREPOSITIONS or item.low in ("to", "there's", "have", "has", "had"):
                return False
            if item.kind == "sign" or item.low in HARD:
                return True
            if begun and (item.kind == "name" or (item.sense and item.sense.speech in "nv")):
                return True
            begun = begun or item.low in DETERMINERS or item.possessive
        return True

    def _owns(self, place: int) -> bool:
        """Whether 's means "of" and not "is"."""
        for item in self.items[place + 1 : place + 3]:
            if item.kind == "small" and item.low not in ("own",):
                return False
            sense = item.sense
            if sense is not None:
                if item.low.partition(" ")[0] in PREPOSITIONS:
                    return False  # "Daddy's on his belly"
                return (
                    sense.speech == "n" or sense.category in TRAITS or not item.low.endswith("ing")
                )
            return item.kind != "sign"
        return False

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

    def _set_mood(self, item: Item, sense: Sense, actors: Sequence[Actor]) -> None:
        mood = sense.of("mood")
        for actor in actors:
            if actor.mood is None:
                actor.mood = mood
        if any(actor.mood == mood for actor in actors):
            item.become("same" if sense.relation == "same" else "near", mood or "")
        else:
            item.become("left_out", why=f"one mood each; drawn: {actors[0].mood}")

    def _in_space(self) -> bool:
        told = any(s.concepts == ("place.moon",) for item in self.items for s in item.options)
        return told or self.place == "moon"

    def _within(self, place: int) -> bool:
        """Whether a preposition says that something happens there."""
        before = [i.low for i in self.items[max(0, place - 3) : place] if i.low]
        return any(low.split()[-1] in _THERE for low in before)

    def _setting(self, item: Item, sense: Sense, place: int) -> None:
        rank = _RANK[sense.relation] - 0.01 * place
        after = self.items[place + 1] if place + 1 < len(self.items) else None
        nouns = after is not None and after.sense is not None and sense.speech == after.sense.speech
        if after is not None and nouns and sense.category == after.category == "place":
            item.become("left_out", why=f"said of: {after.said}")  # "the school garden"
            return
        if sense.base == "ship" and self._in_space():
            sense = sense._replace(concepts=("place.moon",))
            item.sense = sense
        seen = self.place not in (None, "moon") and sense.value == "moon"
        if seen and not self._within(place):
            item.become("left_out", why="it is seen and not where the frame is")
            return
        before = [i.low for i in self.items[max(0, place - 3) : place]]
        if sense.category == "place" and any(low in _AWAY for low in before):
            rank -= 1.5
        elif before and any(
            low in ("in", "at", "to", "into", "on", "inside", "over") for low in before
        ):
            rank += 0.3
        if sense.value in ("sunset", "night") and sense.speech != "a":
            rank += 0.3  # the hour says more than "hot"
        self.found.setdefault(sense.category, []).append((rank, item, sense))
