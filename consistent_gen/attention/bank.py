"""The anchor bank: what anchors leave for later frames, once per (source, layer, step, branch).

Anchors never read later frames, so what they export is the same whoever reads it. A story of any
length therefore costs constant memory and constant time per added frame. How it is kept is a
`Keeping`, chosen per source. The bank is not saved: gigabytes do not belong on disk when the
anchors' prompts and seeds rebuild it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from consistent_gen.attention.keeping import KV, Keeping, Packed, SpillFile, SpillFolder, pack
from consistent_gen.attention.roles import Source
from consistent_gen.attention.rows import Branch
from consistent_gen.errors import ConsistentGenError, InputError, LimitError

DEFAULT_LIMIT_BYTES = 4 << 30
Key = tuple[Source, str, int, Branch]  # source, layer, step, branch
# Hidden states [u c] of a layer to its queries, keys or values [u h d].
Projects = Callable[[Tensor, Literal["q", "k", "v"]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Export:
    """What one anchor leaves at one layer, step and branch.

    tokens: numbers of the shared image tokens [m], ascending; k, v: [m h d] of these, before
    rotation. statistics: of "q", "k", "v" over all tokens, mean and deviation [1 h d].
    subject_q, subject_k: [s h d] and result: [s c], at all tokens of the subject, `own` [s].
    hidden: what the layer projects, of all image tokens [n c]. edited: which of "q", "k", "v" are
    not what it projects them to.
    """

    anchor: int
    tokens: Tensor
    k: Tensor
    v: Tensor
    statistics: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    own: Tensor | None = None
    subject_q: Tensor | None = None
    subject_k: Tensor | None = None
    result: Tensor | None = None
    hidden: Tensor | None = None
    edited: frozenset[str] = frozenset()

    @property
    def bytes(self) -> int:
        """Memory of its keys and values and what else is read. Token numbers are shared by all
        layers of a grid.
        """
        pairs = [x for pair in self.statistics.values() for x in pair]
        own = [self.k, self.v, self.subject_q, self.subject_k, self.result]
        return sum(x.numel() * x.element_size() for x in (*own, *pairs) if x is not None)


@dataclass(frozen=True)
class _Kept:
    """An export as it is kept. parts: by the name of `Export`'s field, grouped by head. numbers: of
    the subject's tokens, where hidden states stand for them.
    """

    anchor: int
    heads: int
    tokens: Tensor
    statistics: Mapping[str, tuple[Tensor, Tensor]]
    parts: Mapping[str, Packed]
    numbers: Tensor | None = None

    @property
    def bytes(self) -> int:
        pairs = [x for pair in self.statistics.values() for x in pair]
        loose = [*pairs, *([] if self.numbers is None else [self.numbers])]
        return sum(x.numel() * x.element_size() for x in loose) + sum(
            part.nbytes for part in self.parts.values()
        )


class AnchorBank:
    """Exports of all subjects of one run.

    Args:
        limit_bytes: more than this is refused.
        device: where exports are kept; None leaves them where they are made.
        keeping: how, of sources for whom `promise` does not say otherwise.
    """

    def __init__(
        self,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        device: torch.device | None = None,
        keeping: Keeping = KV,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.device = device
        self.keeping = keeping
        self._ways: dict[Source, Keeping] = {}
        self._exports: dict[Key, dict[int, _Kept]] = {}
        self._used: dict[Source, int] = {}
        self._promised: dict[Source, int] = {}
        # What is drawn again lives for one step; which tokens it left stays the same.
        self._passing: dict[Key, dict[int, Export]] = {}
        self._tokens: dict[Key, dict[int, Tensor]] = {}
        self._folder = SpillFolder()
        self._files: dict[Source, SpillFile] = {}
        self._errors: dict[Source, tuple[float, float]] = {}

    @property
    def bytes(self) -> int:
        """What is kept now, in memory or on disk."""
        return sum(self._used.values())

    def bytes_of(self, source: Source) -> int:
        """What one source has left."""
        return self._used.get(source, 0)

    def keeping_of(self, source: Source) -> Keeping:
        """How a source's exports are kept."""
        return self._ways.get(source, self.keeping)

    def error_of(self, source: Source) -> float:
        """How far what is read is from what a source left: root mean square of the differences
        over that of the numbers. 0 for exact ways.
        """
        differences, squares = self._errors.get(source, (0.0, 0.0))
        return (differences / squares) ** 0.5 if squares else 0.0

    def promise(self, sources: Iterable[Source], each: int, keeping: Keeping | None = None) -> None:
        """Keep room for sources about to be drawn, who will leave at most `each` bytes.

        keeping: how theirs are kept, None for the bank's way.

        Raises:
            LimitError: there is not so much; then nothing of theirs need be drawn.
        """
        wanted = dict.fromkeys(sources, each)
        names = self._used.keys() | self._promised.keys()
        taken = sum(max(self.bytes_of(name), self._promised.get(name, 0)) for name in names)
        self._check(taken + sum(wanted.values()))
        self._promised |= wanted
        self._ways |= dict.fromkeys(wanted, keeping or self.keeping)

    def drawn(self, source: Source) -> None:
        """Nothing more will come of a source: what it did not use is free again."""
        if self.keeping_of(source).what != "replay":  # it uses it again in every frame
            self._promised.pop(source, None)

    def put(self, key: Key, export: Export) -> None:
        """Keep an anchor's export, in place of an older one.

        Raises:
            LimitError: the bank would exceed its limit. InputError: a number is not finite.
        """
        source = key[0]
        _check_finite(key, export.k, export.v)
        if self.keeping_of(source).what == "replay":
            self._tokens.setdefault(key, {}).setdefault(export.anchor, export.tokens)
            old = self._passing.setdefault(key, {}).get(export.anchor)
            self._count(source, export.bytes - (0 if old is None else old.bytes))
            self._passing[key][export.anchor] = replace(export, hidden=None)
            return
        kept, before = self._kept(key, export), self._exports.setdefault(key, {})
        old_kept = before.get(export.anchor)
        self._count(source, kept.bytes - (0 if old_kept is None else old_kept.bytes))
        before[export.anchor] = kept

    def put_result(self, key: Key, anchor: int, result: Tensor) -> None:
        """Add the attention result [s c] to an anchor's export of this call."""
        source = key[0]
        if self.keeping_of(source).what == "replay":
            self._count(source, result.numel() * result.element_size())
            passing = self._passing[key]
            passing[anchor] = replace(passing[anchor], result=result)
            return
        kept = self._exports[key][anchor]
        packed = self._packed(source, result.unflatten(-1, (kept.heads, -1)))  # s c -> s h d
        old = kept.parts.get("result")
        self._count(source, packed.nbytes - (0 if old is None else old.nbytes))
        self._exports[key][anchor] = replace(kept, parts={**kept.parts, "result": packed})

    def get(self, key: Key, device: torch.device, project: Projects | None = None) -> list[Export]:
        """The exports at one layer, step and branch, by anchor; without their results.

        project: the layer's own projections, where hidden states are kept.

        Raises:
            ConsistentGenError: the subject's anchors were not drawn up to this step.
        """
        if key in self._passing:
            return [export for _, export in sorted(self._passing[key].items())]
        if key not in self._exports:
            source, layer, step, branch = key
            raise ConsistentGenError(
                f"the anchors of {str(source)!r} left nothing at step {step + 1} of layer {layer} "
                f"({branch}); draw them first, with the same settings"
            )
        kept = self._exports[key]
        return [_read(kept[anchor], device, project) for anchor in sorted(kept)]

    def results(self, key: Key, device: torch.device) -> list[Tensor]:
        """The attention results [s c] at one layer, step and branch, by anchor."""
        if key in self._passing:
            found = [export.result for _, export in sorted(self._passing[key].items())]
            return [result for result in found if result is not None]
        parts = [kept.parts for _, kept in sorted(self._exports[key].items())]
        return [p["result"].on(device).flatten(1) for p in parts if "result" in p]

    def recalled(self, key: Key, anchor: int) -> Tensor | None:
        """Numbers [m] of the tokens that an anchor left when it was drawn first, if it is drawn
        again beside every step.
        """
        return self._tokens.get(key, {}).get(anchor)

    def end_step(self) -> None:
        """Forget what lives for one step: exports of anchors that are drawn again."""
        for source in {key[0] for key in self._passing}:
            self._used.pop(source, None)
        self._passing.clear()

    def drop(self, source: Source) -> None:
        """Forget a source."""
        for facts in (self._used, self._promised, self._ways, self._errors):
            facts.pop(source, None)
        file = self._files.pop(source, None)
        if file is not None:
            file.path.unlink(missing_ok=True)
        entries: tuple[dict[Key, Any], ...] = (self._exports, self._passing, self._tokens)
        for table in entries:
            for key in [key for key in table if key[0] == source]:
                del table[key]

    def close(self) -> None:
        """Forget everything, and delete what lies on disk."""
        for source in list(self._used.keys() | self._promised.keys() | self._ways.keys()):
            self.drop(source)
        self._folder.close()

    def __len__(self) -> int:
        return sum(len(kept) for kept in self._exports.values())

    def _kept(self, key: Key, export: Export) -> _Kept:
        source = key[0]
        way, heads = self.keeping_of(source), export.k.shape[1]
        shared: dict[str, Tensor | None] = {
            "k": export.k, "v": export.v,
            "subject_q": export.subject_q, "subject_k": export.subject_k,
        }  # fmt: skip
        numbers = None
        if way.what == "hidden":
            if export.hidden is None:
                raise InputError(
                    f"layer {key[1]} has an adapter that adds to its projections, so keys and "
                    "values cannot be made again from hidden states; choose memory='kv', or one "
                    "that starts with kv"
                )
            # What is shared of a subject is part of it.
            rows = export.tokens if export.own is None else export.own
            if export.own is not None:
                numbers = export.own.to(torch.int32)
            names = {"k": "k", "v": "v", "subject_q": "q", "subject_k": "k"}
            shared = {name: x for name, x in shared.items() if names[name] in export.edited}
            shared["hidden"] = export.hidden[rows].unflatten(-1, (heads, -1))
        parts = {name: self._packed(source, x) for name, x in shared.items() if x is not None}
        place = self._place(way)

        def at(x: Tensor) -> Tensor:
            return x if place is None else x.to(place)

        return _Kept(
            export.anchor,
            heads,
            at(export.tokens),
            {which: (at(a), at(b)) for which, (a, b) in export.statistics.items()},
            parts,
            None if numbers is None else at(numbers),
        )

    def _packed(self, source: Source, x: Tensor) -> Packed:
        way = self.keeping_of(source)
        file = None
        if way.where == "disk":
            file = self._files.get(source) or self._folder.file()
            self._files[source] = file
        packed = pack(x, way, self._place(way), file)
        before = self._errors.get(source, (0.0, 0.0))
        if packed.error[1]:
            self._errors[source] = before[0] + packed.error[0], before[1] + packed.error[1]
        return packed

    def _place(self, way: Keeping) -> torch.device | None:
        return self.device if way.where == "device" else torch.device("cpu")

    def _count(self, source: Source, more: int) -> None:
        self._check(self.bytes + more)
        self._used[source] = self.bytes_of(source) + more

    def _check(self, wanted: int) -> None:
        if wanted > self.limit_bytes:
            raise LimitError(
                f"the anchors' bank takes {wanted / 1e6:.1f} MB, and {self.limit_bytes / 1e6:.1f} "
                "MB are allowed; use fewer steps, a smaller picture or one anchor, or raise the "
                "limit"
            )


