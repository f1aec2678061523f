"""The policy that carries out any recipe: twins and looks record, anchors export, others read.

Where first passes share too (`Recipe.twins_share`), a twin is a frame like any other that reads the
twins of anchors.

Shapes: `n` image tokens, `m` exported tokens, `s` tokens of a subject, `p` matched tokens, `h`
heads, `d` head width, `c` channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from consistent_gen.attention.bank import Export, Key
from consistent_gen.attention.layers import Grid, Rotary, Site
from consistent_gen.attention.ops import adain, token_statistics
from consistent_gen.attention.policy import AttentionPolicy, Extra, Heads, evenly
from consistent_gen.attention.roles import FrameRole, Source, Subject
from consistent_gen.attention.rows import Call, Row
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import (
    AlignStatistics,
    BlendQueries,
    MatchedQueriesKeys,
    Place,
    Rule,
    ScaleShared,
    TwinValues,
    edited_parts,
    has_edit,
    in_first_pass,
    sharing_rule,
    source_step,
    wanted_statistics,
)
from consistent_gen.errors import ConsistentGenError


@dataclass(frozen=True)
class _Work:
    """What one row does at one layer. rules: by which it reads. exports: by which it is read, of
    leaving. first: whether it is of a first pass that shares.
    """

    row: Row
    role: FrameRole
    rules: tuple[Rule, ...]
    exports: tuple[Rule, ...]
    leaving: tuple[tuple[Subject, Source], ...]
    first: bool = False

    @property
    def concerned(self) -> tuple[Rule, ...]:
        """All rules that the row has to do with here."""
        return (*self.exports, *(rule for rule in self.rules if rule not in self.exports))

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        if self.row.look:
            return has_edit(self.concerned, BlendQueries)
        if self.aside:
            return has_edit(self.concerned, TwinValues)
        return bool(self.exports) or bool(self.rules and self.role.reading)

    @property
    def aside(self) -> bool:
        """Whether the row shares nothing and is only recorded."""
        return self.row.look or (self.role.twin_of is not None and not self.first)

    @property
    def frame(self) -> str:
        """The frame that is drawn; of a twin that shares nothing, the one it is for."""
        return self.role.frame if self.first else self.role.twin_of or self.role.frame

    @property
    def inject(self) -> float:
        """Share of the result that matched anchor tokens replace; of an anchor, in its readers."""
        return max((rule.mix.inject for rule in self.concerned), default=0.0)

    def key(self, source: Source, site: Site) -> Key:
        """Where its exports go."""
        return source, _place(site, self.first), self.row.step, self.row.branch


class Sharing(AttentionPolicy):
    """Acts for the frames of one run; rows of anybody else are left alone."""

    def __init__(self, run: SharedRun) -> None:
        self.run = run
        self.feature_scale = None if run.features is None else run.features.probe.scale
        self._call = Call(0, (0, 0), ())
        self._rows: list[tuple[Row, FrameRole]] = []
        self._work: dict[str, list[_Work]] = {}
        self._watched: dict[str, Site] = {}
        self._finest: Grid = (0, 0)
        self._sites: Mapping[str, Site] = {}
        self._device = torch.device("cpu")
        self._again = False
        self._read_here: dict[Key, list[Export]] = {}

    @contextmanager
    def drawing_again(self) -> Iterator[None]:
        """Anchors are drawn again beside a frame: they leave what they left, and nothing is looked
        for in them.
        """
        self._again = True
        try:
            yield
        finally:
            self._again = False

    def bind(self, sites: Mapping[str, Site]) -> None:
        """Tell the policy the model's layers (`layers.find_sites`); once, before the first call."""
        self._sites = sites

    def begin(self, call: Call) -> None:
        """See `AttentionPolicy`; `call.rows` may hold rows of other runs too."""
        assert self._sites or not self.run.recipe.shares, "bind() comes before begin()"
        roles = self.run.roles
        self._call, self._work = call, {}
        self._rows = [(row, roles[row.frame]) for row in call.rows if row.frame in roles]
        if self.run.recipe.masks is not None and not self._again:
            self._watched = self.run.masks.watched(self._sites.values(), call.latent)
            grids = (site.grid(call.latent) for site in self._watched.values())
            self._finest = max(grids, key=lambda grid: grid[0] * grid[1], default=(0, 0))

    def end(self) -> None:
        """See `AttentionPolicy`."""
        self._rows, self._work, self._watched, self._read_here = [], {}, {}, {}

    def acts(self, site: Site) -> bool:
        """See `AttentionPolicy`."""
        return bool(self._at(site))

    def self_attention(self, heads: Heads, site: Site) -> None:
        """See `AttentionPolicy`: first twins and looks, then anchors, then whoever reads them."""
        if len(heads.q) != self._call.size:
            raise ConsistentGenError(
                f"the model was called with {len(heads.q)} rows, {self._call.size} were announced"
            )
        self._device = heads.q.device
        self._read_here = {}
        work = self._at(site)
        drawn = [item for item in work if not item.aside]
        for item in work:
            if item.aside:
                which = "q" if item.row.look else "v"
                seen = heads.get(which, item.row.slot)  # n h d
                self.run.record(
                    item.frame, item.row.step, (site.name, item.row.branch, which), seen
                )
        for item in drawn:
            self._apply_recorded(item, heads, site)
        for item in drawn:
            for leaving in item.leaving if item.exports else ():
                self._export(item, leaving, heads, site)
        self._align(drawn, heads, site)
        for item in drawn:
            self._read(item, heads, site)

    def output(self, hidden: Tensor, site: Site) -> Tensor:
        """See `AttentionPolicy`: blend results of matched anchor tokens into hidden [b n c]."""
        injecting = [i for i in self._at(site) if i.inject > 0.0 and not i.aside]
        if not injecting:
            return hidden
        changed = hidden.clone()
        # Anchors first: they may be read in the same call. They go by their numbers, and each takes
        # from the others what these have by then: where all take what was there before, two anchors
        # only change places and are as unlike as they were.
        ordered = changed if self.run.recipe.twins_share else hidden
        for item in sorted(injecting, key=lambda i: (i.role.anchor is None, i.role.anchor or 0)):
            if item.role.anchor is None:
                pool = self._results(item, site, hidden.device)
            else:
                pool = self._beside(item, injecting, ordered, site)
            self._inject(item, changed[item.row.slot], pool, site)
            for use, source in item.leaving if item.exports else ():
                tokens = self._subject_tokens(item, use, site).to(hidden.device)
                result = changed[item.row.slot][tokens]  # s c
                self.run.bank.put_result(item.key(source, site), item.role.number, result)
        return changed

    def watched(self, site: Site) -> Sequence[Row]:
        """See `AttentionPolicy`: conditional rows whose subjects are looked for here."""
        if site.name not in self._watched:
            return ()
        return [
            row
            for row, role in self._rows
            if row.branch == "cond" and role.subjects and not row.look and self.run.seeks(role)
        ]

    def text_attention(self, row: Row, attention: Tensor, site: Site) -> None:
        """See `AttentionPolicy`: note the map [n] of every subject of the row."""
        grids = self._grid(site), self._finest
        for use in self.run.roles[row.frame].subjects:
            if use.tokens:
                looked = attention[:, list(use.tokens)].mean(-1)  # n t -> n
                self.run.masks.add(row.frame, use.name, row.step, looked, grids)

    def features(self, output: Tensor) -> None:
        """See `AttentionPolicy`: keep the features of twins at the probe's noise level."""
        features = None if self._again else self.run.features
        for row, role in self._rows if features is not None else ():
            if row.branch != "cond" or role.twin_of is None or row.look:
                continue
            if features is not None and features.wanted(row.frame, row.time):
                found = output[row.slot]  # c h w, or n c on the grid of every layer
                grid = next(iter(self._sites.values())).grid(self._call.latent)
                if found.ndim == 2:
                    found = found[: math.prod(grid)]  # behind it, pictures beside this one
                if found.ndim == 3:
                    grid, found = (found.shape[1], found.shape[2]), found.flatten(1).T
                features.put(row.frame, row.time, found, grid)

    def _at(self, site: Site) -> list[_Work]:
        if site.name not in self._work:
            found = []
            for row, role in self._rows:
                here = site, row.step, row.steps, row.branch
                leaving = self.run.leaving(role)
                rules = self.run.rules_at(*here) if self.run.reads(role) else ()
                exports = self.run.exports_at(*here) if leaving else ()
                first = role.twin_of is not None and self.run.recipe.twins_share
                if first:
                    rules, exports = in_first_pass(rules), in_first_pass(exports)
                item = _Work(row, role, rules, exports, leaving, first)
                if item.any:
                    found.append(item)
            self._work[site.name] = found
        return self._work[site.name]

    def _grid(self, site: Site) -> Grid:
        return site.grid(self._call.latent)

    def _subject_tokens(self, item: _Work, use: Subject, site: Site) -> Tensor:
        """Numbers [s] of the tokens of a row that others read."""
        known = self.run.mask_step(item.role, item.row.step, item.row.steps)
        return self.run.masks.shown(item.role.frame, use.name, known, self._grid(site))

    def _apply_recorded(self, item: _Work, heads: Heads, site: Site) -> None:
        """Queries of looks are mixed in, values of twins put in place of the row's own."""
        row = item.row
        for rule in item.rules:
            for edit in rule.align:
                if isinstance(edit, BlendQueries):
                    vanilla = self.run.recorded(item.frame, row.step, (site.name, row.branch, "q"))
                    whole = self.run.recipe.twins_share
                    w = edit.weight(rule.window, row.step, row.steps, whole=whole)
                    heads.put("q", row.slot, _blend(heads.get("q", row.slot), vanilla, w))
                elif isinstance(edit, TwinValues):
                    twin = self.run.recorded(item.frame, row.step, (site.name, row.branch, "v"))
                    heads.put("v", row.slot, twin.to(heads.v))

    def _export(
        self, item: _Work, leaving: tuple[Subject, Source], heads: Heads, site: Site
    ) -> None:
        row, role, (use, source) = item.row, item.role, leaving
        q, k, v = (heads.get(which, row.slot) for which in "qkv")  # n h d
        tokens = torch.empty(0, dtype=torch.int64, device=k.device)
        sharing = sharing_rule(item.exports)
        recalled = self.run.bank.recalled(item.key(source, site), role.number)
        if recalled is not None:
            tokens = recalled.to(k.device)  # m
        elif sharing is not None:
            known = self.run.mask_step(role, row.step, row.steps)
            chosen = self.run.masks.shared(
                role, leaving, sharing.select, row.step, self._grid(site), k.device, known=known
            )
            tokens = tokens if chosen is None else chosen.to(k.device)  # m
        own = None
        if has_edit(item.concerned, MatchedQueriesKeys):
            own = self._subject_tokens(item, use, site).to(k.device)  # s
        export = Export(
            anchor=role.number,
            tokens=tokens,
            k=k[tokens],
            v=v[tokens],
            statistics={
                which: token_statistics(heads.get(which, row.slot))
                for which in wanted_statistics(item.exports)
            },
            own=own,
            subject_q=None if own is None else q[own],
            subject_k=None if own is None else k[own],
            hidden=None if heads.hidden is None else heads.hidden[row.slot],
            edited=edited_parts(item.rules),
        )
        self.run.bank.put(item.key(source, site), export)

    def _align(self, drawn: Sequence[_Work], heads: Heads, site: Site) -> None:
        """Edits of frames' own features by those of their anchors; anchors keep their own."""
        alike: dict[tuple[str, int], tuple[Export, list[int]]] = {}
        readers = [item for item in drawn if item.role.anchor is None]
        for item in readers:
            edits = [edit for rule in item.rules for edit in rule.align]
            for edit in edits:
                if isinstance(edit, AlignStatistics) and edit.toward == "source":
                    # One picture has one style: that of its first subject's first anchor.
                    first = self._exports(item, item.role.reading[0].sources, site, heads)[0]
                    for which in edit.which:
                        alike.setdefault((which, id(first)), (first, []))[1].append(item.row.slot)
        for (part, _), (first, slots) in alike.items():
            _take_on(part, slots, first.statistics[part], heads)
        for item in readers:
            if has_edit(item.rules, MatchedQueriesKeys):
                for use in item.role.reading:
                    self._gather(item, use, heads, site)

    def _gather(self, item: _Work, use: Subject, heads: Heads, site: Site) -> None:
        """q and k at the subject's tokens from the corresponding ones of its anchors."""
        match = self.run.match(item.frame, use, self._grid(site))
        exports = self._exports(item, use.sources, site, heads)
        tokens, source = match.tokens.to(heads.q.device), match.source.to(heads.q.device)  # p
        for which in ("q", "k"):
            pool = torch.cat([getattr(export, f"subject_{which}") for export in exports])  # s h d
            x = heads.get(which, item.row.slot).clone()  # n h d
            x[tokens] = pool[source].to(x)
            heads.put(which, item.row.slot, x)

    def _read(self, item: _Work, heads: Heads, site: Site) -> None:
        rule = sharing_rule(item.rules)
        if rule is None:
            return
        slot, gated = item.row.slot, _gated(rule, item)
        if not rule.topology.self_keys and item.role.anchor is None:
            heads.without_self.add(slot)
        for use in item.role.reading:
            extras: list[Extra] = []
            if use.beside:
                # There each is known by where it stands and what is beside it: nobody is gated.
                extras += self._extras(item, use, use.sources[1], rule, heads, site, None)
            queries = None
            if gated:
                masks = self.run.masks
                find = masks.nearest if rule.select.gate == "nearest" else masks.region
                queries = find(item.role, use, item.row.step, self._grid(site))
            if queries is not None or not gated:
                extras += self._extras(item, use, use.sources[0], rule, heads, site, queries)
            heads.reads.setdefault(slot, []).extend(extras)

    def _extras(
        self,
        item: _Work,
        use: Subject,
        source: Source,
        rule: Rule,
        heads: Heads,
        site: Site,
        queries: Tensor | None,
    ) -> Iterator[Extra]:
        """What a row reads of one source, with all queries or those of `queries`."""
        # The bias is for who they are; how they look together counts once. What others read reads
        # at full weight, whatever a reader asks for.
        bias = 0.0 if source.among else rule.mix.bias
        bias += 0.0 if item.leaving else math.log(use.strength)
        grid = self._grid(site)
        for export in self._exports(item, (source,), site, heads):
            k, v = _as_read(export, rule, heads, item.row.slot)  # m h d
            angles = None
            if heads.rotary is not None:
                places = lambda: self.run.match(item.frame, use, grid).places  # noqa: E731
                angles = extra_angles(export, rule.place, heads.rotary, grid, places)
            yield Extra(k, v, bias, queries, angles)

    def _inject(self, item: _Work, hidden: Tensor, pools: Mapping[str, Tensor], site: Site) -> None:
        """Blend into a row's hidden states [n c], in place. pools: subject -> results [s c]."""
        for use in item.role.reading:
            if use.name in pools:
                match = self.run.match(item.frame, use, self._grid(site))
                tokens, source = match.tokens.to(hidden.device), match.source.to(hidden.device)  # p
                w = item.inject * min(use.strength, 1.0)
                hidden[tokens] = _blend(hidden[tokens], pools[use.name][source], w)

    def _results(self, item: _Work, site: Site, device: torch.device) -> dict[str, Tensor]:
        """Of each subject that a frame reads, what its anchors had at their tokens [s c]."""
        return {
            use.name: torch.cat(
                [
                    found
                    for key in self._keys(item, use.sources, site)
                    for found in self.run.bank.results(key, device)
                ]
            )
            for use in item.role.reading
        }

    def _beside(
        self, item: _Work, call: Sequence[_Work], hidden: Tensor, site: Site
    ) -> dict[str, Tensor]:
        """The same of an anchor: what the other anchors of this call have in hidden [s c]."""
        found: dict[str, list[Tensor]] = {}
        others = [o for o in call if o.row.branch == item.row.branch and o.role is not item.role]
        for other in sorted(others, key=lambda other: other.role.number):
            for use, source in other.leaving:
                if other.role.anchor is not None and (use.name, source) in _left(item):
                    tokens = self._subject_tokens(other, use, site).to(hidden.device)
                    found.setdefault(use.name, []).append(hidden[other.row.slot][tokens])
        return {name: torch.cat(parts) for name, parts in found.items()}

    def _exports(
        self, item: _Work, sources: Sequence[Source], site: Site, heads: Heads
    ) -> list[Export]:
        """What a row reads there; what several rows read is fetched once."""
        found: list[Export] = []
        for key in self._keys(item, sources, site):
            if key not in self._read_here:
                self._read_here[key] = self.run.bank.get(key, self._device, heads.project)
            found += [e for e in self._read_here[key] if e.anchor != item.role.anchor]
        return found

    def _keys(self, item: _Work, sources: Sequence[Source], site: Site) -> list[Key]:
        """Where that lies: of anchors at the row's own step, otherwise of who is ahead."""
        row = item.row
        ahead = item.role.anchor is None
        step = source_step(item.rules, row.step, row.steps) if ahead else row.step
        place = _place(site, item.first)
        return [(source, place, step, row.branch) for source in sources]


