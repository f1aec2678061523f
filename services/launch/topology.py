"""Several processes as one server: they are started, started again when they die, and stopped.

The parent does no work of its own. It owns the listening socket, so callers wait instead of being
refused while the gateway starts again.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.launch.options import EXIT_INPUT, TOKEN_VARIABLE

BACK_OFF_S = (0.2, 10.0)
STEADY_S = 30.0  # a child that lived so long starts again without a pause
POLL_S = 0.1
_log = logging.getLogger("services.topology")


@dataclass
class Child:
    """A process to be kept alive. `command` are its arguments after the interpreter's name."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause_s: float = BACK_OFF_S[0]
    due: float = 0.0

    def start(self) -> None:
        """Start it; its standard input is the lifeline."""
        self.process = subprocess.Popen(
            [sys.executable, *self.command],
            stdin=subprocess.PIPE,
            env={**os.environ, **self.environment},
            pass_fds=self.fds,
        )
        self.started = time.monotonic()

    def stop(self, number: int) -> None:
        """Send it a signal, if it is there."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within the time."""
        try:
            if self.process is not None:
                self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


class ProcessGroup:
    """A gateway and its workers.

    Args:
        gateway: arguments that start it. workers: the same for each worker.
        listener: the bound socket, which the gateway inherits.
        names: what the workers' names begin with.
    """

    def __init__(
        self,
        gateway: Sequence[str],
        workers: Sequence[Sequence[str]],
        listener: socket.socket,
        *,
        token: str = "",
        gpus: int = 0,
        drain_s: float = 20.0,
        names: str = "",
    ) -> None:
        shared = {TOKEN_VARIABLE: token or secrets.token_urlsafe(32)}
        self._drain_s = drain_s
        self.gateway = Child("gateway", gateway, shared, (listener.fileno(),))
        self.workers = [
            # A name of its own, under which it is started again: what its former process held is
            # then taken back at once.
            Child(
                f"worker {i + 1}",
                [*command, "--name", f"{names}worker-{i + 1}"],
                {**shared, **_card(i, gpus)},
            )
            for i, command in enumerate(workers)
        ]

    @property
    def children(self) -> list[Child]:
        """All processes."""
        return [self.gateway, *self.workers]

    def run(self, stop: threading.Event) -> int:
        """Keep all processes alive until `stop` is set; returns the exit code.

        A child that says that what it was given is wrong (exit code 2) ends everything, since it
        would say so again.
        """
        try:
            for child in self.children:
                child.start()
            while not stop.wait(POLL_S):
                for child in self.children:
                    if self._revive(child):
                        return EXIT_INPUT
            return 0
        finally:
            self._stop()

    def _revive(self, child: Child) -> bool:
        """Start a dead child again; True if that is of no use."""
        assert child.process is not None
        code = child.process.poll()
        if code is None:
            return False
        if code == EXIT_INPUT:
            return True
        now = time.monotonic()
        if child.due == 0.0:
            steady = now - child.started > STEADY_S
            child.pause_s = BACK_OFF_S[0] if steady else min(2 * child.pause_s, BACK_OFF_S[1])
            child.due = now + child.pause_s
            _log.warning("%s ended (%s); starting it again", child.name, code)
        if now >= child.due:
            child.due = 0.0
            if child.process.stdin is not None:
                child.process.stdin.close()
            child.start()
        return False

    def _stop(self) -> None:
        """Workers first: they hand back to the gateway what they hold."""
        for group in (self.workers, [self.gateway]):
            for child in group:
                child.stop(signal.SIGTERM)
            end = time.monotonic() + self._drain_s
            for child in group:
                if not child.wait(max(0.1, end - time.monotonic())):
                    _log.warning("%s did not end within %g s", child.name, self._drain_s)
                    child.stop(signal.SIGKILL)
                    child.wait(5.0)
                if child.process is not None and child.process.stdin is not None:
                    child.process.stdin.close()


def _card(worker: int, gpus: int) -> dict[str, str]:
    """The one GPU that a worker sees."""
    return {"CUDA_VISIBLE_DEVICES": str(worker % gpus)} if gpus > 0 else {}


def end_with_parent() -> None:
    """Send ourselves SIGTERM once standard input ends, which the parent holds open."""

    def watch() -> None:
        try:
            while os.read(sys.stdin.fileno(), 4096):
                pass
        except OSError:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
