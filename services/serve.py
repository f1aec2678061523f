"""The server: gateway, studio and worker in one process, or in several that are kept alive.

    python -m services.serve [--port 7860] [--processes 2] [--data DIR] [--model DIR]

The address is printed as soon as it can be opened, and once more when frames can be drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from consistent_gen.errors import CheckpointError, ConsistentGenError
from services.launch.listening import address_of, listen, place_of
from services.launch.options import (
    EXIT_INPUT,
    add_serve_options,
    common_arguments,
    drawing_threads,
    settings_of,
)
from services.launch.topology import end_with_parent
from services.telemetry.logs import write_log

if TYPE_CHECKING:
    from services.settings import Settings

KEEP_ALIVE_S = 30
HERE = "here"  # the worker of this process
UI_KEY_VARIABLE = "CONSISTENT_GEN_UI_KEY"
_log = logging.getLogger("services.serve")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Returns 0 then, 2 when something given was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m services.serve", description="Serve stories over HTTP, with a studio."
    )
    add_serve_options(parser)
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except ConsistentGenError as error:
        print(error, file=sys.stderr)
        return EXIT_INPUT if isinstance(error, CheckpointError) else error.exit_code


def run(options: argparse.Namespace) -> int:
    """As `main`, with parsed options.

    Raises:
        InputError: settings that are wrong, or a port that is taken.
        CheckpointError: the model cannot be loaded.
    """
    started = time.monotonic()
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    settings = settings_of(options)
    write_log(settings.telemetry.log_format)
    if options.lifeline:
        end_with_parent()
    listener = listen(settings.server.host, settings.server.port, options.listen_fd)
    with listener:
        if options.processes > 0 and not options.gateway_only:
            return _run_processes(options, settings, listener, started)
        return _run_here(options, settings, listener, started)


# One process ------------------------------------------------------------------------------------


def _run_here(
    options: argparse.Namespace, settings: Settings, listener: socket.socket, started: float
) -> int:
    import uvicorn

    from services.launch.waiting import PromptProtocol
    from services.painting.warm_up import painter_maker
    from services.web import build_app, open_state
    from services.worker.leases import StoreLeases
    from services.worker.loop import Worker

    address = address_of(listener)
    state = open_state(settings)
    worker: Worker | None = None
    studio = contextlib.ExitStack()
    try:
        app: Any = build_app(settings, state=state)
        if not options.no_ui:
            app = _with_studio(app, settings, address, studio)
        if not options.gateway_only:
            # Always the same name, so that a start takes back at once what the former process held.
            name = _names(settings, listener) + HERE
            source = StoreLeases(name, state.jobs, state.artifacts, state.workers, state.safety)
            from consistent_gen.story.scoring import FrameScorer

            scorer = FrameScorer()
            maker = painter_maker(
                settings,
                threads=drawing_threads(options),
                late_join=not options.no_late_join,
                scorer=scorer,
            )
            worker = Worker(
                maker, source, lease_s=settings.engine.lease_s, scorer=scorer, traces=state.traces
            )
            worker.start()
            print(f"starting at {address}", flush=True)
            _tell_when_ready(worker, address, started)
        server = _server(
            uvicorn.Config(
                app,
                http=PromptProtocol,
                log_config=None,  # ours
                log_level="warning",
                access_log=False,
                server_header=False,
                ws="none",
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(settings.server.drain_s)),
                proxy_headers=bool(settings.server.trusted_proxies),
                forwarded_allow_ips=list(settings.server.trusted_proxies),
            ),
            state,
            worker,
            settings.server.drain_s,
        )
        with _quiet_signals():
            server.run(sockets=[listener])
        if worker is not None and worker.failure is not None:
            raise worker.failure
        return 0
    finally:
        if worker is not None:
            worker.stop(settings.server.drain_s)
        studio.close()
        state.close()


def _server(config: Any, state: Any, worker: Any, drain_s: float) -> Any:
    """A server that drains the worker and ends event streams before it waits for callers, and that
    stops when the worker has given up.
    """
    from services.launch.server import Server

    class DrainingServer(Server):
        async def on_tick(self, counter: int) -> bool:
            if worker is not None and worker.failure is not None:
                self.should_exit = True
            return await super().on_tick(counter)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if worker is not None:
                await asyncio.to_thread(worker.stop, drain_s)
            state.stop_streams()
            await super().shutdown(sockets)

    return DrainingServer(config)


@contextlib.contextmanager
def _quiet_signals() -> Iterator[None]:
    """uvicorn repeats the signal that stopped it once it is done; we are about to end anyway."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _with_studio(app: Any, settings: Settings, address: str, studio: contextlib.ExitStack) -> Any:
    """The app with the page at /. With keys the page needs one of its own.

    studio: closes what the page holds.
    """
    from consistent_gen.registry import resolve

    key = os.environ.get(UI_KEY_VARIABLE)
    if not settings.allows_anonymous and not key:
        _log.warning("no studio: callers need keys, and %s names none for it", UI_KEY_VARIABLE)
        return app
    kind = resolve({"client": "consistent_gen.client:Client"}, "client")
    client = studio.enter_context(kind(address, key=key))
    mount = resolve({"ui": "ui.app:mount"}, "ui")
    root = settings.server.public_path
    return mount(app, client, data_dir=settings.storage.data_dir, root=root)


def _tell_when_ready(worker: Any, address: str, started: float) -> None:
    def watch() -> None:
        while not worker.ready and worker.failure is None:
            time.sleep(0.05)
        if worker.failure is None:
            print(f"ready at {address} after {time.monotonic() - started:.1f} s", flush=True)

    threading.Thread(target=watch, name="ready", daemon=True).start()


def _names(settings: Settings, listener: socket.socket) -> str:
    """What the names of our own workers begin with: those of other gateways of the store have the
    same numbers, and a worker that starts takes back what its former process held.
    """
    return "" if settings.store.url is None else f"{place_of(listener)}:"


# Several processes --------------------------------------------------------------------------------


def _run_processes(
    options: argparse.Namespace, settings: Settings, listener: socket.socket, started: float
) -> int:
    from services.launch.topology import ProcessGroup

    address = address_of(listener)
    said = gateway_options(options, settings.server.host, listener.fileno())
    gateway = ["-m", "services.serve", *said]
    worker = ["-m", "services.worker_process", "--url", address, *common_arguments(options)]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    topology = ProcessGroup(
        gateway,
        [worker] * options.processes,
        listener,
        token=settings.auth.worker_token,
        gpus=options.gpus,
        drain_s=settings.server.drain_s,
        names=_names(settings, listener),
    )
    print(f"starting at {address}", flush=True)
    threading.Thread(target=_watch_readiness, args=(address, started, stop), daemon=True).start()
    return topology.run(stop)


def gateway_options(options: argparse.Namespace, host: str, listener: int) -> list[str]:
    """What the gateway of several processes is started with, so that it does what was asked for."""
    said = ["--gateway-only", *common_arguments(options)]
    said += ["--listen-fd", str(listener), "--host", host]
    if options.keys is not None:
        said += ["--keys", options.keys]
    if options.no_ui:
        said.append("--no-ui")
    return said


def _watch_readiness(address: str, started: float, stop: threading.Event) -> None:
    while not stop.wait(0.2):
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=2.0):
                print(f"ready at {address} after {time.monotonic() - started:.1f} s", flush=True)
                return
        except urllib.error.HTTPError as not_yet:
            not_yet.close()
        except OSError:
            continue


if __name__ == "__main__":
    raise SystemExit(main())
