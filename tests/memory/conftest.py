"""Stores to test: SQLite with and without a key, PostgreSQL on a real server started here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from consistent_gen.memory import open_memory
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.storage.keys import MemoryKey

KEY = MemoryKey("5" * 64)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **amount: float) -> datetime:
        self.now += timedelta(**amount)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgres(postgres_server: str) -> str:
    """The administrator's address of a running server that keeps no recycled log files."""
    from consistent_gen.memory.storage.postgres_store import PostgresDatabase, prepare_server

    db = PostgresDatabase(postgres_server, lock_key=0)
    db.rows("ALTER SYSTEM SET wal_recycle = off")
    db.rows("SELECT pg_reload_conf()")
    db.close()
    prepare_server(postgres_server)
    return postgres_server


@pytest.fixture(params=["sqlite", "encrypted", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where `open_memory` shall open: one test runs on every backend."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres"))
    return str(tmp_path / request.param)


@pytest.fixture
def opened(clock: Clock, tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Open stores that are closed at the end; users are private to the test."""
    stores: list[Store] = []

    def opening(place: str | Path, user: str = "ann", **options: Any) -> Store:
        if Path(place).name == "encrypted":
            options.setdefault("key", KEY)
        store = open_memory(place, f"{tmp_path}:{user}", **{"clock": clock, **options})
        stores.append(store)
        return store

    yield opening
    for store in stores:
        store.close()


@pytest.fixture
def store(place: str, opened: Callable[..., Store]) -> Store:
    return opened(place)


@pytest.fixture
def lite(tmp_path: Path, opened: Callable[..., Store]) -> Store:
    """A store on SQLite, for what does not depend on the backend."""
    return opened(tmp_path / "lite")


@pytest.fixture
def say(clock: Clock) -> Callable[..., str]:
    """Store one turn and return its id."""

    def saying(store: Store, text: str, role: str = "user") -> str:
        turn = Turn(text=text, role=role, valid_from=clock())  # type: ignore[arg-type]
        return store.record([turn]).ids[0]

    return saying
