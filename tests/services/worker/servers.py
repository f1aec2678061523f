"""A whole server for tests: a gateway on a real socket of this process, and workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn

from consistent_gen.client import Client
from consistent_gen.models.backbone import Backbone
from services.launch.listening import address_of, listen
from services.launch.options import TOKEN_VARIABLE
from services.launch.server import Server
from services.painting.painter import Painter
from services.settings import Settings, load_settings
from services.web import ServerState, build_app, open_state
from services.worker.leases import StoreLeases
from services.worker.loop import Worker

BUCKET = 4
TOKEN = "a token of the tests only"
PATIENCE_S = 120.0
# All that a worker imports on its way to its first frame.
PRELOADED = [
    "services.painting.painter",
    "services.worker.loop",
    "services.worker.leases",
    "consistent_gen.models.pretrained",
    "consistent_gen.models.patch_autoencoder",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.schedulers.scheduling_dpmsolver_multistep",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
]
_T = TypeVar("_T")


def settings_for(data: Path, *overrides: str, model: Path | None = None) -> Settings:
    """Settings of a small server."""
    said = [
        f"storage.data_dir={data}", f"engine.bucket={BUCKET}", f"auth.worker_token={TOKEN}",
        "limits.running_per_key=64", *overrides,
    ]  # fmt: skip
    settings = load_settings(None, {}, said)
    return replace(settings, engine=replace(settings.engine, model=model))


def until(found: Callable[[], _T], what: str, patience_s: float = PATIENCE_S) -> _T:
    """Poll until `found()` is true and return it."""
    end = time.monotonic() + patience_s
    while not (value := found()):
        assert time.monotonic() < end, f"still not: {what}"
        time.sleep(0.01)
    return value


class Gateway:
    """The HTTP application on a socket. Several may follow each other on one data folder."""

    def __init__(self, settings: Settings, port: int = 0) -> None:
        self.settings = settings
        self.listener = listen("127.0.0.1", port)
        self.address = address_of(self.listener)
        self.port: int = self.listener.getsockname()[1]
        self.state: ServerState = open_state(settings)
        config = uvicorn.Config(
            build_app(settings, state=self.state), log_level="error", access_log=False, ws="none",
            timeout_graceful_shutdown=5,
        )  # fmt: skip
        self._server = Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self.listener]}, daemon=True
        )
        self._thread.start()
        until(lambda: self._server.started, "the gateway listens")

    def client(self, **options: Any) -> Client:
        """A client of it."""
        return Client(self.address, timeout=60.0, **options)

    def stop(self) -> None:
        """Stop listening and close the stores."""
        self.state.stop_streams()
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        self.listener.close()
        self.state.close()
        assert not self._thread.is_alive()


@contextmanager
def gateway(settings: Settings, port: int = 0) -> Iterator[Gateway]:
    """A gateway without a worker."""
    server = Gateway(settings, port)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def local_worker(
    server: Gateway, backbone: Backbone, *, make: Callable[[], Painter] | None = None
) -> Iterator[Worker]:
    """A worker on threads of this process, over the gateway's own stores."""
    state = server.state
    source = StoreLeases("here", state.jobs, state.artifacts, state.workers)
    worker = Worker(
        make or (lambda: Painter(backbone, bucket=BUCKET)),
        source,
        lease_s=server.settings.engine.lease_s,
    )
    worker.start()
    try:
        until(lambda: worker.ready, "the worker is ready")
        yield worker
    finally:
        assert worker.stop(PATIENCE_S)


class WorkerProcess:
    """A worker in a real process of its own, which pulls over HTTP.

    Processes are forked off a server that has imported torch already, so one starts in a blink.

    poison: a prompt at whose first step the process kills itself. brake: while this file is there
    each step takes a fifth of a second more.
    """

    def __init__(
        self, address: str, settings: Settings, name: str, *, poison: str = "", brake: str = ""
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        model = settings.engine.model
        assert model is not None
        arguments = [
            "--url", address, "--name", name, "--model", str(model), "--bucket", str(BUCKET),
            "--data", str(settings.storage.data_dir),
            "--set", f"engine.lease_s={settings.engine.lease_s}",
            *(word for file in settings.engine.loras for word in ("--lora", file)),
        ]  # fmt: skip
        if settings.engine.offload is not None:
            arguments += ["--offload", settings.engine.offload]
        self.name = name
        self._process = context.Process(
            target=run_worker, args=(arguments, poison, brake), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it is there."""
        return self._process.is_alive()

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.join()
        self._process.close()

    def terminate(self) -> int:
        """SIGTERM; waits and returns the exit code."""
        self._process.terminate()
        self._process.join(PATIENCE_S)
        code = self._process.exitcode
        assert code is not None, "the worker did not end"
        self._process.close()
        return code


class GatewayProcess:
    """A gateway in a real process of its own, for `kill` and `start`."""

    def __init__(self, settings: Settings, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._command = [
            sys.executable, "-m", "services.serve", "--gateway-only", "--no-ui",
            "--port", str(port), "--model", str(settings.engine.model), "--bucket", str(BUCKET),
            "--data", str(settings.storage.data_dir),
            "--set", f"engine.lease_s={settings.engine.lease_s}",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it, once more after a `kill`; it answers when this returns."""
        self._process = subprocess.Popen(self._command, env={**os.environ, TOKEN_VARIABLE: TOKEN})
        until(self._answers, "the gateway answers")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/livez", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()


def run_worker(arguments: list[str], poison: str, brake: str) -> None:
    """What a worker's process does."""
    from services.worker_process import main

    if poison or brake:
        step = Painter.step

        def faulty(painter: Painter) -> Any:
            for lease in painter._table.leases if poison else ():
                if lease.order["story"]["frames"][lease.frame]["prompt"] == poison:
                    os.kill(os.getpid(), signal.SIGKILL)
            if brake and os.path.exists(brake):
                time.sleep(0.2)
            return step(painter)

        Painter.step = faulty  # type: ignore[method-assign]
    os.environ[TOKEN_VARIABLE] = TOKEN
    raise SystemExit(main(arguments))
