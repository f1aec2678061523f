"""Several processes on one machine train one model, each with one thread.

On a CPU, two processes with a thread each draw more from two cores than two threads in one process
do (small layers wait for each other at every operation). Gradients are averaged over processes, and
each process orthogonalises its own share of the matrices, which then is handed round.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn


def launch(train: Callable[[Any, int], None], config: Any, processes: int) -> None:
    """Run `train(config, rank)` in `processes` processes; with one, in this process.

    They end with this process, also when it is asked to by SIGTERM, which it hands on to them: they
    save and leave (see `loop.Training.steps`), and it waits until they have.
    """
    if processes == 1:
        train(config, 0)
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        with tempfile.TemporaryDirectory() as folder:
            meeting = str(Path(folder) / "meeting")
            arguments = (train, config, processes, meeting)
            spawn(_enter, args=arguments, nprocs=processes, daemon=True)
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _enter(
    rank: int, train: Callable[[Any, int], None], config: Any, processes: int, meeting: str
) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes
    )
    try:
        train(config, rank)
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def agree(values: list[int]) -> list[int]:
    """The first process's `values`, in all of them (clocks differ and files appear, schedules must
    not).
    """
    if world_size() == 1:
        return values
    count = torch.tensor([len(values)])
    dist.broadcast(count, src=0)
    shared = torch.zeros(int(count), dtype=torch.int64)
    if dist.get_rank() == 0:
        shared = torch.tensor(values, dtype=torch.int64)
    dist.broadcast(shared, src=0)
    found: list[int] = shared.tolist()
    return found


def anywhere(flag: bool) -> bool:
    """Whether `flag` is set in any of the processes."""
    if world_size() == 1:
        return flag
    shared = torch.tensor([flag], dtype=torch.int64)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return bool(shared.item())


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    anywhere(False)


@torch.no_grad()
def average_gradients(modules: Iterable[nn.Module]) -> None:
    """Replace every gradient by its mean over the processes."""
    if world_size() == 1:
        return
    gradients = [p.grad for m in modules for p in m.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    _unflatten(flat, gradients)


def shares(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Divide `parameters` into one share per process, of about equal work."""
    result: list[list[nn.Parameter]] = [[] for _ in range(world_size())]
    work = [0.0] * world_size()
    for p in sorted(parameters, key=lambda p: -p.numel()):
        k = work.index(min(work))
        result[k].append(p)
        # Newton-Schulz costs the smaller side squared times the larger.
        work[k] += p.numel() * min(p.size(0), p.numel() // p.size(0))
    return result


@torch.no_grad()
def hand_round(owned: Sequence[Sequence[nn.Parameter]]) -> None:
    """Give every process the parameters as their owner has them."""
    if world_size() == 1:
        return
    for owner, parameters in enumerate(owned):
        flat = torch.cat([p.detach().flatten() for p in parameters])
        dist.broadcast(flat, src=owner)
        _unflatten(flat, [p.detach() for p in parameters])


def _unflatten(flat: Tensor, targets: Sequence[Tensor]) -> None:
    start = 0
    for target in targets:
        target.copy_(flat[start : start + target.numel()].view_as(target))
        start += target.numel()
