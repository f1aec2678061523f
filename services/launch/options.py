"""What can be said when a server or a worker is started, and the settings that follow.

Imports nothing heavy: `consistent-gen serve --help` shows these options.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from consistent_gen.models import OFFLOADS
from consistent_gen.runtime import DTYPES

if TYPE_CHECKING:
    from services.settings import Settings

DEFAULT_PORT = 7860
MOST_THREADS = 1024
EXIT_INPUT = 2
EXIT_HANGS = 70  # EX_SOFTWARE: start me again
TOKEN_VARIABLE = "CONSISTENT_GEN_AUTH_WORKER_TOKEN"
URL_VARIABLE = "CONSISTENT_GEN_GATEWAY_URL"


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """The options of the server; those of `add_common_options` too."""
    parser.add_argument(
        "--host", metavar="NAME", help="where to listen (default: 127.0.0.1; others need --keys)"
    )
    parser.add_argument(
        "--port", metavar="N", type=int, help=f"0 takes a free one (default: {DEFAULT_PORT})"
    )
    parser.add_argument("--keys", metavar="FILE", help="key file; every call then needs a key")
    parser.add_argument(
        "--processes",
        metavar="N",
        type=int,
        default=0,
        help="a gateway process and N drawing processes, started again when they die "
        "(default: one process does everything)",
    )
    parser.add_argument(
        "--gpus", metavar="N", type=int, default=0, help="share N GPUs out among the processes"
    )
    parser.add_argument("--no-ui", action="store_true", help="the HTTP interface alone")
    parser.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--gateway-only", action="store_true", help=argparse.SUPPRESS)
    add_common_options(parser)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """What servers and workers have in common."""
    parser.add_argument("--data", metavar="DIR", help="where stories and pictures are kept")
    parser.add_argument("--model", metavar="DIR", help="a model folder (default: the shipped one)")
    parser.add_argument(
        "--bucket", metavar="N", type=int, help="rows per denoiser call (default: measured once)"
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="number format to compute in (default: float32 on a processor, float16 on a GPU)",
    )
    parser.add_argument(
        "--lora", action="append", metavar="FILE[=WEIGHT]",
        help="a LoRA file (.safetensors) that acts in all that is drawn; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--offload", choices=OFFLOADS,
        help="let weights wait on the CPU, a network or a layer at a time on the device",
    )  # fmt: skip
    parser.add_argument(
        "--threads",
        metavar="N",
        type=_thread_count,
        help="CPU threads that draw (default: half of the processors; 0: as many as torch takes)",
    )
    parser.add_argument("--config", metavar="FILE", help="settings (YAML; see docs/serving.md)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="change one setting, such as limits.frames=32; may be given again",
    )  # fmt: skip
    # For comparisons: draw a batch to its end before the next one joins.
    parser.add_argument("--no-late-join", action="store_true", help=argparse.SUPPRESS)
    # Started by another process of ours: end when standard input does, since then it is gone.
    parser.add_argument("--lifeline", action="store_true", help=argparse.SUPPRESS)


def settings_of(options: argparse.Namespace) -> Settings:
    """Settings from the file, then the environment, then the options.

    Raises:
        InputError: something that is not a setting, out of range or, for a server, not to be had
            together.
    """
    from services.settings import load_settings

    said: dict[str, Any] = {
        "server.host": getattr(options, "host", None),
        "server.port": getattr(options, "port", None),
        "auth.keys_file": getattr(options, "keys", None),
        "storage.data_dir": options.data,
        "engine.model": options.model,
        "engine.bucket": options.bucket,
        "engine.dtype": options.dtype,
        "engine.loras": options.lora,
        "engine.offload": options.offload,
    }
    flags = [f"{key}={json.dumps(value)}" for key, value in said.items() if value is not None]
    settings = load_settings(options.config, os.environ, [*options.overrides, *flags])
    # A worker listens nowhere, so what it is told of hosts and keys is not its own affair.
    if hasattr(options, "host"):
        settings.check()
    return settings


def _thread_count(text: str) -> int:
    """A number of threads.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MOST_THREADS}")
    return int(text)


def drawing_threads(options: argparse.Namespace) -> int | None:
    """Threads of one drawing process; None leaves it to torch.

    Half of the processors by default, shared out among the processes: the other half answers
    callers and encodes pictures, and the second of two threads would bring little.
    """
    if options.threads is not None:
        return options.threads or None
    if hasattr(os, "sched_getaffinity"):  # Linux, where containers narrow the set
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, processors // (2 * max(1, getattr(options, "processes", 0))))


def common_arguments(options: argparse.Namespace) -> list[str]:
    """The common options as they were given, to start another process with."""
    found = ["--threads", str(drawing_threads(options) or 0), "--lifeline"]
    if options.no_late_join:
        found.append("--no-late-join")
    for name in ("data", "model", "bucket", "dtype", "offload", "config"):
        if getattr(options, name) is not None:
            found += [f"--{name}", str(getattr(options, name))]
    for file in options.lora or ():
        found += ["--lora", file]
    for override in options.overrides:
        found += ["--set", override]
    return found
