"""What a scorer is asked and what it answers, whoever looks at the pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from consistent_gen.client.types import ScoreOut
from consistent_gen.rewards.looking import SIDE, fitted
from consistent_gen.rewards.sight import Sight, agreement, alignment
from consistent_gen.world.naming import named_factors
from consistent_gen.world.palette import hue_anchors
from services.errors import Refusal


class PictureScorer(Protocol):
    """Scores pictures given as files; artifacts of ours, so they can be decoded."""

    def score(self, pictures: Sequence[bytes], prompts: Sequence[str] | None) -> ScoreOut:
        """Pairwise agreement and, with prompts, alignment. Raises ``Refusal`` (503) when away."""

    def look(self, pictures: Sequence[bytes]) -> list[list[Sight]]:
        """The characters in each picture (see `Looker.all`). Raises ``Refusal`` as `score`."""

    def close(self) -> None:
        """Give back what is held."""


def scored(seen: Sequence[Sight], prompts: Sequence[str] | None) -> ScoreOut:
    """Scores from what was seen in each picture."""
    anchors = hue_anchors()
    identity = [[agreement(a, b) for b in seen] for a in seen]
    wanted = [{} for _ in seen] if prompts is None else [named_factors(text) for text in prompts]
    aligned = [alignment(s, words, anchors) for s, words in zip(seen, wanted, strict=True)]
    return ScoreOut(identity=identity, alignment=aligned, scorer=seen[0].reader)


def small(data: bytes) -> np.ndarray:
    """A picture file as SIDE SIDE 3, uint8. Raises ``Refusal`` (422) when it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
            picture.draft("RGB", (2 * SIDE, 2 * SIDE))
            return fitted(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Refusal(422, "damaged", "one of the pictures cannot be decoded") from None


def png(pixels: np.ndarray) -> bytes:
    """Pixels (h w 3, uint8) as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
