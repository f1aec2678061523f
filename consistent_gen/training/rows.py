"""Training rows: all that a step of `story_model` needs of a picture, as tensors, made ahead.

A step on a GPU takes less time than its captions take to compose, and drawing a picture takes
longer still. So everything is made before, by as many processes as there are cores, and a training
reads rows only. A shard is one safetensors file of consecutive pictures:
    latents   n c 16 16 float16, unscaled: components, then the semantic code
    labels    n 32 32 uint8, as in `shards`
    factors   n 3 f int8, class of each discrete factor of a subject; IGNORE where it is not seen
    hues      n 3 u float16; nan likewise
    tokens    n v 64 int16, token ids of v captions: the first half name whatever can be named
    phrase_at n v 3 int8, where a subject's noun phrase ends; 0 without such a subject
    phrase    n v 3 p int8, classes that the phrase names, else IGNORE
    text_end  n v int8, where the text ends
    said      n v w int8, classes of the scene and of what subjects do that the text names
Shards appear by rename, so that a training may read while
`python -m consistent_gen.training.rows` draws.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from consistent_gen.checkpoints import save_tensors
from consistent_gen.models.patch_autoencoder import PatchAutoencoder, load_autoencoder
from consistent_gen.models.story_world import MAX_TOKENS
from consistent_gen.models.words import word_tokenizer
from consistent_gen.training.probes import caption_targets
from consistent_gen.training.semantic_code import semantic_code
from consistent_gen.training.shards import (
    ShardPool,
    claim,
    draw_shard,
    draw_shards,
    shard_path,
    world_inputs,
)
from consistent_gen.training.truth import schema
from consistent_gen.world.captions import Caption, vocabulary
from consistent_gen.world.dataset import StoryWorld

FORMAT = "rows 1"  # another number when another version writes them otherwise
COUNT = 1024  # rows of a shard
VERSIONS = 8  # captions of a picture


@torch.inference_mode()
def draw_rows(
    world: StoryWorld,
    vae: PatchAutoencoder,
    number: int,
    count: int = COUNT,
    versions: int = VERSIONS,
) -> dict[str, Tensor]:
    """Rows of pictures `number * count` to `(number + 1) * count`."""
    data = draw_shard(world, number, count)
    numbers = range(number * count, (number + 1) * count)
    parts = []
    for start in range(0, count, 64):
        rows = slice(start, min(start + 64, count))
        part = {name: values[rows] for name, values in data.items()}
        z = vae.project(part["pictures"].float() / 127.5 - 1.0)
        parts.append(torch.cat([z, semantic_code(world, numbers[rows], part)], 1).half())
    return {
        "latents": torch.cat(parts),
        "labels": data["labels"],
        "factors": data["factors"],
        "hues": data["hues"],
        **_words([_captions(world, n, versions) for n in numbers]),
    }


def _captions(world: StoryWorld, number: int, versions: int) -> list[Caption]:
    """Captions of picture `number`: one half names all that can be named."""
    rng = random.Random(f"rows {world.seed} {number}")
    shares = [1.0 if v < versions // 2 else None for v in range(versions)]
    return [world.caption(number, rng.getrandbits(20), share=share) for share in shares]


def _words(captions: list[list[Caption]]) -> dict[str, Tensor]:
    """Token ids and the probe's targets of captions (n lists of v)."""
    tokenizer = word_tokenizer(vocabulary(), max_tokens=MAX_TOKENS)
    flat = [caption for versions in captions for caption in versions]
    encoded = tokenizer(
        [c.text for c in flat], padding="max_length", truncation=True, return_tensors="pt"
    )
    found = {"tokens": encoded.input_ids.to(torch.int16)}
    found |= {k: v.to(torch.int8) for k, v in caption_targets(schema(), flat).items()}
    return {k: v.unflatten(0, (len(captions), -1)) for k, v in found.items()}


