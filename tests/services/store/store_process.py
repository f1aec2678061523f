"""A process that uses a store and says what was acknowledged; tests start it and kill it.

``python store_process.py write FOLDER`` works until it is killed and prints one JSON line for each
call that returned; ``draw FOLDER WORKER`` draws one frame when told to, and when told again leases
and draws until nothing is left; ``fill FOLDER`` stores until the disk is full.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from consistent_gen.client.types import FrameIn, StoryIn
from services.errors import StorageFull
from services.jobs import JobStore, OrderedFrame
from services.settings import LimitSettings, StorageSettings
from services.store import ArtifactStore, StoryStore
from services.store.sqlite_database import ServerSqlite


def acknowledge(what: str, **content: Any) -> None:
    print(json.dumps({"what": what, **content}), flush=True)


class Store:
    def __init__(self, folder: Path) -> None:
        self.db = ServerSqlite(folder / "server.sqlite")
        self.artifacts = ArtifactStore(
            folder / "artifacts", self.db, StorageSettings(reserve_bytes=0)
        )
        self.stories = StoryStore(self.db)
        self.jobs = JobStore(self.db, LimitSettings(queue=10**6, queued_per_key=10**6), lease_s=0.5)

    def submit(self, frames: int) -> tuple[str, str]:
        request = StoryIn(title="t", frames=[FrameIn(prompt="p") for _ in range(frames)])
        ordered = [OrderedFrame(i, 1, i, 10, {"frame": i}) for i in range(frames)]
        with self.db.transaction():
            story = self.stories.create("alice", request)
            job, _ = self.jobs.create(owner="alice", kind="story", story=story, frames=ordered)
        return job.id, story

    def draw(self, worker: str, count: int) -> int:
        leases = self.jobs.lease(worker, count)
        for lease in leases:
            data = f"{lease.story} {lease.frame} {lease.version} {worker}".encode()
            self.jobs.renew(lease, step=5)
            artifact = self.artifacts.put("alice", data, "image/png", temporary=True)
            if self.jobs.finish(lease, artifact=artifact.id, scores={}):
                acknowledge(
                    "drawn", job=lease.job, story=lease.story, frame=lease.frame,
                    artifact=artifact.id, data=data.decode(),
                )  # fmt: skip
        return len(leases)


def write(folder: Path) -> None:
    store, chance = Store(folder), random.Random()
    acknowledge("ready")
    while True:
        job, story = store.submit(chance.randint(1, 4))
        acknowledge("created", job=job, story=story)
        store.draw("writer", chance.randint(1, 5))
        data = chance.randbytes(chance.randint(1, 20_000))
        kept = store.artifacts.put("alice", data, "image/png")
        acknowledge("stored", artifact=kept.id, sha256=kept.sha256)
        if chance.random() < 0.2:
            store.jobs.cancel("alice", job)
            acknowledge("cancelled", job=job)
        if chance.random() < 0.1:
            # A kill between these two lines leaves it open whether the story is there.
            acknowledge("deleting", story=story)
            store.stories.delete("alice", story)
            acknowledge("deleted", story=story)
            store.artifacts.sweep(0)


def draw(folder: Path, worker: str) -> None:
    store = Store(folder)
    acknowledge("ready")
    sys.stdin.readline()
    while not store.draw(worker, 1):
        time.sleep(0.01)
    # Without this stop a worker that the machine lets sleep might find nothing left to do.
    sys.stdin.readline()
    while store.jobs.queue().queued or store.jobs.queue().running:
        if not store.draw(worker, 3):
            time.sleep(0.01)


def fill(folder: Path) -> None:
    store, failures = Store(folder), 0
    while failures < 3:
        try:
            job, story = store.submit(3)
            acknowledge("created", job=job, story=story)
            store.draw("filler", 3)
            data = random.Random(failures).randbytes(30_000)
            kept = store.artifacts.put("alice", data + job.encode(), "image/png")
            acknowledge("stored", artifact=kept.id, sha256=kept.sha256)
        except StorageFull as error:
            failures += 1
            acknowledge("full", message=error.message)


if __name__ == "__main__":
    command, place, *rest = sys.argv[1:]
    {"write": write, "draw": draw, "fill": fill}[command](Path(place), *rest)
