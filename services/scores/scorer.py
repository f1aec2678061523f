"""Scores of pictures: by the reader in this process, or by the service `services.scoring:Scoring`,
which reads the pictures of many callers at once.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx
import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from consistent_gen.client.types import ScoreOut
from consistent_gen.errors import CheckpointError
from consistent_gen.rewards.looking import MAX_BATCH, SIDE, Looker, fitted
from consistent_gen.rewards.sight import Sight, agreement, aligned
from consistent_gen.world.naming import read_prompt
from consistent_gen.world.palette import hue_anchors
from services.errors import Refusal

_Seen = TypeVar("_Seen")


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
    asked = [read_prompt(text) for text in ([""] * len(seen) if prompts is None else prompts)]
    found = [
        aligned(s, words.factors, anchors, words.unread)
        for s, words in zip(seen, asked, strict=True)
    ]
    return ScoreOut(
        identity=identity,
        alignment=[one.value for one in found],
        scorer=seen[0].reader,
        unread=[list(one.unread) for one in found],
    )


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


class LocalScorer:
    """The reader in this process, loaded when first needed. Safe to share between threads."""

    def __init__(self, folder: Path | None = None) -> None:
        self._looker = Looker(folder)

    def score(self, pictures: Sequence[bytes], prompts: Sequence[str] | None) -> ScoreOut:
        """See `PictureScorer`."""
        return scored(self.see(np.stack([small(data) for data in pictures])), prompts)

    def look(self, pictures: Sequence[bytes]) -> list[list[Sight]]:
        """See `PictureScorer`."""
        return self.see_all(np.stack([small(data) for data in pictures]))

    def see(self, pictures: np.ndarray) -> list[Sight]:
        """The main character that the reader sees in pictures (n SIDE SIDE 3, uint8)."""
        return self._read(self._looker.main, pictures)

    def see_all(self, pictures: np.ndarray) -> list[list[Sight]]:
        """All characters that it sees there."""
        return self._read(self._looker.all, pictures)

    def _read(self, look: Callable[[np.ndarray], _Seen], pictures: np.ndarray) -> _Seen:
        try:
            return look(pictures)
        except CheckpointError:
            raise Refusal(
                503,
                "scorer_unavailable",
                "this server has no weights of the story-world reader, so it cannot score",
            ) from None

    def close(self) -> None:
        """Let the reader go."""
        self._looker.close()


REMOTE_TIMEOUT_S = 60.0
_SIGHTS = TypeAdapter(list[Sight])
_ALL_SIGHTS = TypeAdapter(list[list[Sight]])


class RemoteScorer:
    """The service `Scoring` at an address."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(
            base_url=url, timeout=REMOTE_TIMEOUT_S, transport=transport, trust_env=False
        )

    def score(self, pictures: Sequence[bytes], prompts: Sequence[str] | None) -> ScoreOut:
        """See `PictureScorer`."""
        seen = self._asked("/read", pictures, _SIGHTS)
        return scored(seen, prompts)

    def look(self, pictures: Sequence[bytes]) -> list[list[Sight]]:
        """See `PictureScorer`."""
        return self._asked("/look", pictures, _ALL_SIGHTS)

    def _asked(self, path: str, pictures: Sequence[bytes], kind: TypeAdapter[_Seen]) -> _Seen:
        items = [base64.b64encode(png(small(data))).decode() for data in pictures]
        found: list[Any] = []
        try:
            for start in range(0, len(items), MAX_BATCH):  # no more are taken at once
                part = {"pictures": items[start : start + MAX_BATCH]}
                answer = self._http.post(path, json=part)
                answer.raise_for_status()
                found += answer.json()
            return kind.validate_python(found)
        except (httpx.HTTPError, ValueError, TypeError):
            detail = "the scoring service does not answer; try again later"
            raise Refusal(503, "scorer_unavailable", detail, retry_after=5.0) from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
