"""Which row of a denoiser call is whose, in the words of the attention layers."""

from __future__ import annotations

from dataclasses import dataclass

from consistent_gen.attention.settings import Branch


@dataclass(frozen=True)
class Row:
    """One live row of a denoiser call.

    slot: index along the batch axis. step: 0-based, of `steps`. time: the noise level as a share
    of the training schedule, 1 for pure noise. look: the row has its frame's latent and words, but
    shares nothing and is thrown away: it shows what the frame's queries would be at this moment.
    """

    slot: int
    frame: str
    branch: Branch
    step: int
    steps: int
    time: float
    look: bool = False


@dataclass(frozen=True)
class Call:
    """One denoiser call: `size` rows, of which `rows` matter here; the others belong to nobody.

    latent: (height, width) of every row in latent cells; of FLUX, whose latents come packed, in
    tokens.
    """

    size: int
    latent: tuple[int, int]
    rows: tuple[Row, ...]
