"""One denoiser call: which of its rows is whose. The engine, pipelines and policies all speak of
rows in these words, so nobody translates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Branch = Literal["cond", "uncond"]
BOTH: tuple[Branch, ...] = ("cond", "uncond")


@dataclass(frozen=True)
class Row:
    """One live row of a denoiser call.

    slot: index along the batch axis. frame: id of the frame. step: 0-based, of `steps`. time: the
    noise level as a share of the training schedule, 1 for pure noise. look: the row has its frame's
    latent and words, but shares nothing and is thrown away: it shows what the frame's queries would
    be at this moment. perturbed: its self-attention is replaced by the identity (see `identity`).
    request: what was asked for; attention never looks inside.
    """

    slot: int
    frame: str
    branch: Branch
    step: int
    steps: int
    time: float
    look: bool = False
    perturbed: bool = False
    request: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Call:
    """One denoiser call of `size` rows. Slots that no row names are padding, or nobody's here.

    latent: (height, width) of every row in latent cells; of FLUX, whose latents come packed, in
    tokens.
    """

    size: int
    latent: tuple[int, int]
    rows: tuple[Row, ...]

    def of_frame(self, frame: str) -> tuple[Row, ...]:
        """The rows that draw a frame: its cond row, then its uncond row if it has guidance."""
        return tuple(row for row in self.rows if row.frame == frame and not row.look)
