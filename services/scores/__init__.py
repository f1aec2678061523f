"""How well pictures agree with each other and with prompts: by the story-world reader in this
process (`local`) or by the scoring service (`remote`). What is computed is in
`consistent_gen.rewards`.
"""

from __future__ import annotations

import os

from services.scores.local import LocalScorer
from services.scores.remote import RemoteScorer
from services.scores.scorer import PictureScorer

__all__ = ["URL_VARIABLE", "LocalScorer", "PictureScorer", "RemoteScorer", "open_scorer"]

URL_VARIABLE = "CONSISTENT_GEN_SCORING_URL"


def open_scorer(url: str | None = None) -> LocalScorer | RemoteScorer:
    """The scorer at `url`, or at the address in ``CONSISTENT_GEN_SCORING_URL``, or in here."""
    url = url or os.environ.get(URL_VARIABLE)
    return RemoteScorer(url) if url else LocalScorer()
