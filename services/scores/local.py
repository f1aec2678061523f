"""Scores by the reader in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from consistent_gen.client.types import ScoreOut
from consistent_gen.errors import CheckpointError
from consistent_gen.rewards.looking import Looker
from consistent_gen.rewards.sight import Sight
from services.errors import Refusal
from services.scores.scorer import scored, small


class LocalScorer:
    """The reader in this process, loaded when first needed. Safe to share between threads."""

    def __init__(self, folder: Path | None = None) -> None:
        self._looker = Looker(folder)

    def score(self, pictures: Sequence[bytes], prompts: Sequence[str] | None) -> ScoreOut:
        """See `PictureScorer`."""
        return scored(self.see(np.stack([small(data) for data in pictures])), prompts)

    def see(self, pictures: np.ndarray) -> list[Sight]:
        """What the reader sees in pictures (n SIDE SIDE 3, uint8)."""
        try:
            return self._looker.main(pictures)
        except CheckpointError:
            raise Refusal(
                503, "scorer_unavailable",
                "this server has no weights of the story-world reader, so it cannot score",
            ) from None  # fmt: skip

    def close(self) -> None:
        """Let the reader go."""
        self._looker.close()
