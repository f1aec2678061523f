"""Where each subject of a frame is, which of its tokens are exported, and who may read them.

A map is the mean attention to a subject's words over the watched layers of one step, on the finest
watched grid. A mask at step k averages maps of earlier steps, is resampled to a layer's grid and
cut by Otsu's threshold there, as in arXiv 2402.03286.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from consistent_gen.attention.layers import Grid, Site
from consistent_gen.attention.ops import draw_tokens, otsu_threshold, resize_grid
from consistent_gen.attention.roles import FrameRole, Source, SubjectUse, twin_id
from consistent_gen.attention.settings import MaskProbe, Select
from consistent_gen.errors import InputError
from consistent_gen.runtime import generator

# A step later than any: all that was seen of a frame counts.
AFTER_ALL = 1 << 30


@dataclass
class _Seen:
    """What is known of one frame. maps: subject -> step -> [n] per layer. outside: subject ->
    [h w]. found: answers, since the layers of one grid ask for the same again and again.
    """

    grid: Grid | None = None
    maps: dict[str, dict[int, list[Tensor]]] = field(default_factory=dict)
    outside: dict[str, Tensor] = field(default_factory=dict)
    found: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)

    def once(self, key: tuple[Any, ...], find: Callable[[], Tensor | None]) -> Tensor | None:
        """The answer for `key`; it is looked for again as long as there is none."""
        if key not in self.found:
            answer = find()
            if answer is None:
                return None
            self.found[key] = answer
        return self.found[key]


class SubjectMasks:
    """Attention maps of one run, per frame and subject, and the masks made from them."""

    def __init__(self, probe: MaskProbe) -> None:
        self.probe = probe
        self._frames: dict[str, _Seen] = {}

    def watched(self, sites: Iterable[Site], latent: Grid) -> dict[str, Site]:
        """The layers to watch: those whose grid is in the probe's range, else the coarsest."""
        low, high = self.probe.tokens
        sizes = {site: _area(site.grid(latent)) for site in sites if site.kind != "self"}
        inside = [site for site, size in sizes.items() if low <= size <= high]
        if not inside and sizes:
            least = min(sizes.values())
            inside = [site for site, size in sizes.items() if size == least]
        return {site.name: site for site in inside}

    def add(
        self, frame: str, subject: str, step: int, attention: Tensor, grids: tuple[Grid, Grid]
    ) -> None:
        """Note how much image tokens [n] look at a subject, from the first grid to the second."""
        layer, finest = grids
        seen = self._frames.setdefault(frame, _Seen())
        seen.grid = finest
        steps = seen.maps.setdefault(subject, {})
        resized = resize_grid(attention.float()[:, None], layer, finest)[:, 0]
        steps.setdefault(step, []).append(resized)
        for old in [s for s in steps if s <= step - self.probe.last]:
            del steps[old]

    def set_external(self, frame: str, subject: str, mask: Tensor) -> None:
        """Use this mask [h w], 0..1 of any size, for a subject of a frame.

        Raises:
            InputError: it is not a plane of numbers from 0 to 1.
        """
        if mask.ndim != 2 or not bool(((mask >= 0) & (mask <= 1)).all()):
            raise InputError(
                f"the mask of {subject!r} has shape {tuple(mask.shape)}; "
                "expected height and width, with values from 0 to 1"
            )
        self._frames.setdefault(frame, _Seen()).outside[subject] = mask.float()

    def map(self, frame: str, subject: str, before: int) -> Tensor | None:
        """Mean attention [n] over the last steps before `before`; None if there are none yet."""
        seen = self._frames.get(frame, _Seen())

        def mean() -> Tensor | None:
            steps = seen.maps.get(subject, {})
            recent = [step for step in sorted(steps) if step < before][-self.probe.last :]
            maps = [torch.stack(steps[step]).mean(0) for step in recent]
            return torch.stack(maps).mean(0) if maps else None

        return seen.once(("map", subject, before), mean)

    def strength(self, frame: str, subject: str, before: int, grid: Grid) -> Tensor | None:
        """How clearly each token [n] shows the subject, 0..1, to settle overlaps."""
        seen = self._frames.get(frame, _Seen())
        if subject in seen.outside:
            mask = seen.outside[subject]
            return resize_grid(mask.reshape(-1, 1), (mask.shape[0], mask.shape[1]), grid)[:, 0]

        def scaled() -> Tensor | None:
            found = self.map(frame, subject, before)
            if found is None:
                return None
            assert seen.grid is not None
            found = resize_grid(found[:, None], seen.grid, grid)[:, 0]
            return found / found.max().clamp_min(1e-12)

        return seen.once(("strength", subject, before, grid), scaled)

    def mask(self, frame: str, subject: str, before: int, grid: Grid) -> Tensor | None:
        """Which tokens [n] of `grid` show the subject; None if nothing is known yet."""
        seen = self._frames.get(frame, _Seen())

        def cut() -> Tensor | None:
            known = self.strength(frame, subject, before, grid)
            if known is None or subject in seen.outside:
                return None if known is None else known > 0.5
            return known > self.probe.cut * otsu_threshold(known)

        return seen.once(("mask", subject, before, grid), cut)

    def finest(self, frame: str) -> Grid | None:
        """The grid of a frame's maps; None while it has none."""
        return self._frames.get(frame, _Seen()).grid

    def forget(self, frame: str) -> None:
        """Drop what is known of a frame."""
        self._frames.pop(frame, None)


