"""Processes that are killed, several at once, a full disk, a folder that cannot be written.

What a call has returned is there afterwards, whatever happened; and what was not returned is there
as a whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.errors import NotFound, StorageFull
from services.jobs import JobStore
from services.settings import LimitSettings, StorageSettings
from services.store import ArtifactStore, StoryStore
from services.store.sqlite_database import ServerSqlite

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(__file__).with_name("store_process.py")


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )


def said(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Everything that the process said in whole lines, once it has ended."""
    assert process.stdout is not None
    lines = process.stdout.read().split("\n")[:-1]
    process.wait(timeout=60)
    process.stdout.close()
    if process.stdin is not None:
        process.stdin.close()
    return [json.loads(line) for line in lines]


def tell(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


class Survivors:
    """A folder, opened anew, against what was acknowledged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db = ServerSqlite(folder / "server.sqlite")
        self.artifacts = ArtifactStore(
            folder / "artifacts", self.db, StorageSettings(reserve_bytes=0)
        )
        self.stories = StoryStore(self.db)
        self.jobs = JobStore(self.db, LimitSettings(running_per_key=10**6), lease_s=0.5)

    def check(self, lines: list[dict[str, Any]]) -> None:
        (answer,) = self.db.rows("PRAGMA integrity_check")
        assert tuple(answer) == ("ok",)
        assert self.db.rows("PRAGMA foreign_key_check") == []
        deleted = {line["story"] for line in lines if line["what"] == "deleted"}
        perhaps = {line["story"] for line in lines if line["what"] == "deleting"}
        jobs = {line["job"]: line["story"] for line in lines if line["what"] == "created"}
        for line in lines:
            if line.get("story", jobs.get(line.get("job", ""))) in perhaps:
                continue
            self.check_line(line)
        for story in deleted:
            with pytest.raises(NotFound):
                self.stories.get("alice", story)
        # No row without its file.
        for row in self.db.rows("SELECT id, owner FROM artifacts"):
            assert self.artifacts.read(row["owner"], row["id"])

    def check_line(self, line: dict[str, Any]) -> None:
        if line["what"] == "created":
            assert self.jobs.get("alice", line["job"]).story == line["story"]
        elif line["what"] == "cancelled":
            job = self.jobs.get("alice", line["job"])
            assert all(f.state in ("cancelled", "succeeded") for f in job.frames)
        elif line["what"] == "stored":
            assert self.artifacts.open("alice", line["artifact"])[0].sha256 == line["sha256"]
        elif line["what"] == "drawn":
            (version,) = self.stories.get("alice", line["story"]).frames[line["frame"]].versions
            assert version.artifact == line["artifact"]
            assert self.artifacts.read("alice", version.artifact).decode() == line["data"]

    def draw_the_rest(self) -> None:
        """Every job can be brought to its end, each frame with one drawing."""
        deadline = time.monotonic() + 60
        while self.jobs.queue().queued or self.jobs.queue().running:
            assert time.monotonic() < deadline
            for lease in self.jobs.lease("survivor", 50):
                drawing = self.artifacts.put("alice", lease.id.encode(), "image/png")
                assert self.jobs.finish(lease, artifact=drawing.id, scores={})
            time.sleep(0.02)
        wrong = self.db.rows(
            """SELECT 1 FROM job_frames f WHERE (f.state = 'succeeded') <> (
                   SELECT COUNT(*) FROM frame_versions v WHERE v.story = f.story
                   AND v.frame = f.frame AND v.version = f.version)"""
        )
        assert wrong == []

    def close(self) -> None:
        self.db.close()


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    for _ in range(3):
        process = start("write", str(tmp_path))
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["what"] == "ready"
        # So far, and then at any moment: a slow machine is not killed before it has done a thing.
        lines += [json.loads(process.stdout.readline()) for _ in range(random.randint(20, 60))]
        time.sleep(random.uniform(0.0, 0.05))
        process.kill()
        lines += said(process)
        survivors = Survivors(tmp_path)
        survivors.check(lines)
        survivors.close()
    assert sum(line["what"] == "drawn" for line in lines) > 10
    survivors = Survivors(tmp_path)
    survivors.draw_the_rest()
    survivors.artifacts.sweep(0)
    survivors.check(lines)
    # Nobody needs what the killed ones left half-done.
    files = {path.name for path in (tmp_path / "artifacts").glob("??/*")}
    assert files == {row["sha256"] for row in survivors.db.rows("SELECT sha256 FROM blobs")}
    survivors.close()


def test_two_processes_never_draw_the_same_frame(tmp_path: Path) -> None:
    survivors = Survivors(tmp_path)
    workers = [start("draw", str(tmp_path), f"worker{n}") for n in range(2)]
    for worker in workers:
        assert worker.stdout is not None and worker.stdin is not None
        worker.stdout.readline()
    wanted = {}
    for _ in range(15):
        job, story = submit(survivors, frames=4)
        wanted[job] = story
    seq = survivors.jobs.changed()
    tell(workers)
    assert survivors.jobs.wait(seq, 60) > seq, "changes by other processes wake us"
    first = [json.loads(worker.stdout.readline()) for worker in workers if worker.stdout]
    assert [line["what"] for line in first] == ["drawn"] * 2, "both had work"
    tell(workers)
    lines = [[line, *said(worker)] for line, worker in zip(first, workers, strict=True)]
    drawn = [(line["story"], line["frame"]) for line in (*lines[0], *lines[1])]
    assert len(drawn) == 60 and set(drawn) == {(s, f) for s in wanted.values() for f in range(4)}
    for job in wanted:
        assert survivors.jobs.get("alice", job).state == "succeeded"
    survivors.check([*lines[0], *lines[1]])
    survivors.close()


def submit(survivors: Survivors, frames: int) -> tuple[str, str]:
    from tests.services.shop import ordered, story_in

    story = survivors.stories.create("alice", story_in(frames))
    job, _ = survivors.jobs.create(owner="alice", kind="story", story=story, frames=ordered(frames))
    return job.id, story


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of that size, skipped where we may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root; the limit on file sizes is tested everywhere")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def check_full(lines: list[dict[str, Any]]) -> None:
    full = [line["message"] for line in lines if line["what"] == "full"]
    assert len(full) == 3 and lines[-1]["what"] == "full"
    assert all("nothing was changed" in message for message in full), full
    assert sum(line["what"] == "stored" for line in lines) > 3


def test_a_full_disk_is_said_and_harms_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "5m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1_000_000))
        process = start("fill", str(disk))
        lines = said(process)
        assert process.returncode == 0
        check_full(lines)
        ballast.unlink()
        survivors = Survivors(disk)
        survivors.check(lines)
        survivors.draw_the_rest()
        job, _ = submit(survivors, frames=1)
        assert survivors.jobs.get("alice", job).state == "queued"
        survivors.close()


def test_a_limit_on_file_sizes_acts_like_a_full_disk(tmp_path: Path) -> None:
    size = 2_000_000

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    process = start("fill", str(tmp_path), preexec_fn=limit)
    lines = said(process)
    assert process.returncode == 0
    check_full(lines)
    survivors = Survivors(tmp_path)
    survivors.check(lines)
    survivors.draw_the_rest()
    survivors.close()


def test_a_disk_that_fills_while_a_frame_is_drawn_costs_only_time(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        survivors = Survivors(disk)
        job, _ = submit(survivors, frames=1)
        (lease,) = survivors.jobs.lease("worker", 1)
        drawing = survivors.artifacts.put("alice", b"drawing", "image/png", temporary=True)
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as stream:
            while True:
                stream.write(bytes(4096))
        refused = 0
        for _ in range(50):
            try:
                survivors.jobs.renew(lease, step=1)
                survivors.jobs.cancel("bob", job)
            except StorageFull:
                refused += 1
            except NotFound:
                continue
        with pytest.raises(StorageFull):
            survivors.artifacts.put("alice", bytes(100_000), "image/png")
        assert [p.name for p in (disk / "artifacts").glob("incoming-*")] == []
        ballast.unlink()
        assert survivors.jobs.finish(lease, artifact=drawing.id, scores={})
        assert survivors.jobs.get("alice", job).state == "succeeded"
        survivors.check([])
        survivors.close()


def test_the_reserve_leaves_room_to_delete(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        db = ServerSqlite(disk / "server.sqlite")
        artifacts = ArtifactStore(disk / "artifacts", db, StorageSettings(reserve_bytes=2 << 20))
        kept = []
        with pytest.raises(StorageFull, match="disk is full"):
            for number in range(100):
                data = bytes(100_000) + str(number).encode()
                kept.append(artifacts.put("alice", data, "image/png").id)
        assert shutil.disk_usage(disk).free >= 1 << 20 and len(kept) > 3
        for artifact in kept:
            artifacts.delete("alice", artifact)
        assert artifacts.used_bytes() == 0
        db.close()


@pytest.mark.parametrize("existing", [False, True])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, existing: bool) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    if existing:
        survivors = Survivors(folder)
        submit(survivors, frames=1)
        survivors.close()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    program = f"""
import os, sys
from pathlib import Path
from services.store.sqlite_database import ServerSqlite
from services.errors import StorageFull
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    ServerSqlite(Path({str(folder)!r}) / "server.sqlite").change("DELETE FROM jobs")
except StorageFull as error:
    print(error.status, error.message)
"""
    for path in (*before, folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    # Others may look into the folders above, or they could not even find the file.
    parents = [p for p in folder.parents if p.stat().st_uid == os.geteuid() and p != Path("/")]
    modes = {parent: parent.stat().st_mode for parent in parents}
    try:
        for parent in parents:
            parent.chmod(modes[parent] | 0o755)
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    finally:
        for parent, mode in modes.items():
            parent.chmod(mode)
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("507 ") and "cannot" in done.stdout
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_writer_that_is_killed_inside_a_transaction_leaves_nothing_of_it(tmp_path: Path) -> None:
    ServerSqlite(tmp_path / "server.sqlite").close()
    program = f"""
import os, signal
from pathlib import Path
from services.store.sqlite_database import ServerSqlite
db = ServerSqlite(Path({str(tmp_path)!r}) / "server.sqlite")
with db.transaction():
    db.change("INSERT INTO turns (name, state) VALUES ('half', '')")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == -9
    db = ServerSqlite(tmp_path / "server.sqlite")
    assert db.rows("SELECT * FROM turns") == []
    db.close()
    assert sqlite3.connect(tmp_path / "server.sqlite").execute("SELECT 1").fetchone() == (1,)
