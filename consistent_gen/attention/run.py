"""The state of one run: who is drawn, who is whose anchor, and what is known about them.

One run is one story with one recipe. A frame is drawn in one pass, or in two when the recipe asks
for a twin: the same frame without sharing, which shows where the subject is, which tokens
correspond, and what values would have been. At some steps it takes a second row, a look: the same
latent without sharing, for its queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from consistent_gen.attention.bank import DEFAULT_LIMIT_BYTES, AnchorBank
from consistent_gen.attention.keeping import KV, Keeping
from consistent_gen.attention.layers import Grid, Site
from consistent_gen.attention.masks import AFTER_ALL, SubjectMasks
from consistent_gen.attention.matching import Features, Match, match_tokens
from consistent_gen.attention.ops import kept_count
from consistent_gen.attention.roles import FrameRole, Source, Subject, twin_id
from consistent_gen.attention.rows import BOTH, Branch
from consistent_gen.attention.settings import (
    MaskProbe,
    MatchedQueriesKeys,
    Recipe,
    Rule,
    TwinValues,
    edited_parts,
    has_edit,
    in_first_pass,
    sharing_rule,
    source_step,
    wanted_statistics,
)
from consistent_gen.errors import InputError
from consistent_gen.runtime import generator


class SharedRun:
    """What frames of one run know of each other.

    Args:
        recipe: the method. seed: of every random choice of the method (dropout, coins).
        limit_bytes, keeping: see `AnchorBank`.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        seed: int = 0,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        keeping: Keeping = KV,
    ) -> None:
        self.recipe = recipe
        self.seed = seed
        self.bank = AnchorBank(limit_bytes, keeping=keeping)
        self.features = (
            None
            if recipe.features is None
            else Features(recipe.features, released=recipe.twins_share)
        )
        self.roles: dict[str, FrameRole] = {}
        self.masks = SubjectMasks(recipe.masks or MaskProbe(), self.roles, seed)
        # source -> number -> who leaves that: frame and subject
        self._anchors: dict[Source, dict[int, tuple[str, str]]] = {}
        self._settings: dict[Source, Mapping[str, object]] = {}
        self._records: dict[str, dict[int, dict[tuple[str, Branch, str], Tensor]]] = {}
        self._matches: dict[tuple[str, str, Grid], Match] = {}
        # Every row asks for them at every layer.
        self._rules: dict[tuple[Site, int, int, Branch], tuple[Rule, ...]] = {}
        self._exports: dict[tuple[Site, int, int, Branch], tuple[Rule, ...]] = {}

    def add(self, role: FrameRole, settings: Mapping[str, object] | None = None) -> None:
        """Admit a frame (or a twin, after its frame).

        settings: what must be equal between a subject's anchors and every reader.

        Raises:
            InputError: a subject without anchors, or settings that differ from the anchors';
                names the first difference.
        """
        for use in role.subjects:
            for source in use.sources:
                self._check_settings(source, role, dict(settings or {}))
        self.roles[role.frame] = role
        for use, source in role.leaving:
            self._settings.setdefault(source, dict(settings or {}))
            self._anchors.setdefault(source, {})[role.number] = role.frame, use.name

    def add_with_twin(
        self, role: FrameRole, settings: Mapping[str, object] | None = None
    ) -> str | None:
        """Admit a frame and its twin if the recipe wants one; returns the twin's id."""
        self.add(role, settings)
        if not self.recipe.twin or not role.subjects:
            return None
        twin = twin_id(role.frame)
        self.add(replace(role, frame=twin, twin_of=role.frame), settings)
        return twin

    def set_mask(self, frame: str, subject: str, mask: Tensor) -> None:
        """Use this mask [h w] for a subject of a frame and of its twin (see
        `SubjectMasks.set_external`).
        """
        for drawing in (frame, twin_id(frame)):
            if drawing in self.roles:
                self.masks.set_external(drawing, subject, mask)

    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects that have anchors."""
        return tuple(source.subject for source in self._anchors if not source.among)

    def release(self, frame: str) -> None:
        """Forget a frame that left; anchors' masks and features stay for later frames."""
        role = self.roles.get(frame)
        if role is None or role.twin_of is not None:
            return
        for _, source in role.leaving:
            self.bank.drawn(source)
        if not role.leaving:
            self._forget(frame)

    def drop(self, subject: str, among: Iterable[str] = ()) -> None:
        """Forget a subject's anchors and their bank, or the first frame of it `among` others."""
        source = Source(subject, frozenset(among))
        self.bank.drop(source)
        for frame, _ in self._anchors.pop(source, {}).values():
            self._forget(frame)
        self._settings.pop(source, None)
        self.masks.drop(source)

    def leaving(self, role: FrameRole) -> tuple[tuple[Subject, Source], ...]:
        """What others read in a frame, or, if first passes share, in its twin."""
        if role.twin_of is None or not self.recipe.twins_share:
            return role.leaving
        return self.roles[role.twin_of].leaving

    def most_bytes(
        self,
        sites: Iterable[Site],
        latent: Grid,
        *,
        steps: int,
        guided: int,
        element_bytes: int,
        anchors: int | None = None,
        keeping: Keeping = KV,
    ) -> int:
        """Bytes that one subject takes in the bank at most: as if it filled the picture.

        Exact for methods that share every token. latent: height and width in cells. guided: how
        many steps, the first ones, have rows for both branches. anchors: how many frames leave
        something, None for those of the recipe. keeping: how; of anchors that are drawn again
        beside every step, what lives for one step.
        """
        each = []
        seeing = [site for site in sites if site.sees_images]
        for step in range(steps):
            branches = BOTH if step < guided else BOTH[:1]
            taken = 0
            for site in seeing:
                n = math.prod(site.grid(latent))
                for branch in branches:
                    read = self.exports_at(site, step, steps, branch)
                    by = self.rules_at(site, step, steps, branch)
                    taken += _most_bytes(read, by, n, site, element_bytes, keeping)
                    if self.recipe.twins_share and keeping.what != "replay":
                        first = in_first_pass(read)
                        taken += _most_bytes(first, by, n, site, element_bytes, keeping)
            each.append(taken)
        per_anchor = max(each, default=0) if keeping.what == "replay" else sum(each)
        return per_anchor * (self.recipe.anchors if anchors is None else anchors)

    def recorded_bytes(
        self, sites: Iterable[Site], latent: Grid, *, steps: int, branches: int, element_bytes: int
    ) -> int:
        """Bytes of the values that one frame's first pass leaves for it, kept while it is drawn."""
        numbers = 0
        for site in sites:
            for step in range(steps) if site.sees_images else ():
                for branch in BOTH[:branches]:
                    rules = self.rules_at(site, step, steps, branch)
                    if has_edit(rules, TwinValues):
                        numbers += math.prod(site.grid(latent)) * site.channels
        return numbers * element_bytes

    def read_steps(
        self, sites: Iterable[Site], step: int, steps: int, branches: Sequence[Branch]
    ) -> list[int]:
        """The anchors' steps that a frame reads at `step`, in whichever layers; ascending."""
        found = set()
        for site in sites:
            for branch in branches if site.sees_images else ():
                rules = self.rules_at(site, step, steps, branch)
                if rules and self.exports_at(
                    site, read := source_step(rules, step, steps), steps, branch
                ):
                    found.add(read)
        return sorted(found)

    def copies(
        self, sites: Iterable[Site], step: int, steps: int, branches: Sequence[Branch]
    ) -> bool:
        """Whether values of a first pass are put in place at a step, in any layer."""
        return any(
            has_edit(self.rules_at(site, step, steps, branch), TwinValues)
            for site in sites
            if site.sees_images
            for branch in branches
        )

    # What policies ask for.

    def rules_at(self, site: Site, step: int, steps: int, branch: Branch) -> tuple[Rule, ...]:
        """The rules that act at a layer, step and branch; of several that share, the first."""
        key = site, step, steps, branch
        if key not in self._rules:
            found: list[Rule] = []
            for number, rule in enumerate(self.recipe.rules):
                window = rule.window
                if not window.covers(site) or branch not in window.branches:
                    continue
                if step not in window.span(steps) or not self._coin(number, rule, *key[:3]):
                    continue
                if not (sharing_rule([rule]) and sharing_rule(found)):
                    found.append(rule)
            self._rules[key] = tuple(found)
        return self._rules[key]

    def exports_at(self, site: Site, step: int, steps: int, branch: Branch) -> tuple[Rule, ...]:
        """The rules that read what anchors leave at a step: theirs, and those of who is behind."""
        key = site, step, steps, branch
        if key not in self._exports:
            # A lone anchor reads nobody; others read each other at every step.
            found = list(self.rules_at(*key)) if self.recipe.anchors > 1 else []
            ahead = self.recipe.lead(steps) - 1
            for behind in range(max(0, step - ahead), step + 1):
                rules = self.rules_at(site, behind, steps, branch)
                if rules and source_step(rules, behind, steps) == step:
                    found.extend(rule for rule in rules if rule not in found)
            self._exports[key] = tuple(found)
        return self._exports[key]

    def looks(self, frame: str, step: int, steps: int) -> bool:
        """Whether `frame` wants a look, a second row without sharing, at a step."""
        role = self.roles.get(frame)
        if role is None or not self.reads(role):
            return False
        if role.twin_of is not None and not self.recipe.twins_share:
            return False
        return self.recipe.looks(step, steps)

    def reads(self, role: FrameRole) -> bool:
        """Whether a frame (or what its twin is for) reads anybody; a lone anchor does not."""
        return bool(role.reading) and (role.anchor is None or self.recipe.anchors > 1)

    def mask_step(self, role: FrameRole, step: int, steps: int) -> int:
        """The step whose masks say what a frame leaves at `step` (see `Recipe.settled`)."""
        settled = self.recipe.settled(steps) or step
        return min(step, settled) if role.leaving else step

    def seeks(self, role: FrameRole) -> bool:
        """Whether anything depends on where this frame (or twin) shows its subjects."""
        if self.masks.probe.source == "twin":
            return role.twin_of is not None
        if role.twin_of is not None and self.recipe.twins_share:
            return True
        gates = {rule.select.gate for rule in self.recipe.rules}
        several = len(role.subjects) > 1 and not gates.isdisjoint({"many", "nearest"})
        return role.twin_of is None and (bool(role.leaving) or several or "subject" in gates)

    def match(self, frame: str, use: Subject, grid: Grid) -> Match:
        """How a frame's subject corresponds to the anchors that it reads; an anchor's, to the other
        ones.
        """
        key = frame, use.name, grid
        if key not in self._matches:
            assert self.features is not None
            anchors = {k: v for source in use.sources for k, v in self._anchors[source].items()}
            others = (place for _, place in sorted(anchors.items()) if place[0] != frame)
            seen = [(frame, use.name), *others]
            features = [self.features.at(twin_id(name), grid) for name, _ in seen]  # n c each
            tokens = [self.masks.shown(*place, AFTER_ALL, grid) for place in seen]  # s each
            self._matches[key] = match_tokens(features[0], tokens[0], features[1:], tokens[1:])
        return self._matches[key]

    def foresee(self, frame: str, subject: str, grid: Grid, match: Match) -> None:
        """Take this correspondence instead of what the features would say."""
        self._matches[frame, subject, grid] = match

    def record(self, frame: str, step: int, key: tuple[str, Branch, str], value: Tensor) -> None:
        """Keep a look's "q" or a twin's "v" [n h d] at (layer, branch, which) for its frame."""
        self._records.setdefault(frame, {}).setdefault(step, {})[key] = value.clone()

    def recorded(self, frame: str, step: int, key: tuple[str, Branch, str]) -> Tensor:
        """What was kept for the frame [n h d]; forgotten when the frame is a step further."""
        steps = self._records[frame]
        for old in [s for s in steps if s < step]:
            del steps[old]
        return steps[step][key]

    def _coin(self, number: int, rule: Rule, site: Site, step: int, steps: int) -> bool:
        chance = rule.window.chance(step, steps)
        if chance >= 1.0:
            return True
        draw = generator(self.seed, f"coin {number} {site.name} {step}")
        return float(torch.rand((), generator=draw)) < chance

    def _check_settings(
        self, source: Source, role: FrameRole, settings: Mapping[str, object]
    ) -> None:
        known = self._settings.get(source)
        if known is None:
            if role.anchor is None:
                raise InputError(
                    f"frame {role.frame!r} shows {str(source)!r}, who has no anchors yet"
                )
            self._settings[source] = settings
            return
        for name in sorted({*known, *settings}):
            if known.get(name) != settings.get(name):
                raise InputError(
                    f"frame {role.frame!r} cannot read the anchors of {str(source)!r}: {name} is "
                    f"{settings.get(name)!r}, and the anchors were drawn with {known.get(name)!r}; "
                    "use the same, or draw the anchors again"
                )

    def move(self, frame: str, share: float) -> None:
        """What a frame or a twin shows was moved to the right by a share of its width."""
        self.masks.move(frame, share)
        if self.features is not None:
            self.features.move(frame, share)

    def _forget(self, frame: str) -> None:
        for name in (frame, twin_id(frame)):
            self.roles.pop(name, None)
            self.masks.forget(name)
            if self.features is not None:
                self.features.forget(name)
            self._records.pop(name, None)
        for key in [key for key in self._matches if key[0] == frame]:
            del self._matches[key]


def _most_bytes(
    rules: tuple[Rule, ...],
    by: tuple[Rule, ...],
    n: int,
    site: Site,
    element_bytes: int,
    keeping: Keeping,
) -> int:
    """Bytes that one anchor of n tokens leaves at a layer, if all are its own.

    rules: by which it is read. by: those that edit it.
    """
    sharing, matched = sharing_rule(rules), has_edit(rules, MatchedQueriesKeys)
    rows = 0 if sharing is None else kept_count(n, sharing.select.dropout, larger=True)
    loose = 2 * len(wanted_statistics(rules)) * site.channels * max(4, element_bytes)
    if keeping.what == "hidden":
        edited, shared = edited_parts(by), rows
        rows, loose = (n, loose + 4 * n) if matched else (rows, loose)
        rows += shared * ("v" in edited) + n * (matched and "q" in edited)
    else:
        rows = 2 * rows + 2 * n * matched
    rows += n * any(rule.mix.inject > 0.0 for rule in rules)
    return loose + keeping.bytes(rows, site.channels, site.heads, element_bytes)
