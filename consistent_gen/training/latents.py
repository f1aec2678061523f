"""Cached latents with their truth, for the recipes that learn from them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from consistent_gen.checkpoints import load_tensors, save_tensors
from consistent_gen.models.patch_autoencoder import PatchAutoencoder
from consistent_gen.training import shards
from consistent_gen.world.dataset import StoryWorld


def encode_shards(
    vae: PatchAutoencoder, world: StoryWorld, *, pictures: Path, latents: Path
) -> None:
    """Encode every shard of `world` in the folder `pictures` that has no latents yet."""
    for number in shards.available(pictures, world):
        target = latents / f"{number:05d}.safetensors"
        if target.exists():
            continue
        data = shards.load_shard(pictures, world, number)
        parts = []
        for chunk in data["pictures"].split(64):
            x = (chunk.float() / 127.5 - 1.0).to(memory_format=torch.channels_last)
            with torch.inference_mode():
                z = vae.project(x)
            parts.append(z.half().contiguous())
        truths = {name: data[name] for name in ("labels", "heads", "keypoints")}
        save_tensors(target, {"latents": torch.cat(parts), **truths})
        print(target, flush=True)


def latent_batches(
    folder: Path, batch: int, rng: random.Random, group: int = 1
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Endless batches (picture numbers, tensors); new shards are picked up as they appear.

    Pictures that stand in one group, `group` of them one after the other, come together.
    """
    assert batch % group == 0, "batches of whole groups"
    cache: dict[int, dict[str, Tensor]] = {}
    while True:
        for path in sorted(folder.glob("[0-9]*.safetensors")):
            if int(path.stem) not in cache:
                cache[int(path.stem)] = load_tensors(path)
        if not cache:
            raise FileNotFoundError(
                f"no latents in {folder}; run python -m consistent_gen.training.story_model prepare"
            )
        for _ in range(200):
            # A batch comes from few shards: gathering from all would touch too many pages.
            numbers, parts = [], []
            for shard in rng.sample(sorted(cache), min(8, len(cache))):
                size = len(cache[shard]["latents"])
                count = -(-batch // (group * min(8, len(cache))))
                firsts = rng.sample(range(0, size, group), min(size // group, count))
                picked = [first + i for first in firsts for i in range(group)]
                numbers += [shard * size + i for i in picked]
                parts.append({k: v[picked] for k, v in cache[shard].items()})
            yield numbers[:batch], {k: torch.cat([p[k] for p in parts])[:batch] for k in parts[0]}
