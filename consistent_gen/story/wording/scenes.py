"""A sentence in a writer's own words becomes a scene: who does what, where, when, with what."""

from __future__ import annotations

from consistent_gen.story.wording.lexicon import Sense
from consistent_gen.story.wording.people import OWNING
from consistent_gen.story.wording.reading import DETERMINERS, SUBJECTS, Item
from consistent_gen.story.wording.scene import HARD, TRAITS, Scene
from consistent_gen.story.wording.scene_setting import Setting

_INVERTED = ("come", "go", "float", "stand", "sit", "lie", "hang", "fly", "fall", "drift", "rise",
             "roll", "creep", "crawl", "tumble", "stretch", "appear")  # fmt: skip
_TIMES = ("day", "days", "week", "month", "year", "season", "weekend", "hour", "hours", "monday",
          "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "october",
          "november", "march", "april", "may", "june", "july", "august", "september", "air",
          "weather", "spell")  # fmt: skip
_SOMETHING = ("something", "everything", "nothing", "anything")
_WORN = ("top", "bottom", "shoes", "accessory", "eyes", "cheeks", "garment", "eyecolour")


class SceneReader(Setting):
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

    def _absolute(self, item: Item, place: int) -> bool:
        """ "..., flames leaping from the pan": what a thing does besides."""
        before = self.items[place - 1] if place else None
        if before is None or not item.low.partition(" ")[0].endswith("ing"):
            return False
        thing = before.kind == "unknown" or (
            before.sense is not None and before.sense.speech == "n"
        )
        if not thing or before.category in ("kind", "body", "eyes", "hairnoun"):
            return False
        for other in reversed(self.items[: place - 1]):
            if other.kind == "sign":
                return True
            if other.low not in DETERMINERS and not (other.sense and other.sense.speech == "a"):
                return False
        return False

    def _quotes(self, place: int) -> bool:
        return any(i.kind == "speech" for i in self.items[max(0, place - 3) : place + 3])

    def _as_group(self, item: Item, place: int) -> bool:
        """ "The party creeps": people, and no celebration."""
        people = next((s for s in item.options if s.category == "kind" and s.base == "party"), None)
        if people is None or not self._verb_follows(place) or not self._stands_free(place):
            return False
        return self._everybody(item, people, place)

    def _unknown(self, item: Item, place: int) -> None:
        """A word that nobody knows may be the thing that acts, or what somebody does."""
        before = self.items[place - 1] if place else None
        if self.fresh and self._determiner(place):
            self.thing = self._stands_free(place)  # "the latte flies"
        elif before is not None and self.current and item.low.endswith(("s", "ed", "ing")):
            subject = before.kind in ("name", "pronoun") and not before.possessive
            self.acted = self.acted or (subject and before.low not in OWNING)

    def _sense(self, item: Item, sense: Sense, place: int) -> None:
        category = sense.category
        if self._as_group(item, place):
            return
        if sense.base == "cry" and self._quotes(place):
            sense = Sense(("action.standing",), "near", "v", "cry")  # "Help!" she cried.
            category = "action"
        if category in ("kind", "none") and self._being(item, sense, place):
            return
        if item.negated:
            self._negated(item, sense)
        elif category in TRAITS and sense.speech == "a":
            self.traits.append(item)
        elif self._inverted(item, sense, place):
            pass
        elif self.thing and sense.base.partition(" ")[0] in ("chase", "pursue", "hunt"):
            self.waiting.append((item, sense))  # who is chased runs
        elif sense.speech == "v" and category != "weather" and self._absolute(item, place):
            item.become("left_out", why="what a thing does is not drawn", nearest=())
        elif self.thing and sense.speech == "v" and category != "weather":
            item.become("left_out", why="what a thing does is not drawn", nearest=())
        elif category == "action" and sense.speech == "n" and self._not_done(item, place):
            item.become("left_out", why="it is not said that anybody does it")
            self.thing = True
        elif category == "action":
            self._act(item, sense, self._object(item, place))
        elif category == "mood" and self.thing and not self.current:
            item.become("left_out", why="said of what is not drawn", nearest=())
        elif category == "mood":
            self._feel(item, sense, place)
        elif category == "weather" and sense.speech == "a" and self._before_somebody(place):
            self.traits.append(item)
        elif category == "weather" and sense.speech == "a" and self._before_thing(place):
            item.become("left_out", why="said of a thing")  # "a starry hat"
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

    def _inverted(self, item: Item, sense: Sense, place: int) -> bool:
        """ "Between them floats a leaf": who or what does it stands behind the verb."""
        after = self.items[place + 1 : place + 4]
        if sense.base not in _INVERTED or sense.speech != "v" or not after:
            return False
        if after[0].low not in (*DETERMINERS, "one", "two", "three") or place == 0:
            return False
        for at in range(place - 1, -1, -1):
            other = self.items[at]
            if other.kind == "sign" or other.low in HARD:
                break
            if other.kind == "pronoun" and other.low in SUBJECTS:
                return False
            subject = other.kind in ("name", "pronoun") or (
                other.sense is not None and other.sense.speech == "n"
            )
            if (subject or other.possessive) and self._stands_free(at):
                return False
        head = next((i for i in after if i.sense is None or i.sense.speech == "n"), None)
        self.current, self.acted = [], False
        beings = [s for s in head.options if s.category == "kind"] if head is not None else []
        if any(s.relation != "far" or self._characters_called(s, "a", place) for s in beings):
            return False  # waits for them
        item.become("left_out", why="what a thing does is not drawn", nearest=())
        return True

    def _before_thing(self, place: int) -> bool:
        """Whether an adjective is said of a thing: hot chestnuts are no hot day."""
        after = self.items[place + 1] if place + 1 < len(self.items) else None
        if after is None or after.low in _TIMES:
            return False
        if after.kind == "unknown":
            return not after.low.endswith(("ing", "ed", "ly"))
        noun = after.sense is not None and after.sense.speech == "n"
        return noun and after.category not in ("place", "part", "weather", "kind")

    def _not_done(self, item: Item, place: int) -> bool:
        """Whether a meal or a book does something itself: "the latte flies", "Al's prize pie"."""
        after = self.items[place + 1] if place + 1 < len(self.items) else None
        acts = after is not None and after.sense is not None and after.sense.speech == "v"
        before = self._determiner(place)
        return self._stands_free(place) and (
            (before == "'s" and not self.acted) or (acts and self.fresh and before != "")
        )

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
