"""The policy that carries out any recipe: twins and looks record, anchors export, others read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from consistent_gen.attention.bank import Export, wanted_statistics
from consistent_gen.attention.calls import Call, Row
from consistent_gen.attention.layers import Site
from consistent_gen.attention.ops import adain, token_statistics
from consistent_gen.attention.placing import extra_angles
from consistent_gen.attention.policy import AttentionPolicy, Extra, Heads
from consistent_gen.attention.roles import FrameRole, Subject
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import (
    AlignStatistics,
    BlendQueries,
    MatchedQueriesKeys,
    Rule,
    ScaleShared,
    TwinValues,
    sharing_rule,
)
from consistent_gen.attention.work import Work
from consistent_gen.errors import ConsistentGenError


class Sharing(AttentionPolicy):
    """Acts for the frames of one run; rows of anybody else are left alone."""

    def __init__(self, run: SharedRun) -> None:
        self.run = run
        self.feature_scale = None if run.features is None else run.features.probe.scale
        self._call: Call | None = None
        self._rows: list[tuple[Row, FrameRole]] = []
        self._work: dict[str, list[Work]] = {}
        self._watched: dict[str, Site] | None = None
        self._sites: Mapping[str, Site] = {}
        self._device = torch.device("cpu")

    def bind(self, sites: Mapping[str, Site]) -> None:
        """Tell the policy the model's layers (`Patch.sites`); once, before the first call."""
        self._sites = sites

    def begin(self, call: Call) -> None:
        """See `AttentionPolicy`; `call.rows` may hold rows of other runs too."""
        assert self._sites, "bind() comes before begin()"
        self._call = call
        roles = self.run.roles
        self._rows = [(row, roles[row.frame]) for row in call.rows if row.frame in roles]
        self._work = {}
        self._watched = self.run.masks.watched(self._sites.values(), call.latent)

    def end(self) -> None:
        """See `AttentionPolicy`."""
        self._call = None
        self._rows, self._work, self._watched = [], {}, None

    def acts(self, site: Site) -> bool:
        """See `AttentionPolicy`."""
        return bool(self._at(site))

    def self_attention(self, heads: Heads, site: Site) -> None:
        """See `AttentionPolicy`: first twins and looks, then anchors, then whoever reads them."""
        assert self._call is not None
        if len(heads.q) != self._call.size:
            raise ConsistentGenError(
                f"the model was called with {len(heads.q)} rows, {self._call.size} were announced"
            )
        self._device = heads.q.device
        work = self._at(site)
        for item in (item for item in work if item.aside):
            self._record(item, heads, site)
        drawn = [item for item in work if not item.aside]
        for item in drawn:
            self._apply_recorded(item, heads, site)
        for item in drawn:
            for leaving in item.role.leaving if item.exports else ():
                self._export(item, leaving, heads, site)
        for item in drawn:
            self._align(item, heads, site)
        for item in drawn:
            self._read(item, heads, site)

    def output(self, hidden: Tensor, site: Site) -> Tensor:
        """See `AttentionPolicy`: blend results of matched anchor tokens in."""
        injecting = [i for i in self._at(site) if i.inject > 0.0 and not i.aside]
        changed = hidden
        # Anchors first: they may be read in the same call.
        for item in sorted(injecting, key=lambda item: item.role.anchor is None):
            if item.role.anchor is None:
                changed = hidden.clone() if changed is hidden else changed
                self._inject(item, changed, site)
            for use, name in item.role.leaving if item.exports else ():
                tokens = self._subject_tokens(item, use, site).to(hidden.device)
                result = changed[item.row.slot][tokens]
                self.run.bank.put_result(item.key(name, site), item.role.number, result)
        return changed

    def watched(self, site: Site) -> Mapping[Row, tuple[int, ...]]:
        """See `AttentionPolicy`: conditional rows whose subjects are looked for here."""
        if self._watched is None or site.name not in self._watched or self.run.recipe.masks is None:
            return {}
        return {
            row: tuple(token for use in role.subjects for token in use.tokens)
            for row, role in self._rows
            if row.branch == "cond" and role.subjects and not row.look and self.run.seeks(role)
        }

    def text_attention(self, row: Row, attention: Tensor, site: Site) -> None:
        """See `AttentionPolicy`: note the map of every subject of the row."""
        assert self._call is not None and self._watched is not None
        grids = [s.grid(self._call.latent) for s in self._watched.values()]
        finest = max(grids, key=lambda grid: grid[0] * grid[1])
        own = site.grid(self._call.latent)
        for use in self.run.roles[row.frame].subjects:
            if use.tokens:
                looked = attention[:, list(use.tokens)].mean(-1)
                self.run.masks.add(row.frame, use.name, row.step, looked, (own, finest))

    def features(self, output: Tensor) -> None:
        """See `AttentionPolicy`: keep the features of twins at the probe's noise level."""
        if self.run.features is None or self._call is None:
            return
        for row, role in self._rows:
            if row.branch != "cond" or role.twin_of is None:  # looks are no twins
                continue
            if self.run.features.wanted(row.frame, row.time):
                tokens, grid = _as_tokens(output[row.slot], self._call.latent, self._sites)
                self.run.features.put(row.frame, row.time, tokens, grid)

    def _at(self, site: Site) -> list[Work]:
        if site.name not in self._work:
            found = []
            for row, role in self._rows:
                here = site, row.step, row.steps, row.branch
                item = Work(
                    row,
                    role,
                    self.run.rules_at(*here) if self.run.reads(role) else (),
                    self.run.exports_at(*here) if role.leaving else (),
                )
                if item.any:
                    found.append(item)
            self._work[site.name] = found
        return self._work[site.name]

    def _grid(self, site: Site) -> tuple[int, int]:
        assert self._call is not None
        return site.grid(self._call.latent)

    def _record(self, item: Work, heads: Heads, site: Site) -> None:
        row, which = item.row, "q" if item.row.look else "v"
        key = site.name, row.branch, which
        self.run.record(item.frame, row.step, key, heads.get(which, row.slot))

    def _apply_recorded(self, item: Work, heads: Heads, site: Site) -> None:
        row = item.row
        for rule in item.rules:
            for edit in rule.align:
                if isinstance(edit, BlendQueries):
                    w = _blend_weight(edit, rule, row)
                    vanilla = self.run.recorded(item.frame, row.step, (site.name, row.branch, "q"))
                    heads.put("q", row.slot, _blend(heads.get("q", row.slot), vanilla, w))
                elif isinstance(edit, TwinValues):
                    twin = self.run.recorded(item.frame, row.step, (site.name, row.branch, "v"))
                    heads.put("v", row.slot, twin.to(heads.v))

    def _export(self, item: Work, leaving: tuple[Subject, str], heads: Heads, site: Site) -> None:
        row, role = item.row, item.role
        use, name = leaving
        q, k, v = (heads.get(which, row.slot) for which in "qkv")
        tokens = torch.empty(0, dtype=torch.int64, device=k.device)
        sharing = sharing_rule(item.exports)
        if sharing is not None:
            known = self.run.mask_step(role, row.step, row.steps)
            chosen = self.run.tokens.shared(
                role, leaving, sharing.select, row.step, self._grid(site), k.device, known=known
            )
            tokens = tokens if chosen is None else chosen.to(k.device)
        statistics = {
            which: token_statistics(heads.get(which, row.slot))
            for which in wanted_statistics(item.exports)
        }
        matched = item.has(MatchedQueriesKeys)
        own = self._subject_tokens(item, use, site).to(k.device) if matched else tokens[:0]
        export = Export(
            anchor=role.number,
            tokens=tokens,
            k=k[tokens],
            v=v[tokens],
            statistics=statistics,
            subject_q=q[own] if matched else None,
            subject_k=k[own] if matched else None,
        )
        self.run.bank.put(item.key(name, site), export)

    def _align(self, item: Work, heads: Heads, site: Site) -> None:
        """Edits of a frame's own features by those of its anchors; anchors keep their own."""
        if item.role.anchor is not None:
            return
        row = item.row
        for rule in item.rules:
            for edit in rule.align:
                if isinstance(edit, AlignStatistics) and edit.toward == "source":
                    # One picture has one style: that of its first subject's first anchor.
                    source = self._exports(item, item.uses[0], site)[0]
                    for which in edit.which:
                        x = heads.get(which, row.slot)
                        aligned = adain(x, token_statistics(x), source.statistics[which])
                        heads.put(which, row.slot, aligned)
                elif isinstance(edit, MatchedQueriesKeys):
                    for use in item.uses:
                        self._gather(item, use, heads, site)

    def _gather(self, item: Work, use: Subject, heads: Heads, site: Site) -> None:
        match = self.run.match(item.frame, use, self._grid(site))
        exports = self._exports(item, use, site)
        tokens, source = match.tokens.to(heads.q.device), match.source.to(heads.q.device)
        for which in ("q", "k"):
            pool = torch.cat([getattr(export, f"subject_{which}") for export in exports])
            x = heads.get(which, item.row.slot).clone()
            x[tokens] = pool[source].to(x)
            heads.put(which, item.row.slot, x)

    def _read(self, item: Work, heads: Heads, site: Site) -> None:
        rule = item.sharing
        if rule is None:
            return
        slot = item.row.slot
        if not rule.topology.self_keys and item.role.anchor is None:
            heads.without_self.add(slot)
        for use in item.uses:
            extras: list[Extra] = []
            if use.beside:
                # There each is known by where it stands and what is beside it.
                extras += self._extras(item, use, use.beside, heads, site)
            queries, gated = None, _gated(rule, item)
            if gated:
                tokens = self.run.tokens
                find = tokens.nearest if rule.select.gate == "nearest" else tokens.region
                queries = find(item.role, use, item.row.step, self._grid(site))
            if queries is not None or not gated:
                extras += self._extras(item, use, use.name, heads, site, queries)
            heads.reads.setdefault(slot, []).extend(extras)

    def _extras(
        self, item: Work, use: Subject, source: str, heads: Heads, site: Site,
        queries: Tensor | None = None,
    ) -> Iterator[Extra]:  # fmt: skip
        """What a row reads of one source, with all queries or those of `queries`."""
        rule = item.sharing
        assert rule is not None
        # The bias is for who they are; how they look together counts once. What others read reads
        # at full weight, whatever a reader asks for.
        bias = rule.mix.bias if source == use.name else 0.0
        bias += 0.0 if item.role.leaving else math.log(use.strength)
        for export in self._exports_of(item, source, site):
            k, v = _aligned(export, rule, heads, item.row.slot)
            angles = None
            if heads.rotary is not None:
                angles = extra_angles(
                    export, rule.place, heads.rotary, self._grid(site),
                    partial(self._places, item, use, site),
                )  # fmt: skip
            yield Extra(k, v, bias, queries, angles)

    def _inject(self, item: Work, hidden: Tensor, site: Site) -> None:
        for use in item.uses:
            match = self.run.match(item.frame, use, self._grid(site))
            pool = torch.cat(
                [e.result for e in self._exports(item, use, site) if e.result is not None]
            )
            tokens, source = match.tokens.to(hidden.device), match.source.to(hidden.device)
            w = item.inject * min(use.strength, 1.0)
            row = hidden[item.row.slot]
            row[tokens] = _blend(row[tokens], pool[source], w)

    def _exports(self, item: Work, use: Subject, site: Site) -> list[Export]:
        return [e for source in use.sources for e in self._exports_of(item, source, site)]

    def _exports_of(self, item: Work, source: str, site: Site) -> list[Export]:
        row = item.row
        step = row.step if item.role.anchor is not None else item.source_step
        key = source, site.name, step, row.branch
        return [e for e in self.run.bank.get(key, self._device) if e.anchor != item.role.anchor]

    def _subject_tokens(self, item: Work, use: Subject, site: Site) -> Tensor:
        known = self.run.mask_step(item.role, item.row.step, item.row.steps)
        return self.run.tokens.shown(item.role.frame, use.name, known, self._grid(site))

    def _places(self, item: Work, use: Subject, site: Site) -> tuple[Tensor, ...]:
        return self.run.match(item.frame, use, self._grid(site)).places


