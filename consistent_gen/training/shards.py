"""Pictures of the story world on disk, so that several recipes do not draw them again.

A shard is one safetensors file of 2,048 consecutive pictures with their truth:
    pictures  n 3 128 128 uint8
    labels    n 32 32 uint8, the label byte at the middle of each 4 x 4 block
    heads     n 3 4 float16, head boxes (x0 y0 x1 y1 in [0, 1]); nan where there is no such subject
    keypoints n 3 5 2 float16, x then y in [0, 1]; nan likewise
    factors, hues, scalars, scene, present: what the picture shows, as in `truth`
Shards appear by rename while `python -m consistent_gen.training.shards` draws. Beside the shards of
every kind lies a file that says what they were made of (`claim`), and whoever makes or reads them
refuses a folder that was made of something else (`check`).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from consistent_gen.checkpoints import load_tensors, read_json, save_tensors, write_json
from consistent_gen.errors import InputError
from consistent_gen.training import parallel
from consistent_gen.training.truth import schema, truth
from consistent_gen.world.captions import vocabulary
from consistent_gen.world.dataset import StoryWorld

SHARD = 2048
LABEL_STRIDE = 4
FORMAT = "pictures 1"  # of these shards; another number when another version writes them otherwise
MADE_OF = "made_of.json"


def pictures_folder(folder: Path, world: StoryWorld) -> Path:
    """Where shards of `world` lie."""
    return folder / f"{world.split}-{world.seed}{'-pairs' if world.pairs else ''}"


def shard_path(folder: Path, number: int) -> Path:
    """Where shard `number` of `folder` lies."""
    return folder / f"{number:05d}.safetensors"


def available(folder: Path) -> list[int]:
    """Numbers of the shards that are in `folder`."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.safetensors"))


def world_inputs(world: StoryWorld) -> dict[str, Any]:
    """What shards take from `world`, for `claim` and `check`.

    Words and factors are stored as numbers, so their lists count.
    """
    names = repr((list(vocabulary()), schema()))
    return {
        "split": world.split,
        "seed": world.seed,
        "size": world.size,
        "pairs": world.pairs,
        "words": hashlib.sha256(names.encode()).hexdigest(),
    }


def claim(folder: Path, inputs: Mapping[str, Any]) -> None:
    """Say that shards in `folder` are made of `inputs` (JSON values) from now on.

    Raises:
        InputError: there are shards that were made of something else.
    """
    if available(folder) or (folder / MADE_OF).exists():
        check(folder, inputs)
    else:
        write_json(folder / MADE_OF, dict(inputs))


