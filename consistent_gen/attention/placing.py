"""Positions of exported keys in models with rotary embeddings (`settings.Place`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from consistent_gen.attention.bank import Export
from consistent_gen.attention.policy import Rotary
from consistent_gen.attention.settings import Place


def extra_angles(
    export: Export,
    place: Place,
    rotary: Rotary,
    grid: tuple[int, int],
    places: Callable[[], Sequence[Tensor]],
) -> tuple[Tensor, Tensor]:
    """cos and sin [m d] for an export's tokens.

    Token ids are (picture, row, column). grid: (height, width) in tokens. places: for each anchor,
    the frame's token [n] that each of its tokens corresponds to; called for "matched" only.
    """
    ids = rotary.image_ids
    tokens = export.tokens.to(ids.device)
    if place.kind == "matched":
        return rotary.angles(ids[places()[export.anchor].to(ids.device)[tokens]])
    moved = ids[tokens].clone()
    if place.kind == "shift":
        moved[:, 2] += grid[1] * (export.anchor + 1)
    elif place.kind == "frame":
        moved[:, 0] += export.anchor + 1
    return rotary.angles(moved)