class SubjectTokens:
    """Token numbers of the frames of one run, as far as they are known at a step.

    Args:
        masks: where subjects are. roles: of the run's frames, looked at when asked.
        seed: of the tokens that are left out.
    """

    def __init__(self, masks: SubjectMasks, roles: Mapping[str, FrameRole], seed: int) -> None:
        self.masks = masks
        self._roles = roles
        self._seed = seed
        self._found: dict[str, dict[tuple[Any, ...], Tensor]] = {}  # by frame
        self._drawn: dict[tuple[Source, int], dict[tuple[int, Grid], Tensor]] = {}

    def shown(self, frame: str, subject: str, step: int, grid: Grid) -> Tensor:
        """Numbers [s] of the tokens that show a subject; empty while that is unknown."""
        source, before = self._seen_in(frame, step)
        mask = self.masks.mask(source, subject, before, grid)
        return torch.empty(0, dtype=torch.int64) if mask is None else mask.nonzero()[:, 0]

    def region(self, role: FrameRole, use: SubjectUse, step: int, grid: Grid) -> Tensor | None:
        """Numbers [s] of the tokens that belong to a subject and to no clearer one; None if
        unknown.
        """
        return self._once(
            role, ("region", step, use.name, grid), lambda: self._region(role, use, step, grid)
        )

    def nearest(self, role: FrameRole, use: SubjectUse, step: int, grid: Grid) -> Tensor | None:
        """Numbers [s] of the tokens where no other subject is clearer; None if nothing is known."""

        def find() -> Tensor | None:
            seen, before = self._seen_in(role.frame, step)
            known = [self.masks.strength(seen, u.name, before, grid) for u in role.subjects]
            clear = [strength for strength in known if strength is not None]
            if len(clear) < len(known):
                return None
            return (torch.stack(clear).argmax(0) == role.subjects.index(use)).nonzero()[:, 0]

        return self._once(role, ("nearest", step, use.name, grid), find)

    def shared(
        self,
        role: FrameRole,
        leaving: tuple[SubjectUse, Source],
        select: Select,
        step: int,
        grid: Grid,
        device: torch.device,
        *,
        known: int | None = None,
    ) -> Tensor | None:
        """Numbers [m] of the tokens that a frame exports; None while its mask is unknown.

        leaving: of `FrameRole.leaving`. known: the step whose mask counts, `step` if None.
        """
        use, source = leaving
        if select.tokens == "all":
            candidates = torch.arange(grid[0] * grid[1], device=device)
        else:
            found = self.region(role, use, step if known is None else known, grid)
            if found is None:
                return None
            candidates = found
        drawn = self._drawn.setdefault((source, role.number), {})
        if (step, grid) not in drawn:
            # Counted, not streamed: the same for every batch, order and branch.
            purpose = f"tokens {source} {role.number} {grid[0]}x{grid[1]} {step}"
            for old in [key for key in drawn if key[0] < step]:
                del drawn[old]
            drawn[step, grid] = draw_tokens(
                candidates, select.dropout, generator(self._seed, purpose)
            )
        return drawn[step, grid]

    def forget(self, frame: str) -> None:
        """Drop what was found out of a frame."""
        self._found.pop(frame, None)

    def drop(self, source: Source) -> None:
        """Drop which tokens were drawn for a source."""
        for key in [key for key in self._drawn if key[0] == source]:
            del self._drawn[key]

    def _once(
        self, role: FrameRole, key: tuple[Any, ...], find: Callable[[], Tensor | None]
    ) -> Tensor | None:
        """What `find` says for a key whose second part is the step; earlier steps are forgotten."""
        kept = self._found.setdefault(role.frame, {})
        if key not in kept:
            found = find()
            if found is None:
                return None
            for old in [k for k in kept if k[1] < key[1]]:
                del kept[old]
            kept[key] = found
        return kept[key]

    def _region(self, role: FrameRole, use: SubjectUse, step: int, grid: Grid) -> Tensor | None:
        seen, before = self._seen_in(role.frame, step)
        own = self.masks.mask(seen, use.name, before, grid)
        strength = self.masks.strength(seen, use.name, before, grid)
        if own is None or strength is None:
            return None
        earlier = True
        for other in role.subjects:
            if other.name == use.name:
                earlier = False
                continue
            rival = self.masks.mask(seen, other.name, before, grid)
            theirs = self.masks.strength(seen, other.name, before, grid)
            if rival is not None and theirs is not None:
                # Of two who are equally clear the one that was named first has the token.
                own = own & ~(rival & (theirs >= strength if earlier else theirs > strength))
        return own.nonzero()[:, 0]

    def _seen_in(self, frame: str, step: int) -> tuple[str, int]:
        """Whose maps tell where a frame's subjects are, and which steps of them count."""
        twin = twin_id(frame)
        finished = self.masks.probe.source == "twin" and twin in self._roles
        return (twin, AFTER_ALL) if finished else (frame, step)


def _area(grid: Grid) -> int:
    return grid[0] * grid[1]
