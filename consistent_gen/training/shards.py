"""Pictures of the story world on disk, so that several recipes do not draw them again.

A shard is one safetensors file of 2,048 consecutive pictures with their truth:
    pictures  n 3 128 128 uint8
    labels    n 32 32 uint8, the label byte at the middle of each 4 x 4 block
    heads     n 3 4 float16, head boxes (x0 y0 x1 y1 in [0, 1]); nan where there is no such subject
    keypoints n 3 5 2 float16, x then y in [0, 1]; nan likewise
    factors, hues, scalars, scene, present: what the picture shows, as in `truth`
Shards appear by rename, so a trainer may read while `python -m consistent_gen.training.shards`
draws.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from consistent_gen.checkpoints import load_tensors, save_tensors
from consistent_gen.errors import InputError
from consistent_gen.training.truth import truth
from consistent_gen.world.dataset import StoryWorld

SHARD = 2048
LABEL_STRIDE = 4


def shard_path(folder: Path, world: StoryWorld, number: int) -> Path:
    """Where shard `number` of `world` lies."""
    return _folder(folder, world) / f"{number:05d}.safetensors"


def _folder(folder: Path, world: StoryWorld) -> Path:
    return folder / f"{world.split}-{world.seed}{'-pairs' if world.pairs else ''}"


def draw_shard(world: StoryWorld, number: int, count: int = SHARD) -> dict[str, Tensor]:
    """Draw pictures `number * count` to `(number + 1) * count` with their truth."""
    pictures = np.empty((count, 3, world.size, world.size), np.uint8)
    labels = np.empty((count, world.size // LABEL_STRIDE, world.size // LABEL_STRIDE), np.uint8)
    heads = np.full((count, 3, 4), np.nan, np.float16)
    keypoints = np.full((count, 3, 5, 2), np.nan, np.float16)
    middle = slice(LABEL_STRIDE // 2, None, LABEL_STRIDE)
    for i in range(count):
        picture = world.picture(number * count + i)
        pictures[i] = picture.rgb.transpose(2, 0, 1)
        labels[i] = picture.labels[middle, middle]
        for k, figure in enumerate(picture.figures):
            heads[i, k] = figure.head_box
            keypoints[i, k] = figure.keypoints
    arrays = {"pictures": pictures, "labels": labels, "heads": heads, "keypoints": keypoints}
    data = {name: torch.from_numpy(array) for name, array in arrays.items()}
    numbers = range(number * count, (number + 1) * count)
    return data | truth(world, numbers, data["labels"])


def available(folder: Path, world: StoryWorld) -> list[int]:
    """Numbers of the shards that exist."""
    found = _folder(folder, world).glob("[0-9]*.safetensors")
    return sorted(int(path.stem) for path in found)


def load_shard(folder: Path, world: StoryWorld, number: int) -> dict[str, Tensor]:
    """Read shard `number`."""
    return load_tensors(shard_path(folder, world, number))


def batches(
    folder: Path,
    world: StoryWorld,
    batch: int,
    rng: random.Random,
    *,
    shards_at_once: int = 8,
    place: torch.device | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Endless random batches, from a few shards at a time that lie in the memory of `place`.

    Raises:
        InputError: no shard has been drawn yet.
    """
    while True:
        numbers = available(folder, world)
        if not numbers:
            raise InputError(
                f"no pictures in {folder}; run python -m consistent_gen.training.shards"
            )
        chosen = rng.sample(numbers, min(shards_at_once, len(numbers)))
        parts = [load_shard(folder, world, n) for n in chosen]
        pool = {name: torch.cat([p[name] for p in parts]).to(place) for name in parts[0]}
        order = list(range(len(pool["pictures"])))
        rng.shuffle(order)
        for start in range(0, len(order) - batch + 1, batch):
            picked = torch.tensor(order[start : start + batch]).to(place)
            yield {name: values[picked] for name, values in pool.items()}


def draw_shards(draw: Callable[[int], Path], numbers: Iterable[int], processes: int) -> None:
    """Draw shards in processes of their own; prints the path of each as it is there."""
    with get_context("spawn").Pool(processes) as pool:
        for path in pool.imap_unordered(draw, numbers):
            print(path, flush=True)


def _draw(number: int, *, world: StoryWorld, folder: Path) -> Path:
    path = shard_path(folder, world, number)
    if not path.exists():
        torch.set_num_threads(1)
        save_tensors(path, draw_shard(world, number))
    return path


def main(argv: list[str] | None = None) -> None:
    """Draw the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("runs/pictures"))
    parser.add_argument("--split", default="train")
    parser.add_argument("--first", type=int, default=0, help="number of the first shard")
    parser.add_argument("--shards", type=int, default=48, help="shards of 2,048 pictures")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pairs", action="store_true", help="two pictures of each character")
    options = parser.parse_args(argv)
    world = StoryWorld(options.split, pairs=options.pairs)
    draw = partial(_draw, world=world, folder=options.folder)
    numbers = range(options.first, options.first + options.shards)
    draw_shards(draw, numbers, options.processes)


if __name__ == "__main__":
    main()
