"""How well pictures agree with each other and with prompts: by the story-world reader in this
process or by the scoring service, as `scorer` has both. What is computed is in
`consistent_gen.rewards`.
"""

from __future__ import annotations

import os

from services.scores.scorer import LocalScorer, PictureScorer, RemoteScorer

__all__ = ["URL_VARIABLE", "LocalScorer", "PictureScorer", "RemoteScorer", "open_scorer"]

URL_VARIABLE = "CONSISTENT_GEN_SCORING_URL"


def open_scorer(url: str | None = None) -> LocalScorer | RemoteScorer:
    """The scorer at `url`, or at the address in ``CONSISTENT_GEN_SCORING_URL``, or in here."""
    url = url or os.environ.get(URL_VARIABLE)
    return RemoteScorer(url) if url else LocalScorer()
