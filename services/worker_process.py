"""A worker in a process of its own: `python -m services.worker_process --url http://...`.

It pulls frames from the gateway at that address. The token comes from the environment
(CONSISTENT_GEN_AUTH_WORKER_TOKEN), so that it stands in no list of processes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from consistent_gen.errors import CheckpointError, ConsistentGenError
from services.launch.options import (
    EXIT_HANGS,
    EXIT_INPUT,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    add_common_options,
    drawing_threads,
    settings_of,
)
from services.launch.topology import end_with_parent
from services.telemetry.logs import write_log
from services.telemetry.traces import open_traces


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw until told to stop. Returns 0 then, 2 when something given was wrong."""
    parser = argparse.ArgumentParser(prog="python -m services.worker_process", description=__doc__)
    parser.add_argument("--url", help=f"of the gateway (default: ${URL_VARIABLE})")
    parser.add_argument("--name", help="of this worker; made up by default")
    add_common_options(parser)
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except ConsistentGenError as error:
        print(error, file=sys.stderr)
        return EXIT_INPUT if isinstance(error, CheckpointError) else error.exit_code


def run(options: argparse.Namespace) -> int:
    """As `main`, with parsed options.

    Raises:
        InputError: no address or token, or settings that are wrong.
        CheckpointError: the model cannot be loaded.
    """
    from consistent_gen.errors import InputError
    from consistent_gen.story.scoring import FrameScorer
    from services.painting.warm_up import painter_maker
    from services.worker.leases import HttpLeases
    from services.worker.loop import Worker, worker_name

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.lifeline:
        end_with_parent()
    url = options.url or os.environ.get(URL_VARIABLE)
    if not url:
        raise InputError(f"a worker needs the gateway's address; give --url or set {URL_VARIABLE}")
    settings = settings_of(options)
    write_log(settings.telemetry.log_format)
    traces = open_traces(settings.telemetry, "worker")
    source = HttpLeases(url, os.environ.get(TOKEN_VARIABLE, ""), options.name or worker_name())
    scorer = FrameScorer()
    worker = Worker(
        painter_maker(
            settings,
            threads=drawing_threads(options),
            late_join=not options.no_late_join,
            scorer=scorer,
        ),
        source,
        lease_s=settings.engine.lease_s,
        scorer=scorer,
        traces=traces,
        on_hang=lambda: os._exit(EXIT_HANGS),
    )
    worker.start()
    while not stop.wait(0.2) and not worker.wait(0.0):
        pass
    worker.stop(settings.server.drain_s)
    source.close()
    traces.close()
    if worker.failure is not None:
        raise worker.failure
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
