"""Subjects of story-world pictures and their faces: the default backend, with our own weights.

The shipped reader finds up to three subjects, says where their parts are, and its features of a
subject are the embedding: on held-out subjects they know one again more surely than the subject
encoder does so far (docs/benchmarks.md). A subject encoder may be given; then the vectors, parts
and keypoints are its own. Animals and robots have faces here as people have.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from consistent_gen.checkpoints import folder_sha256, weights_folder
from consistent_gen.encoders.faces import (
    Box,
    Face,
    Licence,
    Mask,
    Picture,
    checked,
    largest_first,
)
from consistent_gen.encoders.factors import SIDE, Reading
from consistent_gen.encoders.reader import kept_reader
from consistent_gen.encoders.subject import CropWindow, SubjectEncoder
from consistent_gen.errors import InputError

LEAST_AREA = 0.005  # of the picture: less is no subject
FACE_PARTS = ("face", "hair")


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenSubject:
    """One subject: box in pixels, mask h w in [0, 1], how sure the reader is that it is there, its
    features (w, float32), and the box of its face, if that is seen.
    """

    box: Box
    mask: Mask
    score: float
    vector: NDArray[np.float32]
    face: Box | None


class StoryFaces:
    """The reader, and a subject encoder if one is given.

    Args:
        reader: a folder of weights; the shipped ones without it.
        encoder: a folder that `training.subject_encoder` made.

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
        folder = reader or weights_folder("reader")
        self.reader = kept_reader(folder)
        self.encoder = None if encoder is None else SubjectEncoder.load(encoder)
        if self.encoder is None:
            self.encoder_id = f"storyworld:reader:{folder_sha256(folder)[:12]}"
            self.dimensions = 4 * self.reader.width
        else:
            self.encoder_id, self.dimensions = self.encoder.encoder_id, self.encoder.dimensions
        self.part_names = self.reader.schema.parts
        self._lock = threading.Lock()

    def subjects(self, rgb: Picture) -> list[SeenSubject]:
        """Who is in a picture, from left to right.

        Raises:
            InputError: it is no picture (h w 3, uint8).
        """
        reading = self._look(checked(rgb))
        height, width = rgb.shape[:2]
        shares, parts = _shares(reading)
        owner, part = shares.argmax(0), parts.argmax(0)
        faces = np.isin(part, [1 + self.part_names.index(name) for name in FACE_PARTS])
        whole = CropWindow(0.0, 0.0, 1.0)
        assert reading.vectors is not None, "readers give them"
        found = []
        for slot in range(int(reading.count()[0])):
            cells = owner == slot + 1
            box = _box_of(cells, whole)
            if box is None or cells.mean() < LEAST_AREA:
                continue
            face = _box_of(cells & faces, whole)
            found.append(
                SeenSubject(
                    box=_scaled(box, width, height),
                    mask=_sized(shares[slot + 1], width, height),
                    score=float(reading.present[0, slot]),
                    vector=reading.vectors[0, slot].numpy(),
                    face=None if face is None else _scaled(face, width, height),
                )
            )
        return found

    def analyze(self, rgb: Picture) -> list[Face]:
        """See `FaceAnalyzer`. The embedding is of the whole subject; without a subject encoder the
        keypoints are not known.
        """
        seen = self.subjects(rgb)
        if self.encoder is not None:
            return self._read(rgb, seen)
        nowhere = np.full((5, 2), np.nan, np.float32)
        return largest_first(
            [
                Face(
                    box=one.face or one.box, keypoints=nowhere, score=one.score, raw=one.vector,
                    encoder_id=self.encoder_id,
                )
                for one in seen
            ]
        )  # fmt: skip

    def part_masks(self, rgb: Picture, box: Box, mask: Mask | None = None) -> Mapping[str, Mask]:
        """See `PartSegmenter`; without a subject encoder in the 32 x 32 cells of the reader."""
        if self.encoder is not None:
            with self._lock:
                return self.encoder.part_masks(rgb, box, mask)
        _, parts = _shares(self._look(checked(rgb)))
        height, width = rgb.shape[:2]
        if mask is None:
            x0, y0, x1, y1 = (max(0, round(v)) for v in box)
            mask = np.zeros((height, width), np.float32)
            mask[y0:y1, x0:x1] = 1.0
        elif mask.shape != (height, width):
            raise InputError(f"a mask of shape {mask.shape} for a picture of {height} x {width}")
        return {
            name: _sized(parts[1 + i], width, height) * mask
            for i, name in enumerate(self.part_names)
        }

    def _look(self, picture: Picture) -> Reading:
        small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        x = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None]
        with self._lock, torch.inference_mode():
            reading: Reading = self.reader(x)
        return reading

    def _read(self, rgb: Picture, seen: list[SeenSubject]) -> list[Face]:
        """What the subject encoder says of subjects."""
        assert self.encoder is not None
        with self._lock:
            reading, windows = self.encoder.read(rgb, [s.box for s in seen], [s.mask for s in seen])
        rows = [1 + self.encoder.part_names.index(name) for name in FACE_PARTS]
        faces = []
        for i, (subject, window) in enumerate(zip(seen, windows, strict=True)):
            shown = np.isin(reading.parts[i].argmax(0).numpy(), rows)
            faces.append(
                Face(
                    box=_box_of(shown, window) or subject.face or subject.box,
                    keypoints=window.back(reading.keypoints[i].numpy()),
                    score=subject.score,
                    raw=reading.embeddings[i].numpy(),
                    encoder_id=self.encoder_id,
                )
            )
        return largest_first(faces)


def _shares(reading: Reading) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Whose each cell of the first picture is (4 s s), and of which part (1+p s s)."""
    assert reading.parts is not None, "the reader tells parts apart"
    return reading.masks[0].softmax(0).numpy(), reading.parts[0].softmax(0).numpy()


def _sized(share: NDArray[np.float32], width: int, height: int) -> Mask:
    """A map of cells in a picture's size, h w."""
    image = Image.fromarray(share.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _scaled(box: Box, width: int, height: int) -> Box:
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def _box_of(cells: NDArray[np.bool_], window: CropWindow) -> Box | None:
    """The box around cells (s s) of a crop, in pixels of the picture; None: there are none."""
    if not cells.any():
        return None
    rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
    corners = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]]) / len(cells)
    (x0, y0), (x1, y1) = window.back(corners)
    return float(x0), float(y0), float(x1), float(y1)
