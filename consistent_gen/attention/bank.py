"""The anchor bank: what anchors leave for later frames, once per (subject, layer, step, branch).

Anchors never read later frames, so what they export is the same whoever reads it. A story of any
length therefore costs constant memory and constant time per added frame. The bank is not saved:
gigabytes do not belong on disk when the anchors' prompts and seeds rebuild it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from consistent_gen.attention.layers import Site
from consistent_gen.attention.settings import (
    BOTH,
    AlignStatistics,
    Branch,
    MatchedQueriesKeys,
    Rule,
)
from consistent_gen.errors import ConsistentGenError, LimitError

DEFAULT_LIMIT_BYTES = 4 << 30
_NO_STATISTICS: Mapping[str, tuple[Tensor, Tensor]] = {}


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

    def tensors(self) -> Iterator[Tensor]:
        """Everything that takes memory. Token numbers are shared by all layers of a grid."""
        yield from (self.k, self.v)
        for pair in self.statistics.values():
            yield from pair
        yield from (x for x in (self.subject_q, self.subject_k, self.result) if x is not None)

    @property
    def bytes(self) -> int:
        """Memory of its tensors."""
        return sum(x.numel() * x.element_size() for x in self.tensors())

    def to(self, device: torch.device) -> Export:
        """The same on another device."""

        def moved(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device)

        pairs = {key: (a.to(device), b.to(device)) for key, (a, b) in self.statistics.items()}
        return replace(
            self,
            tokens=self.tokens.to(device),
            k=self.k.to(device),
            v=self.v.to(device),
            statistics=pairs,
            subject_q=moved(self.subject_q),
            subject_k=moved(self.subject_k),
            result=moved(self.result),
        )


Key = tuple[str, str, int, Branch]  # subject, layer, step, branch


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
        self.bytes = 0
        self._exports: dict[Key, dict[int, Export]] = {}

    def put(self, key: Key, export: Export) -> None:
        """Keep an anchor's export, in place of an older one.

        Raises:
            LimitError: the bank would exceed its limit.
        """
        if self.device is not None:
            export = export.to(self.device)
        kept = self._exports.setdefault(key, {})
        old = kept.get(export.anchor)
        wanted = self.bytes + export.bytes - (0 if old is None else old.bytes)
        check_limit(wanted, self.limit_bytes)
        self.bytes = wanted
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
            subject, layer, step, branch = key
            raise ConsistentGenError(
                f"the anchors of {subject!r} left nothing at step {step + 1} of layer {layer} "
                f"({branch}); draw them first, with the same settings"
            )
        kept = self._exports[key]
        return [kept[i] if kept[i].k.device == device else kept[i].to(device) for i in sorted(kept)]

    def bytes_of(self, subject: str) -> int:
        """What one subject takes."""
        kept = (kept for key, kept in self._exports.items() if key[0] == subject)
        return sum(export.bytes for exports in kept for export in exports.values())

    def drop(self, subject: str) -> None:
        """Forget a subject."""
        self.bytes -= self.bytes_of(subject)
        for key in [key for key in self._exports if key[0] == subject]:
            del self._exports[key]

    def __len__(self) -> int:
        return sum(len(kept) for kept in self._exports.values())


# (site, step, anchor) -> how many tokens are shared, and how many the subject has.
CountTokens = Callable[[Site, int, int], tuple[int, int]]


def predict_bytes(
    rules_at: Callable[[Site, int, Branch], Sequence[Rule]],
    sites: Iterable[Site],
    *,
    steps: int,
    guided: int,
    anchors: Sequence[int],
    element_bytes: int,
    count: CountTokens,
) -> int:
    """Bytes that one subject will take in the bank, before anything is drawn.

    rules_at: the rules that act at a layer, step and branch. guided: how many steps, the first
    ones, have rows without the prompt too. anchors: their numbers. element_bytes: of one number.
    """
    total = 0
    for site in sites:
        for step in range(steps):
            for branch in BOTH if step < guided else BOTH[:1]:
                rules = rules_at(site, step, branch)
                for anchor in anchors if rules else ():
                    shared, subject = count(site, step, anchor)
                    total += _numbers(rules, shared, subject) * site.channels
    return total * element_bytes


def _numbers(rules: Sequence[Rule], shared: int, subject: int) -> int:
    """Numbers per channel that one anchor leaves under `rules`."""
    found = 0
    if any(rule.mix.keys == "concat" for rule in rules):
        found += 2 * shared
    found += 2 * len(wanted_statistics(rules))
    if any(isinstance(edit, MatchedQueriesKeys) for rule in rules for edit in rule.align):
        found += 2 * subject
    if any(rule.mix.inject > 0.0 for rule in rules):
        found += subject
    return found


def wanted_statistics(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Of which of "q", "k", "v" the rules need an anchor's statistics."""
    edits = [edit for rule in rules for edit in rule.align if isinstance(edit, AlignStatistics)]
    return tuple(sorted({which for edit in edits for which in edit.which}))


def check_limit(wanted: int, limit: int) -> None:
    """Refuse a bank of `wanted` bytes above `limit`.

    Raises:
        LimitError: says both numbers and how to need less.
    """
    if wanted > limit:
        raise LimitError(
            f"the anchors' bank takes {wanted / 1e6:.1f} MB, and {limit / 1e6:.1f} MB are allowed; "
            "use fewer steps, a smaller picture or one anchor, or raise the limit"
        )
