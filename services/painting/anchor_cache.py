"""The casts of stories whose anchors are in memory, within a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from consistent_gen.engine import Engine, FrameDone
from consistent_gen.engine.graph import REMEMBERED_FRAMES
from consistent_gen.story.best_of import ScoresFrames
from consistent_gen.story.cast import Cast
from consistent_gen.story.plan import FramePlan, StoryPlan

DEFAULT_ANCHOR_BYTES = 2 << 30
# Stories that nobody draws are kept for frames that are drawn again: the last ones, in a share of
# the limit. Between what lives so long the allocator's heap cannot hold large tensors any more, so
# the process grows by about twice as much.
MAX_STORIES = 16
IDLE_SHARE = 1 / 16
# After so many frames the engine no longer remembers that a story's anchors were drawn.
MAX_AGE_FRAMES = REMEMBERED_FRAMES // 4

StoryKey = tuple[str, str]  # id of a story, digest of what was asked for


@dataclass(eq=False)
class CachedCast:
    """A story's cast. born: when it was begun, in frames of the painter. cohorts: key of anchors
    (see `Cast.key_of`) -> whom they may share calls with.
    """

    cast: Cast
    born: int
    cohorts: dict[str, int] = field(default_factory=dict)


class AnchorPlace(NamedTuple):
    """Whose anchor a frame of the engine is: the story's key, its cast, and the anchors' key."""

    story: StoryKey
    cached: CachedCast
    key: str


class AnchorCache:
    """Casts by story, the longest unused first to go.

    Args:
        limit_bytes: of all stories together.
        in_use: whether somebody draws frames of a story (its key); such a story stays.
        scorer: of the casts (see `Cast`).
    """

    def __init__(
        self,
        engine: Engine,
        limit_bytes: int,
        in_use: Callable[[StoryKey], bool],
        scorer: ScoresFrames | None = None,
    ) -> None:
        self.limit_bytes = limit_bytes
        self._engine = engine
        self._in_use = in_use
        self._scorer = scorer
        self._stories: OrderedDict[StoryKey, CachedCast] = OrderedDict()

    @property
    def keys(self) -> tuple[StoryKey, ...]:
        """Keys of the stories, longest unused first. May be read from any thread."""
        return tuple(self._stories)

    @property
    def bytes(self) -> int:
        """Memory of all stories."""
        return sum(cached.cast.bytes for cached in self._stories.values())

    def get(self, story: StoryKey | None) -> Cast | None:
        """The cast of that story if it is here."""
        cached = None if story is None else self._stories.get(story)
        return None if cached is None else cached.cast

    def anchor_of(self, engine_id: str) -> AnchorPlace | None:
        """Where a frame of the engine belongs if it is an anchor."""
        for story, cached in self._stories.items():
            if (key := cached.cast.key_of(engine_id)) is not None:
                return AnchorPlace(story, cached, key)
        return None

    def take(
        self, story: StoryKey, base: StoryPlan, frame: FramePlan, *, number: int
    ) -> Cast | None:
        """The story's cast with room for the anchors of `frame`; None while others need the room.

        number: of the painter's frames, rising; a new story is named by it.
        """
        cached = self._stories.get(story)
        if cached is None:
            limit = self.limit_bytes
            cast = Cast(
                base, self._engine, prefix=f"s{number}/", limit_bytes=limit, scorer=self._scorer
            )
            cached = CachedCast(cast, born=number)
        cast = cached.cast
        wanted = cast.predicted_bytes(frame)
        self.evict(self.limit_bytes - wanted, keep=story, now=number)
        others = [other for other in self._stories if other != story]
        total = sum(self._stories[other].cast.bytes for other in others) + cast.bytes + wanted
        if wanted and total > self.limit_bytes and any(map(self._in_use, others)):
            return None
        self._stories[story] = cached
        self._stories.move_to_end(story)
        return cast

    def drawn(self, done: FrameDone) -> None:
        """Keep the picture of a frame if it is somebody's anchor."""
        for cached in self._stories.values():
            cached.cast.drawn(done)

    def settle(self) -> None:
        """After a step: note whose anchors are drawn. Of the stories that nobody draws the one used
        last is kept, and others in a small share.
        """
        for cached in self._stories.values():
            cached.cast.settle()
        if self._stories:
            self.evict(int(self.limit_bytes * IDLE_SHARE), keep=next(reversed(self._stories)))

    def evict(self, limit_bytes: int, *, keep: StoryKey | None = None, now: int = 0) -> None:
        """Forget stories that nobody draws, until the others take at most `limit_bytes`."""
        total, count = self.bytes, len(self._stories)
        for story, cached in list(self._stories.items()):
            old = now - cached.born > MAX_AGE_FRAMES
            if total <= limit_bytes and count <= MAX_STORIES and not old:
                continue
            if story == keep or cached.cast.drawing or self._in_use(story):
                continue
            total -= cached.cast.bytes
            count -= 1
            del self._stories[story]
