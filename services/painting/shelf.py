"""The stories whose anchors are in memory, within a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from consistent_gen.engine import Engine
from consistent_gen.engine.graph import REMEMBERED_FRAMES
from consistent_gen.engine.request import Preview
from consistent_gen.story.plan import FramePlan, StoryPlan
from services.painting.anchors import AnchoredStory

# Stories that nobody draws are kept for frames that are drawn again: the last ones, in a share of
# the limit. Between what lives so long the allocator's heap cannot hold large tensors any more, so
# the process grows by about twice as much.
MAX_STORIES = 16
IDLE_SHARE = 1 / 16
# After so many frames the engine no longer remembers that a story's anchors were drawn.
MAX_AGE_FRAMES = REMEMBERED_FRAMES // 4


class AnchorPlace(NamedTuple):
    """Whose anchor a frame of the engine is: a character of a story."""

    key: str
    story: AnchoredStory
    name: str


class StoryShelf:
    """Anchors by story, the longest unused first to go.

    Args:
        limit_bytes: of all stories together.
        in_use: whether somebody draws frames of a story (its key); such a story stays.
    """

    def __init__(
        self, engine: Engine, limit_bytes: int, preview: Preview, in_use: Callable[[str], bool]
    ) -> None:
        self.limit_bytes = limit_bytes
        self._engine = engine
        self._preview: Preview = preview
        self._in_use = in_use
        self._stories: OrderedDict[str, AnchoredStory] = OrderedDict()
        self._by_prefix: dict[str, str] = {}  # first part of engine ids -> key

    def __len__(self) -> int:
        return len(self._stories)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the stories, longest unused first. May be read from any thread."""
        return tuple(self._stories)

    @property
    def bytes(self) -> int:
        """Memory of all stories."""
        return sum(story.bytes for story in self._stories.values())

    def get(self, key: str | None) -> AnchoredStory | None:
        """The story of that key if it is here."""
        return None if key is None else self._stories.get(key)

    def key_of(self, engine_id: str) -> str | None:
        """The key of the story that a frame of the engine belongs to."""
        return self._by_prefix.get(engine_id.partition("/")[0])

    def anchor_of(self, engine_id: str) -> AnchorPlace | None:
        """Where a frame of the engine belongs if it is an anchor."""
        key = self.key_of(engine_id)
        story = self.get(key)
        if key is None or story is None:
            return None
        name = story.character_of(engine_id)
        return None if name is None else AnchorPlace(key, story, name)

    def take(
        self, key: str, base: StoryPlan, frame: FramePlan, *, number: int, preview_every: int
    ) -> AnchoredStory | None:
        """The story with room for the anchors of `frame`; None while others need the room.

        number: of the painter's frames, rising; a new story is named by it.
        """
        story = self._stories.get(key)
        if story is None:
            story = AnchoredStory(
                self._engine,
                base,
                f"s{number}",
                born=number,
                limit_bytes=self.limit_bytes,
                preview=self._preview,
                preview_every=preview_every,
            )
        wanted = story.predicted_bytes(frame)
        self.evict(self.limit_bytes - wanted, keep=key, now=number)
        others = [other for other in self._stories if other != key]
        total = sum(self._stories[other].bytes for other in others) + story.bytes + wanted
        if wanted and total > self.limit_bytes and any(map(self._in_use, others)):
            return None
        self._stories[key] = story
        self._by_prefix[story.prefix] = key
        self._stories.move_to_end(key)
        return story

    def settle(self) -> None:
        """Note whose anchors are drawn."""
        for story in self._stories.values():
            story.settle()

    def tidy(self) -> None:
        """Keep of the stories that nobody draws the one used last, and others in a small share."""
        if self._stories:
            self.evict(int(self.limit_bytes * IDLE_SHARE), keep=next(reversed(self._stories)))

    def evict(self, limit_bytes: int, *, keep: str | None = None, now: int = 0) -> None:
        """Forget stories that nobody draws, until the others take at most `limit_bytes`."""
        total, count = self.bytes, len(self._stories)
        for key, story in list(self._stories.items()):
            old = now - story.born > MAX_AGE_FRAMES
            if total <= limit_bytes and count <= MAX_STORIES and not old:
                continue
            if key == keep or story.drawing or self._in_use(key):
                continue
            total -= story.bytes
            count -= 1
            del self._stories[key]
            del self._by_prefix[story.prefix]
