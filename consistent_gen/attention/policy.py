"""What a policy may do inside attention layers, and what it is handed there.

A policy is told before a denoiser call which rows are whose, is asked at every layer whether it
acts there, and then edits the layer's queries, keys and values or lets rows read further keys.
Sharing methods and identity adapters are both policies; a layer holds an ordered list of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from consistent_gen.attention.layers import Rotary, Site
from consistent_gen.attention.rows import Call, Row

Projection = Literal["q", "k", "v", "out"]


@dataclass(frozen=True)
class Extra:
    """Keys and values that a row reads besides its own.

    k, v: [m h d], before rotary embedding. bias: added to their logits.
    queries: numbers of the image queries that may read them, None for all; the gated extras of a
        row must not overlap unless they are equal.
    rotary: cos and sin [m d] of their positions, for models with rotary embeddings.
    """

    k: Tensor
    v: Tensor
    bias: float = 0.0
    queries: Tensor | None = None
    rotary: tuple[Tensor, Tensor] | None = None


@dataclass
class Heads:
    """Image queries, keys and values of one layer, [b n h d], normalised and before rotation.

    reads: extras per slot. without_self: slots whose own image keys are left out if they read.
    rotary: positions in models with rotary embeddings.
    hidden: what the layer projects, of image tokens [b n c]; project: hidden states [u c] of such
        tokens to the layer's "q", "k" or "v" [u h d]. None where an adapter adds something of the
        row's own to projections.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    reads: dict[int, list[Extra]] = field(default_factory=dict)
    without_self: set[int] = field(default_factory=set)
    rotary: Rotary | None = None
    hidden: Tensor | None = None
    project: Callable[[Tensor, Literal["q", "k", "v"]], Tensor] | None = None
    _edited: set[str] = field(default_factory=set)

    @property
    def untouched(self) -> bool:
        """Whether attention over them is the layer's own: nothing was edited, nothing is read."""
        reading = any(len(extra.k) for extras in self.reads.values() for extra in extras)
        return not (reading or self._edited)

    def get(self, which: str, slot: int) -> Tensor:
        """The "q", "k" or "v" of one row, [n h d]."""
        tensor: Tensor = getattr(self, which)
        return tensor[slot]

    def put(self, which: str, slot: int, value: Tensor) -> None:
        """Replace the "q", "k" or "v" [n h d] of one row; the layer's own tensor is copied once."""
        self.put_rows(which, [slot], value[None])

    def put_rows(self, which: str, slots: list[int], values: Tensor) -> None:
        """The same for several rows, values [r n h d]."""
        rows = evenly(slots)
        if rows == slice(0, len(getattr(self, which)), 1):
            setattr(self, which, values.to(getattr(self, which).dtype))
        elif which in self._edited:
            getattr(self, which)[rows] = values
        else:
            changed = getattr(self, which).clone()
            changed[rows] = values
            setattr(self, which, changed)
        self._edited.add(which)


def evenly(slots: list[int]) -> slice | list[int]:
    """The slots as a slice if they have equal gaps, as every second row has: views, no copies."""
    gap = slots[1] - slots[0] if len(slots) > 1 else 1
    even = range(slots[0], slots[-1] + 1, gap)
    return slice(even.start, even.stop, gap) if list(even) == slots else slots


class AttentionPolicy:
    """Does nothing; methods override what they need. One instance serves one run."""

    feature_scale: int | None = None
    """Ask for the features of `layers.feature_module(model, scale)`; None for none."""
    acts_on_text: bool = False
    """Whether it may act on cross-attention layers, and on the encoded prompts, too."""
    acts_on_projections: bool = False
    """Whether it adds to what a layer's linear maps give."""

    def begin(self, call: Call) -> None:
        """The denoiser is about to be called with these rows."""

    def end(self) -> None:
        """The call is over, also when it failed."""

    def acts(self, site: Site) -> bool:
        """Whether this call changes or records attention at `site`.

        The answer may not change within a call; cross-attention layers are asked only if
        `acts_on_text`.
        """
        return False

    def self_attention(self, heads: Heads, site: Site) -> None:
        """Edit `heads`, or add to `heads.reads`. Called only where `acts`."""

    def adds(self, site: Site) -> bool:
        """Whether this call has a `branch` at `site`. Asked only where `acts`."""
        return False

    def branch(self, q: Tensor, attended: Tensor, site: Site) -> Tensor:
        """A further attention result [b n h d] to add, before the layer's output projection.

        q: the layer's queries [b n h d]. attended: what these found so far, [b n h d]. Called only
        where it `adds`.
        """
        raise NotImplementedError(f"{type(self).__name__} adds no branch")

    def text(self, encoded: Tensor) -> Tensor:
        """Change the encoded prompts [b t c] of a call. Called only if `acts_on_text`."""
        return encoded

    def projection(
        self, which: Projection, x: Tensor, slots: Sequence[int], site: Site
    ) -> Tensor | None:
        """What to add to a linear map's result for its input x [r n c]; None for nothing.

        which: the map: queries, keys, values or output. slots: the call's rows that x holds.
        Called only if `acts_on_projections`.
        """
        return None

    def output(self, hidden: Tensor, site: Site) -> Tensor:
        """Change the layer's result for image tokens, [b n c]. Called only where `acts`."""
        return hidden

    def watched(self, site: Site) -> Iterable[Row]:
        """Rows whose attention to the text is wanted at `site`."""
        return ()

    def text_attention(self, row: Row, attention: Tensor, site: Site) -> None:
        """Attention [n t] of a watched row's image tokens to the text, mean over heads."""

    def features(self, output: Tensor) -> None:
        """Output [b c h w] or [b n c] of the module that `feature_scale` asked for."""
