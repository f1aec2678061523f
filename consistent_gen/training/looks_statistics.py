"""Write what the looks score compares with: how true pictures of every style are drawn.

`python -m consistent_gen.training.looks_statistics [--pictures 2400]` writes
`consistent_gen/rewards/looks.json`; it takes two minutes on a core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from consistent_gen.checkpoints import write_json
from consistent_gen.rewards.looks import (
    COMMON,
    SIDES,
    STATISTICS,
    distances,
    drawing_numbers,
    square,
)
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.spec import STYLES

RIDGE = 1e-3  # added to variances: in pixel art some numbers hardly vary


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, count and write."""
    parser = argparse.ArgumentParser(description="Write what the looks score compares with.")
    parser.add_argument("--pictures", type=int, default=2400)
    options = parser.parse_args(argv)
    sides: dict[str, list[dict[str, object]]] = {}
    for side in SIDES:
        world = StoryWorld("train", 5, size=side)
        styles = np.array([world.frame(i).style for i in range(options.pictures)])
        every = np.concatenate(
            [drawing_numbers(square(world.picture(i).rgb, side)) for i in range(options.pictures)]
        ).astype(np.float64)
        sides[str(side)] = []
        for style in STYLES:
            numbers = every[styles == style]
            of_mean, spread = numbers.mean(0), np.cov(numbers.T)
            inverse = np.linalg.inv(spread + RIDGE * np.eye(len(spread)))
            far = distances(numbers, of_mean, inverse)
            sides[str(side)].append({
                "style": style,
                "mean": np.round(of_mean, 5).tolist(),
                "inverse": np.round(inverse, 3).tolist(),
                "common": round(float(np.quantile(far, COMMON)), 4),
            })  # fmt: skip
    write_json(STATISTICS, {"pictures": options.pictures, "sides": sides})


if __name__ == "__main__":
    main()
