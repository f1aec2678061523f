"""What goes into the job store and what workers get out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class OrderedFrame:
    """One frame to draw. ``order`` is the JSON that the painter reads; the store keeps it as it is.

    ``(story, index, version)`` names a drawing: at most one is ever accepted for it. ``steps`` is
    also the cost by which turns are shared out.
    """

    index: int
    version: int
    seed: int
    steps: int
    order: dict[str, Any]


@dataclass(frozen=True)
class Lease:
    """The right to draw one frame, for as long as progress is reported.

    ``order`` is the frame's; ``attempt`` counts from 1; ``owner`` is the key that pays and
    under which the drawing is stored.
    """

    id: str
    job: str
    story: str
    frame: int
    version: int
    attempt: int
    owner: str
    user: str
    order: dict[str, Any]
    deadline_at: float | None
    bulk: bool


@dataclass(frozen=True)
class OwnerLoad:
    """Frames of one key that wait and that are being drawn."""

    queued: int = 0
    running: int = 0


@dataclass(frozen=True)
class QueueState:
    """The queue at one moment, in frames. ``oldest_queued_s`` is 0 when nothing waits."""

    queued: int
    running: int
    oldest_queued_s: float
    owners: Mapping[str, OwnerLoad] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """A worker's report about one lease: steps done, and perhaps a preview (an artifact id)."""

    lease: str
    step: int
    preview: str | None = None
