"""Does a picture look as the story world's own pictures do: clean lines, flat colours, no seams?

Thirteen numbers of a picture say how it is drawn rather than what: at four scales how steep it is,
how much of it is an edge and how much is flat, and how much steeper it is across the borders of the
latent's cells than inside them. True pictures of each style have a mean and a covariance of these
(`looks.json`, written by `training.looks_statistics`); a picture that lies further off than 95 % of
them, whatever style it is compared with, is told so by the ratio of the distances (Mahalanobis). It
needs no network, nothing was ever trained on it, and no picture of a model was looked at for it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from consistent_gen.checkpoints import read_json
from consistent_gen.rewards.base import (
    Floats,
    ImageSet,
    MetricCard,
    Picture,
    Reward,
    SetScore,
    mean,
)

STATISTICS = Path(__file__).with_name("looks.json")
SIDES = (256, 128)  # pixels; the larger one that a picture has is looked at
SCALES = 4
EDGE, FLAT = 0.1, 0.004  # steps of brightness (of 1) between neighbours
CELLS = 16  # of the latent, along a side
COMMON = 0.95  # share of true pictures whose score is 1


def drawing_numbers(pictures: Tensor) -> Tensor:
    """n 13 of pictures n 3 s s in [0, 1]; logarithms, so that a difference is a ratio."""
    found = []
    x = pictures.mean(1, keepdim=True)
    for _ in range(SCALES):
        steps = (x[..., 1:] - x[..., :-1]).abs()  # n 1 h w-1
        for value, least in (
            (steps, 1e-4),
            ((steps > EDGE).float(), 1e-3),
            ((steps < FLAT).float(), 1e-3),
        ):
            found.append((value.mean((1, 2, 3)) + least).log())
        x = F.avg_pool2d(x, 2)
    cell = pictures.shape[-1] // CELLS
    steps = (pictures[..., 1:] - pictures[..., :-1]).abs().mean((1, 2))  # n w-1
    border = torch.arange(steps.shape[1]) % cell == cell - 1
    across, inside = steps[:, border].mean(1), steps[:, ~border].mean(1)
    found.append(((across + 1e-4) / (inside + 1e-4)).log())
    return torch.stack(found, 1)


def distances(numbers: Floats, of_mean: Floats, of_inverse: Floats) -> Floats:
    """Mahalanobis distances n of numbers n k from a distribution."""
    off = numbers - of_mean
    found: Floats = np.sqrt(np.einsum("nk,kl,nl->n", off, of_inverse, off))
    return found


@cache
def statistics() -> dict[int, list[tuple[Floats, Floats, float]]]:
    """By side, for each style: mean k, inverse covariance k k, and the distance that COMMON of its
    true pictures keep within.
    """
    return {
        int(side): [(np.array(s["mean"]), np.array(s["inverse"]), s["common"]) for s in styles]
        for side, styles in read_json(STATISTICS)["sides"].items()
    }


class Looks(Reward):
    """How much pictures look like drawn by the world; `parts` has `seams`, the ratio of steps over
    the borders of cells to steps inside them (true pictures: about 1, pixel art more).
    """

    card = MetricCard(
        name="looks",
        says="how much pictures are drawn as the story world draws: 1 for 95 of 100 true ones, the "
        "ratio of distances for what lies further off, mean over pictures",
        range=(0.0, 1.0),
        symmetric=True,
        version=1,
        features="edges, flats and seams at four scales",
        resolution="256 x 256, or 128 x 128 of smaller pictures",
        mask="none",
        direction="higher is better",
        known_failure="a garbled face of clean lines is not seen, and another world's way of "
        "drawing is called wrong",
        trained_on=False,
    )

    def one(self, item: ImageSet) -> SetScore:
        """See `Reward`; pictures below 128 pixels have no score."""
        found = [looks_of(picture) for picture in item.pictures]
        small = sum(one is None for one in found)
        reason = f"{small} smaller than {min(SIDES)} pixels" if small else ""
        values = [one[0] for one in found if one is not None]
        seams = [one[1] for one in found if one is not None]
        return SetScore(mean(values), {"seams": mean(seams)}, reason)


def looks_of(picture: Picture) -> tuple[float, float] | None:
    """(looks, seams) of a picture; None for one that is too small."""
    side = next((s for s in SIDES if min(picture.shape[:2]) >= s), None)
    if side is None:
        return None
    numbers = drawing_numbers(square(picture, side)).double().numpy()
    near = [
        common / max(float(distances(numbers, of_mean, of_inverse)[0]), 1e-9)
        for of_mean, of_inverse, common in statistics()[side]
    ]
    return min(1.0, max(near)), float(np.exp(numbers[0, -1]))


def square(picture: Picture, side: int) -> Tensor:
    """1 3 side side in [0, 1]: the middle of a picture, smaller by areas."""
    height, width = picture.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    middle = Image.fromarray(picture[top : top + edge, left : left + edge])
    if edge != side:
        middle = middle.resize((side, side), Image.Resampling.BOX)
    x = torch.from_numpy(np.asarray(middle).copy())
    return x.permute(2, 0, 1)[None].float() / 255.0
