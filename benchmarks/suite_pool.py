"""Tasks of the offline benchmark on this machine's processes.

The contract is small, so that something else may stand here: `run` is given tasks, those first that
others need, and returns when the artifact of each is there, with what went wrong by key.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from benchmarks.suite_tasks import SuiteTask, done, execute
from consistent_gen.errors import ConsistentGenError

Tell = Callable[[SuiteTask, int, int], None]


def run(
    tasks: Sequence[SuiteTask], root: Path, *, processes: int = 1, tell: Tell | None = None
) -> dict[str, str]:
    """Make what is missing; key -> why there is none. A task whose needs failed is not tried.

    tell: called with each finished task, how many are finished, and of how many.
    """
    failed: dict[str, str] = {}
    left = {task.key: task for task in tasks if not done(root, task)}
    total, finished = len(left), 0
    if processes <= 1:
        for task in left.values():
            failed |= attempt(task, root, failed)
            finished += 1
            if tell is not None:
                tell(task, finished, total)
        return failed
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    with ProcessPoolExecutor(processes, context, _begin, (os.getpid(),)) as pool:
        running: dict[Future[str], SuiteTask] = {}
        while left or running:
            for task in [task for task in left.values() if not set(task.needs) & left.keys()]:
                if any(key in {t.key for t in running.values()} for key in task.needs):
                    continue
                if set(task.needs) & failed.keys():
                    failed[task.key] = "what it needs could not be made"
                    finished += 1
                    del left[task.key]
                elif len(running) < 2 * processes:
                    running[pool.submit(_made, task, root)] = left.pop(task.key)
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                task = running.pop(future)
                if future.result():
                    failed[task.key] = future.result()
                finished += 1
                if tell is not None:
                    tell(task, finished, total)
    return failed


def attempt(task: SuiteTask, root: Path, failed: Mapping[str, str]) -> dict[str, str]:
    """Make an artifact here; its key and why there is none, if so."""
    lost = set(task.needs) & failed.keys()
    problem = "what it needs could not be made" if lost else _made(task, root)
    return {task.key: problem} if problem else {}


def _made(task: SuiteTask, root: Path) -> str:
    """Make an artifact; why not, or "" """
    try:
        execute(task, root)
    except ConsistentGenError as error:
        return str(error)
    return ""


def _begin(parent: int) -> None:
    """In a new process: one thread, as two processes of one are faster than one of two, and an end
    with whoever started it, even where that was killed.
    """
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
