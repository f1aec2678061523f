"""Where each subject is, from attention to its words (or from outside)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from consistent_gen.attention.layers import Site
from consistent_gen.attention.ops import otsu_threshold, resize_grid
from consistent_gen.attention.settings import MaskProbe
from consistent_gen.errors import InputError

Grid = tuple[int, int]


class SubjectMasks:
    """Attention maps of one run, per frame and subject, and the masks made from them.

    A map is the mean over the watched layers of one step, on the finest watched grid. A mask at
    step k averages maps of earlier steps, is resampled to a layer's grid and cut by Otsu's
    threshold there, as in arXiv 2402.03286.
    """

    def __init__(self, probe: MaskProbe) -> None:
        self.probe = probe
        self._maps: dict[tuple[str, str], dict[int, list[Tensor]]] = {}
        self._grids: dict[str, Grid] = {}
        self._external: dict[tuple[str, str], Tensor] = {}
        self._mean: dict[tuple[str, str, int], Tensor] = {}
        self._strength: dict[tuple[str, str, int, Grid], Tensor] = {}
        self._cut: dict[tuple[str, str, int, Grid], Tensor | None] = {}

    def watched(self, sites: Iterable[Site], latent: Grid) -> dict[str, Site]:
        """The layers to watch: those whose grid is in the probe's range, else the coarsest."""
        low, high = self.probe.tokens
        found = [site for site in sites if site.kind != "self"]
        sizes = {site.name: _area(site.grid(latent)) for site in found}
        inside = [site for site in found if low <= sizes[site.name] <= high]
        if not inside and found:
            least = min(sizes.values())
            inside = [site for site in found if sizes[site.name] == least]
        return {site.name: site for site in inside}

    def add(
        self, frame: str, subject: str, step: int, attention: Tensor, grids: tuple[Grid, Grid]
    ) -> None:
        """Note how much image tokens [n] look at a subject, from the first grid to the second."""
        layer, finest = grids
        self._grids[frame] = finest
        resized = resize_grid(attention.float()[:, None], layer, finest)[:, 0]
        steps = self._maps.setdefault((frame, subject), {})
        steps.setdefault(step, []).append(resized)
        for old in [s for s in steps if s <= step - self.probe.last]:
            del steps[old]

    def noted(self, frame: str, subject: str) -> float:
        """Of how many steps maps were noted, as far as the last; without end from outside."""
        if (frame, subject) in self._external:
            return math.inf
        return max(self._maps.get((frame, subject), {}), default=-1) + 1

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
        self._external[frame, subject] = mask.float()

    def map(self, frame: str, subject: str, before: int) -> Tensor | None:
        """Mean attention [n] over the last steps before `before`; None if there are none yet."""
        key = frame, subject, before
        if key not in self._mean:
            steps = self._maps.get((frame, subject), {})
            recent = [step for step in sorted(steps) if step < before][-self.probe.last :]
            if not recent:
                return None
            maps = [torch.stack(steps[step]).mean(0) for step in recent]
            self._mean[key] = torch.stack(maps).mean(0)
        return self._mean[key]

    def mask(self, frame: str, subject: str, before: int, grid: Grid) -> Tensor | None:
        """Which tokens [n] of `grid` show the subject; None if nothing is known yet."""
        key = frame, subject, before, grid
        if key not in self._cut:
            self._cut[key] = self._make(frame, subject, before, grid)
        return self._cut[key]

    def strength(self, frame: str, subject: str, before: int, grid: Grid) -> Tensor | None:
        """How clearly each token [n] shows the subject, 0..1, to settle overlaps."""
        if (frame, subject) in self._external:
            mask = self._external[frame, subject]
            return resize_grid(mask.reshape(-1, 1), _shape(mask), grid)[:, 0]
        key = frame, subject, before, grid
        if key in self._strength:
            return self._strength[key]
        found = self.map(frame, subject, before)
        if found is None:
            return None
        found = resize_grid(found[:, None], self._grids[frame], grid)[:, 0]
        found = found / found.max().clamp_min(1e-12)
        self._strength[key] = found
        return found

    def finest(self, frame: str) -> Grid | None:
        """The grid of a frame's maps; None while it has none."""
        return self._grids.get(frame)

    def forget(self, frame: str) -> None:
        """Drop what is known of a frame."""
        self._grids.pop(frame, None)
        tables: list[dict[Any, Any]] = [
            self._maps, self._external, self._mean, self._strength, self._cut,
        ]  # fmt: skip
        for table in tables:
            for key in [key for key in table if key[0] == frame]:
                del table[key]

    def _make(self, frame: str, subject: str, before: int, grid: Grid) -> Tensor | None:
        known = self.strength(frame, subject, before, grid)
        if known is None:
            return None
        if (frame, subject) in self._external:
            return known > 0.5
        return known > self.probe.cut * otsu_threshold(known)


def _area(grid: Grid) -> int:
    return grid[0] * grid[1]


def _shape(mask: Tensor) -> Grid:
    return int(mask.shape[0]), int(mask.shape[1])