def _read(kept: _Kept, device: torch.device, project: Projects | None) -> Export:
    """An export from what is kept of it."""
    parts = {name: part.on(device) for name, part in kept.parts.items() if name != "result"}
    tokens = kept.tokens.to(device)
    own = None
    which: Literal["q", "k", "v"]
    if "hidden" in parts:
        assert project is not None, "hidden states are read where they can be projected"
        hidden = parts.pop("hidden").flatten(1)  # u c
        shared = hidden
        if kept.numbers is not None:
            own = kept.numbers.to(device, torch.int64)
            shared = hidden[torch.searchsorted(own, tokens)]
            for which in ("q", "k"):
                if f"subject_{which}" not in parts:
                    parts[f"subject_{which}"] = project(hidden, which)
        for which in ("k", "v"):
            if which not in parts:
                parts[which] = project(shared, which)
    pairs = {which: (a.to(device), b.to(device)) for which, (a, b) in kept.statistics.items()}
    found: dict[str, Any] = dict(parts)
    return Export(anchor=kept.anchor, tokens=tokens, statistics=pairs, own=own, **found)


def _check_finite(key: Key, *exports: Tensor) -> None:
    source, layer, step, branch = key
    if exports[0].device.type == "meta" or all(bool(torch.isfinite(x).all()) for x in exports):
        return
    raise InputError(
        f"an anchor of {str(source)!r} has numbers that are not finite at step {step + 1} in layer "
        f"{layer} ({branch}); draw in bfloat16 or float32"
    )
