"""Gateways and drawing workers as real processes that can be killed, stopped and started again.

A gateway runs with a clock that can be set: `python -m benchmarks.chaos_processes FILE ...` is
`python -m services.serve ...` with the seconds that stand in FILE added to the wall clock.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

PATIENCE_S = 300.0
_TOKEN = {"CONSISTENT_GEN_AUTH_WORKER_TOKEN": "known to the processes of this run alone"}


@dataclass
class Doomed:
    """A process, started again under its name whenever that is asked for."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    fds: tuple[int, ...] = ()
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, if it is not there."""
        if self.alive:
            return
        with open(self.log or os.devnull, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                stdout=log,
                stderr=log,
                env={**os.environ, **_TOKEN, **self.environment},
                pass_fds=self.fds,
            )

    @property
    def alive(self) -> bool:
        """Whether it is there, going or stopped."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """SIGSTOP: it stands still until `go`."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def go(self) -> None:
        """SIGCONT."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)


class DoomedGateway(Doomed):
    """A gateway on a socket that stays open while it is killed and started, so callers wait."""

    def __init__(self, name: str, arguments: Sequence[str], clock: Path, log: Path) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        number = self._listener.fileno()
        said = ["--gateway-only", "--no-ui", "--listen-fd", str(number), *arguments]
        command = ["-m", "benchmarks.chaos_processes", str(clock), *said]
        super().__init__(name, command, fds=(number,), log=log)

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            answer = httpx.get(f"{self.url}/livez", timeout=2.0, trust_env=False)
            return answer.status_code == 200
        except httpx.HTTPError:
            return False

    def leave(self) -> None:
        """Kill it for good: its callers are refused from now on."""
        self.kill()
        self._listener.close()


def worker(name: str, url: str, arguments: Sequence[str], log: Path) -> Doomed:
    """A drawing process of its own, of one gateway."""
    said = ["--url", url, "--name", name, "--threads", "1", *arguments]
    return Doomed(name, ["-m", "services.worker_process", *said], log=log)


def burner(number: int) -> Doomed:
    """A process that keeps a core busy."""
    return Doomed(f"burner-{number}", ["-c", "while True: pass"])


def set_clock(file: Path, seconds: float) -> None:
    """Let the wall clock of the gateways be wrong by so much."""
    temporary = file.with_suffix(".new")
    temporary.write_text(str(seconds))
    temporary.replace(file)


def main(arguments: Sequence[str]) -> None:
    """`services.serve` with the clock of a file."""
    file, *said = arguments
    true = time.time

    def wrong() -> float:
        with open(file, encoding="utf-8") as stream:
            return true() + float(stream.read())

    time.time = wrong  # before anything takes it as a default
    sys.argv = ["services.serve", *said]
    runpy.run_module("services.serve", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
