"""One attention over own and shared keys, through diffusers' dispatch, without masks.

Rows that read further keys get longer key lists; queries that may not read (text tokens, queries
outside a gate) are computed apart. Work of equal shape shares one call of the backend.

Shapes: `b` rows, `n` image tokens, `t` text tokens, `m` keys, `h` heads, `d` head width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from consistent_gen.attention.layers import Text
from consistent_gen.attention.ops import join, rotate
from consistent_gen.attention.policy import Extra, Heads, evenly


@dataclass(frozen=True)
class _Job:
    """Queries of one row that read the same keys. `queries` None stands for all of them."""

    slot: int
    text: bool
    queries: Tensor | None
    extras: tuple[Extra, ...]

    @property
    def biased(self) -> bool:
        return any(extra.bias != 0.0 for extra in self.extras)

    def alone(self, heads: Heads) -> bool:
        """Whether the row's own image keys are left out."""
        return self.slot in heads.without_self and bool(self.extras)

    def shape(self, heads: Heads, words: int) -> tuple[Any, ...]:
        """Jobs of equal shape can be computed in one call. words: how many the row has."""
        count = -1 if self.queries is None else len(self.queries)
        shared = sum(len(extra.k) for extra in self.extras)
        return self.text, count, shared, self.alone(heads), self.biased, words


def attend(
    heads: Heads, text: Text | None = None, backend: Any = None
) -> tuple[Tensor, Tensor | None]:
    """Attention of every row over its own keys and its extras.

    Returns the results for image tokens [b n h d] and for text tokens [b t h d] (None without).
    Text queries never read extras.
    """
    n, t = heads.q.shape[1], 0 if text is None else text.q.shape[1]
    q, k, v = joint = _joint(heads, text)  # b n+t h d
    first = 0 if text is None else text.before
    image, words = slice(first, first + n), _beside(first, n, t, q.device)
    padded = _padded(text)
    groups: dict[tuple[Any, ...], list[_Job]] = {}
    for slot in {**heads.reads, **padded}:
        extras = [extra for extra in heads.reads.get(slot, ()) if len(extra.k)]
        jobs = list(_jobs(slot, extras, heads.q, text))
        if not jobs and slot in padded:
            jobs = [_Job(slot, False, None, ()), _Job(slot, True, None, ())]
        for job in jobs:
            said = len(padded[slot]) if slot in padded else t
            groups.setdefault(job.shape(heads, said), []).append(job)
    reading = {job.slot for group in groups.values() for job in group}
    plain = [slot for slot in range(len(q)) if slot not in reading]
    if not reading:
        out = _dispatch(q, k, v, backend)
    else:
        out = torch.empty_like(q)
        if plain:
            rows = evenly(plain)
            out[rows] = _dispatch(q[rows], k[rows], v[rows], backend)
    for group in groups.values():
        _run_group(group, heads, joint, (image, words), padded, out, backend)
    return out[:, image], None if text is None else out[:, words]


