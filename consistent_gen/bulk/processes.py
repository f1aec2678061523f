"""Workers that are processes of this machine.

Each works on one task at a time, so when one dies it is known of what; the task is tried again, and
given up when it was there at `TRIES` deaths. Nobody else's task is touched by that.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from consistent_gen.bulk import TRIES, BulkTask, attempt

LEAVE_S = 10.0  # to put away what is half made


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    work: tuple[BulkTask, Path] | None = None
    deaths: int = 0  # of workers that had this work before


class Processes:
    """`count` processes of one thread each: two of these are faster than one of two threads, and
    bytes depend on the number of threads.

    cards: GPUs as CUDA_VISIBLE_DEVICES names them; process n sees card n modulo their number.
    """

    def __init__(self, count: int, cards: Sequence[str] = ()) -> None:
        self.capacity = count
        self.cards = cards
        self._workers: list[_Worker] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *raised: object) -> None:
        stopped = any(raised)
        for worker in self._workers:
            worker.pipe.close()  # an idle one ends by that
            if worker.work is not None or stopped:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(LEAVE_S)
            worker.process.kill()
            worker.process.join()
        self._workers.clear()

    def submit(self, task: BulkTask, root: Path) -> None:
        """Give it to an idle process, or to a new one."""
        idle = next((worker for worker in self._workers if worker.work is None), None)
        if idle is None:
            idle = self._begun(len(self._workers))
            self._workers.append(idle)
        _hand(idle, task, root)

    def wait(self) -> list[tuple[str, str]]:
        """Wait for answers, and begin processes anew where some died."""
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker.work is not None}
            ended = []
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                assert worker.work is not None
                task, root = worker.work
                try:
                    ended.append((task.key, str(worker.pipe.recv())))
                    worker.work, worker.deaths = None, 0
                except (EOFError, OSError):
                    problem = self._replaced(worker, task, root)
                    ended += [(task.key, problem)] if problem else []
            if ended:
                return ended

    def _replaced(self, dead: _Worker, task: BulkTask, root: Path) -> str:
        """A new process in the place of a dead one, with its task unless that is given up: why."""
        dead.pipe.close()
        dead.process.join(LEAVE_S)
        place = self._workers.index(dead)
        new = self._workers[place] = self._begun(place)
        if dead.deaths + 1 < TRIES:
            new.deaths = dead.deaths + 1
            _hand(new, task, root)
            return ""
        code = dead.process.exitcode
        why = "killed, perhaps for want of memory" if code == -signal.SIGKILL else f"code {code}"
        return f"its process died {TRIES} times ({why}); try it with fewer processes"

    def _begun(self, number: int) -> _Worker:
        card = self.cards[number % len(self.cards)] if self.cards else None
        context = multiprocessing.get_context("spawn")  # torch does not survive a fork
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, os.getpid(), card), daemon=True)
        process.start()
        theirs.close()  # so that a death of the other side is seen on ours
        return _Worker(process, ours)


def _hand(worker: _Worker, task: BulkTask, root: Path) -> None:
    worker.work = (task, root)
    with contextlib.suppress(OSError):  # it died while it was idle; `wait` sees that
        worker.pipe.send((task, root))


def _work(pipe: Connection, parent: int, card: str | None) -> None:
    """The life of a process: one task after the other, until nobody sends any."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us politely
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"  # torch looks when it is imported, which is later
    if card is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = card
    while True:
        try:
            task, root = pipe.recv()
        except EOFError:
            return
        answer = attempt(task, root)
        with contextlib.suppress(BrokenPipeError):
            pipe.send(answer)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(1)  # past `except Exception`, through what puts half-made things away


def _end_with(parent: int) -> None:
    """End with whoever started it, even where that was killed."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def fitting(memory_bytes: int = 2 << 30) -> Processes:
    """As many processes of so much memory as this machine has room for: one a GPU where there are
    some, else at most one a core, and at least one.
    """
    import torch

    if torch.cuda.is_available():
        found = range(torch.cuda.device_count())
        named = [card for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card]
        cards = named or [str(number) for number in found]
        return Processes(len(cards), cards)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Processes(max(1, min(len(os.sched_getaffinity(0)), memory // memory_bytes)))
