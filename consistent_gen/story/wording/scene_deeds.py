"""What somebody does and feels."""

from __future__ import annotations

from consistent_gen.story.wording.lexicon import Sense
from consistent_gen.story.wording.reading import Item
from consistent_gen.story.wording.scene import Actor
from consistent_gen.story.wording.scene_state import SceneState

_RANK = {"same": 3.0, "near": 2.0, "hint": 0.9, "far": 1.0}
_OBJECTS = ("him", "them", "me", "us")
_HAVING = ("have", "has", "had", "having", "get", "gets", "got", "do", "does", "did", "doing", "at")


class Deeds(SceneState):
    """Verbs and moods go to the subject of their clause; the surest action of each wins."""

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
            # "On the couch": who waits there sits.
            if sense.value == "sitting" and self._upon(item):
                rank = 1.5
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

    def _upon(self, item: Item) -> bool:
        place = self.items.index(item)
        return any(i.low in ("on", "in", "into", "onto") for i in self.items[:place][-3:])

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

    def _settle_waiting(self) -> None:
        """What was done before anybody was named: by the first of this frame, or nobody."""
        if not self.waiting:
            return
        actors = self.current or self.scene.actors[:1]
        narrator = self.recent.narrator()
        first = self.items.index(self.waiting[0][0])
        if narrator and self.recent.first_person and self._unsaid(first):
            actors = [self._character(narrator)]  # "Found forty sheep."
        actors = actors or self._fallback()
        self.current = actors
        for item, sense in self.waiting:
            if not actors:
                item.become("left_out", why="nobody does it")
            elif sense.category == "action":
                self._act(item, sense)
            else:
                self._set_mood(item, sense, actors)

    def _unsaid(self, first: int) -> bool:
        """Whether a frame begins with what is done, as in a diary."""
        return not any(i.kind in ("name", "pronoun", "sense") for i in self.items[:first])

    def _fallback(self) -> list[Actor]:
        """Who a frame shows that names nobody: whom the frame before showed."""
        names = self.recent.last_frame or list(self.people)[:1]
        if names:
            shown = " and ".join(names)
            self.scene.notices.append(f"nobody is named here; it shows {shown} as before")
        return [self._character(name) for name in names]


def _doing(action: str | None) -> str:
    return "holding a balloon" if action == "balloon" else action or ""
