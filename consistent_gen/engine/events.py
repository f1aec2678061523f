"""What the engine reports while it draws. Pictures are uint8 RGB arrays [h w 3]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from consistent_gen.errors import ConsistentGenError


@dataclass(frozen=True)
class Started:
    """The frame was encoded and noised; its first step is in the same call of `Engine.step`."""

    id: str


@dataclass(frozen=True)
class Step:
    """`step` of `steps` steps are done (1-based). `preview` has the picture's size, or is None."""

    id: str
    step: int
    steps: int
    preview: np.ndarray | None = None


@dataclass(frozen=True)
class FrameDone:
    """The picture, and everything needed to draw it again (see `metadata`)."""

    id: str
    image: np.ndarray
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class FrameError:
    """The frame will not be drawn. `error` is `errors.Cancelled` if that was asked for. `twin_of`:
    see `FrameRequest`.
    """

    id: str
    error: ConsistentGenError
    twin_of: str | None = None


Event = Started | Step | FrameDone | FrameError
