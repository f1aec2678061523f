"""The state of one run: who is drawn, who is whose anchor, and what is known about them.

One run is one story with one recipe. A frame is drawn in one pass, or in two when the recipe asks
for a twin: the same frame without sharing, which shows where the subject is, which tokens
correspond, and what values would have been. At some steps it takes a second row, a look: the same
latent without sharing, for its queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from consistent_gen.attention.bank import (
    DEFAULT_LIMIT_BYTES,
    AnchorBank,
    check_limit,
    predict_bytes,
)
from consistent_gen.attention.layers import Site
from consistent_gen.attention.masks import Grid, SubjectMasks
from consistent_gen.attention.matching import Features, Match, match_tokens
from consistent_gen.attention.ops import kept_count
from consistent_gen.attention.roles import FrameRole, Subject, twin_id
from consistent_gen.attention.settings import (
    Branch,
    MaskProbe,
    Recipe,
    Rule,
    Select,
    sharing_rule,
    source_step,
)
from consistent_gen.attention.tokens import AFTER_ALL, SubjectTokens
from consistent_gen.errors import InputError
from consistent_gen.runtime import generator

# What a subject is taken to cover of a picture where masks are cut at Otsu's threshold.
_OTSU_SHARE = 0.35


class Covered(NamedTuple):
    """Tokens that belong to a subject and to no clearer one, and those that show it."""

    region: int
    shown: int


class SharedRun:
    """What frames of one run know of each other.

    Args:
        recipe: the method. seed: of every random choice of the method (dropout, coins).
        limit_bytes, bank_device: see `AnchorBank`.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        seed: int = 0,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        bank_device: torch.device | None = None,
    ) -> None:
        self.recipe = recipe
        self.seed = seed
        self.bank = AnchorBank(limit_bytes, bank_device)
        self.masks = SubjectMasks(recipe.masks or MaskProbe())
        self.features = None if recipe.features is None else Features(recipe.features)
        self.roles: dict[str, FrameRole] = {}
        self.tokens = SubjectTokens(self.masks, self.roles, seed)
        # exports -> number -> who leaves them: frame and subject
        self._anchors: dict[str, dict[int, tuple[str, str]]] = {}
        self._settings: dict[str, Mapping[str, object]] = {}
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
        for use, name in role.leaving:
            self._settings.setdefault(name, dict(settings or {}))
            self._anchors.setdefault(name, {})[role.number] = role.frame, use.name

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

    @property
    def expected_share(self) -> float:
        """What a subject is taken to cover of a picture, 0..1, before its masks are known; a lower
        cut covers more, down to everything at 0.
        """
        return 1.0 - min(self.masks.probe.cut, 1.0) * (1.0 - _OTSU_SHARE)

    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects that have anchors."""
        return tuple(self._anchors)

    def release(self, frame: str) -> None:
        """Forget a frame that left; anchors' masks and features stay for later frames."""
        role = self.roles.get(frame)
        if role is None or role.leaving or role.twin_of is not None:
            return
        self._forget(frame)

    def drop(self, subject: str) -> None:
        """Forget a subject (or a name of exports): its bank and its anchors."""
        self.bank.drop(subject)
        for frame, _ in self._anchors.pop(subject, {}).values():
            self._forget(frame)
        self._settings.pop(subject, None)
        self.tokens.drop(subject)

    # What policies ask for.

    def rules_at(self, site: Site, step: int, steps: int, branch: Branch) -> tuple[Rule, ...]:
        """The rules that act at a layer, step and branch; of several that share, the first."""
        key = site, step, steps, branch
        if key not in self._rules:
            self._rules[key] = tuple(self._find_rules(*key))
        return self._rules[key]

    def _find_rules(self, site: Site, step: int, steps: int, branch: Branch) -> list[Rule]:
        found: list[Rule] = []
        for number, rule in enumerate(self.recipe.rules):
            window = rule.window
            if not window.covers(site) or branch not in window.branches:
                continue
            if step not in window.span(steps) or not self._coin(number, rule, site, step, steps):
                continue
            if sharing_rule([rule]) and sharing_rule(found):
                continue
            found.append(rule)
        return found

    def exports_at(self, site: Site, step: int, steps: int, branch: Branch) -> tuple[Rule, ...]:
        """The rules that read what anchors leave at a step: theirs, and those of who is behind."""
        key = site, step, steps, branch
        if key not in self._exports:
            self._exports[key] = tuple(self._find_exports(*key))
        return self._exports[key]

    def _find_exports(self, site: Site, step: int, steps: int, branch: Branch) -> list[Rule]:
        # A lone anchor reads nobody; where there are others, they read each other at every step.
        found = list(self.rules_at(site, step, steps, branch)) if self.recipe.anchors > 1 else []
        ahead = self.recipe.lead(steps) - 1
        for behind in range(max(0, step - ahead), step + 1):
            rules = self.rules_at(site, behind, steps, branch)
            if rules and source_step(rules, behind, steps) == step:
                found.extend(rule for rule in rules if rule not in found)
        return found

    def looks(self, frame: str, step: int, steps: int) -> bool:
        """Whether `frame` wants a look, a second row without sharing, at a step."""
        role = self.roles.get(frame)
        if role is None or role.twin_of is not None or not self.reads(role):
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
        gates = {rule.select.gate for rule in self.recipe.rules}
        several = len(role.subjects) > 1 and not gates.isdisjoint({"many", "nearest"})
        return role.twin_of is None and (bool(role.leaving) or several or "subject" in gates)

    def match(self, frame: str, use: Subject, grid: Grid) -> Match:
        """How a frame's subject corresponds to the anchors that it reads."""
        key = frame, use.name, grid
        if key not in self._matches:
            assert self.features is not None
            anchors = {k: v for source in use.sources for k, v in self._anchors[source].items()}
            seen = [(frame, use.name), *(place for _, place in sorted(anchors.items()))]
            features = [self.features.at(twin_id(name), grid) for name, _ in seen]
            tokens = [self.tokens.shown(*place, AFTER_ALL, grid) for place in seen]
            self._matches[key] = match_tokens(features[0], tokens[0], features[1:], tokens[1:])
        return self._matches[key]

    def foresee(self, frame: str, subject: str, grid: Grid, match: Match) -> None:
        """Take this correspondence instead of what the features would say."""
        self._matches[frame, subject, grid] = match

    def covered(
        self, subject: str, grids: Iterable[Grid], steps: int
    ) -> dict[tuple[int, Grid], Covered]:
        """Of every anchor of a subject, how many tokens of each grid are its and how many show it.

        Nothing before their masks are final, which `Recipe.settled` tells: masks that are asked
        for are kept.
        """
        settled = self.recipe.settled(steps)
        final = self.recipe.masks is not None and settled is not None
        known = settled or AFTER_ALL
        found: dict[tuple[int, Grid], Covered] = {}
        for number, (frame, name) in self._anchors.get(subject, {}).items():
            role = self.roles[frame]
            seen = frame if settled else twin_id(frame)
            if final and self.masks.noted(seen, name) < (settled or steps):
                return {}
            use = next(use for use in role.subjects if use.name == name)
            for grid in grids:
                region = self.tokens.region(role, use, known, grid)
                shown = self.tokens.shown(frame, name, known, grid)
                found[number, grid] = Covered(0 if region is None else len(region), len(shown))
        return found

    def record(self, frame: str, step: int, key: tuple[str, Branch, str], value: Tensor) -> None:
        """Keep a look's "q" or a twin's "v" [n h d] at (layer, branch, which) for its frame."""
        self._records.setdefault(frame, {}).setdefault(step, {})[key] = value.clone()

    def recorded(self, frame: str, step: int, key: tuple[str, Branch, str]) -> Tensor:
        """What was kept for the frame; it is forgotten as soon as the frame is a step further."""
        steps = self._records[frame]
        for old in [s for s in steps if s < step]:
            del steps[old]
        return steps[step][key]

    def predicted_bytes(
        self,
        sites: Iterable[Site],
        latent: Grid,
        *,
        steps: int,
        guided: int,
        element_bytes: int,
        covered: float | Mapping[tuple[int, Grid], Covered],
    ) -> int:
        """Bytes that one subject takes in the bank.

        guided: how many steps, the first ones, anchors draw with rows for both branches.
        covered: share of the picture that the subject is taken to cover, 0..1; what it does cover,
        once that is known.
        """

        numbers = (
            range(self.recipe.anchors)
            if isinstance(covered, float)
            else sorted({number for number, _ in covered})
        )

        def count(site: Site, step: int, anchor: int) -> tuple[int, int]:
            grid = site.grid(latent)
            n = grid[0] * grid[1]
            if isinstance(covered, float):
                region = shown = round(n * covered)
            else:
                region, shown = covered[anchor, grid]
            rules = self.exports_at(site, step, steps, "cond")
            sharing = sharing_rule(rules)
            select = Select() if sharing is None else sharing.select
            candidates = n if select.tokens == "all" else region
            return kept_count(candidates, select.dropout), shown

        return predict_bytes(
            lambda site, step, branch: self.exports_at(site, step, steps, branch),
            [site for site in sites if site.sees_images],
            steps=steps,
            guided=guided,
            anchors=numbers,
            element_bytes=element_bytes,
            count=count,
        )

    def check_bytes(self, wanted: int) -> None:
        """Refuse another `wanted` bytes on top of the bank's if that is too much (LimitError)."""
        check_limit(self.bank.bytes + wanted, self.bank.limit_bytes)

    def _coin(self, number: int, rule: Rule, site: Site, step: int, steps: int) -> bool:
        chance = rule.window.chance(step, steps)
        if chance >= 1.0:
            return True
        draw = generator(self.seed, f"coin {number} {site.name} {step}")
        return float(torch.rand((), generator=draw)) < chance

    def _check_settings(
        self, subject: str, role: FrameRole, settings: Mapping[str, object]
    ) -> None:
        known = self._settings.get(subject)
        if known is None:
            if role.anchor is None:
                raise InputError(f"frame {role.frame!r} shows {subject!r}, who has no anchors yet")
            self._settings[subject] = settings
            return
        for name in sorted({*known, *settings}):
            if known.get(name) != settings.get(name):
                raise InputError(
                    f"frame {role.frame!r} cannot read the anchors of {subject!r}: {name} is "
                    f"{settings.get(name)!r}, and the anchors were drawn with {known.get(name)!r}; "
                    "use the same, or draw the anchors again"
                )

    def _forget(self, frame: str) -> None:
        for name in (frame, twin_id(frame)):
            self.roles.pop(name, None)
            self.masks.forget(name)
            self.tokens.forget(name)
            if self.features is not None:
                self.features.forget(name)
        self._records.pop(frame, None)
        for key in [key for key in self._matches if key[0] == frame]:
            del self._matches[key]
