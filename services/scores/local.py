"""Scores by the reader in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from consistent_gen.client.types import ScoreOut
from consistent_gen.errors import CheckpointError
from consistent_gen.rewards.looking import Looker
from consistent_gen.rewards.sight import Sight
from services.errors import Refusal
from services.scores.scorer import scored, small

_Seen = TypeVar("_Seen")


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
                503, "scorer_unavailable",
                "this server has no weights of the story-world reader, so it cannot score",
            ) from None  # fmt: skip

    def close(self) -> None:
        """Let the reader go."""
        self._looker.close()