def _take_on(which: str, slots: list[int], target: tuple[Tensor, Tensor], heads: Heads) -> None:
    """Give rows' "q", "k" or "v" the statistics of an anchor. Each row's own are found alone, so
    that its numbers know no neighbours; the rest goes number by number, for all at once.
    """
    found = [token_statistics(heads.get(which, slot)) for slot in slots]  # 1 h d each
    mean, deviation = (torch.stack(part) for part in zip(*found, strict=True))  # r 1 h d
    rows: Tensor = getattr(heads, which)[evenly(slots)]  # r n h d
    heads.put_rows(which, slots, adain(rows, (mean, deviation), target))


def _left(item: _Work) -> set[tuple[str, Source]]:
    """The subjects that a row leaves, by name, and where."""
    return {(use.name, source) for use, source in item.leaving}


def _place(site: Site, first: bool) -> str:
    """A layer's name in the bank; what a first pass leaves there lies apart."""
    return f"{site.name}, first pass" if first else site.name


def _blend(x: Tensor, other: Tensor, weight: float) -> Tensor:
    """(1 - w) x + w other, of one shape, in the form that leaves equal numbers as they are."""
    return x + weight * (other.to(x) - x)


def _gated(rule: Rule, item: _Work) -> bool:
    """Whether only some of a row's queries may read."""
    select, row = rule.select, item.row
    several = select.gate in ("many", "nearest") and len(item.role.subjects) > 1
    if item.role.anchor is not None or row.step < round(select.open * row.steps):
        return False
    return select.gate == "subject" or several


