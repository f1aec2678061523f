"""Identity in attention: a policy that stands beside sharing methods in the same processors.

Cross-attention layers get a second attention with the same queries, over an adapter's tokens, whose
result is added to that over the text; linear maps get a LoRA; words of prompts get features. Rows
of the call that show nobody are left alone.

Shapes: `b` rows of a call, `r` of these that show somebody, `h` heads, `n` queries, `t` tokens,
`d` head width, `c` channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.adapters.fusing import FuseModule, Fusing
from consistent_gen.adapters.layout import TokenLayout
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.adapters.weights import AdapterAttention
from consistent_gen.attention.layers import Grid, Site
from consistent_gen.attention.policy import AttentionPolicy, Heads, Projection
from consistent_gen.attention.rows import Branch, Call, Row
from consistent_gen.errors import ConsistentGenError

Combine = Literal["joint", "separate"]
Residual = Literal["add", "orthogonal", "orthogonal_weighted"]


@dataclass(frozen=True, kw_only=True)
class IdentityTokens:
    """What an adapter made of the characters of one picture.

    cond, uncond: tokens [t c], with the prompt and without. masks: number of a character -> where
    it belongs, 0..1 [h w] of any size. fusing: what goes into words. plan: how strongly all acts;
    None for the adapter's own. notes: what should be known of it, such as more characters than the
    adapter was trained with.
    """

    layout: TokenLayout
    cond: Tensor
    uncond: Tensor
    masks: Mapping[int, Tensor] = field(default_factory=dict)
    fusing: Fusing | None = None
    plan: ScalePlan | None = None
    notes: tuple[str, ...] = ()

    def tokens(self, branch: Branch) -> Tensor:
        """The tokens [t c] of a guidance branch."""
        return self.cond if branch == "cond" else self.uncond


@dataclass(frozen=True, kw_only=True)
class BranchRules:
    """How a system's branch computes.

    combine: "joint", all tokens in one softmax, or "separate", one softmax for each character, as
        diffusers does where there are masks.
    residual: what is added to the result over the text: the branch's ("add"), or its part that is
        orthogonal to the text's result over the picture ("orthogonal"; PuLID, arXiv 2404.16022), or
        that with the rest weighted by the attention to the first tokens ("orthogonal_weighted").
    first: how many tokens these are. sharp: logits of that weight are not divided by the root of
        the head width, as published. zeros: how many tokens of zeros dilute the softmax.
    masks: how masks are brought to a layer's grid; "area" averages, "bicubic" is what diffusers
        does and leaves values outside 0 and 1 at edges.
    """

    combine: Combine = "joint"
    residual: Residual = "add"
    first: int = 5
    sharp: bool = True
    zeros: int = 0
    masks: Literal["area", "bicubic"] = "area"


class Capture:
    """Keeps attention maps of chosen layers, with their gradient, until `clear`.

    Args:
        layers: which ones. text: also the attention over the text. A layer whose maps are wanted
        computes its softmax in the open, so it is slower.
    """

    def __init__(self, layers: Callable[[Site], bool], *, text: bool = False) -> None:
        self.layers, self.text = layers, text
        self.branch: list[Captured] = []
        self.words: list[Captured] = []

    def clear(self) -> None:
        """Forget what was kept."""
        self.branch, self.words = [], []


@dataclass(frozen=True)
class Captured:
    """Attention [r h n t] of the rows `slots` at a layer with a grid (height, width)."""

    site: Site
    grid: Grid
    slots: tuple[int, ...]
    attention: Tensor


@dataclass(frozen=True)
class _ShownRow:
    """A row that shows somebody."""

    row: Row
    identities: IdentityTokens
    plan: ScalePlan

    def weights(self, site: Site) -> tuple[float, ...]:
        return self.plan.branch_at(self.row.step, self.row.steps, site, self.identities.layout)


@dataclass(frozen=True)
class _Layer:
    """Rows that are computed at once in one layer.

    weights: one per group of the layout. allowed: how far each query may read each token, [r n t]
    in 0..1; None for wholly.
    """

    site: Site
    slots: tuple[int, ...]
    layout: TokenLayout
    weights: tuple[float, ...]
    allowed: Tensor | None


class IdentityPolicy(AttentionPolicy):
    """An adapter in a UNet's attention.

    Args:
        attention: the adapter's weights. rules: how its branch computes. plan: how strongly, for
            pictures that say nothing themselves. fuser: what puts features into words.
        capture: maps to keep.
    """

    acts_on_text = True

    def __init__(
        self,
        attention: AdapterAttention,
        rules: BranchRules | None = None,
        plan: ScalePlan | None = None,
        *,
        fuser: FuseModule | None = None,
        capture: Capture | None = None,
    ) -> None:
        self.attention = attention
        self.rules, self.plan = rules or BranchRules(), plan or ScalePlan()
        self.fuser, self.capture = fuser, capture
        self.acts_on_projections = attention.rank > 0
        self._shown: dict[str, IdentityTokens] = {}
        self._rows: dict[int, _ShownRow] = {}
        self._call: Call | None = None
        self._kept: dict[tuple[str, Branch, str], tuple[Tensor, Tensor]] = {}
        self._regions: dict[tuple[str, Grid], Tensor] = {}

    def show(self, frame: str, identities: IdentityTokens | None) -> None:
        """From now on rows of `frame` show these characters; None for nobody."""
        self._shown.pop(frame, None)
        self._kept = {key: kv for key, kv in self._kept.items() if key[0] != frame}
        self._regions = {key: where for key, where in self._regions.items() if key[0] != frame}
        if identities is not None:
            self._shown[frame] = identities

    def begin(self, call: Call) -> None:
        """See `AttentionPolicy`."""
        self._call = call
        if self.attention.training:
            self._kept = {}  # of weights that are changing
        self._rows = {
            row.slot: _ShownRow(row, shown, shown.plan or self.plan)
            for row in call.rows
            if (shown := self._shown.get(row.frame)) is not None
        }

    def end(self) -> None:
        """See `AttentionPolicy`."""
        self._rows, self._call = {}, None

    def acts(self, site: Site) -> bool:
        """See `AttentionPolicy`."""
        if site.kind != "cross" or not self._rows:
            return False
        wanted = self.capture is not None and self.capture.text and self.capture.layers(site)
        return wanted or self.adds(site)

    def adds(self, site: Site) -> bool:
        """See `AttentionPolicy`."""
        layer = self.attention.at(site.name)
        has = layer is not None and hasattr(layer, "to_k_ip")
        return has and any(any(r.weights(site)) for r in self._rows.values())

    # Words.

    def text(self, encoded: Tensor) -> Tensor:
        """See `AttentionPolicy`: features go into the words that speak of the characters."""
        changed = encoded
        for slot, shown in self._rows.items():
            fusing, row = shown.identities.fusing, shown.row
            if fusing is None or not shown.plan.fuses(row.step, row.steps):
                continue
            assert self.fuser is not None, "fusing without a fuser"
            self._check(len(encoded))
            changed = changed.clone() if changed is encoded else changed
            features = fusing.cond if row.branch == "cond" else fusing.uncond  # n p c
            changed[slot] = self.fuser.fuse(encoded[slot], features, fusing.table)
        return changed

    # LoRA.

    def projection(
        self, which: Projection, x: Tensor, slots: Sequence[int], site: Site
    ) -> Tensor | None:
        """See `AttentionPolicy`: the LoRA of the rows that show somebody."""
        scales = {
            slot: shown.plan.lora_at(shown.row.step, shown.row.steps, site)
            for slot, shown in self._rows.items()
        }
        return self.attention.added(site.name, which, x, slots, scales)

    # The branch.

    def self_attention(self, heads: Heads, site: Site) -> None:
        """See `AttentionPolicy`: attention over the text is kept where it is wanted."""
        capture = self.capture
        if capture is not None and capture.text and capture.layers(site):
            slots = sorted(self._rows)
            q, k = heads.q[slots], heads.k[slots]  # r n h d, r t h d
            found = Captured(site, self._grid(site), tuple(slots), _softmax(q, k))
            capture.words.append(found)

    def branch(self, q: Tensor, attended: Tensor, site: Site) -> Tensor:
        """See `AttentionPolicy`: q and the result of attention over the text, [b n h d]."""
        self._check(len(q))
        out = torch.zeros_like(q)
        for (layout, weights), rows in self._together(site):
            slots = [shown.row.slot for shown in rows]
            # One row is a view, which costs nothing.
            where = slots if len(slots) > 1 else slice(slots[0], slots[0] + 1)
            keys, values = self._keys_values(rows, site, q)  # r t h d
            here = _Layer(site, tuple(slots), layout, weights, self._allowed(rows, site))
            read = self._attend(q[where], keys, values, here)
            out[where] = self._residual(read, q[where], keys, attended[where])
        return out

    def _together(
        self, site: Site
    ) -> Iterator[tuple[tuple[TokenLayout, tuple[float, ...]], list[_ShownRow]]]:
        """Rows that read something in a layer, with their tokens' names and weights: where somebody
        learns, all that have these in common; otherwise each alone, so that its bytes know no
        neighbours.
        """
        rows = [self._rows[slot] for slot in sorted(self._rows)]
        keyed = [((shown.identities.layout, shown.weights(site)), shown) for shown in rows]
        keyed = [(key, shown) for key, shown in keyed if any(key[1])]
        if not torch.is_grad_enabled():
            yield from ((key, [shown]) for key, shown in keyed)
            return
        groups: dict[tuple[TokenLayout, tuple[float, ...]], list[_ShownRow]] = {}
        for key, shown in keyed:
            groups.setdefault(key, []).append(shown)
        yield from groups.items()

    def _keys_values(
        self, rows: Sequence[_ShownRow], site: Site, q: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [r t h d] of the rows' tokens. Where nobody learns they are kept, since
        tokens are the same at every step.
        """
        first = rows[0].row
        key = first.frame, first.branch, site.name
        keep = not (torch.is_grad_enabled() or self.attention.training)
        if keep and key in self._kept:
            return self._kept[key]
        layer: Any = self.attention.at(site.name)
        weight = layer.to_k_ip.weight
        tokens = torch.stack([r.identities.tokens(r.row.branch) for r in rows])  # r t c
        tokens = tokens.to(weight)
        if self.rules.zeros:
            tokens = F.pad(tokens, (0, 0, 0, self.rules.zeros))
        heads = q.shape[2]
        k, v = (
            linear(tokens).unflatten(-1, (heads, -1)).to(q)
            for linear in (layer.to_k_ip, layer.to_v_ip)
        )
        if keep:
            self._kept[key] = k, v
        return k, v

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, here: _Layer) -> Tensor:
        """The weighted result [r n h d] of q [r n h d] over tokens [r t h d]."""
        weights = set(here.weights)
        if len(weights) > 1:
            scale = torch.tensor(here.layout.per_token(here.weights)).to(values)
            values = values * F.pad(scale, (0, self.rules.zeros))[:, None, None]
        wanted = self.capture is not None and self.capture.layers(here.site)
        if self.rules.combine == "joint":
            mask = None if here.allowed is None else here.allowed > 0.5
            read, attention = _attention(q, keys, values, mask, open_=wanted)
        else:
            read, attention = self._apart(q, keys, values, here, wanted)
        if wanted:
            assert self.capture is not None and attention is not None
            kept = Captured(here.site, self._grid(here.site), here.slots, attention)
            self.capture.branch.append(kept)
        return read if len(weights) > 1 else read * here.weights[0]

    def _apart(
        self, q: Tensor, keys: Tensor, values: Tensor, here: _Layer, wanted: bool
    ) -> tuple[Tensor, Tensor]:
        """The sum [r n h d] of one attention for each character, weighted by its mask; and, if it
        is wanted, what each query looks at, [r h n t].
        """
        read, length = torch.zeros_like(q), keys.shape[1]
        maps = q.new_zeros(len(q), q.shape[2], q.shape[1], length if wanted else 0)
        zeros = list(range(len(here.layout), length))  # tokens of zeros dilute every softmax
        for tokens in _separately(here.layout):
            own = tokens + zeros
            part, attention = _attention(q, keys[:, own], values[:, own], None, open_=wanted)
            share = None if here.allowed is None else here.allowed[:, :, tokens[0]].to(q)  # r n
            read = read + (part if share is None else part * share[..., None, None])
            if attention is not None:
                maps[..., tokens] = attention[..., : len(tokens)]
        return read, maps

    def _residual(self, read: Tensor, q: Tensor, keys: Tensor, attended: Tensor) -> Tensor:
        """What is added to `attended`; all [r n h d], keys [r t h d]."""
        if self.rules.residual == "add":
            return read
        x, y = _precise(attended), _precise(read)
        size = x.square().sum(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        along = (x * y).sum(1, keepdim=True) / size * x  # r n h d
        rest: Tensor | float = -1.0
        if self.rules.residual == "orthogonal_weighted":
            scale = 1.0 if self.rules.sharp else q.shape[-1] ** -0.5
            seen = (torch.einsum("rnhd,rthd->rhnt", q, keys) * scale).softmax(-1).mean(1)  # r n t
            rest = seen[:, :, : self.rules.first].sum(-1)[..., None, None] - 1.0
        return (y + rest * along).to(read.dtype)

    # Masks.

    def _allowed(self, rows: Sequence[_ShownRow], site: Site) -> Tensor | None:
        """How far queries may read tokens: [r n t] in 0..1, None if nobody has a mask."""
        if not any(shown.identities.masks for shown in rows):
            return None
        return torch.stack([self._regions_of(shown, self._grid(site)) for shown in rows])

    def _regions_of(self, shown: _ShownRow, grid: Grid) -> Tensor:
        """How far the queries of a grid may read the tokens of a row, [n t]."""
        key = shown.row.frame, grid
        if key not in self._regions:
            identities = shown.identities
            everywhere = torch.ones(math.prod(grid))
            owned = {
                number: self._resized(mask, grid).to(everywhere)
                for number, mask in identities.masks.items()
            }
            owners = [*identities.layout.owners, *[None] * self.rules.zeros]
            columns = [everywhere if o is None else owned.get(o, everywhere) for o in owners]
            self._regions[key] = torch.stack(columns, dim=-1).to(identities.cond.device)
        return self._regions[key]

    def _resized(self, mask: Tensor, grid: Grid) -> Tensor:
        """A mask [h w] on a layer's grid, [n]."""
        way = "bicubic" if self.rules.masks == "bicubic" else "area"
        return F.interpolate(mask.float()[None, None], size=grid, mode=way).flatten()

    def _grid(self, site: Site) -> Grid:
        assert self._call is not None, "begin() comes before the call"
        return site.grid(self._call.latent)

    def _check(self, rows: int) -> None:
        if self._call is not None and rows != self._call.size:
            raise ConsistentGenError(
                f"the model was called with {rows} rows, {self._call.size} were announced"
            )


def _separately(layout: TokenLayout) -> list[list[int]]:
    """Tokens that share a softmax when characters do not: everyone's, and what is nobody's."""
    owners = sorted({-1 if owner is None else owner for owner in layout.owners})
    return [
        [t for t, o in enumerate(layout.owners) if (-1 if o is None else o) == owner]
        for owner in owners
    ]


def _softmax(q: Tensor, k: Tensor) -> Tensor:
    """Attention [r h n t] of q [r n h d] over k [r t h d]."""
    logits = torch.einsum("rnhd,rthd->rhnt", q, k) * q.shape[-1] ** -0.5
    return _precise(logits).softmax(-1).to(q.dtype)


def _precise(logits: Tensor) -> Tensor:
    """At least float32: in half precision a softmax over few tokens is coarse."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _attention(
    q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, *, open_: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Result [r n h d] and, if the softmax is computed in the open, attention [r h n t].

    allowed: bool [r n t]; a query that may read nothing gets exactly 0.
    """
    none = None
    if allowed is not None:
        allowed = allowed.to(q.device)
        none = ~allowed.any(-1)  # r n
        allowed = allowed | none[..., None]  # a softmax over nothing is not a number
    attention = None
    if open_:
        logits = torch.einsum("rnhd,rthd->rhnt", q, k) * q.shape[-1] ** -0.5
        if allowed is not None:
            logits = logits.masked_fill(~allowed[:, None], -math.inf)
        attention = _precise(logits).softmax(-1).to(q.dtype)
        if none is not None:
            attention = attention.masked_fill(none[:, None, :, None], 0.0)
        read = torch.einsum("rhnt,rthd->rnhd", attention, v)
    else:
        mask = None if allowed is None else allowed[:, None]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
    if none is not None:
        read = read.masked_fill(none[:, :, None, None], 0.0)
    return read, attention
