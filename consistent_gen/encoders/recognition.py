"""What the story-world reader gives a memory of pictures: a vector to recognise by, and clothes.

The reader says what it sees of the largest subject: kind, colours, clothes and proportions. Those
readings are the vector, without what changes from picture to picture (action, expression), so
that two pictures are near when they show the same character. It was trained on drawn characters
and knows nothing of photographs. Torch is loaded at the first picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from consistent_gen.checkpoints import file_sha256, read_json
from consistent_gen.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

SIDE = 128
TRANSIENT = ("action", "expression")
# How much the circular and the continuous factors weigh beside one discrete factor.
_HUE_WEIGHT, _SCALAR_WEIGHT = 0.7, 0.7
# What is read of clothes, and how sure the reader must be. Of drawn subjects it is surer than
# this of kind, accessory and top; of photographs it never was of all three (docs/log.md).
_WORN = ("accessory", "top", "bottom", "shoes")
_TELLING = ("kind", "accessory", "top")
_SURE = 0.95
_PAIRS = ("glasses", "overalls", "trousers", "shorts", "boots", "sneakers", "sandals")


class StoryWorldReader:
    """An image embedder of a reader's folder, and what it sees of clothes.

    Raises ``CheckpointError`` when the folder holds no reader.
    """

    description = "story-world reader: drawn characters by what they look like"

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        config = read_json(self._folder / "config.json")
        if config.get("kind") != "reader":
            raise CheckpointError(f"{folder} holds no reader")
        schema = config["schema"]
        self._classes: dict[str, list[str]] = schema["subject"]
        self._kept = [name for name in self._classes if name not in TRANSIENT]
        classes = sum(len(self._classes[name]) for name in self._kept)
        self.dimensions = classes + 2 * len(schema["hues"]) + len(schema["scalars"])
        digest = file_sha256(self._folder / "model.safetensors")
        self.space = f"story-world-reader/{digest[:8]}/{self.dimensions}/unit"
        self._loaded: Any = None

    def image(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """n pictures (uint8 h w 3) to n d, rows of length 1."""
        import torch

        if not pictures:
            return np.zeros((0, self.dimensions), np.float32)
        reading, rows, largest = self._read(pictures)
        # Square roots of shares: the cosine of two readings is how far they overlap.
        parts = [reading.subject[name][rows, largest].softmax(-1).sqrt() for name in self._kept]
        hues = reading.hues[rows, largest].flatten(1) * _HUE_WEIGHT
        scalars = (reading.scalars[rows, largest] - 0.5) * _SCALAR_WEIGHT
        vectors = torch.cat([*parts, hues, scalars], 1).numpy()
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)

    def worn(self, picture: NDArray[np.uint8]) -> tuple[str, ...] | None:
        """What the largest subject of a picture (uint8 h w 3) wears, as far as it is sure ("a
        hat", "overalls"); None when it is not sure that it sees a drawn character at all.
        """
        reading, _, largest = self._read([picture])
        slot = int(largest[0])
        found = {n: reading.subject[n][0, slot].softmax(-1) for n in (*_TELLING, *_WORN)}
        sure = float(reading.present[0, slot]) > _SURE
        if not sure or any(float(found[name].max()) < _SURE for name in _TELLING):
            return None
        worn = []
        for name in _WORN:
            word = self._classes[name][int(found[name].argmax())]
            if word != "none" and float(found[name].max()) >= _SURE:
                worn.append(word if word in _PAIRS else f"a {word}")
        return tuple(worn)

    def _read(self, pictures: Sequence[NDArray[np.uint8]]) -> tuple[Any, Any, Any]:
        """The reading of n pictures, their rows, and the slot of the largest subject in each."""
        import torch

        if self._loaded is None:
            from consistent_gen.encoders.reader import Reader

            self._loaded = Reader.load(self._folder)
        squares = np.stack([_square(picture) for picture in pictures])
        with torch.inference_mode():
            reading = self._loaded(torch.from_numpy(squares).permute(0, 3, 1, 2))
            largest = reading.masks.softmax(1)[:, 1:].sum((2, 3)).argmax(1)
        return reading, torch.arange(len(pictures)), largest


def _square(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture on a square of its border's colour, at the reader's size: uint8 h w 3."""
    from PIL import Image

    height, width = picture.shape[:2]
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    side = max(height, width)
    square = Image.new("RGB", (side, side), tuple(int(c) for c in np.median(rim, 0)))
    square.paste(Image.fromarray(picture), ((side - width) // 2, side - height))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