def _as_read(export: Export, rule: Rule, heads: Heads, slot: int) -> tuple[Tensor, Tensor]:
    """An export's keys and values [m h d] as this row reads them."""
    parts = {"k": export.k, "v": export.v}
    for edit in rule.align:
        if isinstance(edit, AlignStatistics) and edit.toward == "target":
            for which in edit.which:
                own = token_statistics(heads.get(which, slot))
                parts[which] = adain(parts[which], export.statistics[which], own)
        elif isinstance(edit, ScaleShared):
            parts["k"] = parts["k"] * edit.factor
    return parts["k"], parts["v"]


def extra_angles(
    export: Export,
    place: Place,
    rotary: Rotary,
    grid: Grid,
    places: Callable[[], Sequence[Tensor]],
) -> tuple[Tensor, Tensor]:
    """cos and sin [m d] of an export's tokens, in a model with rotary embeddings.

    Token ids are (picture, row, column). grid: (height, width) in tokens. places: for each anchor,
    the frame's token [n] that each of its tokens corresponds to; called for "matched" only.
    """
    ids = rotary.image_ids  # n axes
    tokens = export.tokens.to(ids.device)  # m
    if place.kind == "matched":
        return rotary.angles(ids[places()[export.anchor].to(ids.device)[tokens]])
    moved = ids[tokens].clone()
    if place.kind == "shift":
        moved[:, 2] += grid[1] * (export.anchor + 1)
    elif place.kind == "frame":
        moved[:, 0] += export.anchor + 1
    return rotary.angles(moved)
