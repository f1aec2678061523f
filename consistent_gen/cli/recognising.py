"""Which network compares a memory's pictures and says what is worn: the story-world reader where it
is shipped. `ColourLayout` is what is left without it, and then nothing is said of clothes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consistent_gen.checkpoints import weights_root
from consistent_gen.errors import CheckpointError

if TYPE_CHECKING:
    from consistent_gen.encoders.recognition import StoryWorldReader
    from consistent_gen.memory.data.store import Store
    from consistent_gen.memory.recall.pictures import ImageEmbedder
    from consistent_gen.memory.talk.pictured import ClothesReader


def picture_embedder(store: Store) -> ImageEmbedder:
    """The embedder of the space that this memory's pictures are in; else the best there is."""
    from consistent_gen.memory.recall.indexing import IMAGE_ROLE
    from consistent_gen.memory.recall.pictures import ColourLayout

    active = store.active_space(IMAGE_ROLE)
    for embedder in offered():
        if active in (None, embedder.space):
            return embedder
    return ColourLayout()


def picture_reader(embedder: ImageEmbedder) -> ClothesReader | None:
    """What tells clothes in pictures: the embedder if it can, else the reader that is shipped."""
    from consistent_gen.encoders.recognition import StoryWorldReader

    sees = embedder if isinstance(embedder, StoryWorldReader) else _shipped()
    return None if sees is None else sees.worn


def offered() -> list[ImageEmbedder]:
    """What can be had on this machine, best first."""
    from consistent_gen.memory.recall.pictures import ColourLayout

    shipped = _shipped()
    return [*([] if shipped is None else [shipped]), ColourLayout()]


def _shipped() -> StoryWorldReader | None:
    from consistent_gen.encoders.recognition import StoryWorldReader

    try:
        folder = weights_root() / "reader"
        return StoryWorldReader(folder) if folder.is_dir() else None
    except CheckpointError:
        return None
