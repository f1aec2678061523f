"""Scores by the service `services.scoring:Scoring`, which reads the pictures of many callers at
once.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TypeVar

import httpx
from pydantic import TypeAdapter

from consistent_gen.client.types import ScoreOut
from consistent_gen.rewards.sight import Sight
from services.errors import Refusal
from services.scores.scorer import png, scored, small

REMOTE_TIMEOUT_S = 60.0
_SIGHTS = TypeAdapter(list[Sight])
_ALL_SIGHTS = TypeAdapter(list[list[Sight]])
_Seen = TypeVar("_Seen")


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
        try:
            answer = self._http.post(path, json={"pictures": items})
            answer.raise_for_status()
            return kind.validate_python(answer.json())
        except (httpx.HTTPError, ValueError):
            detail = "the scoring service does not answer; try again later"
            raise Refusal(503, "scorer_unavailable", detail, retry_after=5.0) from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
