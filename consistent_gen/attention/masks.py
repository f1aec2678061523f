"""Where each subject of a frame is, which of its tokens are exported, and who may read them.

A map is the mean attention to a subject's words over the watched layers of one step, on the finest
watched grid. A mask at step k averages maps of earlier steps, is resampled to a layer's grid and
cut by Otsu's threshold there, as in arXiv 2402.03286.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from consistent_gen.attention.layers import Grid, Site
from consistent_gen.attention.ops import draw_tokens, otsu_threshold, resize_grid
from consistent_gen.attention.roles import FrameRole, Source, Subject, twin_id
from consistent_gen.attention.settings import MaskProbe, Select
from consistent_gen.errors import InputError
from consistent_gen.runtime import generator

# A step later than any: all that was seen of a frame counts.
AFTER_ALL = 1 << 30


@dataclass
class _Seen:
    """What is known of one frame. maps: subject -> step -> [n] per layer. outside: subject ->
    [h w]. found: answers by the step that they are for, since the layers of one grid ask for the
    same again and again.
    """

    grid: Grid | None = None
    maps: dict[str, dict[int, list[Tensor]]] = field(default_factory=dict)
    outside: dict[str, Tensor] = field(default_factory=dict)
    found: dict[int, dict[tuple[Any, ...], Tensor]] = field(default_factory=dict)

    def once(
        self, before: int, key: tuple[Any, ...], find: Callable[[], Tensor | None]
    ) -> Tensor | None:
        """The answer [n] or [s] for `key`; it is looked for again as long as there is none. Steps
        do not come back, so what was for earlier ones is forgotten.
        """
        for old in [step for step in self.found if step < before]:
            del self.found[old]
        kept = self.found.setdefault(before, {})
        if key not in kept:
            answer = find()
            if answer is None:
                return None
            kept[key] = answer
        return kept[key]


class SubjectMasks:
    """Where the subjects of one run's frames are.

    Args:
        probe: where to look. roles: of the run's frames, looked at when asked. seed: of the tokens
            that are left out of what is exported.
    """

    def __init__(
        self, probe: MaskProbe, roles: Mapping[str, FrameRole] | None = None, seed: int = 0
    ) -> None:
        self.probe = probe
        self._roles = {} if roles is None else roles
        self._seed = seed
        self._frames: dict[str, _Seen] = {}
        self._drawn: dict[tuple[Source, int, bool], dict[tuple[int, Grid], Tensor]] = {}

    # Maps, and masks made from them.

    def watched(self, sites: Iterable[Site], latent: Grid) -> dict[str, Site]:
        """The layers to watch: those whose grid is in the probe's range, else the coarsest."""
        low, high = self.probe.tokens
        sizes = {site: math.prod(site.grid(latent)) for site in sites if site.kind != "self"}
        inside = [site for site, size in sizes.items() if low <= size <= high]
        inside = inside or [site for site, size in sizes.items() if size == min(sizes.values())]
        return {site.name: site for site in inside}

    def add(
        self, frame: str, subject: str, step: int, attention: Tensor, grids: tuple[Grid, Grid]
    ) -> None:
        """Note how much image tokens [n] look at a subject, from the first grid to the second."""
        layer, finest = grids
        seen = self._frames.setdefault(frame, _Seen())
        seen.grid = finest
        steps = seen.maps.setdefault(subject, {})
        resized = self._resized(attention.float(), layer, finest)
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
        steps = self._seen(frame).maps.get(subject, {})
        recent = [step for step in sorted(steps) if step < before][-self.probe.last :]
        maps = [torch.stack(steps[step]).mean(0) for step in recent]
        return torch.stack(maps).mean(0) if maps else None

    def strength(self, frame: str, subject: str, before: int, grid: Grid) -> Tensor | None:
        """How clearly each token [n] shows the subject, 0..1, to settle overlaps."""
        seen = self._seen(frame)

        def find() -> Tensor | None:  # [n]
            if subject in seen.outside:
                mask = seen.outside[subject]  # h w
                return resize_grid(mask.reshape(-1, 1), (mask.shape[0], mask.shape[1]), grid)[:, 0]
            found = seen.once(before, ("map", subject), lambda: self.map(frame, subject, before))
            if found is None or seen.grid is None:
                return None
            found = self._resized(found, seen.grid, grid)
            return found / found.max().clamp_min(1e-12)

        return seen.once(before, ("strength", subject, grid), find)

    def mask(self, frame: str, subject: str, before: int, grid: Grid) -> Tensor | None:
        """Which tokens [n] of `grid` show the subject; None if nothing is known yet."""
        seen = self._seen(frame)

        def find() -> Tensor | None:  # [n] bool
            known = self.strength(frame, subject, before, grid)
            if known is None:
                return None
            outside = subject in seen.outside
            return known > (0.5 if outside else self.probe.cut * otsu_threshold(known))

        return seen.once(before, ("mask", subject, grid), find)

    def finest(self, frame: str) -> Grid | None:
        """The grid of a frame's maps; None while it has none."""
        return self._seen(frame).grid

    # Numbers of tokens, of what is seen in a frame or in its twin.

    def shown(self, frame: str, subject: str, step: int, grid: Grid) -> Tensor:
        """Numbers [s] of the tokens that show a subject, as correspondences count them; empty while
        that is unknown.
        """
        source, before = self._seen_in(frame, step)
        if self.probe.source == "shared" and twin_id(frame) in self._roles:
            source, before = twin_id(frame), AFTER_ALL
        mask = self.mask(source, subject, before, grid)
        return torch.empty(0, dtype=torch.int64) if mask is None else mask.nonzero()[:, 0]

    def region(self, role: FrameRole, use: Subject, step: int, grid: Grid) -> Tensor | None:
        """Numbers [s] of the tokens that belong to a subject and to no clearer one; None if
        unknown.
        """
        seen, before = self._seen_in(role.frame, step)

        def find() -> Tensor | None:
            own = self.mask(seen, use.name, before, grid)
            strength = self.strength(seen, use.name, before, grid)
            if own is None or strength is None:
                return None
            for i, other in enumerate(role.subjects):
                rival = self.mask(seen, other.name, before, grid)
                theirs = self.strength(seen, other.name, before, grid)
                if other.name == use.name or rival is None or theirs is None:
                    continue
                # Of two who are equally clear the one that was named first has the token.
                first = i < role.subjects.index(use)
                own = own & ~(rival & (theirs >= strength if first else theirs > strength))
            return own.nonzero()[:, 0]

        return self._seen(seen).once(before, ("region", use.name, grid), find)

    def nearest(self, role: FrameRole, use: Subject, step: int, grid: Grid) -> Tensor | None:
        """Numbers [s] of the tokens where no other subject is clearer; None if nothing is known."""
        seen, before = self._seen_in(role.frame, step)

        def find() -> Tensor | None:
            known = [self.strength(seen, u.name, before, grid) for u in role.subjects]
            clear = [strength for strength in known if strength is not None]
            if len(clear) < len(known):
                return None
            # Subjects [u n] compete for every token; ties go to whoever was named first.
            return (torch.stack(clear).argmax(0) == role.subjects.index(use)).nonzero()[:, 0]

        return self._seen(seen).once(before, ("nearest", use.name, grid), find)

    def shared(
        self,
        role: FrameRole,
        leaving: tuple[Subject, Source],
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
            candidates: Tensor | None = torch.arange(math.prod(grid), device=device)
        else:
            candidates = self.region(role, use, step if known is None else known, grid)
        if candidates is None:
            return None
        drawn = self._drawn.setdefault((source, role.number, role.twin_of is not None), {})
        if (step, grid) not in drawn:
            for old in [key for key in drawn if key[0] < step]:
                del drawn[old]
            # Counted, not streamed: the same for every batch, order and branch.
            purpose = f"tokens {source} {role.number} {grid[0]}x{grid[1]} {step}"
            dice = generator(self._seed, purpose)
            # A subject has few tokens on a coarse grid, and half of three is one or two.
            larger = self.probe.source == "shared"
            drawn[step, grid] = draw_tokens(candidates, select.dropout, dice, larger=larger)
        return drawn[step, grid]

    def move(self, frame: str, share: float) -> None:
        """What a frame shows was moved to the right by a share of its width, around the edge."""
        seen = self._seen(frame)
        if seen.grid is not None:
            grid = seen.grid
            for steps in seen.maps.values():
                for maps in steps.values():
                    maps[:] = [_rolled(one, grid, share) for one in maps]
        for name, mask in seen.outside.items():
            seen.outside[name] = torch.roll(mask, round(share * mask.shape[1]), 1)
        for kept in seen.found.values():
            for key, found in kept.items():
                at = key[2] if len(key) > 2 else seen.grid  # of a map it is that of all maps
                if at is not None:
                    kept[key] = _rolled(found, at, share)

    def forget(self, frame: str) -> None:
        """Drop what is known of a frame."""
        self._frames.pop(frame, None)

    def drop(self, source: Source) -> None:
        """Drop which tokens were drawn for a source."""
        for key in [key for key in self._drawn if key[0] == source]:
            del self._drawn[key]

    def _resized(self, values: Tensor, old: Grid, new: Grid) -> Tensor:
        """Values [n] of one grid on another, as the released code of arXiv 2402.03286 has it where
        first passes share as there.
        """
        return resize_grid(values[:, None], old, new, average=self.probe.source != "shared")[:, 0]

    def _seen(self, frame: str) -> _Seen:
        return self._frames.get(frame) or _Seen()

    def _seen_in(self, frame: str, step: int) -> tuple[str, int]:
        """Whose maps tell where a frame's subjects are, and which steps of them count."""
        twin = twin_id(frame)
        first = self.probe.source == "shared" and step == 0
        finished = (self.probe.source == "twin" or first) and twin in self._roles
        return (twin, AFTER_ALL) if finished else (frame, step)


def _rolled(found: Tensor, grid: Grid, share: float) -> Tensor:
    """Values of a grid's tokens [n], or numbers of some of these [s], moved to the right."""
    height, width = grid
    cells = round(share * width)
    if found.dtype == torch.int64:
        rows, columns = found // width, found % width
        return (rows * width + (columns + cells) % width).sort().values
    return torch.roll(found.reshape(height, width), cells, 1).flatten()
