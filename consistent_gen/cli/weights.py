"""`consistent-gen weights convert`: a published pickle becomes a file that cannot run code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError


def add_command(commands: Any) -> None:
    """Add `weights` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "weights",
        help="convert published adapter weights",
        description="Published weights of identity adapters: see docs/adapters.md.",
    )
    tasks = parser.add_subparsers(title="tasks", metavar="TASK", required=True)
    convert = tasks.add_parser(
        "convert",
        help="make a safetensors file of a published pickle",
        description="Read a published .bin file of an identity adapter without running anything "
        "that it says, tell its licence, and write its tensors beside it as safetensors.",
    )
    convert.add_argument("file", metavar="FILE", help="the .bin file")
    convert.add_argument("--out", metavar="FILE", help="the new file (default: beside the old one)")
    convert.add_argument(
        "--accept-licence",
        action="store_true",
        help="the licence is accepted; without it this is asked",
    )
    convert.set_defaults(run=run_convert)


def run_convert(options: argparse.Namespace) -> int:
    """Read, tell the licence, ask, write."""
    source = Path(options.file)
    out = Path(options.out) if options.out else source.with_suffix(".safetensors")
    if out.suffix != ".safetensors" or out.exists():
        why = "is there already" if out.exists() else "is no name of a .safetensors file"
        raise InputError(f"{out} {why}; choose another", source="--out")
    from consistent_gen.adapters.convert import convert, read_pickled

    pickled = read_pickled(source)
    print(pickled.licence())
    if not options.accept_licence and not _accepted():
        print("nothing was written")
        return 1
    convert(pickled, out)
    for name in pickled.dropped:
        print(f"note: {name} is no tensor of the adapter and is left out", file=sys.stderr)
    print(f"{len(pickled.tensors)} tensors: {out}")
    return 0


def _accepted() -> bool:
    """Whether the person at the terminal accepts the licence.

    Raises:
        InputError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked here; add --accept-licence if you accept it")
    return input("Accept this licence and convert? [y/N] ").strip().lower() in ("y", "yes")
