"""A handful of pictures on disk and an untrained autoencoder, for recipes at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from consistent_gen.checkpoints import save_tensors
from consistent_gen.models.patch_autoencoder import PatchAutoencoder
from consistent_gen.training.shards import draw_shard, shard_path
from consistent_gen.world.dataset import StoryWorld

COUNT = 24


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two shards of 24 pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    world = StoryWorld("train")
    for number in (0, 1):
        save_tensors(shard_path(folder, world, number), draw_shard(world, number, COUNT))
    return folder


@pytest.fixture(scope="session")
def vae(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A folder with a fitted, untrained autoencoder that has semantic channels."""
    from consistent_gen.training.shards import load_shard

    model = PatchAutoencoder(
        decoder_widths=(16, 8), decoder_blocks=(1, 1), semantic_channels=18, semantic_width=16
    )
    x = load_shard(pictures, StoryWorld("train"), 0)["pictures"].float() / 127.5 - 1.0
    model.fit_components(x)
    folder = tmp_path_factory.mktemp("vae")
    with torch.inference_mode():
        model.save_pretrained(folder)
    return folder
