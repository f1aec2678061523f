"""What a painter says of its leases, by the lease's id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from consistent_gen.errors import ConsistentGenError
from consistent_gen.story.plan import FramePlan


@dataclass(frozen=True)
class Stepped:
    """`step` steps of a lease's frame are done, counting its twin (a first pass that some methods
    need) as half of them; `preview` is uint8 [h w 3] or None.
    """

    lease: str
    step: int
    preview: np.ndarray | None = None


@dataclass(frozen=True)
class Drawn:
    """A lease's picture, uint8 [h w 3], and the metadata for its PNG.

    frame: what it shows, for scores; None for models whose pictures nobody can score. others:
    pictures of the same characters. scores: what is known already.
    """

    lease: str
    image: np.ndarray
    metadata: Mapping[str, Any]
    frame: FramePlan | None = None
    others: tuple[np.ndarray, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """A lease's frame cannot be drawn; `retryable` if another try may help."""

    lease: str
    error: ConsistentGenError
    retryable: bool


Report = Stepped | Drawn | Failed
