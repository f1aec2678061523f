"""A sentence in a writer's own words becomes a scene: who does what, where, when, with what."""

from __future__ import annotations

from consistent_gen.story.wording.lexicon import Sense
from consistent_gen.story.wording.people import OWNING
from consistent_gen.story.wording.reading import Item
from consistent_gen.story.wording.scene import HARD, TRAITS, Scene
from consistent_gen.story.wording.scene_things import Things

_SOMETHING = ("something", "everything", "nothing", "anything")
_WORN = ("top", "bottom", "shoes", "accessory", "eyes", "cheeks", "garment", "eyecolour")


class SceneReader(Things):
    """Reads one sentence (or several) of a frame."""

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

    def _take(self, item: Item, place: int) -> None:
        if item.word is not None:
            return
        if item.compared:
            item.become("left_out", why="a comparison")
            return
        if item.kind == "speech":
            item.become("speech", why="speech")
            self.scene.spoken.append(item.said)
        elif item.kind == "sign" or item.low in HARD:
            if item.low in HARD or (item.kind == "sign" and item.low not in (",", "&", "'", '"')):
                self.acted, self.fresh, self.thing = False, True, False
            self._flush_traits("nothing takes it") if item.kind == "sign" else None
        elif item.kind == "number":
            self._clock(item, place)
        elif item.kind == "name":
            self._name(item, place)
        elif item.kind == "pronoun":
            self._pronoun(item, place)
        elif item.low in _SOMETHING and self.fresh and self._stands_free(place):
            self.current, self.acted, self.thing = [], False, True
        elif item.kind == "sense" and item.sense is not None:
            self._sense(item, item.sense, place)
        elif item.kind == "unknown":
            self._unknown(item, place)

    def _quotes(self, place: int) -> bool:
        return any(i.kind == "speech" for i in self.items[max(0, place - 3) : place + 3])

    def _as_group(self, item: Item, place: int) -> bool:
        """ "The party creeps": people, and no celebration."""
        people = next((s for s in item.options if s.category == "kind" and s.base == "party"), None)
        if people is None:
            return False
        if self._verb_follows(place) and self._stands_free(place):
            return self._everybody(item, people, place)
        item.sense = next(s for s in item.options if s is not people and s.speech == "n")
        return False

    def _unknown(self, item: Item, place: int) -> None:
        """A word that nobody knows may be the thing that acts, or what somebody does."""
        before = self.items[place - 1] if place else None
        if self.fresh and self._determiner(place):
            self.thing = self._stands_free(place)  # "the latte flies"
        elif before is not None and self.current and item.low.endswith(("s", "ed", "ing")):
            subject = before.kind in ("name", "pronoun") and not before.possessive
            self.acted = self.acted or (subject and before.low not in OWNING)

    def _sense(self, item: Item, sense: Sense, place: int) -> None:
        if self._as_group(item, place):
            return
        sense = item.sense or sense
        category = sense.category
        if sense.base == "cry" and self._quotes(place):
            sense = Sense(("action.standing",), "near", "v", "cry")  # "Help!" she cried.
            category = "action"
        if category in ("kind", "none") and self._being(item, sense, place):
            return
        if item.negated:
            self._negated(item, sense)
        elif category in TRAITS and sense.speech == "a":
            self.traits.append(item)
        elif self._of_a_thing(item, sense, place):
            pass
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
            category not in TRAITS
            and category not in ("mood", "kind", "small")
            and sense.speech == "n"
        ):
            self._flush_traits("only characters take it")
            self.thing = self.thing or (self.fresh and self._stands_free(place))
        if sense.speech in "nv":
            self.fresh = False

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
        if item.low.endswith("er") and item.low != sense.base and self.current:
            self._set_mood(item, sense, self.current)  # "never been happier"
        elif mood in opposite and self.current:
            for actor in self.current:
                actor.mood = actor.mood or opposite[mood]
            item.become("near", opposite[mood], "it is said not to be so")
        else:
            item.become("left_out", why="it is said not to be so")

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
                sense.category == "hairnoun" or sense.category in TRAITS or sense.category in _WORN
            ):
                item.become("left_out", why="how a character looks is said in its description")
            else:
                item.become("left_out", nearest=_values(sense))


def _values(sense: Sense) -> tuple[str, ...]:
    return tuple(c.partition(".")[2] for c in sense.concepts if "." in c)
