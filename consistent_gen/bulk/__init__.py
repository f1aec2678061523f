"""Bulk work: many tasks, each of which leaves an artifact in a folder, run by whoever there is.

A plan becomes tasks; a task knows its artifact in the folder `root` and makes it, so that it is
there whole or not at all. `run` asks which artifacts are missing and hands their tasks to workers:
this process (`Here`), processes of this machine (`processes.Processes`) or a Ray cluster
(`on_ray.RayWorkers`). Nothing is remembered but the artifacts, so a run that was stopped or killed
goes on where it was, and which workers made an artifact leaves no trace in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from consistent_gen.errors import ConsistentGenError, InputError

TRIES = 3  # of a task whose worker dies while it works on it
NEEDS_FAILED = "what it needs could not be made"


class BulkTask(Protocol):
    """A piece of work that may be sent to other processes, so it is made of plain values.

    key: names the task among those of a run. needs: keys of tasks whose artifacts it reads.
    """

    @property
    def key(self) -> str:
        """Equal keys mean equal artifacts."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of tasks that come before."""

    def done(self, root: Path) -> bool:
        """Whether its artifact is in `root`, whole."""

    def make(self, root: Path) -> None:
        """Put its artifact into `root` by rename. Mistakes of users are `ConsistentGenError`s."""


AnyTask = TypeVar("AnyTask", bound=BulkTask)
# Called with each finished task, how many are finished, and of how many.
Tell = Callable[[AnyTask, int, int], None]


class Workers(Protocol):
    """Who makes artifacts. Entered before tasks are submitted; left when none is wanted any more,
    which ends what is still running.
    """

    def __enter__(self) -> Workers:
        """Ready for tasks."""

    def __exit__(self, *_: object) -> None:
        """No more tasks."""

    @property
    def capacity(self) -> int:
        """How many tasks to submit before waiting for one of them."""

    def submit(self, task: BulkTask, root: Path) -> None:
        """Begin a task."""

    def wait(self) -> list[tuple[str, str]]:
        """Wait until a task ends: its key, and why there is no artifact or ""."""


class Here:
    """This process, one task after the other."""

    capacity = 1

    def __init__(self) -> None:
        self._given: list[tuple[BulkTask, Path]] = []

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        self._given.clear()

    def submit(self, task: BulkTask, root: Path) -> None:
        """Keep it until `wait`."""
        self._given.append((task, root))

    def wait(self) -> list[tuple[str, str]]:
        """Work."""
        task, root = self._given.pop()
        return [(task.key, attempt(task, root))]


def run(
    tasks: Sequence[AnyTask], root: Path, workers: Workers, *, tell: Tell[AnyTask] | None = None
) -> dict[str, str]:
    """Make what is missing in `root`; key -> why there is none. A task whose needs failed is not
    tried, and the failure of one costs the others nothing.
    """
    failed: dict[str, str] = {}
    left = {task.key: task for task in tasks if not task.done(root)}
    if not left:
        return failed
    total = len(left)
    running: dict[str, AnyTask] = {}

    def ended(task: AnyTask, problem: str) -> None:
        if problem:
            failed[task.key] = problem
        if tell is not None:
            tell(task, total - len(left) - len(running), total)

    with workers:
        while left or running:
            for task in list(left.values()):
                if len(running) >= workers.capacity:
                    break
                if set(task.needs) & (left.keys() | running.keys()):
                    continue
                del left[task.key]
                if set(task.needs) & failed.keys():
                    ended(task, NEEDS_FAILED)
                else:
                    running[task.key] = task
                    workers.submit(task, root)
            assert running or not left, "tasks need each other"
            for key, problem in workers.wait() if running else ():
                task = running.pop(key)
                if not problem and not task.done(root):
                    problem = f"was made, but not in {root.absolute()}: workers must share it"
                ended(task, problem)
    return failed


def attempt(task: BulkTask, root: Path) -> str:
    """Make an artifact here, unless it is there; why not, or "". Never raises: a mistake of ours
    prints its traceback and costs this task alone.
    """
    try:
        if not task.done(root):
            task.make(root)
    except ConsistentGenError as error:
        return str(error)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return f"a mistake of this program, told above: {type(error).__name__}: {error}"
    return ""


@contextlib.contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Keep other runs of this machine out of a folder, which is made if it is not there.

    Raises:
        InputError: another run has it, or it cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{root} cannot be written: {error.strerror}", source="--out") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another run fills {root}; wait for it or choose another folder"
            raise InputError(message, source="--out") from None
        yield
