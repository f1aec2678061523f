"""What things do, what is said of them, and what nobody does: none of it is drawn."""

from __future__ import annotations

from consistent_gen.story.wording.lexicon import Sense
from consistent_gen.story.wording.reading import DETERMINERS, SUBJECTS, Item
from consistent_gen.story.wording.scene import HARD
from consistent_gen.story.wording.scene_setting import Setting

_TIMES = ("day", "days", "week", "month", "year", "season", "weekend", "hour", "hours", "monday",
          "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "october",
          "november", "march", "april", "may", "june", "july", "august", "september", "air",
          "weather", "spell")  # fmt: skip
_INVERTED = ("come", "go", "float", "stand", "sit", "lie", "hang", "fly", "fall", "drift", "rise",
             "roll", "creep", "crawl", "tumble", "stretch", "appear")  # fmt: skip
_CHASING = ("chase", "pursue", "hunt")


class Things(Setting):
    """Keeps what a thing does away from the characters around it."""

    def _of_a_thing(self, item: Item, sense: Sense, place: int) -> bool:
        """Whether a word is said of a thing; then it is left out here."""
        category, verb = sense.category, sense.speech == "v" and sense.category != "weather"
        if verb and self.thing and sense.base.partition(" ")[0] in _CHASING:
            self.waiting.append((item, sense))  # who is chased runs
            return True
        if self._inverted(item, sense, place) or (
            verb and (self.thing or self._absolute(item, place))
        ):
            item.become("left_out", why="what a thing does is not drawn", nearest=())
            return True
        if category == "action" and sense.speech == "n" and self._not_done(item, place):
            item.become("left_out", why="it is not said that anybody does it")
            self.thing = True
            return True
        if category == "mood" and self.thing and not self.current:
            item.become("left_out", why="said of what is not drawn", nearest=())
            return True
        if category == "weather" and sense.speech == "a" and self._before_thing(place):
            item.become("left_out", why="said of a thing")  # "a starry hat"
            return True
        return False

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
        # The verb waits for somebody who can be drawn.
        return not any(
            s.relation != "far" or self._characters_called(s, "a", place) for s in beings
        )

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

    def _not_done(self, item: Item, place: int) -> bool:
        """Whether a meal or a book does something itself: "the latte flies", "Al's prize pie"."""
        after = self.items[place + 1] if place + 1 < len(self.items) else None
        acts = after is not None and after.sense is not None and after.sense.speech == "v"
        before = self._determiner(place)
        return self._stands_free(place) and (
            (before == "'s" and not self.acted) or (acts and self.fresh and before != "")
        )

    def _before_thing(self, place: int) -> bool:
        """Whether an adjective is said of a thing: hot chestnuts are no hot day."""
        after = self.items[place + 1] if place + 1 < len(self.items) else None
        if after is None or after.low in _TIMES:
            return False
        if after.kind == "unknown":
            return not after.low.endswith(("ing", "ed", "ly"))
        noun = after.sense is not None and after.sense.speech == "n"
        return noun and after.category not in ("place", "part", "weather", "kind")
