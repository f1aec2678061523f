"""The anchor bank: what anchors leave for later frames, once per (source, layer, step, branch).

Anchors never read later frames, so what they export is the same whoever reads it. A story of any
length therefore costs constant memory and constant time per added frame. The bank is not saved:
gigabytes do not belong on disk when the anchors' prompts and seeds rebuild it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from consistent_gen.attention.roles import Source
from consistent_gen.attention.rows import Branch
from consistent_gen.errors import ConsistentGenError, LimitError

DEFAULT_LIMIT_BYTES = 4 << 30
Key = tuple[Source, str, int, Branch]  # source, layer, step, branch


@dataclass(frozen=True, kw_only=True)
class Export:
    """What one anchor leaves at one layer, step and branch.

    tokens: numbers of the shared image tokens [m], ascending; k, v: [m h d] of these, before
    rotation. statistics: of "q", "k", "v" over all tokens, mean and deviation [1 h d].
    subject_q, subject_k: [s h d] and result: [s c], at all tokens of the subject.
    """

    anchor: int
    tokens: Tensor
    k: Tensor
    v: Tensor
    statistics: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    subject_q: Tensor | None = None
    subject_k: Tensor | None = None
    result: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Memory of its tensors. Token numbers are shared by all layers of a grid."""
        pairs = [x for pair in self.statistics.values() for x in pair]
        own = [self.k, self.v, self.subject_q, self.subject_k, self.result]
        return sum(x.numel() * x.element_size() for x in (*own, *pairs) if x is not None)

    def to(self, device: torch.device) -> Export:
        """The same on another device."""
        moved: dict[str, Any] = {
            f.name: value.to(device)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        pairs = {key: (a.to(device), b.to(device)) for key, (a, b) in self.statistics.items()}
        return replace(self, statistics=pairs, **moved)


class AnchorBank:
    """Exports of all subjects of one run.

    Args:
        limit_bytes: more than this is refused.
        device: where exports are kept; None leaves them where they are made.
    """

    def __init__(
        self, limit_bytes: int = DEFAULT_LIMIT_BYTES, device: torch.device | None = None
    ) -> None:
        self.limit_bytes = limit_bytes
        self.device = device
        self._exports: dict[Key, dict[int, Export]] = {}
        self._used: dict[Source, int] = {}
        self._promised: dict[Source, int] = {}

    @property
    def bytes(self) -> int:
        """What is kept now."""
        return sum(self._used.values())

    def bytes_of(self, source: Source) -> int:
        """What one source has left."""
        return self._used.get(source, 0)

    def promise(self, sources: Iterable[Source], each: int) -> None:
        """Keep room for sources about to be drawn, who will leave at most `each` bytes.

        Raises:
            LimitError: there is not so much; then nothing of theirs need be drawn.
        """
        wanted = dict.fromkeys(sources, each)
        names = self._used.keys() | self._promised.keys()
        taken = sum(max(self.bytes_of(name), self._promised.get(name, 0)) for name in names)
        self._check(taken + sum(wanted.values()))
        self._promised |= wanted

    def drawn(self, source: Source) -> None:
        """Nothing more will come of a source: what it did not use is free again."""
        self._promised.pop(source, None)

    def put(self, key: Key, export: Export) -> None:
        """Keep an anchor's export, in place of an older one.

        Raises:
            LimitError: the bank would exceed its limit.
        """
        if self.device is not None:
            export = export.to(self.device)
        kept = self._exports.setdefault(key, {})
        old = kept.get(export.anchor)
        more = export.bytes - (0 if old is None else old.bytes)
        self._check(self.bytes + more)
        self._used[key[0]] = self.bytes_of(key[0]) + more
        kept[export.anchor] = export

    def put_result(self, key: Key, anchor: int, result: Tensor) -> None:
        """Add the attention result [s c] to an anchor's export of this call."""
        self.put(key, replace(self._exports[key][anchor], result=result))

    def get(self, key: Key, device: torch.device) -> list[Export]:
        """The exports at one layer, step and branch, by anchor.

        Raises:
            ConsistentGenError: the subject's anchors were not drawn up to this step.
        """
        if key not in self._exports:
            source, layer, step, branch = key
            raise ConsistentGenError(
                f"the anchors of {str(source)!r} left nothing at step {step + 1} of layer {layer} "
                f"({branch}); draw them first, with the same settings"
            )
        kept = self._exports[key]
        return [kept[i] if kept[i].k.device == device else kept[i].to(device) for i in sorted(kept)]

    def drop(self, source: Source) -> None:
        """Forget a source."""
        self._used.pop(source, None)
        self._promised.pop(source, None)
        for key in [key for key in self._exports if key[0] == source]:
            del self._exports[key]

    def __len__(self) -> int:
        return sum(len(kept) for kept in self._exports.values())

    def _check(self, wanted: int) -> None:
        if wanted > self.limit_bytes:
            raise LimitError(
                f"the anchors' bank takes {wanted / 1e6:.1f} MB, and {self.limit_bytes / 1e6:.1f} "
                "MB are allowed; use fewer steps, a smaller picture or one anchor, or raise the "
                "limit"
            )
