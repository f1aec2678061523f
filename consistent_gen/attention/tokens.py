"""Which tokens of a frame show whom: what is exported, and who may read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from consistent_gen.attention.masks import Grid, SubjectMasks
from consistent_gen.attention.ops import draw_tokens
from consistent_gen.attention.roles import FrameRole, Subject, twin_id
from consistent_gen.attention.settings import Select
from consistent_gen.runtime import generator

FindTokens = Callable[[FrameRole, Subject, int, Grid], Tensor | None]
# A step later than any: all that was seen of a frame counts.
AFTER_ALL = 1 << 30


class SubjectTokens:
    """Token numbers [n] of the frames of one run, as far as they are known at a step.

    Layers of one grid ask for the same again and again, so answers are kept.

    Args:
        masks: where subjects are. roles: of the run's frames, looked at when asked.
        seed: of the tokens that are left out.
    """

    def __init__(self, masks: SubjectMasks, roles: Mapping[str, FrameRole], seed: int) -> None:
        self.masks = masks
        self._roles = roles
        self._seed = seed
        # By frame, question, step, subject and grid.
        self._found: dict[tuple[str, str, int, str, Grid], Tensor] = {}
        self._drawn: dict[tuple[str, int, Grid, int], Tensor] = {}

    def mask(self, frame: str, subject: str, step: int, grid: Grid) -> Tensor | None:
        """Which tokens [n] of a frame show a subject, as far as is known at `step`."""
        source, before = self._mask_source(frame, step)
        return self.masks.mask(source, subject, before, grid)

    def region(self, role: FrameRole, use: Subject, step: int, grid: Grid) -> Tensor | None:
        """Numbers of the tokens that belong to a subject and to no clearer one; None if unknown."""
        return self._ask("region", self._region, role, use, step, grid)

    def nearest(self, role: FrameRole, use: Subject, step: int, grid: Grid) -> Tensor | None:
        """Numbers of the tokens where no other subject is clearer; None if nothing is known."""
        return self._ask("nearest", self._closest, role, use, step, grid)

    def shared(
        self,
        role: FrameRole,
        leaving: tuple[Subject, str],
        select: Select,
        step: int,
        grid: Grid,
        device: torch.device,
        *,
        known: int | None = None,
    ) -> Tensor | None:
        """Numbers of the tokens that a frame exports; None while its mask is unknown.

        leaving: of `FrameRole.leaving`. known: the step whose mask counts, `step` if None.
        """
        use, name = leaving
        if select.tokens == "all":
            candidates = torch.arange(grid[0] * grid[1], device=device)
        else:
            found = self.region(role, use, step if known is None else known, grid)
            if found is None:
                return None
            candidates = found
        key = name, role.number, grid, step
        if key not in self._drawn:
            # Counted, not streamed: the same for every batch, order and branch.
            purpose = f"tokens {name} {role.number} {grid[0]}x{grid[1]} {step}"
            drawn = draw_tokens(candidates, select.dropout, generator(self._seed, purpose))
            for old in [k for k in self._drawn if k[:2] == key[:2] and k[3] < step]:
                del self._drawn[old]
            self._drawn[key] = drawn
        return self._drawn[key]

    def shown(self, frame: str, subject: str, step: int, grid: Grid) -> Tensor:
        """Numbers of the tokens that show a subject; empty while that is unknown."""
        mask = self.mask(frame, subject, step, grid)
        return torch.empty(0, dtype=torch.int64) if mask is None else mask.nonzero()[:, 0]

    def forget(self, frame: str) -> None:
        """Drop what was found out of a frame."""
        for key in [key for key in self._found if key[0] == frame]:
            del self._found[key]

    def drop(self, exports: str) -> None:
        """Drop which tokens were drawn for a name of exports."""
        for key in [key for key in self._drawn if key[0] == exports]:
            del self._drawn[key]

    def _ask(
        self, name: str, find: FindTokens, role: FrameRole, use: Subject, step: int, grid: Grid
    ) -> Tensor | None:
        key = role.frame, name, step, use.name, grid
        if key not in self._found:
            found = find(role, use, step, grid)
            if found is None:
                return None
            for old in [k for k in self._found if k[0] == role.frame and k[2] < step]:
                del self._found[old]
            self._found[key] = found
        return self._found[key]

    def _region(self, role: FrameRole, use: Subject, step: int, grid: Grid) -> Tensor | None:
        own = self.mask(role.frame, use.name, step, grid)
        if own is None:
            return None
        source, before = self._mask_source(role.frame, step)
        strength = self.masks.strength(source, use.name, before, grid)
        for i, other in enumerate(role.subjects):
            rival = self.mask(role.frame, other.name, step, grid)
            if other.name == use.name or rival is None:
                continue
            theirs = self.masks.strength(source, other.name, before, grid)
            assert strength is not None and theirs is not None
            earlier = i < role.subjects.index(use)
            lost = theirs >= strength if earlier else theirs > strength
            own = own & ~(rival & lost)
        return own.nonzero()[:, 0]

    def _closest(self, role: FrameRole, use: Subject, step: int, grid: Grid) -> Tensor | None:
        source, before = self._mask_source(role.frame, step)
        known = [self.masks.strength(source, u.name, before, grid) for u in role.subjects]
        if any(strength is None for strength in known):
            return None
        clearest = torch.stack([s for s in known if s is not None]).argmax(0)
        return (clearest == role.subjects.index(use)).nonzero()[:, 0]

    def _mask_source(self, frame: str, step: int) -> tuple[str, int]:
        """Whose maps tell where a frame's subjects are, and which steps of them count."""
        twin = twin_id(frame)
        finished = self.masks.probe.source == "twin" and twin in self._roles
        return (twin, AFTER_ALL) if finished else (frame, step)
