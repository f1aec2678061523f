"""Subjects of story-world pictures and their faces: the default backend, with our own weights.

The shipped reader finds up to three subjects; the subject encoder says who each is and where its
face is. Animals and robots have faces here as people have.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from consistent_gen.checkpoints import weights_folder
from consistent_gen.encoders.faces import (
    Box,
    Face,
    Licence,
    Mask,
    Picture,
    checked,
    largest_first,
)
from consistent_gen.encoders.factors import SIDE
from consistent_gen.encoders.reader import Reader
from consistent_gen.encoders.subject import KIND, CropWindow, SubjectEncoder

LEAST_AREA = 0.005  # of the picture: less is no subject
FACE_PARTS = ("face", "hair")


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenSubject:
    """One subject: box in pixels, mask h w in [0, 1], how sure the reader is that it is there."""

    box: Box
    mask: Mask
    score: float


class StoryFaces:
    """The reader and the subject encoder. Without folders: the shipped weights.

    Raises:
        CheckpointError: there are none, or they are damaged.
    """

    realistic = False
    licence = Licence(
        name="Apache-2.0",
        commercial=True,
        text="The networks of the story world are under Apache-2.0 and saw drawn pictures only.",
    )

    def __init__(self, reader: Path | None = None, encoder: Path | None = None) -> None:
        self.reader = Reader.load(reader or weights_folder("reader"))
        self.encoder = SubjectEncoder.load(encoder or weights_folder(KIND))
        self.encoder_id, self.dimensions = self.encoder.encoder_id, self.encoder.dimensions
        self._lock = threading.Lock()

    def subjects(self, rgb: Picture) -> list[SeenSubject]:
        """Who is in a picture, from left to right.

        Raises:
            InputError: it is no picture (h w 3, uint8).
        """
        picture = checked(rgb)
        height, width = picture.shape[:2]
        small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        x = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None]
        with self._lock, torch.inference_mode():
            reading = self.reader(x)
        owner = reading.masks[0].argmax(0).numpy()  # 32 32
        shares = reading.masks[0].softmax(0).numpy()
        found = []
        for slot in range(int(reading.count()[0])):
            cells = owner == slot + 1
            if cells.mean() < LEAST_AREA:
                continue
            side = len(cells)
            rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
            mask = Image.fromarray(shares[slot + 1].astype(np.float32))
            found.append(
                SeenSubject(
                    box=(
                        float(columns[0] / side * width), float(rows[0] / side * height),
                        float((columns[-1] + 1) / side * width),
                        float((rows[-1] + 1) / side * height),
                    ),
                    mask=np.asarray(mask.resize((width, height), Image.Resampling.BILINEAR)),
                    score=float(reading.present[0, slot]),
                )
            )  # fmt: skip
        return found

    def analyze(self, rgb: Picture) -> list[Face]:
        """See `FaceAnalyzer`; the embedding is of the whole subject."""
        seen = self.subjects(rgb)
        if not seen:
            return []
        with self._lock:
            reading, windows = self.encoder.read(rgb, [s.box for s in seen], [s.mask for s in seen])
        rows = [1 + self.encoder.part_names.index(name) for name in FACE_PARTS]
        faces = []
        for i, (subject, window) in enumerate(zip(seen, windows, strict=True)):
            shown = np.isin(reading.parts[i].argmax(0).numpy(), rows)
            keypoints = window.back(reading.keypoints[i].numpy())
            faces.append(
                Face(
                    box=_box_of(shown, window) or subject.box,
                    keypoints=keypoints,
                    score=subject.score,
                    raw=reading.embeddings[i].numpy(),
                    encoder_id=self.encoder_id,
                )
            )
        return largest_first(faces)


def _box_of(cells: NDArray[np.bool_], window: CropWindow) -> Box | None:
    """The box around cells (s s) of a crop, in pixels of the picture; None: there are none."""
    if not cells.any():
        return None
    rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
    corners = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]]) / len(cells)
    (x0, y0), (x1, y1) = window.back(corners)
    return float(x0), float(y0), float(x1), float(y1)