def _blend(x: Tensor, other: Tensor, weight: float) -> Tensor:
    """(1 - w) x + w other, in the form that leaves equal numbers as they are."""
    return x + weight * (other.to(x) - x)


def _blend_weight(edit: BlendQueries, rule: Rule, row: Row) -> float:
    """The weight runs evenly over the window's steps."""
    span = rule.window.span(row.steps)
    first, last = edit.weights
    return first + (last - first) * (row.step - span.start) / max(len(span) - 1, 1)


def _gated(rule: Rule, item: Work) -> bool:
    select, row = rule.select, item.row
    several = select.gate in ("many", "nearest") and len(item.role.subjects) > 1
    if item.role.anchor is not None or row.step < round(select.open * row.steps):
        return False
    return select.gate == "subject" or several


def _aligned(export: Export, rule: Rule, heads: Heads, slot: int) -> tuple[Tensor, Tensor]:
    """An export's keys and values as this row reads them."""
    parts = {"k": export.k, "v": export.v}
    for edit in rule.align:
        if isinstance(edit, AlignStatistics) and edit.toward == "target":
            for which in edit.which:
                own = token_statistics(heads.get(which, slot))
                parts[which] = adain(parts[which], export.statistics[which], own)
        elif isinstance(edit, ScaleShared):
            parts["k"] = parts["k"] * edit.factor
    return parts["k"], parts["v"]


def _as_tokens(
    output: Tensor, latent: tuple[int, int], sites: Mapping[str, Site]
) -> tuple[Tensor, tuple[int, int]]:
    """Features of one row, [c h w] or [n c], as tokens [n c] and their grid."""
    if output.ndim == 3:
        return output.flatten(1).T, (int(output.shape[1]), int(output.shape[2]))
    return output, next(iter(sites.values())).grid(latent)
