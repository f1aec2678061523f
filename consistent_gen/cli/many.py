"""What `story` and `score` have in common where they work on many folders or files at once."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from consistent_gen.bulk import BulkTask, Workers, claimed, run
from consistent_gen.checkpoints import clear_leftovers
from consistent_gen.draw_settings import SettingFacts
from consistent_gen.errors import Cancelled, InputError

PROCESSES = SettingFacts(kind=int, low=1, high=1024, about="processes")


class NamedTask(BulkTask, Protocol):
    """A task whose artifact is called `name` in the folder of results."""

    @property
    def name(self) -> str:
        """What the user calls it."""


AnyTask = TypeVar("AnyTask", bound=NamedTask)


def add_many_options(parser: argparse.ArgumentParser, what: str) -> None:
    """The options of a command that can do many things at once."""
    parser.add_argument("--many", metavar="FOLDER", help=what)
    parser.add_argument(
        "--processes", metavar="N", type=_count,
        help="with --many: processes of one thread each (default: as this machine has cores and "
        "memory for, or one a GPU); with --ray: most tasks at a time",
    )  # fmt: skip
    parser.add_argument(
        "--ray", metavar="ADDRESS",
        help="with --many: let a Ray cluster work, such as auto or ray://HOST:10001; local begins "
        "one on this machine (needs the extra `ray`)",
    )  # fmt: skip


def check_many_options(
    options: argparse.Namespace, one: str | None, called: str, usage: str
) -> None:
    """Refuse options that do not fit together. one: what is given instead of --many, and usage:
    how.

    Raises:
        InputError: both or neither are given, or options that only --many has.
    """
    if (one is None) == (options.many is None):
        what = f"one of them ({usage})" if one is None else "one of them, not both"
        raise InputError(f"{called} or --many FOLDER: give {what}", source="--many")
    if options.many is None:
        for name in ("processes", "ray"):
            if getattr(options, name) is not None:
                raise InputError("goes with --many only", source=f"--{name}")


def entries_of(folder: str) -> list[Path]:
    """What lies in the folder that --many names, by name, without hidden things.

    Raises:
        InputError: there is no such folder.
    """
    place = Path(folder)
    if not place.is_dir():
        what = "this is a file; give the folder it is in" if place.exists() else "no such folder"
        raise InputError(what, source=folder)
    try:
        return sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot be listed: {error.strerror}", source=folder) from None


def work(
    tasks: Sequence[AnyTask], refused: Mapping[str, str], root: Path, options: argparse.Namespace
) -> dict[str, str]:
    """Make what is missing and tell of each on stderr; name -> why there is no result.

    refused: what was found wrong before, by name; it is part of the answer.

    Raises:
        InputError: another run fills the folder, or there is no such cluster.
        Cancelled: interrupted; says how much is there.
    """

    def tell(task: AnyTask, number: int, total: int) -> None:
        print(f"{number} of {total}: {task.name}", file=sys.stderr, flush=True)

    with claimed(root):
        clear_leftovers(root, {task.name for task in tasks})
        there = sum(task.done(root) for task in tasks)
        if there:
            print(f"{there} of {len(tasks)} are there already", file=sys.stderr)
        try:
            failed = run(tasks, root, _workers(options), tell=tell)
        except KeyboardInterrupt:
            there = sum(task.done(root) for task in tasks)
            raise Cancelled(
                f"interrupted; {there} of {len(tasks)} are there, and the same command goes on"
            ) from None
    return {**refused, **{task.name: failed[task.key] for task in tasks if task.key in failed}}


def list_failed(failed: Mapping[str, str]) -> int:
    """Print what there is no result of; the exit code."""
    for name in sorted(failed):
        print(f"failed: {name}: {' '.join(failed[name].split())}", file=sys.stderr)
    return 1 if failed else 0


@contextmanager
def terminable() -> Iterator[None]:
    """Let a polite kill (SIGTERM) clean up as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _workers(options: argparse.Namespace) -> Workers:
    if options.ray is not None:
        from consistent_gen.bulk.on_ray import RayWorkers

        return RayWorkers(options.ray, options.processes)
    from consistent_gen.bulk.processes import Processes, fitting

    fit = fitting()
    return fit if options.processes is None else Processes(options.processes, fit.cards)


def _count(text: str) -> int:
    try:
        count: int = PROCESSES.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(error.message) from None
    if mistake := PROCESSES.mistake("processes", count):
        raise argparse.ArgumentTypeError(mistake.message)
    return count
