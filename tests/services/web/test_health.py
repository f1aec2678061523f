"""Health tells the truth: what is alive need not be ready."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import httpx

from services.jobs import WorkerBoard
from services.settings import EngineSettings, StorageSettings
from tests.services.web.hand import Server, settings_in, until

ROOMY = {"reserve_bytes": 0}


def answers(server: Server) -> tuple[int, int, str]:
    """(liveness, readiness, code of the problem)."""
    ready = httpx.get(f"{server.url}/readyz")
    alive = httpx.get(f"{server.url}/livez").status_code
    return alive, ready.status_code, ready.json().get("code", "")


def with_storage(folder: Path, **storage: int) -> Server:
    settings = settings_in(folder)
    kept = StorageSettings(data_dir=folder, **(ROOMY | storage))
    patient = EngineSettings(lease_s=600.0)
    return Server(dataclasses.replace(settings, storage=kept, engine=patient)).start()


def test_without_room_on_the_disk_a_server_is_alive_and_not_ready(tmp_path: Path) -> None:
    server = with_storage(tmp_path / "a", reserve_bytes=1 << 60)
    server.state.workers.report("w", ready=True)
    assert answers(server) == (200, 503, "storage_full")
    # The gateway itself can show stories and take jobs, so callers are let in.
    assert httpx.get(f"{server.url}/readyz?of=gateway").json() == {"status": "ready", "workers": 1}
    assert httpx.get(f"{server.url}/readyz?of=disk").status_code == 422
    server.state.database.close()
    assert httpx.get(f"{server.url}/readyz?of=gateway").status_code == 500
    assert httpx.get(f"{server.url}/livez").status_code == 200
    server.stop()


def test_nor_when_its_quota_is_used_up(tmp_path: Path) -> None:
    server = with_storage(tmp_path / "a", quota_bytes=(1 << 20) + 100)
    server.state.workers.report("w", ready=True)
    assert answers(server)[:2] == (200, 200)
    server.state.artifacts.put("anonymous", bytes(200), "image/png")
    assert answers(server) == (200, 503, "storage_full")
    server.stop()


def test_a_silent_worker_is_noticed_within_its_lease(tmp_path: Path) -> None:
    settings = dataclasses.replace(settings_in(tmp_path), engine=EngineSettings(lease_s=1.0))
    server = Server(settings).start()
    server.state.workers.report("w", ready=True)
    until(lambda: answers(server) == (200, 503, "not_ready"), "that it is noticed", 20.0)
    server.stop()


def test_a_worker_counts_until_its_lease_is_over() -> None:
    now = [0.0]
    board = WorkerBoard(30.0, lambda: now[0])
    board.report("w", ready=True)
    now[0] = 29.0
    assert board.ready
    board.heard("w")
    now[0] = 58.0
    assert board.ready
    now[0] = 60.0
    assert not board.ready
