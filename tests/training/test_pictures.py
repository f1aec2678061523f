"""One command trains base and second stage within a time, and goes on after a stop."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consistent_gen.checkpoints import read_manifest
from consistent_gen.errors import InputError
from consistent_gen.models.story_world import StoryWorldConfig
from consistent_gen.training import pictures, refiner
from consistent_gen.training.loop import Training, load_run
from consistent_gen.training.pictures import PicturesConfig, configured
from consistent_gen.training.publish import Product, publish
from consistent_gen.training.refiner import RefinerConfig
from consistent_gen.training.story_model import StoryModelConfig

TOY = StoryWorldConfig(
    widths=(16, 16, 32), heads=(1, 1, 1), text_width=32, text_layers=1, text_heads=1
)


def _config(folder: Path, model: Path, workers: int) -> PicturesConfig:
    return PicturesConfig(
        hours=4.0 / 3600.0, folder=folder, model=model, workers=workers, device="cpu", shard=8,
        first_rows=8, shards=2,
        base=StoryModelConfig(model=TOY, batch=4, processes=1, grow_images=8, warmup_images=4),
        refiner=RefinerConfig(
            widths=(16, 8, 8, 8), blocks=(1, 1, 1, 1), batch=4, crop=4, first_rows=2, rows=4,
            held_out=2, threads=1, grow_images=8,
        ),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:.*should be kept in float32.*")
def test_rehearsal(
    story_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(refiner, "ROWS", 2)
    config = _config(tmp_path, story_model, workers)
    update = Training.update

    def updated(training: Training, **figures: Any) -> None:
        update(training, **figures)
        if "refiner" in training.modules and training.seen == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Training, "update", updated)
        pictures.main(config)
    base = load_run(tmp_path / "story_model" / "checkpoint")
    half = load_run(tmp_path / "refiner" / "checkpoint")
    assert base is not None and base[1]["images"] == base[1]["seen_images"]
    assert half is not None and half[1]["seen_images"] == 8
    pictures.main(config)
    done = load_run(tmp_path / "refiner" / "checkpoint")
    assert done is not None and done[1]["images"] <= done[1]["seen_images"]
    again = load_run(tmp_path / "story_model" / "checkpoint")
    assert again is not None and again[1] == base[1], "what is finished is not done again"

    products = tuple(
        Product(name, tmp_path / made, tmp_path / "none.json", "make it")
        for name, made in (
            ("storyworld", "story_model/storyworld"),
            ("storyworld/refiner", "refiner/refiner"),
        )
    )
    (tmp_path / "weights").mkdir()
    publish(tmp_path / "weights", products)
    assert set(read_manifest(tmp_path / "weights")) == {"storyworld", "storyworld/refiner"}


def test_settings_of_the_command_line() -> None:
    config = configured(
        ["--hours", "0.2", "--workers", "3", "--device", "cpu", "--set", "base.batch=6",
         "--set", "refiner.crop=16", "--set", "base_share=0.6"]
    )  # fmt: skip
    assert (config.hours, config.workers, config.base_share) == (0.2, 3, 0.6)
    assert config.base.batch == 6 and config.base.full_captions == 0.35
    assert config.refiner == replace(RefinerConfig(), crop=16)
    for wrong, message in (
        (["--hours", "0"], "expected some time"),
        (["--hours", "1", "--set", "base_share=1.0"], "less than 1"),
        (["--hours", "1", "--set", "shard=7"], "even number"),
        (["--hours", "1", "--set", "base.bath=7"], "batch"),
    ):
        with pytest.raises(InputError, match=message):
            configured([*wrong, "--device", "cpu"])
