"""A whole store on a clock that stands until it is moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consistent_gen.client.types import FrameIn, Job, StoryIn
from services.jobs import JobStore, Lease, OrderedFrame, WorkerBoard
from services.settings import LimitSettings, StorageSettings
from services.store import ArtifactStore, Database, Library, StoryStore
from services.store.sqlite_database import ServerSqlite

ROOMY = StorageSettings(reserve_bytes=0)


class Clock:
    """Seconds since 1970, moved by hand; and a clock that only time moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.steady = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Time goes by; or, when it is negative, somebody puts the clock back."""
        self.now += seconds
        self.steady += max(0.0, seconds)

    def step(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.now += seconds


@dataclass
class Shop:
    """All stores over one database: SQLite, or PostgreSQL at `url`."""

    folder: Path
    limits: LimitSettings = field(default_factory=LimitSettings)
    storage: StorageSettings = ROOMY
    clock: Clock = field(default_factory=Clock)
    lease_s: float = 4.0
    max_attempts: int = 3
    url: str | None = None
    gateway: str = ""

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.db = self.database()
        self.artifacts = ArtifactStore(
            self.folder / "artifacts", self.db, self.storage, clock=self.clock
        )
        self.stories = StoryStore(self.db, clock=self.clock)
        self.library = Library(self.db, self.artifacts, clock=self.clock)
        self.jobs = JobStore(
            self.db,
            self.limits,
            clock=self.clock,
            listening=lambda: self.clock.steady,
            lease_s=self.lease_s,
            max_attempts=self.max_attempts,
            gateway=self.gateway,
        )
        self.board = WorkerBoard(
            self.lease_s,
            lambda: self.clock.steady,
            self.db if self.db.shared else None,
            self.gateway,
        )

    def database(self) -> Database:
        if self.url is None:
            return ServerSqlite(self.folder / "server.sqlite")
        from services.store.postgres_database import ServerPostgres

        return ServerPostgres(self.url)

    def reopen(self) -> None:
        """As after a restart of the server."""
        self.db.close()
        self.open()

    def story(self, owner: str, frames: int = 3) -> str:
        return self.stories.create(owner, story_in(frames))

    def submit(
        self, owner: str = "alice", frames: int = 3, *, steps: int = 20, **options: Any
    ) -> Job:
        """A story and the job that draws it."""
        story = self.story(owner, frames)
        job, created = self.jobs.create(
            owner=owner, kind="story", story=story, frames=ordered(frames, steps=steps), **options
        )
        assert created
        return job

    def draw(self, lease: Lease, content: bytes | None = None) -> bool:
        """Hand in a drawing for a lease, the way a worker does."""
        data = content or f"drawing {lease.story} {lease.frame} {lease.version}".encode()
        artifact = self.artifacts.put(lease.owner, data, "image/png", temporary=True)
        return self.jobs.finish(lease, artifact=artifact.id, scores={"identity": 0.5})

    def draw_all(self, limit: int = 1000) -> int:
        """Draw until nothing waits; returns how many drawings were accepted."""
        drawn = 0
        while leases := self.jobs.lease("worker", 8):
            drawn += sum(self.draw(lease) for lease in leases)
            assert drawn <= limit
        return drawn


def story_in(frames: int) -> StoryIn:
    return StoryIn(title="A walk", frames=[FrameIn(prompt=f"scene {i}") for i in range(frames)])


def ordered(
    frames: int | Sequence[int], *, version: int = 1, steps: int = 20
) -> list[OrderedFrame]:
    indices = range(frames) if isinstance(frames, int) else frames
    return [
        OrderedFrame(
            index=i,
            version=version,
            seed=2**63 - 1 - i,
            steps=steps,
            order={"schema": 1, "story": {"title": "A walk"}, "frame": i, "prompt": None},
        )
        for i in indices
    ]
