"""The seam for methods that tie frames together inside the model.

The engine decides which rows share a denoiser call; a `Coupling` is told before and after each
call which row is whose. It keeps its own run state (banks, masks); the engine never looks inside.

Three ways to tie frames, from loose to tight:

- `FrameRequest.after`: another frame is finished first (its final masks or features are needed).
- `FrameRequest.behind`: another frame stays a step ahead, and leaves what it exports per step in
  a bank. The frames are otherwise independent and may share calls with anybody's.
- `Engine.submit_gang`: the frames are always rows of the same call and read each other there.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from consistent_gen.engine.request import FrameRequest

Branch = Literal["cond", "uncond"]


@dataclass(frozen=True)
class Row:
    """One live row of a denoiser call.

    slot: index along the batch axis. frame: id of the frame. step: 0-based index of the step that
    the call computes. timestep: what the denoiser is given. look: see `Coupling.looks`.
    perturbed: its self-attention is replaced by the identity (see `FrameRequest.contours`).
    """

    slot: int
    frame: str
    branch: Branch
    step: int
    timestep: int
    request: FrameRequest
    look: bool = False
    perturbed: bool = False


@dataclass(frozen=True)
class BatchLayout:
    """Which row of a denoiser call is whose. Slots that no row names are dead padding.

    size: rows of the call, dead ones included. latent_shape: (c, h, w) of every row.
    """

    size: int
    latent_shape: tuple[int, int, int]
    rows: tuple[Row, ...]

    def of_frame(self, frame: str) -> tuple[Row, ...]:
        """The rows that draw a frame: its cond row, then its uncond row if it has guidance."""
        return tuple(row for row in self.rows if row.frame == frame and not row.look)

    def of_coupling(self, coupling: Coupling) -> tuple[Row, ...]:
        """The rows whose frame was submitted with this coupling."""
        return tuple(row for row in self.rows if row.request.coupling is coupling)


class Coupling:
    """Ties frames together inside the model; this base does nothing.

    One instance serves one run (a story, a gang). `group` says what else may share a call with
    its frames: only rows with equal groups meet. None is the group of plain frames. Rows of other
    couplings can be in the layout, so a coupling acts on `layout.of_coupling(self)` alone.
    """

    group: Hashable = None

    def looks(self, frame: str, step: int, steps: int) -> bool:
        """Whether the frame takes every one of its rows twice at this step.

        The second ones (`Row.look`) have the same latent and words, and their result is thrown
        away: a coupling can leave them alone and see in them what it changes in the others.
        """
        return False

    def check(self, frame: str, step: int, request: FrameRequest) -> None:
        """The frame is about to make this step.

        Raises:
            ConsistentGenError: it cannot; it fails with its gang, and nobody else does.
        """

    def begin_call(self, layout: BatchLayout) -> None:
        """The denoiser is about to be called with these rows."""

    def end_call(self) -> None:
        """The call is over; also called when it failed."""

    def release(self, frame: str) -> None:
        """`frame` left the engine: finished, failed or cancelled. Called once per frame."""
