"""When a denoising step hangs: it takes far longer than the steps before it."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

# A step may take this many times the median, and at least so many seconds.
PATIENCE, PATIENCE_S, FIRST_PATIENCE_S = 10.0, 30.0, 300.0


class Watchdog:
    """Tells from the time of earlier steps whether the present one hangs. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: deque[float] = deque(maxlen=64)
        self._began: float | None = None

    def begin(self) -> None:
        """A step begins."""
        self._began = self._clock()

    def end(self) -> None:
        """It is over."""
        if self._began is not None:
            self._seconds.append(self._clock() - self._began)
        self._began = None

    @property
    def hangs(self) -> bool:
        """Whether a step takes far longer than the others did."""
        began = self._began
        if began is None:
            return False
        known = list(self._seconds)
        patience_s = max(PATIENCE * statistics.median(known), PATIENCE_S) if known else None
        return self._clock() - began > (patience_s or FIRST_PATIENCE_S)
