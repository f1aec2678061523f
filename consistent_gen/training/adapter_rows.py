"""Rows that the story world's adapters learn from: pictures in twos that show the same characters,
with captions that leave the characters open, and what the reader says of each character.

A shard is one safetensors file of consecutive pictures of `StoryWorld(pairs=True)`:
    latents   n c 16 16 float16, unscaled, as in `rows`
    labels    n 32 32 uint8, as in `shards`
    open      n v 64 int16, token ids of v captions that name no more of a character than its kind
    full      n v 64 int16, the same captions with all of a character that can be named
    partner   n 3 int8, which subject of the other picture of the two each subject is, -1 for none
    identity, face, crop: n 3 ... float16, `encoders.subject_features` of each subject
    seen      n 3 uint8, 1 where the reader found the subject
A share of the pictures is read as an autoencoder draws it, since references are drawn by models,
too. `python -m consistent_gen.training.adapter_rows` draws them, before a training or beside it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.checkpoints import folder_sha256, save_tensors
from consistent_gen.encoders.factors import MAX_SUBJECTS
from consistent_gen.encoders.reader import Reader
from consistent_gen.encoders.subject_features import PATCHES, subject_features
from consistent_gen.models.patch_autoencoder import PatchAutoencoder, load_autoencoder
from consistent_gen.models.story_world import MAX_TOKENS
from consistent_gen.models.words import word_tokenizer
from consistent_gen.runtime import generator
from consistent_gen.training.reader import redrawn
from consistent_gen.training.rows import rows_inputs
from consistent_gen.training.semantic_code import semantic_code
from consistent_gen.training.shards import claim, draw_shard, draw_shards, shard_path, world_inputs
from consistent_gen.world.captions import Caption, caption, vocabulary
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.painter import PARTS

FORMAT = "adapter rows 1"
COUNT = 256
VERSIONS = 2
REDRAWN_SHARE = 0.4
_BATCH = 32
_TRIES = 60  # of a caption that says the same of the scene; seldom more than ten


@torch.inference_mode()
def draw_adapter_rows(
    world: StoryWorld, vae: Any, reader: Reader, number: int, count: int = COUNT
) -> dict[str, Tensor]:
    """Rows of pictures `number * count` to `(number + 1) * count` of a world of pairs."""
    assert world.pairs and count % 2 == 0, "references are pictures of the same characters"
    data = draw_shard(world, number, count)
    numbers = range(number * count, (number + 1) * count)
    g = generator(number, "adapter rows")
    parts = []
    for start in range(0, count, _BATCH):
        rows = slice(start, min(start + _BATCH, count))
        part = {name: values[rows] for name, values in data.items()}
        x = part["pictures"].float() / 127.5 - 1.0
        z = vae.project(x)
        latents = torch.cat([z, semantic_code(world, numbers[rows], part)], 1)
        parts.append({"latents": latents.half(), **_features(part, x, vae, reader, g)})
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    partner = torch.tensor([_partners(world, n) for n in numbers], dtype=torch.int8)
    return {**found, "labels": data["labels"], "partner": partner, **_words(world, numbers)}


def _features(
    part: dict[str, Tensor], x: Tensor, vae: PatchAutoencoder, reader: Reader, g: torch.Generator
) -> dict[str, Tensor]:
    """What the reader says of every subject of pictures x (n 3 h w in [-1, 1])."""
    pictures = x / 2.0 + 0.5
    again = redrawn(pictures, vae, g).clamp(0.0, 1.0)
    chosen = torch.rand(len(x), generator=g) < REDRAWN_SHARE
    reading = reader(torch.where(chosen[:, None, None, None], again, pictures))
    owned = reading.masks.softmax(1)[:, 1:]  # n 3 s s, from left to right
    owner = F.one_hot(owners(part["labels"]) + 1, 1 + MAX_SUBJECTS)
    truth = owner[..., 1:].permute(0, 3, 1, 2).float()  # n 3 s s, in the world's order
    overlap = torch.einsum("nihw,njhw->nij", truth, owned)
    size = truth.sum((2, 3))  # n 3
    slots = overlap.argmax(2)  # n 3
    share = overlap.amax(2) / size.clamp(min=1.0)
    seen = (size > 0) & (share > 0.5) & (slots < reading.count()[:, None])
    n = len(x)
    which = torch.arange(n).repeat_interleave(MAX_SUBJECTS)
    read = subject_features(reading, reader.schema, which, slots.flatten())
    found = {"identity": read.identity, "face": read.face, "crop": read.crop}
    found = {k: v.half().unflatten(0, (n, MAX_SUBJECTS)) for k, v in found.items()}
    return {**found, "seen": seen.to(torch.uint8)}


def owners(labels: Tensor) -> Tensor:
    """Whose each label byte is: the number of the subject, -1 for nobody's."""
    labels = labels.long()
    return torch.where(labels > 0, (labels - 1) // len(PARTS), -1)


def _partners(world: StoryWorld, number: int) -> list[int]:
    """For each subject of a picture, which subject of the other one it is."""
    own = [subject.identity for subject in world.frame(number).subjects]
    other = [subject.identity for subject in world.frame(number ^ 1).subjects]
    found = [other.index(who) if who in other else -1 for who in own]
    return found + [-1] * (MAX_SUBJECTS - len(found))


def _words(world: StoryWorld, numbers: range) -> dict[str, Tensor]:
    """Token ids [n v t] of captions that name all that can be, and of others that say the same of
    the scene and name kinds only.
    """
    tokenizer = word_tokenizer(vocabulary(), max_tokens=MAX_TOKENS)
    pairs = [_captions(world, n, v) for n in numbers for v in range(VERSIONS)]
    found = {}
    for name, texts in zip(("open", "full"), zip(*pairs, strict=True), strict=True):
        encoded = tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
        ids = encoded.input_ids.to(torch.int16)
        found[name] = ids.unflatten(0, (len(numbers), VERSIONS))
    return found


def _captions(world: StoryWorld, number: int, version: int) -> tuple[str, str]:
    """A caption that leaves the characters open, and one that does not."""
    rng = random.Random(f"adapter rows {number} {version}")
    frame = world.frame(number)
    full = caption(frame, rng, share=1.0)

    def besides(one: Caption) -> tuple[Any, ...]:
        return one.scene, [named.get("expression") for named in one.named]

    for _ in range(_TRIES):
        found = caption(frame, rng, share=0.0)
        if besides(found) == besides(full):
            break
    return found.text, full.text


def adapter_rows_inputs(vae: PatchAutoencoder, reader: Path) -> dict[str, Any]:
    """What rows take from the autoencoder and the reader, for `shards.claim` and `shards.check`."""
    made_of = rows_inputs(vae) | {"reader": folder_sha256(reader), "patches": PATCHES}
    return made_of | {"format": FORMAT}


def adapter_row_maker(
    folder: Path, vae: Path, reader: Path, count: int = COUNT
) -> Callable[[int], Path]:
    """What draws shard `number` into `folder`, if it is not there, and returns its path.

    Raises:
        InputError: the folder's shards were made of something else.
        CheckpointError: there is no autoencoder or no reader.
    """
    world = StoryWorld("train", pairs=True)
    inputs = adapter_rows_inputs(load_autoencoder(vae), reader)
    claim(folder, {"count": count, **inputs, **world_inputs(world)})
    return partial(_draw, world=world, vae=vae, reader=reader, folder=folder, count=count)


def _draw(
    number: int, *, world: StoryWorld, vae: Path, reader: Path, folder: Path, count: int
) -> Path:
    path = shard_path(folder, number)
    if not path.exists():
        torch.set_num_threads(1)
        autoencoder, network = load_autoencoder(vae), Reader.load(reader)
        save_tensors(path, draw_adapter_rows(world, autoencoder, network, number, count))
    return path


def main(argv: list[str] | None = None) -> None:
    """Draw the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("runs/adapter_rows"))
    parser.add_argument("--vae", type=Path, default=Path("weights/storyworld/vae"))
    parser.add_argument("--reader", type=Path, default=Path("weights/reader"))
    parser.add_argument("--first", type=int, default=0, help="number of the first shard")
    parser.add_argument("--shards", type=int, default=32, help=f"shards of {COUNT} pictures")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(argv)
    draw = adapter_row_maker(options.folder, options.vae, options.reader)
    numbers = range(options.first, options.first + options.shards)
    draw_shards(draw, numbers, options.processes)


if __name__ == "__main__":
    main()
