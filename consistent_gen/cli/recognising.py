"""Which embedder compares a memory's pictures: the story-world reader when it is shipped.

The reader says what it sees of the largest subject: kind, colours, clothes and proportions. Those
readings are the vector, without what changes from picture to picture (action, expression), so
that two pictures are near when they show the same character. It was trained on drawn characters
and knows nothing of photographs; `ColourLayout` is what is left without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen.checkpoints import file_sha256, read_json, weights_root
from consistent_gen.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consistent_gen.language.embedders import Vectors
    from consistent_gen.memory.data.store import Store
    from consistent_gen.memory.recall.pictures import ImageEmbedder, Picture

SIDE = 128
TRANSIENT = ("action", "expression")
# How much the circular and the continuous factors weigh beside one discrete factor.
_HUE_WEIGHT, _SCALAR_WEIGHT = 0.7, 0.7


class StoryWorldReader:
    """An `ImageEmbedder` of a reader's folder; the network is loaded at the first picture.

    Raises ``CheckpointError`` when the folder holds no reader.
    """

    description = "story-world reader: drawn characters by what they look like"

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        config = read_json(self._folder / "config.json")
        if config.get("kind") != "reader":
            raise CheckpointError(f"{folder} holds no reader")
        schema = config["schema"]
        self._kept = [name for name in schema["subject"] if name not in TRANSIENT]
        classes = sum(len(schema["subject"][name]) for name in self._kept)
        self.dimensions = classes + 2 * len(schema["hues"]) + len(schema["scalars"])
        digest = file_sha256(self._folder / "model.safetensors")
        self.space = f"story-world-reader/{digest[:8]}/{self.dimensions}/unit"
        self._loaded: Any = None

    def image(self, pictures: Sequence[Picture]) -> Vectors:
        """n pictures to n d."""
        import numpy as np
        import torch

        from consistent_gen.language.embedders import unit

        if not pictures:
            return np.zeros((0, self.dimensions), np.float32)
        if self._loaded is None:
            from consistent_gen.encoders.reader import Reader

            self._loaded = Reader.load(self._folder)
        squares = np.stack([_square(picture) for picture in pictures])
        with torch.inference_mode():
            reading = self._loaded(torch.from_numpy(squares).permute(0, 3, 1, 2))
            rows = torch.arange(len(pictures))
            largest = reading.masks.softmax(1)[:, 1:].sum((2, 3)).argmax(1)
            # Square roots of shares: the cosine of two readings is how far they overlap.
            parts = [reading.subject[name][rows, largest].softmax(-1).sqrt() for name in self._kept]
            hues = reading.hues[rows, largest].flatten(1) * _HUE_WEIGHT
            scalars = (reading.scalars[rows, largest] - 0.5) * _SCALAR_WEIGHT
        return unit(torch.cat([*parts, hues, scalars], 1).numpy())


def picture_embedder(store: Store) -> ImageEmbedder:
    """The embedder of the space that this memory's pictures are in; else the best there is."""
    from consistent_gen.memory.recall.indexing import IMAGE_ROLE
    from consistent_gen.memory.recall.pictures import ColourLayout

    active = store.active_space(IMAGE_ROLE)
    for embedder in offered():
        if active in (None, embedder.space):
            return embedder
    return ColourLayout()


def offered() -> list[ImageEmbedder]:
    """What can be had on this machine, best first."""
    from consistent_gen.memory.recall.pictures import ColourLayout

    try:
        shipped = weights_root() / "reader"
        return [*([StoryWorldReader(shipped)] if shipped.is_dir() else []), ColourLayout()]
    except CheckpointError:
        return [ColourLayout()]


def _square(picture: Picture) -> Any:
    """The picture on a square of its border's colour, at the reader's size: uint8 h w 3."""
    import numpy as np
    from PIL import Image

    height, width = picture.shape[:2]
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    side = max(height, width)
    square = Image.new("RGB", (side, side), tuple(int(c) for c in np.median(rim, 0)))
    square.paste(Image.fromarray(picture), ((side - width) // 2, side - height))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
