"""Where and when a frame is, and how many can be in it."""

from __future__ import annotations

from consistent_gen.story.wording.lexicon import Sense
from consistent_gen.story.wording.reading import Item
from consistent_gen.story.wording.scene import INDOOR, MAX_ACTORS, Actor
from consistent_gen.story.wording.scene_people import People

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


class Setting(People):
    """One place, one weather or hour, one thing: what is said most plainly, or else first."""

    def _clock(self, item: Item, place: int) -> None:
        """ "3 a.m." and "7:30 pm" tell the light."""
        rest = "".join(i.low for i in self.items[place + 1 : place + 4])
        half = rest[:1] if rest.startswith(("am", "a.m", "pm", "p.m")) else ""
        hour = item.low.replace(".", ":").partition(":")[0]
        if not half or not hour.isdecimal() or not 0 < int(hour) <= 12:
            return
        clock = int(hour) % 12 + (12 if half == "p" else 0)
        low_sun = 5 <= clock < 7 or 18 <= clock < 21
        value = "night" if clock < 5 or clock >= 21 else "sunset" if low_sun else "sunny"
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
            out = sense.base in ("outside", "outdoors", "open air") and self.place in INDOOR
            self.scene.place = self.scene.place or (places[0] if out else None)
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
        """Where, when and with what a thing is usually done, where nothing is named: baking, a
        kitchen; football, a ball.
        """
        for item in self.items:
            sense = item.sense
            if sense is None or item.kind != "sense" or sense.category != "action":
                continue
            for category in ("place", "weather", "prop"):
                value = sense.of(category)
                if value is None or self.found.get(category) or getattr(self.scene, category):
                    continue
                indoors = (self.place in INDOOR, value in INDOOR)
                # A sale on the beach stays there; somebody who plants flowers went out.
                if category != "place" or self.place is None or indoors == (True, False):
                    setattr(self.scene, category, value)
                    how = "where or when it is usual"
                    how = "with what it needs" if category == "prop" else how
                    self.scene.notices.append(f"{item.said!r} is drawn {how}: {value}")

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