def rows_inputs(vae: PatchAutoencoder) -> dict[str, Any]:
    """What rows take from the autoencoder, for `shards.claim` and `shards.check`.

    That is the map to components alone, rounded as it is published: a decoder or a network that
    reads semantic channels may be trained after the rows are made.
    """
    digest = hashlib.sha256()
    for values in vae.project.state_dict().values():
        digest.update(values.half().cpu().contiguous().numpy().tobytes())
    return {"format": FORMAT, "latents": digest.hexdigest()}


class RowPool(ShardPool):
    """Rows in memory, some 28 kB for each; batches are drawn from all of them.

    Args:
        folder, place, inputs: as in `ShardPool`.
        group: rows that stand together, one after the other, come together.
    """

    def __init__(
        self, folder: Path, place: torch.device, inputs: Mapping[str, Any], group: int = 1
    ) -> None:
        super().__init__(folder, place, inputs)
        self.group = group
        self._without = {name: x.to(place) for name, x in without_words().items()}

    def batch(
        self, size: int, generator: torch.Generator, *, drop: float, full: float
    ) -> dict[str, Tensor]:
        """`size` random rows, each with one of its captions.

        drop: share of groups without words, for guidance. full: share of the other rows whose
        caption names whatever can be named. generator: a CPU generator.
        """
        assert size % self.group == 0, "batches of whole groups"
        groups = size // self.group
        first = torch.randint(self.size // self.group, (groups,), generator=generator)
        index = (first[:, None] * self.group + torch.arange(self.group)).flatten()
        versions = self.rows["tokens"].shape[1]
        version = torch.randint(versions - versions // 2, (size,), generator=generator)
        named = torch.rand(size, generator=generator) < full
        version = torch.where(named, version.clamp(max=versions // 2 - 1), versions // 2 + version)
        silent = (torch.rand(groups, generator=generator) < drop).repeat_interleave(self.group)
        index, version, silent = (x.to(self.place) for x in (index, version, silent))
        rows = {}
        for name, values in self.rows.items():
            rows[name] = values[index, version] if name in self._without else values[index]
        for name, without in self._without.items():
            shape = -1, *(1 for _ in without.shape)
            rows[name] = torch.where(silent.view(shape), without.to(rows[name].dtype), rows[name])
        return rows


def without_words() -> dict[str, Tensor]:
    """Token ids and targets of a picture without a caption."""
    tokenizer = word_tokenizer(vocabulary(), max_tokens=MAX_TOKENS)
    encoded = tokenizer([""], padding="max_length", truncation=True, return_tensors="pt")
    return {"tokens": encoded.input_ids[0]} | {
        name: values[0] for name, values in caption_targets(schema(), [None]).items()
    }


def row_maker(folder: Path, vae: Path, *, pairs: bool, count: int = COUNT) -> Callable[[int], Path]:
    """What draws shard `number` into `folder`, if it is not there, and returns its path.

    Raises:
        InputError: there is no autoencoder, or the folder's shards were made of something else.
    """
    world = StoryWorld("train", pairs=pairs)
    made_of = {"count": count, **rows_inputs(load_autoencoder(vae)), **world_inputs(world)}
    claim(folder, made_of)
    return partial(_draw, world=world, vae=vae, folder=folder, count=count)


def _draw(number: int, *, world: StoryWorld, vae: Path, folder: Path, count: int) -> Path:
    path = shard_path(folder, number)
    if not path.exists():
        torch.set_num_threads(1)
        save_tensors(path, draw_rows(world, load_autoencoder(vae), number, count))
    return path


def main(argv: list[str] | None = None) -> None:
    """Draw the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("runs/rows"))
    parser.add_argument("--vae", type=Path, default=Path("runs/autoencoder/vae"))
    parser.add_argument("--first", type=int, default=0, help="number of the first shard")
    parser.add_argument("--shards", type=int, default=96, help="shards to draw")
    parser.add_argument("--count", type=int, default=COUNT, help="pictures of a shard")
    parser.add_argument("--pairs", action="store_true", help="two pictures of each character")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(argv)
    draw = row_maker(options.folder, options.vae, pairs=options.pairs, count=options.count)
    numbers = range(options.first, options.first + options.shards)
    draw_shards(draw, numbers, options.processes)


if __name__ == "__main__":
    main()
