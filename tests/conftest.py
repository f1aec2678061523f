"""Settings for every test."""

from __future__ import annotations

import os

# Before torch is imported, and inherited by the processes that tests start: models are tiny here,
# and two threads in a process cost more than they bring. Tests of thread counts set their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Threads of tests that ask for two sleep while they wait: the other core may be busy with another
# test, and a thread that spins until its turn comes burns what the other needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from hypothesis import HealthCheck, settings

# Both limits measure the wall clock, which says more about a busy machine than about our code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
