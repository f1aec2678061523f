"""References as tokens of the same sequence, as UNO (Wu et al., arXiv 2504.02160) and FLUX.2 do it,
for a UNet.

A transformer reads a reference's tokens beside the picture's own. In a UNet the sequences are those
of its self-attention layers: the reference, noiseless, goes through the same model once, and what
its keys and values were is read by every later step in one softmax with the picture's own. A LoRA
lets the model learn to use them, and a learned shift of the keys says what is reference, where
transformers say it by position.

    policy = adapter.policy()
    with attached(unet, policy):
        with policy.recording(["mia"]):
            unet(latent, 0, text)          # once for each reference
        policy.show("frame", {"mia": 1.0})
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.adapters.adapter import IdentitySystem, Shapes, lora_rank
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.adapters.weights import AdapterAttention, LayerPlace
from consistent_gen.attention.layers import Site
from consistent_gen.attention.policy import AttentionPolicy, Extra, Heads, Projection
from consistent_gen.attention.rows import Call, Row
from consistent_gen.encoders.faces import Licence
from consistent_gen.errors import ConsistentGenError, InputError


class ReferenceTokens(IdentitySystem):
    """A LoRA on self-attention, and a shift of reference keys for each of its layers.

    rank: of the LoRA. plan: how strongly, unless a picture says otherwise.
    """

    name, title = "reference_tokens", "Reference tokens"
    licence = Licence(name="Apache-2.0", text="trained here: Apache-2.0", commercial=True)
    prefixes = {  # noqa: RUF012
        "shifts.": ("reference_shift.",),
        "attention.": ("reference_lora.",),
    }
    marks = ("reference_shift.0", "reference_lora.0.to_q_lora.down.weight")

    def __init__(
        self, places: Sequence[LayerPlace], *, rank: int = 16, plan: ScalePlan | None = None
    ) -> None:
        super().__init__(places)
        self.plan = plan or ScalePlan()
        self.attention = AdapterAttention(places, width=0, rank=rank, lora_on="self")
        own = [place for place in places if not place.cross]
        self.shifts = nn.ParameterDict(
            {str(place.number): nn.Parameter(torch.zeros(place.inner)) for place in own}
        )
        self._numbers = {place.name: str(place.number) for place in own}

    def shift(self, name: str) -> Tensor:
        """The shift [c] of reference keys at the layer of a path."""
        found: Tensor = self.shifts[self._numbers[name]]
        return found

    def policy(self) -> ReferencePolicy:
        """The policy that brings it into a model."""
        return ReferencePolicy(self)

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """See `IdentitySystem`."""
        named = any(key.startswith("reference_shift.") for key in shapes)
        return {"rank": lora_rank(shapes)} if named else None


class ReferencePolicy(AttentionPolicy):
    """Records references, and lets rows with the prompt read them; made by `ReferenceTokens`."""

    acts_on_projections = True

    def __init__(self, adapter: ReferenceTokens) -> None:
        self.adapter = adapter
        self._recorded: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
        self._recording: tuple[str, ...] = ()
        self._wanted: Mapping[str, Tensor] = {}
        self._shown: dict[str, tuple[Mapping[str, float], Mapping[str, Tensor], ScalePlan]] = {}
        self._rows: tuple[Row, ...] = ()
        self._call: Call | None = None

    @contextmanager
    def recording(
        self, names: Sequence[str], *, masks: Mapping[str, Tensor] | None = None
    ) -> Iterator[None]:
        """For the length of a block, row i of the model's calls is the reference `names[i]`.

        masks: what counts of a reference, 0..1 [h w]: places without any of it are not kept, so
            that nothing is read of what stands around a character.
        """
        self._recording, self._wanted = tuple(names), dict(masks or {})
        for name in names:
            self._recorded[name] = {}
        try:
            yield
        finally:
            self._recording, self._wanted = (), {}

    def forget(self, name: str) -> None:
        """Free what was recorded of a reference."""
        self._recorded.pop(name, None)

    def show(
        self,
        frame: str,
        references: Mapping[str, float],
        *,
        masks: Mapping[str, Tensor] | None = None,
        plan: ScalePlan | None = None,
    ) -> None:
        """From now on rows of `frame` read these references, each with its weight (1 as trained);
        none if there are none.

        masks: where a reference is read, 0..1 [h w]; what two masks share is the first one's.

        Raises:
            InputError: a reference that was not recorded, or a weight below 0.
        """
        for name, weight in references.items():
            if name not in self._recorded:
                raise InputError(
                    f"the reference {name!r} was not recorded; "
                    f"there are: {', '.join(self._recorded) or 'none'}"
                )
            if not weight >= 0.0:
                raise InputError(f"the reference {name!r} weighs {weight:g}; expected 0 or more")
        self._shown.pop(frame, None)
        if references:
            self._shown[frame] = dict(references), dict(masks or {}), plan or self.adapter.plan

    def begin(self, call: Call) -> None:
        """See `AttentionPolicy`."""
        self._call = call
        self._rows = tuple(row for row in call.rows if row.frame in self._shown)

    def end(self) -> None:
        """See `AttentionPolicy`."""
        self._rows, self._call = (), None

    def acts(self, site: Site) -> bool:
        """See `AttentionPolicy`."""
        if site.kind != "self":
            return False
        return bool(self._recording) or any(self._weight(row, site) > 0.0 for row in self._rows)

    def projection(
        self, which: Projection, x: Tensor, slots: Sequence[int], site: Site
    ) -> Tensor | None:
        """See `AttentionPolicy`: a LoRA of references and of rows that read them."""
        if self._recording:
            scales = dict.fromkeys(range(len(x)), self.adapter.plan.lora_at(0, 1, site))
        else:
            scales = {
                row.slot: self._shown[row.frame][2].lora_at(row.step, row.steps, site)
                for row in self._rows
            }
        return self.adapter.attention.added(site.name, which, x, slots, scales)

    def self_attention(self, heads: Heads, site: Site) -> None:
        """See `AttentionPolicy`: references are recorded, or read."""
        if self._recording:
            if len(heads.q) != len(self._recording):
                raise ConsistentGenError(
                    f"the model was called with {len(heads.q)} rows for "
                    f"{len(self._recording)} references; expected one each"
                )
            for i, name in enumerate(self._recording):
                k, v = heads.k[i], heads.v[i]  # n h d
                if name in self._wanted:
                    kept = self._kept(self._wanted[name], len(k))
                    k, v = k[kept], v[kept]
                self._recorded[name][site.name] = k, v
            return
        shift = self.adapter.shift(site.name).unflatten(0, heads.k.shape[2:])  # h d
        for row in self._rows:
            weight = self._weight(row, site)
            if weight <= 0.0:
                continue
            references, masks, _ = self._shown[row.frame]
            regions = self._regions(masks, site)
            for name, own in references.items():
                k, v = self._recorded[name][site.name]
                if weight * own > 0.0:
                    extra = Extra(k + shift.to(k), v, math.log(weight * own), regions.get(name))
                    heads.reads.setdefault(row.slot, []).append(extra)

    def _kept(self, mask: Tensor, count: int) -> Tensor:
        """Numbers of the places of a square layer that a mask touches; all if it touches none."""
        side = math.isqrt(count)
        assert side * side == count, "references are square"
        where = F.adaptive_max_pool2d(mask.float()[None, None], side).flatten() > 0.5
        found: Tensor = (where if where.any() else ~where).nonzero()[:, 0]
        return found

    def _weight(self, row: Row, site: Site) -> float:
        """How strongly a row reads its references: only with the prompt, so that guidance moves
        towards them.
        """
        references, _, plan = self._shown[row.frame]
        if row.branch != "cond" or not any(references.values()):
            return 0.0
        return plan.image_at(row.step, row.steps, site)

    def _regions(self, masks: Mapping[str, Tensor], site: Site) -> dict[str, Tensor]:
        """Numbers of the queries that may read each masked reference."""
        assert self._call is not None, "begin() comes before the call"
        found: dict[str, Tensor] = {}
        taken: Tensor | None = None
        for name, mask in masks.items():
            grid = site.grid(self._call.latent)
            where = F.interpolate(mask.float()[None, None], size=grid, mode="area").flatten() > 0.5
            free = where if taken is None else where & ~taken
            taken = where if taken is None else taken | where
            found[name] = free.nonzero()[:, 0]
        return found
