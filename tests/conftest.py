"""Settings for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Both limits measure the wall clock, which says more about a busy machine than about our code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
