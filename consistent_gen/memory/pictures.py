"""Pictures as arrays: reading them safely, cropping, and two embedders for them.

`ColourLayout` needs no model: it compares where which colours and edge directions are, which
tells drawn figures and objects apart when the crop is tight, and says nothing about meaning.
`Clip` reads a local CLIP folder.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from consistent_gen.errors import InputError, LimitError
from consistent_gen.memory.embedders import Picture, Vectors, unit

Box: TypeAlias = tuple[int, int, int, int]
MAX_PIXELS = 40_000_000
_FORMATS = ("PNG", "JPEG", "WEBP")


def read_picture(data: bytes) -> Picture:
    """uint8 h w 3 from the bytes of a PNG, JPEG or WebP file.

    Raises ``InputError`` for anything else, ``LimitError`` above 40 megapixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise LimitError(
                        f"the picture has {picture.width}x{picture.height} pixels; "
                        f"the limit is {MAX_PIXELS:,}"
                    )
                return np.asarray(picture.convert("RGB"), np.uint8)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise LimitError(f"the picture has more than {MAX_PIXELS:,} pixels") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError):
        raise InputError("this is not a PNG, JPEG or WebP picture, or it is damaged") from None


def png_bytes(picture: Picture) -> bytes:
    """The PNG file of a picture; the same bytes for the same pixels, no metadata."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def crop(picture: Picture, box: Box) -> Picture:
    """The pixels inside (left, top, right, bottom). Raises ``InputError`` for an empty box."""
    left, top, right, bottom = clamp(box, picture)
    if right - left < 2 or bottom - top < 2:
        raise InputError(f"box {box} holds no picture; expected left < right and top < bottom")
    return np.ascontiguousarray(picture[top:bottom, left:right])


def clamp(box: Box, picture: Picture) -> Box:
    """``box`` cut to the picture."""
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    return max(0, left), max(0, top), min(width, right), min(height, bottom)


def grow(box: Box, picture: Picture, share: float = 0.15) -> Box:
    """``box`` grown on each side by ``share`` of the picture's size, cut to the picture.

    The margin that PersonaVLM (arXiv 2604.13074) gives its crops.
    """
    height, width = picture.shape[:2]
    dx, dy = round(width * share), round(height * share)
    left, top, right, bottom = box
    return clamp((left - dx, top - dy, right + dx, bottom + dy), picture)


def propose_box(picture: Picture) -> Box:
    """The box around what differs from the picture's border; the middle when nothing does.

    A proposal for the user to confirm, good for a subject on a calm background and no more.
    """
    values = picture.astype(np.float32)
    rim = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    distance = np.abs(values - np.median(rim, axis=0)).sum(-1)
    salient = distance > max(60.0, float(np.quantile(distance, 0.6)))
    height, width = salient.shape
    rows, columns = salient.mean(1) > 0.06, salient.mean(0) > 0.06
    if not rows.any() or not columns.any():
        return width // 6, height // 6, width - width // 6, height - height // 6
    top, bottom = int(np.argmax(rows)), int(height - np.argmax(rows[::-1]))
    left, right = int(np.argmax(columns)), int(width - np.argmax(columns[::-1]))
    return left, top, right, bottom


def sharpness(pixels: Picture) -> float:
    """A quality in [0, 1): larger and sharper crops are better references."""
    grey = pixels.astype(np.float32).mean(-1)
    edges = float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
    size = min(pixels.shape[:2])
    return (edges / (edges + 10)) * (size / (size + 64))


class ColourLayout:
    """Colours and edge directions per cell of a 3 x 3 grid and over the whole crop."""

    _BINS = 4
    _EDGES = 6
    _GRID = 3
    dimensions = (_GRID * _GRID + 1) * (_BINS**3 + _EDGES)
    space = f"colour-layout/1/{dimensions}/unit"
    description = "colour layout: where which colours and edges are; needs no model"

    def image(self, pictures: Sequence[Picture]) -> Vectors:
        """n pictures to n 700. Histograms are square-rooted, so a cosine compares shares."""
        rows = [self._features(picture) for picture in pictures]
        return unit(np.stack(rows)) if rows else np.zeros((0, self.dimensions), np.float32)

    def _features(self, picture: Picture) -> NDArray[np.float32]:
        small = np.asarray(Image.fromarray(picture).resize((48, 48), Image.Resampling.BOX))
        codes = (small // (256 // self._BINS)).astype(np.int64)
        colours = (codes[..., 0] * self._BINS + codes[..., 1]) * self._BINS + codes[..., 2]
        grey = small.astype(np.float32).mean(-1)
        dy, dx = np.gradient(grey)
        turn = ((np.arctan2(dy, dx) % np.pi) / np.pi * self._EDGES).astype(np.int64) % self._EDGES
        strength = np.hypot(dx, dy)
        step = 48 // self._GRID
        cells = [
            (slice(y, y + step), slice(x, x + step))
            for y in range(0, 48, step)
            for x in range(0, 48, step)
        ]
        parts = []
        for cell, weight in [((slice(None), slice(None)), 3.0), *((c, 1.0) for c in cells)]:
            colour = np.bincount(colours[cell].ravel(), minlength=self._BINS**3)
            edge = np.bincount(turn[cell].ravel(), strength[cell].ravel(), minlength=self._EDGES)
            parts += [
                weight * np.sqrt(colour / colour.sum()),
                weight * 0.3 * np.sqrt(edge / (edge.sum() + 1e-6)),
            ]
        return np.concatenate(parts).astype(np.float32)


class Clip:
    """The image tower of a local CLIP folder in transformers format (safetensors)."""

    def __init__(self, folder: str | Path, *, revision: str = "local") -> None:
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

        if not Path(folder).is_dir():
            raise InputError(f"{folder} is not a model folder; download the CLIP model first")
        self._processor: Any = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        self._model: Any = CLIPVisionModelWithProjection.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        ).eval()
        self.dimensions = int(self._model.config.projection_dim)
        self.space = f"{Path(folder).name}/{revision}/{self.dimensions}/unit"
        self.description = f"{Path(folder).name}: photographs by content"

    def image(self, pictures: Sequence[Picture]) -> Vectors:
        """n pictures to n d."""
        import torch

        if not pictures:
            return np.zeros((0, self.dimensions), np.float32)
        inputs = self._processor([Image.fromarray(p) for p in pictures], return_tensors="pt")
        with torch.inference_mode():
            embeds = self._model(pixel_values=inputs["pixel_values"]).image_embeds
        return unit(embeds.numpy())
