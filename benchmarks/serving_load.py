"""A server in a process of its own, and callers that do not wait for each other."""

from __future__ import annotations

import asyncio
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

WAIT_S = 600.0
START_S = 600.0


@dataclass(frozen=True)
class Served:
    """A running server. `ready_s` is from the start of its process to /readyz 200."""

    url: str
    pid: int
    started: float
    ready_s: float


@contextmanager
def serve(*arguments: str, data: Path | None = None) -> Iterator[Served]:
    """Start `python -m services.serve` on a free port and stop it at the end.

    data: its folder; a temporary one by default.

    Raises:
        RuntimeError: it ended before it was ready, or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        command = [sys.executable, "-m", "services.serve", "--port", "0"]
        command += ["--data", str(data or folder), *arguments]
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            url = ready_url(process)
            yield Served(url, process.pid, started, time.monotonic() - started)
        finally:
            process.terminate()
            try:
                process.wait(60.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def ready_url(process: subprocess.Popen[str]) -> str:
    """The address of a server that was just started, once it is ready.

    Raises:
        RuntimeError: it ended before it was ready, or took too long.
    """
    end = time.monotonic() + START_S
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready at "):
            return line.split()[2]
        if time.monotonic() > end:
            break
    raise RuntimeError("the server did not become ready")


@dataclass
class LoadTally:
    """What became of the requests of one run. Times in seconds."""

    users: int
    latencies_s: list[float] = field(default_factory=list)
    rejected: int = 0
    failed: int = 0
    seconds: float = 0.0

    def add(self, other: LoadTally) -> None:
        """Count another run of the same kind in."""
        self.latencies_s += other.latencies_s
        self.rejected += other.rejected
        self.failed += other.failed
        self.seconds += other.seconds

    def figures(self) -> dict[str, Any]:
        """Rates and percentiles, as JSON values."""
        done = sorted(self.latencies_s)
        return {
            "users": self.users,
            "done": len(done),
            "rejected": self.rejected,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(len(done) / self.seconds, 4) if self.seconds else 0.0,
            **{f"p{p}_s": round(percentile(done, p), 3) for p in (50, 95, 99)},
        }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` percent do not exceed; NaN for none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


async def open_loop(
    url: str, *, users: int, requests: int, between_s: float, steps: int, seed: int
) -> LoadTally:
    """`users` users each send `requests` pictures, at random moments `between_s` apart on average,
    whether or not earlier ones have come back. Steps lie between half and one and a half `steps`.
    """
    tally = LoadTally(users)
    dice = random.Random(seed)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(
        base_url=url, timeout=WAIT_S, limits=limits, trust_env=False
    ) as client:
        calls = []
        for user in range(users):
            at = 0.0
            for number in range(requests):
                at += dice.expovariate(1.0 / between_s)
                own = dice.randint(-(-steps // 2), steps + steps // 2)
                body = {"prompt": "a fox", "steps": own, "seed": user * 1000 + number}
                calls.append(_picture(client, tally, f"user-{user}", at, body))
        started = time.monotonic()
        await asyncio.gather(*calls)
        tally.seconds = time.monotonic() - started
    return tally


async def _picture(
    client: httpx.AsyncClient, tally: LoadTally, user: str, at: float, body: dict[str, Any]
) -> None:
    await asyncio.sleep(at)
    sent = time.monotonic()
    headers = {"Prefer": f"wait={WAIT_S:.0f}", "X-User": user}
    answer = await client.post("/v1/images", json=body, headers=headers)
    if answer.status_code in (429, 503):
        tally.rejected += 1
        return
    job = answer.json()
    # The server may wait for less long than it was asked to.
    while answer.is_success and job.get("state") not in ("succeeded", "failed", "cancelled"):
        await asyncio.sleep(0.2)
        answer = await client.get(f"/v1/jobs/{job.get('id') or job['job']}")
        job = answer.json()
    if answer.is_success and job["state"] == "succeeded":
        tally.latencies_s.append(time.monotonic() - sent)
    else:
        tally.failed += 1
