"""Which way of keeping exports fits the machine: the cheapest that does, and what it costs."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from consistent_gen.attention.keeping import AUTO, MODES, REPLAY, Keeping, Where, keeping
from consistent_gen.attention.layers import Grid, Site
from consistent_gen.attention.ops import kept_count
from consistent_gen.attention.rows import BOTH
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import MatchedQueriesKeys, has_edit, sharing_rule
from consistent_gen.errors import LimitError

# Of a device's memory, what drawing itself needs beside the weights: activations, the decoder.
SPARE = 0.2
# What "auto" tries, cheapest first. A graphics card reads the host's memory faster than it draws
# anchors anew, and draws these faster than a disk is read; a processor the other way round.
_ON_CARD = ("kv", "hidden", "hidden-host", "kv-host", "replay", "hidden-disk", "kv-disk")
_ON_PROCESSOR = ("kv", "hidden", "hidden-disk", "kv-disk", "replay")


@dataclass(frozen=True)
class Sampling:
    """How a model is called for one story, as its first call shows.

    latent: height and width in cells. branches: rows per frame. element_bytes: of a number of the
    model. latent_bytes: of one row's latents.
    """

    latent: Grid
    steps: int
    branches: int
    element_bytes: int
    latent_bytes: int


@dataclass(frozen=True)
class KeepingPlan:
    """How one character's exports are kept, and what that costs.

    bytes: at most, as if the character filled its pictures. free: what there was for it.
    moved: bytes that come from elsewhere per added frame. flop: for projecting hidden states, per
    added frame. calls: denoiser calls of an anchor's rows, per added frame, one anchor each.
    """

    keeping: Keeping
    bytes: int
    free: int
    moved: int = 0
    flop: float = 0.0
    calls: int = 0

    def __str__(self) -> str:
        where = {"device": "beside the model", "host": "in the host's memory", "disk": "on disk"}
        costs = []
        if self.calls:
            costs.append(f"draws {self.calls} steps of its anchors again")
        if self.moved:
            costs.append(f"fetches {_size(self.moved)}")
        if self.flop:
            costs.append(f"projects for {self.flop / 1e12:.2g} TFLOP")
        cost = " and ".join(costs) or "costs nothing more"
        return (
            f"{self.keeping.name}: at most {_size(self.bytes)} {where[self.keeping.where]} of "
            f"{_size(self.free)} free; each frame that reads them {cost}"
        )


def choose(
    name: str,
    run: SharedRun,
    sites: Iterable[Site],
    drawing: Sampling,
    free: Callable[[Where], int],
    *,
    on_processor: bool,
    refused: Sequence[str] = (),
) -> KeepingPlan:
    """The plan for one more character: the mode called `name`, or the cheapest that fits.

    free: bytes to be had in a place. refused: what "auto" may not choose ("hidden", "replay").

    Raises:
        UnknownNameError: no such mode. LimitError: it does not fit, or with "auto" none does; the
            message has what each would take.
    """
    layers = list(sites)
    order = _ON_PROCESSOR if on_processor else _ON_CARD
    names = [name] if name != AUTO else [n for n in order if MODES[n].what not in refused]
    plans = [plan_for(keeping(each), run, layers, drawing, free) for each in names]
    for plan in plans:
        if plan.bytes <= plan.free:
            return plan
    tried = "; ".join(
        f"{plan.keeping.name} takes {plan.bytes / 1e6:.1f} MB, and {plan.free / 1e6:.1f} MB are "
        "allowed"
        for plan in plans
    )
    raise LimitError(
        f"the anchors' bank does not fit: {tried}; use fewer steps, a smaller picture, one anchor "
        f"or another memory mode ({AUTO} chooses one), or raise the limit"
    )


def plan_for(
    way: Keeping,
    run: SharedRun,
    sites: Sequence[Site],
    drawing: Sampling,
    free: Callable[[Where], int],
) -> KeepingPlan:
    """What one way takes and costs for one character."""
    steps, guided = drawing.steps, drawing.steps if drawing.branches > 1 else 0
    count = max(run.recipe.anchors, 1)
    kept = run.most_bytes(
        sites, drawing.latent, steps=steps, guided=guided, element_bytes=drawing.element_bytes,
        keeping=way,
    )  # fmt: skip
    recorded = run.recorded_bytes(
        sites, drawing.latent, steps=steps, branches=drawing.branches,
        element_bytes=drawing.element_bytes,
    )  # fmt: skip
    found = free(way.where)
    if way.where == "device":
        found -= recorded * count  # of the anchors, who are drawn in one batch
    if way == REPLAY:
        passes = 1 + run.recipe.twin
        kept += drawing.latent_bytes * drawing.branches * count * steps * passes
        calls = [_drawn_again(run, sites, step, drawing) for step in range(steps)]
        return KeepingPlan(way, kept, max(found, 0), calls=count * sum(calls))
    moved = 0 if way.where == "device" else kept
    flop = _projecting(run, sites, drawing) * count if way.what == "hidden" else 0.0
    return KeepingPlan(way, kept, max(found, 0), moved, flop)


def _drawn_again(run: SharedRun, sites: Sequence[Site], step: int, drawing: Sampling) -> int:
    """Calls for an anchor beside a frame's `step`: itself, a look, its first pass."""
    calls, branches = 0, BOTH[: drawing.branches]
    for read in run.read_steps(sites, step, drawing.steps, branches):
        calls += 1 + run.copies(sites, read, drawing.steps, branches)
        calls += run.recipe.anchors > 1 and run.recipe.looks(read, drawing.steps)
    return calls * (1 + run.recipe.twins_share)  # beside the frame, and beside its first pass


def _projecting(run: SharedRun, sites: Sequence[Site], drawing: Sampling) -> float:
    """FLOP to make what one anchor leaves from hidden states, once for every step and branch."""
    total = 0.0
    for site in sites:
        n = math.prod(site.grid(drawing.latent))
        for step in range(drawing.steps) if site.sees_images else ():
            for branch in BOTH[: drawing.branches]:
                rules = run.exports_at(site, step, drawing.steps, branch)
                sharing, matched = sharing_rule(rules), has_edit(rules, MatchedQueriesKeys)
                dropout = 1.0 if sharing is None else sharing.select.dropout
                rows = 2 * kept_count(n, dropout, larger=True)
                total += 2.0 * (rows + 2 * n * matched) * site.channels**2
    return total * (1 + run.recipe.twins_share)


def free_bytes(where: Where, device: torch.device) -> int:
    """What can be had in a place now, with room left for drawing."""
    if where == "disk":
        return int(shutil.disk_usage(tempfile.gettempdir()).free * (1.0 - SPARE))
    if where == "device" and device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        # What torch holds and nobody uses is free, too.
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return max(0, int(free - SPARE * total))
    return int(available_memory() * (1.0 - SPARE))


def available_memory() -> int:
    """Memory of the host that processes can still have, within the limit of a container."""
    found = sys.maxsize
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found = int(line.split()[1]) * 1024
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    most, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if most.exists() and used.exists():
        limit = most.read_text(encoding="ascii").strip()
        if limit.isdigit():
            found = min(found, max(0, int(limit) - int(used.read_text(encoding="ascii"))))
    return found


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
