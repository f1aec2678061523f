"""Tasks of the offline benchmark shared among processes that `accelerate launch` began.

    accelerate launch --num_processes 4 -m benchmarks.suite --set world:100 --system head_start ...

The contract of `consistent_gen.bulk`: every process does its share, each on a device of its own,
and artifacts are files that all of them see. What others need is made first, for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.suite_tasks import SuiteTask
from consistent_gen.bulk import NEEDS_FAILED, Tell, attempt


def launched() -> Any:
    """The state of these processes (`accelerate.PartialState`); None if there is this one only."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    if state.device.type == "cpu":
        torch.set_num_threads(1)  # two processes of one thread are faster than one of two
    return state


def run(
    tasks: Sequence[SuiteTask], root: Path, state: Any, *, tell: Tell[SuiteTask] | None = None
) -> dict[str, str]:
    """As `consistent_gen.bulk.run`; every process gets the answer."""
    from accelerate.utils import gather_object

    failed: dict[str, str] = {}
    # Asked before anybody begins: later on, what is done differs from process to process.
    left = list({task.key: task for task in tasks if not task.done(root)}.values())
    state.wait_for_everyone()
    total, finished = len(left), 0
    while left:
        waited_for = {task.key for task in left}
        ready = [task for task in left if not waited_for & set(task.needs)]
        with state.split_between_processes(ready) as share:
            own: dict[str, str] = {}
            for task in share:
                lost = set(task.needs) & failed.keys()
                if problem := NEEDS_FAILED if lost else attempt(task, root):
                    own[task.key] = problem
                finished += state.num_processes
                if tell is not None and state.is_main_process:
                    tell(task, min(finished, total), total)
        state.wait_for_everyone()
        for found in gather_object([own]):
            failed |= found
        left = [task for task in left if task not in ready]
        finished = total - len(left)
    return failed
