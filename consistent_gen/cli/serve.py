"""`consistent-gen serve`: the server with its studio, in one process or several."""

from __future__ import annotations

import argparse
from typing import Any

from consistent_gen.registry import resolve

# By name, since the server is no part of the package; both come with the extra `serve`.
_PARTS = {
    "options": "services.launch.options:add_serve_options",
    "server": "services.serve:run",
}


def add_command(commands: Any) -> None:
    """Add `serve` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "serve",
        help="serve stories over HTTP, with a studio in the browser",
        description="Serve stories over HTTP, with a studio in the browser. The address is printed "
        "at once, and again when frames can be drawn (/readyz then answers 200). SIGTERM or Ctrl-C "
        "gives what is being drawn back to the queue, where the next start finds it.",
    )
    resolve(_PARTS, "options")(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    code: int = resolve(_PARTS, "server", kind="command serve")(options)
    return code
