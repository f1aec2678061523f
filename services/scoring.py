"""`bentoml serve services.scoring:Scoring`: the story-world reader with adaptive batching.

The pictures of many callers are read in one call of the network. An exception would fail a whole
batch, so a picture that cannot be decoded comes back as one in which nobody is seen. The service is
for gateways, not for the world: it knows no keys.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import replace
from typing import Annotated

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")  # read when bentoml is imported

import bentoml
import numpy as np
from annotated_types import MaxLen, MinLen
from bentoml.exceptions import ServiceUnavailable

from consistent_gen.rewards.looking import MAX_BATCH, SIDE
from consistent_gen.rewards.sight import Sight
from services.errors import Refusal
from services.scores import LocalScorer
from services.scores.scorer import small

MAX_LATENCY_MS = 30_000
# Checked before requests are put together; none or too many is a 400 that says which.
Pictures = Annotated[list[str], MinLen(1), MaxLen(MAX_BATCH)]
_EMPTY = np.zeros((SIDE, SIDE, 3), np.uint8)


@bentoml.service(name="scoring", workers=1, traffic={"timeout": 60})
class Scoring:
    """Reads pictures. It is ready once the weights are read."""

    def __init__(self) -> None:
        self._scorer = LocalScorer()
        self._ready = self._load()

    @bentoml.api(
        route="/read", batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS
    )
    def read(self, pictures: Pictures) -> list[Sight]:
        """The main character in each picture (a PNG, JPEG or WebP file in base64)."""
        return [max(sights, key=lambda sight: sight.area) for sights in self._look(pictures)]

    @bentoml.api(
        route="/look", batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS
    )
    def look(self, pictures: Pictures) -> list[list[Sight]]:
        """All characters in each picture, from left to right; one of nobody where there is none."""
        return self._look(pictures)

    def _look(self, pictures: list[str]) -> list[list[Sight]]:
        if not self._ready:
            raise ServiceUnavailable("there are no weights of the story-world reader here")
        decoded = [_decoded(text) for text in pictures]
        stack = np.stack([_EMPTY if pixels is None else pixels for pixels in decoded])
        return [
            sights if pixels is not None else [replace(sights[0], present=False)]
            for sights, pixels in zip(self._scorer.see_all(stack), decoded, strict=True)
        ]

    def __is_ready__(self) -> bool:
        return self._ready

    def _load(self) -> bool:
        try:
            self._scorer.see_all(_EMPTY[None])
        except Refusal:
            return False
        return True


def _decoded(text: str) -> np.ndarray | None:
    try:
        return small(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, Refusal):
        return None
