"""The seam for methods that tie frames together inside the model.

The engine decides which rows share a denoiser call; a `Coupling` is told before and after each
call which row is whose. It keeps its own run state (banks, masks); the engine never looks inside.

Three ways to tie frames, from loose to tight:

- `FrameRequest.after`: another frame is finished first (its final masks or features are needed, or
  its picture is given to the network as `FrameRequest.given` says).
- `FrameRequest.behind`: another frame stays a step ahead, and leaves what it exports per step in
  a bank. The frames are otherwise independent and may share calls with anybody's.
- `Engine.submit_gang`: the frames are always rows of the same call and read each other there.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consistent_gen.attention.rows import Call, Row

if TYPE_CHECKING:
    from torch import Tensor


class Coupling:
    """Ties frames together inside the model; this base does nothing.

    One instance serves one run (a story, a gang). `group` says what else may share a call with
    its frames: only rows with equal groups meet. None is the group of plain frames. Rows of other
    couplings can be in the call, so a coupling acts on `rows_in(call)` alone.
    """

    group: Hashable = None

    def looks(self, frame: str, step: int, steps: int) -> bool:
        """Whether the frame takes every one of its rows twice at this step.

        The second ones (`Row.look`) have the same latent and words, and their result is thrown
        away: a coupling can leave them alone and see in them what it changes in the others.
        """
        return False

    def rows_in(self, call: Call) -> tuple[Row, ...]:
        """The rows of frames that were submitted with this coupling."""
        return tuple(row for row in call.rows if row.request.coupling is self)

    def begin_call(self, call: Call) -> None:
        """The denoiser is about to be called with these rows."""

    def end_call(self) -> None:
        """The call is over; also called when it failed."""

    def moved(self, frame: str, share: float) -> None:
        """What `frame` shows was moved to the right by a share of its width, around the edge."""

    def finished(self, frame: str, latent: Tensor) -> None:
        """All steps of `frame` are done; latent: what is decoded, [c h w]."""

    def picture(self, frame: str) -> Tensor:
        """The clean latent [c h w] of a frame that another one is given (`FrameRequest.given`)."""
        raise NotImplementedError

    def release(self, frame: str) -> None:
        """`frame` left the engine: finished, failed or cancelled. Called once per frame."""


@dataclass(frozen=True, kw_only=True)
class Identities:
    """Who is in a picture, as an identity adapter was told.

    coupling: brings the adapter into the model; one for all pictures that it draws in an engine.
    tokens: what the adapter made of the characters (`adapters.policy.IdentityTokens`).
    record: JSON values that say so in the picture's metadata.
    """

    coupling: Coupling
    tokens: Any
    record: Mapping[str, Any]
