"""One attention over own and shared keys, through diffusers' dispatch, without masks.

Rows that read further keys get longer key lists; queries that may not read (text tokens, queries
outside a gate) are computed apart. Work of equal shape shares one call of the backend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from consistent_gen.attention.ops import join, join_wide, rotate
from consistent_gen.attention.policy import Extra, Heads


@dataclass(frozen=True)
class Text:
    """Text queries, keys and values of a joint layer, [b t h d]; `first` if text precedes image."""

    q: Tensor
    k: Tensor
    v: Tensor
    first: bool


@dataclass(frozen=True)
class _Job:
    """Queries of one row that read the same keys. `queries` None stands for all of them."""

    slot: int
    text: bool
    queries: Tensor | None
    extras: tuple[Extra, ...]


def attend(
    heads: Heads, text: Text | None = None, backend: Any = None
) -> tuple[Tensor, Tensor | None]:
    """Attention of every row over its own keys and its extras.

    Returns the results for image tokens [b n h d] and for text tokens [b t h d] (None without).
    Text queries never read extras.
    """
    q, k, v = _rotated(heads, text)
    jobs = [job for slot, extras in heads.reads.items() for job in _jobs(slot, extras, q, text)]
    reading = {job.slot for job in jobs}
    out = torch.empty_like(q)
    plain = [slot for slot in range(len(q)) if slot not in reading]
    if len(plain) == len(q):
        out = _dispatch(q, k, v, backend)
    elif plain:
        rows = _evenly(plain)
        out[rows] = _dispatch(q[rows], k[rows], v[rows], backend)
    for group in _by_shape(jobs, heads, q):
        _run_group(group, heads, text, (q, k, v), out, backend)
    if text is None:
        return out, None
    t, n = text.q.shape[1], heads.q.shape[1]
    if text.first:
        return out[:, t:], out[:, :t]
    return out[:, :n], out[:, n:]


def _evenly(slots: list[int]) -> slice | list[int]:
    """The slots as a slice if they have equal gaps, as every second row has: views, no copies."""
    gap = slots[1] - slots[0] if len(slots) > 1 else 1
    even = range(slots[0], slots[-1] + 1, gap)
    return slice(even.start, even.stop, gap) if list(even) == slots else slots


def _rotated(heads: Heads, text: Text | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of text and image in the model's order, positions applied."""
    parts = [(heads.q, heads.k, heads.v)]
    if text is not None:
        parts.insert(0 if text.first else 1, (text.q, text.k, text.v))
    q, k, v = (torch.cat(x, dim=1) if len(x) > 1 else x[0] for x in zip(*parts, strict=True))
    if heads.rotary is not None:
        cos, sin = heads.rotary.angles(heads.rotary.ids)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    return q, k, v


def _jobs(slot: int, extras: Sequence[Extra], q: Tensor, text: Text | None) -> list[_Job]:
    """Split one row's queries by what they may read."""
    extras = [extra for extra in extras if len(extra.k)]
    if not extras:
        return []
    everyone = tuple(extra for extra in extras if extra.queries is None)
    regions: list[tuple[Tensor, tuple[Extra, ...]]] = []
    for extra in extras:
        if extra.queries is None or not len(extra.queries):
            continue
        same = [i for i, (where, _) in enumerate(regions) if where is extra.queries]
        if same:
            regions[same[0]] = (extra.queries, (*regions[same[0]][1], extra))
        else:
            regions.append((extra.queries, (*everyone, extra)))
    if not everyone and not regions:
        return []
    jobs = [_Job(slot, False, where, found) for where, found in regions]
    n = q.shape[1] - (0 if text is None else text.q.shape[1])
    if regions:
        rest = torch.ones(n, dtype=torch.bool, device=q.device)
        for where, _ in regions:
            rest[where] = False
        jobs.append(_Job(slot, False, rest.nonzero()[:, 0], everyone))
    else:
        jobs.append(_Job(slot, False, None, everyone))
    if text is not None:
        jobs.append(_Job(slot, True, None, ()))
    return [job for job in jobs if job.queries is None or len(job.queries)]


def _by_shape(jobs: Sequence[_Job], heads: Heads, q: Tensor) -> list[list[_Job]]:
    groups: dict[tuple[Any, ...], list[_Job]] = {}
    for job in jobs:
        count = -1 if job.queries is None else len(job.queries)
        shared = sum(len(extra.k) for extra in job.extras)
        alone = job.slot in heads.without_self and shared > 0
        biased = any(extra.bias != 0.0 for extra in job.extras)
        groups.setdefault((job.text, count, shared, alone, biased), []).append(job)
    return list(groups.values())


def _run_group(
    group: Sequence[_Job],
    heads: Heads,
    text: Text | None,
    joint: tuple[Tensor, Tensor, Tensor],
    out: Tensor,
    backend: Any,
) -> None:
    """Attend for jobs of one shape, and put the results into `out` [b n h d]."""
    q, k, v = joint
    image, words = _spans(heads, text)
    # All jobs of a group are biased or none is.
    biased = any(extra.bias != 0.0 for extra in group[0].extras)
    scale = 1.0 / math.sqrt(q.shape[-1])
    # With all tokens of all these rows there is no need to go row by row.
    whole = text is None and group[0].queries is None
    slots = _evenly([job.slot for job in group]) if whole else []
    queries, keys, values, levels, targets = [], [], [], [], []
    for job in group:
        wanted: slice | Tensor = words if job.text else image
        if job.queries is not None:
            wanted = job.queries.to(q.device) + image.start
        drop_own = job.slot in heads.without_self and bool(job.extras)
        own = words if drop_own else slice(0, k.shape[1])
        row_q = q[job.slot, wanted]
        row_k = [k[job.slot, own], *(_rotated_keys(extra, heads, k) for extra in job.extras)]
        row_v = [v[job.slot, own], *(extra.v.to(v) for extra in job.extras)]
        queries.append([row_q])
        keys.append(row_k)
        values.append(row_v)
        levels.append([0.0, *(extra.bias / scale for extra in job.extras)])
        targets.append((job.slot, wanted))
    if biased:
        ones, zeros = [[1.0]] * len(group), [[0.0] * len(row) for row in levels]
        joined = join_wide(queries, ones), join_wide(keys, levels), join_wide(values, zeros)
    else:
        joined = q[slots] if whole else join(queries), join(keys), join(values)
    result = _dispatch(*joined, backend, scale if biased else None)[..., : q.shape[-1]]
    if whole:
        out[slots] = result
        return
    for (slot, wanted), rows in zip(targets, result, strict=True):
        out[slot, wanted] = rows


def _rotated_keys(extra: Extra, heads: Heads, like: Tensor) -> Tensor:
    k = extra.k.to(like)
    if heads.rotary is None:
        return k
    assert extra.rotary is not None, "an extra without positions in a rotary model"
    return rotate(k[None], *extra.rotary)[0]


def _spans(heads: Heads, text: Text | None) -> tuple[slice, slice]:
    """Where image and text tokens stand in the joint sequence."""
    n = heads.q.shape[1]
    if text is None:
        return slice(0, n), slice(0, 0)
    t = text.q.shape[1]
    return (slice(t, t + n), slice(0, t)) if text.first else (slice(0, n), slice(n, n + t))


def _dispatch(q: Tensor, k: Tensor, v: Tensor, backend: Any, scale: float | None = None) -> Tensor:
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    found: Tensor = dispatch_attention_fn(q, k, v, scale=scale, backend=backend)
    return found.to(q.dtype)
