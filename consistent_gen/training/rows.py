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
import random
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from consistent_gen.checkpoints import load_tensors, save_tensors
from consistent_gen.errors import InputError
from consistent_gen.models.patch_autoencoder import PatchAutoencoder, load_autoencoder
from consistent_gen.models.story_world import MAX_TOKENS
from consistent_gen.models.words import word_tokenizer
from consistent_gen.training.caption_probe import caption_targets
from consistent_gen.training.semantic_code import semantic_code
from consistent_gen.training.shards import draw_shard, draw_shards
from consistent_gen.training.truth import schema
from consistent_gen.world.captions import Caption, vocabulary
from consistent_gen.world.dataset import StoryWorld

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


def shard_path(folder: Path, number: int) -> Path:
    """Where shard `number` lies."""
    return folder / f"{number:05d}.safetensors"


def shard_paths(folder: Path) -> list[Path]:
    """The shards that are in `folder`.

    Raises:
        InputError: there is none.
    """
    paths = sorted(folder.glob("[0-9]*.safetensors"))
    if not paths:
        raise InputError(
            f"no rows in {folder}; run python -m consistent_gen.training.rows --folder {folder}"
        )
    return paths


class RowPool:
    """The rows of a folder in the memory of `device`; batches are drawn from all of them.

    Args:
        folder: where shards lie, or appear while the training runs.
        device: where the rows are kept: some 28 kB for each.
        group: rows that stand together, one after the other, come together.
    """

    def __init__(self, folder: Path, device: torch.device, group: int = 1) -> None:
        self.folder, self.device, self.group = folder, device, group
        self.size = 0
        self._rows: dict[str, Tensor] = {}
        self._known: set[str] = set()
        self._without = {name: x.to(device) for name, x in _without_words().items()}

    def refresh(self) -> int:
        """Take in shards that have appeared; returns the number of rows.

        Raises:
            InputError: there is none yet.
        """
        for path in shard_paths(self.folder):
            if path.name not in self._known:
                self._known.add(path.name)
                self._append(load_tensors(path))
        return self.size

    def _append(self, rows: dict[str, Tensor]) -> None:
        end = self.size + len(rows["latents"])
        for name, values in rows.items():
            kept = self._rows.get(name)
            if kept is None or len(kept) < end:
                # A quarter more than is needed, so that growing seldom copies.
                grown = torch.empty(
                    end + end // 4, *values.shape[1:], dtype=values.dtype, device=self.device
                )
                if kept is not None:
                    grown[: self.size] = kept[: self.size]
                self._rows[name] = kept = grown
            kept[self.size : end] = values.to(self.device)
        self.size = end

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
        versions = self._rows["tokens"].shape[1]
        version = torch.randint(versions - versions // 2, (size,), generator=generator)
        named = torch.rand(size, generator=generator) < full
        version = torch.where(named, version.clamp(max=versions // 2 - 1), versions // 2 + version)
        silent = (torch.rand(groups, generator=generator) < drop).repeat_interleave(self.group)
        index, version, silent = (x.to(self.device) for x in (index, version, silent))
        rows = {}
        for name, values in self._rows.items():
            rows[name] = values[index, version] if name in self._without else values[index]
        for name, without in self._without.items():
            shape = -1, *(1 for _ in without.shape)
            rows[name] = torch.where(silent.view(shape), without.to(rows[name].dtype), rows[name])
        return rows


def _without_words() -> dict[str, Tensor]:
    """Token ids and targets of a picture without a caption."""
    tokenizer = word_tokenizer(vocabulary(), max_tokens=MAX_TOKENS)
    encoded = tokenizer([""], padding="max_length", truncation=True, return_tensors="pt")
    return {"tokens": encoded.input_ids[0]} | {
        name: values[0] for name, values in caption_targets(schema(), [None]).items()
    }


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
    parser.add_argument("--shards", type=int, default=96, help=f"shards of {COUNT} pictures")
    parser.add_argument("--pairs", action="store_true", help="two pictures of each character")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(argv)
    load_autoencoder(options.vae)  # what is wrong is said once
    draw = partial(
        _draw,
        world=StoryWorld("train", pairs=options.pairs),
        vae=options.vae,
        folder=options.folder,
        count=COUNT,
    )
    numbers = range(options.first, options.first + options.shards)
    draw_shards(draw, numbers, options.processes)


if __name__ == "__main__":
    main()
