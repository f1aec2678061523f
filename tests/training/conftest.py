"""A handful of pictures on disk and an untrained autoencoder, for recipes at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from consistent_gen.checkpoints import load_tensors, save_tensors, weights_folder
from consistent_gen.models.patch_autoencoder import PatchAutoencoder
from consistent_gen.models.story_world import (
    StoryWorldConfig,
    build_text,
    build_unet,
    save_story_world,
)
from consistent_gen.training.adapter_rows import adapter_row_maker
from consistent_gen.training.rows import draw_rows, row_maker
from consistent_gen.training.shards import (
    FORMAT,
    claim,
    draw_shard,
    pictures_folder,
    shard_path,
    world_inputs,
)
from consistent_gen.training.subject_views import SubjectViews, view_maker
from consistent_gen.world.captions import vocabulary
from consistent_gen.world.dataset import StoryWorld

COUNT = 24
TOY = StoryWorldConfig(
    widths=(16, 16, 32), heads=(1, 1, 1), text_width=32, text_layers=1, text_heads=1
)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two shards of 24 pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    world = StoryWorld("train")
    home = pictures_folder(folder, world)
    claim(home, {"format": FORMAT, "count": COUNT, **world_inputs(world)})
    for number in (0, 1):
        save_tensors(shard_path(home, number), draw_shard(world, number, COUNT))
    return folder


@pytest.fixture(scope="session")
def vae(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A folder with a fitted, untrained autoencoder that has semantic channels."""
    model = PatchAutoencoder(
        decoder_widths=(16, 8), decoder_blocks=(1, 1), semantic_channels=18, semantic_width=16
    )
    home = pictures_folder(pictures, StoryWorld("train"))
    x = load_tensors(shard_path(home, 0))["pictures"].float() / 127.5 - 1.0
    model.fit_components(x)
    folder = tmp_path_factory.mktemp("vae")
    with torch.inference_mode():
        model.save_pretrained(folder)
    return folder


def _rows(folder: Path, vae: Path, *, pairs: bool) -> Path:
    row_maker(folder, vae, pairs=pairs, count=16)
    model = PatchAutoencoder.from_pretrained(vae)
    for number in (0, 1):
        drawn = draw_rows(StoryWorld("train", pairs=pairs), model, number, 16, versions=4)
        save_tensors(shard_path(folder, number), drawn)
    return folder


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory, vae: Path) -> Path:
    """A folder with two shards of 16 training rows."""
    return _rows(tmp_path_factory.mktemp("rows"), vae, pairs=False)


@pytest.fixture(scope="session")
def paired_rows(tmp_path_factory: pytest.TempPathFactory, vae: Path) -> Path:
    """The same with rows in twos that show the same characters."""
    return _rows(tmp_path_factory.mktemp("paired_rows"), vae, pairs=True)


@pytest.fixture(scope="session")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two shards of 4 groups of views."""
    folder = tmp_path_factory.mktemp("views")
    draw = view_maker(folder, SubjectViews(), 4, None)
    for number in (0, 1):
        draw(number)
    return folder


@pytest.fixture(scope="session")
def adapter_rows(tmp_path_factory: pytest.TempPathFactory, vae: Path) -> Path:
    """A folder with two shards of 8 rows for adapters, read by the shipped reader."""
    folder = tmp_path_factory.mktemp("adapter_rows")
    draw = adapter_row_maker(folder, vae, weights_folder("reader"), count=8)
    for number in (0, 1):
        draw(number)
    return folder


@pytest.fixture(scope="session")
def story_model(tmp_path_factory: pytest.TempPathFactory, vae: Path) -> Path:
    """A folder with an untrained toy model of the story world."""
    torch.manual_seed(0)
    tokenizer, text = build_text(TOY, vocabulary())
    folder = tmp_path_factory.mktemp("story_model") / "storyworld"
    save_story_world(
        folder,
        tokenizer=tokenizer,
        text_encoder=text,
        unet=build_unet(TOY),
        vae=PatchAutoencoder.from_pretrained(vae),
    )
    return folder
