"""Pictures as arrays: reading them safely, cropping, and two embedders for them.

`ColourLayout` needs no model: it compares which colours are where, which tells drawn figures and
objects apart when the crop is tight, and says nothing about meaning.
`Clip` reads a local CLIP folder.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from consistent_gen.errors import InputError, LimitError
from consistent_gen.inputs import as_rgb
from consistent_gen.language.embedders import Vectors, unit

Picture: TypeAlias = NDArray[np.uint8]  # h w 3
Box: TypeAlias = tuple[int, int, int, int]
MAX_PIXELS = 40_000_000
_FORMATS = ("PNG", "JPEG", "WEBP")


@runtime_checkable
class ImageEmbedder(Protocol):
    """Pictures (uint8 h w 3, any size) to unit vectors."""

    @property
    def space(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def description(self) -> str: ...

    def image(self, pictures: Sequence[Picture]) -> Vectors:
        """n pictures to n d float32, each row of length 1."""


def read_picture(data: bytes) -> Picture:
    """uint8 h w 3 from the bytes of a PNG, JPEG or WebP file, as a viewer shows it (`as_rgb`).

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
                return np.asarray(as_rgb(picture), np.uint8)
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
    distance = unlike_border((picture / 255).astype(np.float32))
    salient = distance > max(0.12, float(np.quantile(distance, 0.6)))
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
    return float((edges / (edges + 10)) * (size / (size + 64)))


class ColourLayout:
    """Which colours are where, from head to foot: soft colour histograms of three bands.

    Pixels count more near the vertical axis and the less their colour occurs along the border, so
    that the subject weighs more than what is behind it.
    """

    _LEVELS = 5
    _SIZE = (32, 48)
    _BANDS = ((0, 20), (14, 34), (28, 48))
    dimensions = len(_BANDS) * _LEVELS**3
    space = f"colour-layout/1/{dimensions}/unit"
    description = "colour layout: where which colours are; needs no model, knows no meaning"

    def image(self, pictures: Sequence[Picture]) -> Vectors:
        """n pictures to n 375. Histograms are square-rooted, so a cosine compares shares."""
        rows = [self._features(picture) for picture in pictures]
        return unit(np.stack(rows)) if rows else np.zeros((0, self.dimensions), np.float32)

    def _features(self, picture: Picture) -> NDArray[np.float32]:
        small = Image.fromarray(picture).resize(self._SIZE, Image.Resampling.BOX)
        values = (np.asarray(small) / 255).astype(np.float32)  # 48 32 3
        apart = unlike_border(values)
        axis = np.linspace(-1, 1, self._SIZE[0])
        weight = np.exp(-((axis / 0.44) ** 2))[None] * apart / (apart + 0.15)
        colours = self._soft_codes(values) * weight[..., None]
        parts = [colours[top:bottom].sum((0, 1)) for top, bottom in self._BANDS]
        shares = [np.sqrt(part / (part.sum() + 1e-6)) for part in parts]
        return np.concatenate(shares).astype(np.float32)

    def _soft_codes(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each pixel's share in the corners of its cell of a 5 x 5 x 5 colour grid: h w 125."""
        place = values * (self._LEVELS - 1)
        low = np.floor(place).astype(np.int64).clip(0, self._LEVELS - 2)
        part = place - low
        rows, columns = np.indices(values.shape[:2])
        codes = np.zeros((*values.shape[:2], self._LEVELS**3), np.float32)
        for corner in np.ndindex(2, 2, 2):
            share = np.abs(1 - np.array(corner) - part).prod(-1)
            red, green, blue = np.moveaxis(low + np.array(corner), -1, 0)
            codes[rows, columns, (red * self._LEVELS + green) * self._LEVELS + blue] += share
        return codes


def unlike_border(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance of each pixel (h w 3 in [0, 1]) to the nearest colour on the border: h w."""
    rim = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    rim = rim[:: max(1, len(rim) // 40)]
    distance = np.full(values.shape[:2], np.inf, np.float32)
    for colour in rim:
        distance = np.minimum(distance, np.abs(values - colour).sum(-1))
    return distance


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