def check(folder: Path, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the shards in `folder` were made of; it has to agree with `inputs`.

    Raises:
        InputError: it does not, or nobody has said.
    """
    place = folder / MADE_OF
    if not place.exists():
        raise InputError(
            f"{folder} holds shards and no {MADE_OF}, so nobody knows what they were made of; "
            "make them anew in another folder, or delete them"
        )
    found: dict[str, Any] = read_json(place)
    for name, wanted in inputs.items():
        if found.get(name) != wanted:
            raise InputError(
                f"shards in {folder} were made of {name}={found.get(name)!r}, and "
                f"{name}={wanted!r} is asked for; name another folder, or delete this one"
            )
    return found


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


def batches(
    folder: Path,
    world: StoryWorld,
    batch: int,
    seed: int,
    *,
    numbers: list[int],
    step: int = 0,
    shards_at_once: int = 8,
    place: torch.device | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Endless random batches of shards `numbers`, from a few at a time that lie in the memory of
    `place`, beginning with that of `step`: a batch is a function of seed and step.

    Raises:
        InputError: there are no shards, or they were made of something else.
    """
    home = pictures_folder(folder, world)
    if not numbers:
        raise InputError(f"no pictures in {folder}; run python -m consistent_gen.training.shards")
    count = check(home, {"format": FORMAT, **world_inputs(world)})["count"]
    shards_at_once = min(shards_at_once, len(numbers))
    steps = count * shards_at_once // batch
    if steps == 0:
        raise InputError(
            f"{home} holds {count * len(numbers)} pictures, fewer than a batch of {batch}; "
            "make the batch smaller or draw more"
        )
    for number in itertools.count(step // steps):
        rng = random.Random(f"batches {seed} {number}")
        parts = [load_tensors(shard_path(home, n)) for n in rng.sample(numbers, shards_at_once)]
        pool = {name: torch.cat([p[name] for p in parts]).to(place) for name in parts[0]}
        order = list(range(count * shards_at_once))
        rng.shuffle(order)
        for first in range(step % steps * batch, steps * batch, batch):
            picked = torch.tensor(order[first : first + batch]).to(place)
            yield {name: values[picked] for name, values in pool.items()}
        step = 0


class ShardPool:
    """The rows of a folder's shards in the memory of `place`.

    Args:
        folder: where shards lie, or appear while a training runs.
        place: where the rows are kept.
        inputs: what they have to be made of (see `check`).
        limit: rows at most.

    Attributes:
        taken: numbers of the shards that are in it, in the order in which they came.
        size: rows.
    """

    def __init__(
        self, folder: Path, place: torch.device, inputs: Mapping[str, Any], limit: float = math.inf
    ) -> None:
        self.folder, self.place, self.inputs, self.limit = folder, place, inputs, limit
        self.taken: list[int] = []
        self.size = 0
        self.rows: dict[str, Tensor] = {}

    def follow(self, facts: dict[str, Any], below: float = math.inf) -> None:
        """Take the shards that a checkpoint's `facts` name, or those that are there (of numbers
        below `below`), and let them name what is taken from now on.

        Raises:
            InputError: there are none, one is missing, or they were made of something else.
        """
        self.look()
        for number in facts.get("shards", []):
            self._append(number)
        facts["shards"] = self.taken
        if not self.taken:
            self.refresh(below)

    def look(self) -> None:
        """See that there are shards of the right kind.

        Raises:
            InputError: there are none, or they were made of something else.
        """
        if not available(self.folder):
            raise InputError(
                f"no rows in {self.folder}; "
                f"run python -m consistent_gen.training.rows --folder {self.folder}"
            )
        check(self.folder, self.inputs)

    def refresh(self, below: float = math.inf) -> int:
        """Take in shards that have appeared, of numbers below `below`, the same in all processes
        that train together; returns the number of rows.
        """
        known = set(self.taken)
        found = [n for n in available(self.folder) if n not in known and n < below]
        for number in parallel.agree(found):
            if self.size < self.limit:
                self._append(number)
        return self.size

    def _append(self, number: int) -> None:
        rows = load_tensors(shard_path(self.folder, number))
        end = self.size + len(next(iter(rows.values())))
        for name, values in rows.items():
            kept = self.rows.get(name)
            if kept is None or len(kept) < end:
                # A quarter more than is needed, so that growing seldom copies.
                grown = torch.empty(
                    end + end // 4, *values.shape[1:], dtype=values.dtype, device=self.place
                )
                if kept is not None:
                    grown[: self.size] = kept[: self.size]
                self.rows[name] = kept = grown
            kept[self.size : end] = values.to(self.place)
        self.size = end
        self.taken.append(number)


@contextmanager
def drawing(
    draw: Callable[[int], Path], numbers: Iterable[int], processes: int
) -> Iterator[Iterator[Path]]:
    """Draw shards in processes of their own as long as the block lasts; gives their paths as they
    appear. Others who want the cores go first.
    """
    with get_context("spawn").Pool(processes, initializer=os.nice, initargs=(5,)) as pool:
        yield pool.imap_unordered(draw, numbers)


def draw_shards(draw: Callable[[int], Path], numbers: Iterable[int], processes: int) -> None:
    """Draw shards in processes of their own; prints the path of each as it is there."""
    with drawing(draw, numbers, processes) as paths:
        for path in paths:
            print(path, flush=True)


def _draw(number: int, *, world: StoryWorld, folder: Path) -> Path:
    path = shard_path(folder, number)
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
    folder = pictures_folder(options.folder, world)
    claim(folder, {"format": FORMAT, "count": SHARD, **world_inputs(world)})
    draw = partial(_draw, world=world, folder=folder)
    numbers = range(options.first, options.first + options.shards)
    draw_shards(draw, numbers, options.processes)


if __name__ == "__main__":
    main()
