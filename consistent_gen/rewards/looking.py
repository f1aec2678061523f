"""The shipped reader over many pictures: loaded when first needed, in batches, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from consistent_gen.checkpoints import folder_sha256, weights_folder
from consistent_gen.rewards.sight import Sight, all_sights, main_sights, owners

if TYPE_CHECKING:
    from consistent_gen.encoders.factors import Reading
    from consistent_gen.encoders.reader import Reader

READER = "reader"  # folder of the weights
SIDE = 128  # pixels; what the reader was trained on
MAX_BATCH = 64
MAX_SUBJECTS = 3  # more are not seen
METHOD_VERSION = 2  # 2: colours of figures, parts that are cut off


class Looker:
    """Sights of pictures. folder: of the reader's weights, None for the shipped ones."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._loaded: tuple[Reader, str] | None = None

    def load(self) -> str:
        """Read the weights, if that has not happened; returns the name of the reader.

        Raises:
            CheckpointError: there are none, or they are damaged.
        """
        return self._reader()[1]

    def sha256(self) -> str:
        """The hash of the reader's folder. Raises as `load`."""
        return folder_sha256(self._folder or weights_folder(READER))

    def close(self) -> None:
        """Let the reader go; the next picture loads it again."""
        with self._lock:
            self._loaded = None

    def main(self, pictures: np.ndarray) -> list[Sight]:
        """The main character of each picture (n SIDE SIDE 3, uint8). Raises as `load`."""
        reader, name = self._reader()
        return [
            sight
            for r, part in self._readings(reader, pictures)
            for sight in main_sights(r, reader.schema, name, part)
        ]

    def all(self, pictures: np.ndarray) -> list[list[Sight]]:
        """The characters of each picture (n SIDE SIDE 3, uint8), from left to right. Raises as
        `load`.
        """
        reader, name = self._reader()
        return [
            sights
            for r, part in self._readings(reader, pictures)
            for sights in all_sights(r, reader.schema, name, part)
        ]

    def all_with_planes(self, pictures: np.ndarray) -> tuple[list[list[Sight]], np.ndarray]:
        """`all`, and whose each pixel is (see `sight.owners`), n SIDE SIDE. Raises as `load`."""
        reader, name = self._reader()
        readings = self._readings(reader, pictures)
        sights = [s for r, part in readings for s in all_sights(r, reader.schema, name, part)]
        planes = [owners(r, row, SIDE) for r, part in readings for row in range(len(part))]
        return sights, np.array(planes, np.intp).reshape(len(sights), SIDE, SIDE)

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """The reader's own features of whole pictures, n d, not tuned for likeness. Raises as
        `load`.
        """
        reader, _ = self._reader()
        return np.concatenate([r.features.numpy() for r, _ in self._readings(reader, pictures)])

    def _readings(self, reader: Reader, pictures: np.ndarray) -> list[tuple[Reading, np.ndarray]]:
        # One at a time, in batches: the network is shared between threads, memory is not endless.
        import torch

        with self._lock, torch.inference_mode():
            parts = [pictures[i : i + MAX_BATCH] for i in range(0, len(pictures), MAX_BATCH)]
            return [
                (reader(torch.from_numpy(part).permute(0, 3, 1, 2).contiguous()), part)
                for part in parts
            ]

    def _reader(self) -> tuple[Reader, str]:
        with self._lock:
            if self._loaded is None:
                from consistent_gen.encoders.reader import Reader

                folder = self._folder or weights_folder(READER)
                name = f"story-world reader {folder_sha256(folder)[:12]}, v{METHOD_VERSION}"
                self._loaded = Reader.load(folder), name
            return self._loaded


def fitted(picture: Image.Image) -> np.ndarray:
    """A picture as the reader wants it: SIDE SIDE 3, uint8."""
    size = (SIDE, SIDE)
    whole = picture.convert("RGB")
    return np.asarray(whole.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0), np.uint8)


def stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (h w 3, uint8, of any sizes) as n SIDE SIDE 3."""
    return np.stack([fitted(Image.fromarray(pixels)) for pixels in pictures])
