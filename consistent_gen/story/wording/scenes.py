"""A sentence in a writer's own words becomes a scene: who does what, where, when, with what."""

from __future__ import annotations

from consistent_gen.story.wording.lexicon import Sense
from consistent_gen.story.wording.reading import PREPOSITIONS, Item
from consistent_gen.story.wording.scene_people import People
from consistent_gen.story.wording.scene_state import HARD, INDOOR, MAX_ACTORS, TRAITS, Actor, Scene

_SPEAKING = (
    "say", "says", "said", "ask", "asks", "asked", "tell", "tells", "told", "whisper", "whispers",
    "whispered", "answers", "answered", "replies", "replied", "calls", "called", "shouts",
    "shouted", "explains", "explained", "talks", "talked", "mumbles", "mumbled", "enquired",
)  # fmt: skip
_ONE = {
    "place": "place",
    "weather": "weather or hour",
    "prop": "thing",
    "camera": "view",
    "style": "style",
}  # fmt: skip


_WORN = ("top", "bottom", "shoes", "accessory", "eyes", "cheeks", "garment", "eyecolour")


class SceneReader(People):
    """Reads one sentence (or several) of a frame: one place, one weather or hour, one thing, each
    what is said most plainly, or else first.
    """

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
        elif item.kind == "sense" and item.sense is not None:
            self._sense(item, item.sense, place)

    def _sense(self, item: Item, sense: Sense, place: int) -> None:
        category = sense.category
        if category in ("kind", "none") and self._being(item, sense, place):
            return
        if item.negated:
            self._negated(item, sense)
        elif category in TRAITS and sense.speech == "a":
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
            category not in TRAITS
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
            if item.kind == "sign" or item.low in HARD:
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

    def _clock(self, item: Item, place: int) -> None:
        """ "3 a.m." and "7:30 pm" tell the light."""
        rest = "".join(i.low for i in self.items[place + 1 : place + 4])
        half = rest[:1] if rest.startswith(("am", "a.m", "pm", "p.m")) else ""
        hour = item.low.replace(".", ":").partition(":")[0]
        if not half or not hour.isdecimal() or not 0 < int(hour) <= 12:
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
        """Where and when a thing is usually done, where nothing is named: baking, a kitchen."""
        for item in self.items:
            sense = item.sense
            if sense is None or item.kind != "sense" or sense.category != "action":
                continue
            for category in ("place", "weather"):
                value = sense.of(category)
                if value is None or self.found.get(category) or getattr(self.scene, category):
                    continue
                indoors = (self.place in INDOOR, value in INDOOR)
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
