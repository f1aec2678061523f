"""Where a worker gets its leases from, and whom it tells what came of them.

`LeaseSource` is all that a worker knows of the rest of the server. `store_leases` goes straight to
the stores of the same process; `http_leases` goes to a gateway over HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from consistent_gen.client.types import Problem
from consistent_gen.errors import ConsistentGenError
from services.jobs import Lease


class Unreachable(ConsistentGenError):
    """The gateway does not answer now; the same call may succeed later."""


@dataclass(frozen=True)
class Advance:
    """Progress of a lease: `step` steps are done. `preview` is a PNG file or None."""

    lease: Lease
    step: int
    preview: bytes | None = None


class LeaseSource(Protocol):
    """The other side of a worker. Every method may raise `Unreachable`.

    `renew_every_s` is how long a lease's progress may go unreported while nothing is `urgent`;
    `ask_every_s` how often a worker with rows to spare asks for more while it draws.
    """

    renew_every_s: float
    ask_every_s: float

    def lease(
        self,
        count: int,
        *,
        newcomers: int = 0,
        prefer_stories: Collection[str] = (),
        wait_s: float = 0.0,
    ) -> list[Lease]:
        """Up to `count` frames to draw, and one of each of up to `newcomers` users of whom nothing
        is drawn (see `JobWork.lease`); waits up to `wait_s` seconds for the first one.
        """

    def renew(self, advances: Sequence[Advance]) -> list[bool]:
        """Report progress and keep the leases; False where drawing must stop."""

    def urgent(self) -> bool:
        """Whether something changed since the last `renew`, such as a cancel. Costs nothing."""

    def finish(self, lease: Lease, png: bytes, scores: Mapping[str, float]) -> bool:
        """Hand in a drawing; False when nobody wants it any more."""

    def fail(self, lease: Lease, problem: Problem, *, retryable: bool) -> None:
        """The frame could not be drawn."""

    def release(self, lease: Lease) -> None:
        """Give a frame back undrawn; the attempt does not count."""

    def artifact(self, lease: Lease, artifact: str) -> bytes:
        """The bytes of a reference picture. Raises NotFound."""

    def announce(self, ready: bool, info: Mapping[str, Any]) -> None:
        """Say whether this worker can draw, and with what; to be repeated."""

    def leave(self) -> None:
        """Say goodbye."""