def _joint(heads: Heads, text: Text | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of text and image in the model's order [b n+t h d], rotated."""
    parts = [(heads.q, heads.k, heads.v)]
    if text is not None:
        i = text.before
        front = text.q[:, :i], text.k[:, :i], text.v[:, :i]
        back = text.q[:, i:], text.k[:, i:], text.v[:, i:]
        parts = [part for part in (front, parts[0], back) if part[0].shape[1]]
    q, k, v = (torch.cat(x, dim=1) if len(x) > 1 else x[0] for x in zip(*parts, strict=True))
    if heads.rotary is not None:
        angles = heads.rotary.angles(heads.rotary.ids)
        q, k = rotate(q, *angles), rotate(k, *angles)
    return q, k, v


def _beside(before: int, n: int, t: int, device: torch.device) -> slice | Tensor:
    """Where the t tokens beside n image tokens stand, `before` of them in front."""
    if before in (0, t):
        return slice(0, t) if before else slice(n, n + t)
    front = torch.arange(before, device=device)
    return torch.cat([front, torch.arange(before + n, n + t, device=device)])


def _padded(text: Text | None) -> dict[int, Tensor]:
    """Of rows with padding: slot -> numbers of the text tokens [w] that are words."""
    if text is None or text.words is None:
        return {}
    return {slot: row.nonzero()[:, 0] for slot, row in enumerate(text.words) if not bool(row.all())}


def _jobs(slot: int, extras: Sequence[Extra], q: Tensor, text: Text | None) -> Iterator[_Job]:
    """Split one row's image queries (q [b n h d]) and text queries by what they may read."""
    everyone = tuple(extra for extra in extras if extra.queries is None)
    regions: list[tuple[Tensor, list[Extra]]] = []
    for extra in extras:
        if extra.queries is None or not len(extra.queries):
            continue
        same = next((found for where, found in regions if where is extra.queries), None)
        if same is None:
            regions.append((extra.queries, [*everyone, extra]))
        else:
            same.append(extra)
    if not everyone and not regions:
        return
    for where, found in regions:
        yield _Job(slot, False, where, tuple(found))
    if regions:
        outside = torch.ones(q.shape[1], dtype=torch.bool, device=q.device)
        for where, _ in regions:
            outside[where] = False
        rest = outside.nonzero()[:, 0]
        if len(rest):
            yield _Job(slot, False, rest, everyone)
    else:
        yield _Job(slot, False, None, everyone)
    if text is not None:
        yield _Job(slot, True, None, ())


def _run_group(
    group: Sequence[_Job],
    heads: Heads,
    joint: tuple[Tensor, Tensor, Tensor],
    spans: tuple[slice, slice | Tensor],
    padded: dict[int, Tensor],
    out: Tensor,
    backend: Any,
) -> None:
    """Attend for jobs of one shape, and put the results into `out` [b n+t h d].

    joint: queries, keys and values like `out`. spans: where image and text stand in them. padded:
    see `_padded`.
    """
    q, k, v = joint
    image, words = spans
    scale = 1.0 / math.sqrt(q.shape[-1])
    biased = group[0].biased
    # With all tokens of all these rows there is no need to go row by row.
    whole = group[0].queries is None and image == slice(0, q.shape[1])
    slots = evenly([job.slot for job in group]) if whole else []
    queries: list[list[Tensor]] = []
    keys: list[list[Tensor]] = []
    values: list[list[Tensor]] = []
    for job in group:
        wanted = _wanted(job, spans, q.device)
        own: list[slice | Tensor] = [slice(0, q.shape[1])]
        if job.slot in padded or job.alone(heads):
            said = words
            if job.slot in padded:
                places = torch.arange(q.shape[1], device=q.device)[words]
                said = places[padded[job.slot]]
            own = [said] if job.alone(heads) else [said, image]
        queries.append([q[job.slot, wanted]])  # n h d
        keys.append(
            [*(k[job.slot, x] for x in own), *(_rotated(e, heads, k) for e in job.extras)]
        )  # m h d
        values.append([*(v[job.slot, x] for x in own), *(e.v.to(v) for e in job.extras)])
    if biased:
        levels = [
            [*[0.0] * (len(parts) - len(job.extras)), *(e.bias / scale for e in job.extras)]
            for job, parts in zip(group, keys, strict=True)
        ]
        wide_q, wide_k = join(queries, [[1.0]] * len(group)), join(keys, levels)
        wide_v = join(values, [[0.0] * len(row) for row in levels])
        result = _dispatch(wide_q, wide_k, wide_v, backend, scale)[..., : q.shape[-1]]
    else:
        queried = q[slots] if whole else join(queries)
        result = _dispatch(queried, join(keys), join(values), backend)  # r n h d
    if whole:
        out[slots] = result
        return
    for job, row in zip(group, result, strict=True):
        out[job.slot, _wanted(job, spans, q.device)] = row


def _wanted(job: _Job, spans: tuple[slice, slice | Tensor], device: torch.device) -> slice | Tensor:
    """Which tokens [n] of the joint sequence ask."""
    image, words = spans
    if job.queries is None:
        return words if job.text else image
    asking: Tensor = job.queries.to(device) + image.start
    return asking


def _rotated(extra: Extra, heads: Heads, like: Tensor) -> Tensor:
    """An extra's keys [m h d] at their positions."""
    k = extra.k.to(like)
    if heads.rotary is None:
        return k
    assert extra.rotary is not None, "an extra without positions in a rotary model"
    return rotate(k[None], *extra.rotary)[0]


def _dispatch(q: Tensor, k: Tensor, v: Tensor, backend: Any, scale: float | None = None) -> Tensor:
    """Attention by the chosen kernel: q [b n h d], k and v [b m h d] to [b n h d]."""
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    found: Tensor = dispatch_attention_fn(q, k, v, scale=scale, backend=backend)
    return found.to(q.dtype)
