"""Scores of pictures by the story-world reader: who resembles whom, is shown what was asked for.

`LocalScorer` runs the reader in this process. `RemoteScorer` sends pictures to the BentoML service
`services.scoring:Scoring`, which collects the pictures of many callers into one batch.
"""

from __future__ import annotations

import base64
import io
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import httpx
import numpy as np
from PIL import Image

from consistent_gen.checkpoints import folder_sha256, weights_folder
from consistent_gen.client.types import ScoreOut
from consistent_gen.errors import CheckpointError
from services.agreement import Sight, agreement, alignment, sights
from services.problems import Refusal

if TYPE_CHECKING:
    from consistent_gen.encoders.reader import Reader

READER = "reader"  # folder of the weights
SIDE = 128  # pixels; what the reader was trained on
MAX_BATCH = 64
METHOD_VERSION = 1
URL_VARIABLE = "CONSISTENT_GEN_SCORING_URL"
REMOTE_TIMEOUT_S = 60.0


class Scorer(Protocol):
    """Scores pictures given as files; artifacts of ours, so they can be decoded."""

    def score(self, pictures: Sequence[bytes], prompts: Sequence[str] | None) -> ScoreOut:
        """Pairwise agreement and, with prompts, alignment. Raises ``Refusal`` (503) when away."""

    def close(self) -> None:
        """Give back what is held."""


class LocalScorer:
    """The reader in this process, loaded when first needed. Safe to share between threads."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._loaded: tuple[Reader, str] | None = None

    def score(self, pictures: Sequence[bytes], prompts: Sequence[str] | None) -> ScoreOut:
        """See `Scorer`."""
        seen, name = self.see(np.stack([small(data) for data in pictures]))
        return scored(seen, prompts, name)

    def see(self, pictures: np.ndarray) -> tuple[list[Sight], str]:
        """What the reader sees in pictures (n SIDE SIDE 3, uint8), and the reader's name."""
        import torch

        reader, name = self._reader()
        with self._lock, torch.inference_mode():
            found: list[Sight] = []
            for start in range(0, len(pictures), MAX_BATCH):
                batch = torch.from_numpy(pictures[start : start + MAX_BATCH]).permute(0, 3, 1, 2)
                found += sights(reader(batch.contiguous()), reader.schema)
        return found, name

    def close(self) -> None:
        """Let the reader go."""
        self._loaded = None

    def _reader(self) -> tuple[Reader, str]:
        with self._lock:
            if self._loaded is None:
                try:
                    from consistent_gen.encoders.reader import Reader

                    folder = self._folder or weights_folder(READER)
                    name = f"story-world reader {folder_sha256(folder)[:12]}, v{METHOD_VERSION}"
                    self._loaded = Reader.load(folder), name
                except CheckpointError:
                    raise Refusal(
                        503, "scorer_unavailable",
                        "this server has no weights of the story-world reader, so it cannot score",
                    ) from None  # fmt: skip
            return self._loaded


class RemoteScorer:
    """The service `Scoring` at an address."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(
            base_url=url, timeout=REMOTE_TIMEOUT_S, transport=transport, trust_env=False
        )

    def score(self, pictures: Sequence[bytes], prompts: Sequence[str] | None) -> ScoreOut:
        """See `Scorer`."""
        items = [base64.b64encode(png(small(data))).decode() for data in pictures]
        try:
            answer = self._http.post("/read", json={"pictures": items})
            answer.raise_for_status()
            found = [Sight.model_validate(item) for item in answer.json()]
        except (httpx.HTTPError, ValueError):
            detail = "the scoring service does not answer; try again later"
            raise Refusal(503, "scorer_unavailable", detail, retry_after=5.0) from None
        return scored(found, prompts, found[0].reader)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def open_scorer(url: str | None = None) -> LocalScorer | RemoteScorer:
    """The scorer at `url`, or at the address in ``CONSISTENT_GEN_SCORING_URL``, or in here."""
    url = url or os.environ.get(URL_VARIABLE)
    return RemoteScorer(url) if url else LocalScorer()


def scored(seen: Sequence[Sight], prompts: Sequence[str] | None, scorer: str) -> ScoreOut:
    """Scores from what was seen in each picture."""
    identity = [[agreement(a, b) for b in seen] for a in seen]
    words: Sequence[str | None] = [None] * len(seen) if prompts is None else prompts
    aligned = [alignment(s, text) for s, text in zip(seen, words, strict=True)]
    return ScoreOut(identity=identity, alignment=aligned, scorer=scorer)


def small(data: bytes) -> np.ndarray:
    """A picture file as SIDE SIDE 3, uint8. Raises ``Refusal`` (422) when it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
            picture.draft("RGB", (2 * SIDE, 2 * SIDE))
            whole = picture.convert("RGB")
            fitted = whole.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
            return np.asarray(fitted, np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Refusal(422, "damaged", "one of the pictures cannot be decoded") from None


def png(pixels: np.ndarray) -> bytes:
    """Pixels (h w 3, uint8) as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
