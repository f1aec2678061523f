"""Settings for every test."""

from __future__ import annotations

import os

# Before torch is imported, and inherited by the processes that tests start: models are tiny here,
# and two threads in a process cost more than they bring. Tests of thread counts set their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

# Both limits measure the wall clock, which says more about a busy machine than about our code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
