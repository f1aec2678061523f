"""A handful of pictures on disk and an untrained autoencoder, for recipes at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from consistent_gen.checkpoints import save_tensors
from consistent_gen.models.patch_autoencoder import PatchAutoencoder
from consistent_gen.training.rows import draw_rows
from consistent_gen.training.rows import shard_path as rows_path
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


def _rows(folder: Path, vae: Path, *, pairs: bool) -> Path:
    model = PatchAutoencoder.from_pretrained(vae)
    for number in (0, 1):
        drawn = draw_rows(StoryWorld("train", pairs=pairs), model, number, 16, versions=4)
        save_tensors(rows_path(folder, number), drawn)
    return folder


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory, vae: Path) -> Path:
    """A folder with two shards of 16 training rows."""
    return _rows(tmp_path_factory.mktemp("rows"), vae, pairs=False)


@pytest.fixture(scope="session")
def paired_rows(tmp_path_factory: pytest.TempPathFactory, vae: Path) -> Path:
    """The same with rows in twos that show the same characters."""
    return _rows(tmp_path_factory.mktemp("paired_rows"), vae, pairs=True)
