"""Train what draws pictures, base and second stage, within a time that is given.

`python -m consistent_gen.training.pictures --hours 0.2 --workers 15` goes on from the shipped
model. Processes draw rows of pairs while `story_model` learns from them; then other processes make
rows from what it has become while `refiner` learns its second stage. What is left lies where
`training.publish` looks. The speed of each recipe's first steps decides how many pictures it learns
from; the number is in its checkpoint, so the same command goes on after a stop (SIGTERM saves), and
a part that is finished is not done again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import weights_folder
from consistent_gen.config import from_mapping
from consistent_gen.errors import InputError
from consistent_gen.models import DEFAULT_MODEL
from consistent_gen.runtime import device
from consistent_gen.training import refiner, rows, story_model
from consistent_gen.training.refiner import RefinerConfig
from consistent_gen.training.shards import available, drawing
from consistent_gen.training.story_model import StoryModelConfig

# Where a recipe differs from its defaults: the base goes on from a trained model, in pairs.
TOGETHER: dict[str, Any] = {
    "base": {"full_captions": 0.35, "lead": [0.0, 0.6], "decay_share": 0.6},
    "refiner": {},
}
# A step of a GPU is bound by launches, not by arithmetic: large batches, longer averages.
ON_A_GPU: dict[str, Any] = {
    "first_rows": 16_384,
    "base": {
        "batch": 1536, "perceptual_rows": 768, "lr": 1.5e-3, "warmup_images": 100_000,
        "halflife_images": 300_000.0, "grow_images": 100_000,
    },
    "refiner": {
        "batch": 64, "rows": 40_000, "first_rows": 1024, "warmup_images": 4000,
        "halflife_images": 20_000.0, "grow_images": 10_000, "every_s": 60.0,
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """Settings of both trainings together."""

    hours: float  # for everything
    base_share: float = 0.5  # of them, for the base and its rows
    folder: Path = Path("runs")  # of both runs
    model: Path | None = None  # the folder to go on from; None is the shipped one
    workers: int = 1  # processes that make rows; with 0 they are made before or between steps
    device: str = ""  # cpu or cuda; without it a GPU if there is one
    shard: int = 256  # rows that a process of the base's draws at a time
    first_rows: int = 1024  # of the base's, before it begins
    shards: int = 100_000  # at most
    base: StoryModelConfig = field(default_factory=StoryModelConfig)
    refiner: RefinerConfig = field(default_factory=RefinerConfig)

    def __post_init__(self) -> None:
        if self.hours <= 0.0 or not 0.0 < self.base_share < 1.0:
            raise ValueError(
                f"hours={self.hours} and base_share={self.base_share}; expected some time, of "
                "which the base gets more than 0 and less than 1"
            )
        if self.shard % 2 or self.shard <= 0 or self.workers < 0:
            raise ValueError(
                f"shard={self.shard} and workers={self.workers}; rows come in pairs, so a shard "
                "has an even number of them, and there are 0 workers or more"
            )


def main(config: PicturesConfig) -> float:
    """Train both; returns the second stage's energy score on held-out crops."""
    started = time.monotonic()

    def left(share: float) -> float:
        """Seconds until `share` of the time is over, less what saving and loading take."""
        return max(1.0, 0.97 * share * config.hours * 3600.0 - (time.monotonic() - started))

    model = config.model or weights_folder(DEFAULT_MODEL)
    base = replace(
        config.base,
        run=config.folder / "story_model",
        out=config.folder / "story_model" / "storyworld",
        rows=config.folder / "story_model" / "rows",
        vae=model / "vae",
        init=model,
        pairs=True,
        device=config.device,
    )
    draw = rows.row_maker(base.rows, base.vae, pairs=True, count=config.shard)
    with _drawn(draw, config, base.rows):
        story_model.main(replace(base, within_s=left(config.base_share)))
    second = replace(
        config.refiner,
        run=config.folder / "refiner",
        out=config.folder / "refiner" / "refiner",
        model=base.out,
        workers=config.workers,
        device=config.device,
    )
    return refiner.main(replace(second, within_s=left(1.0)))


@contextmanager
def _drawn(draw: Callable[[int], Path], config: PicturesConfig, folder: Path) -> Iterator[None]:
    """Rows appear in `folder` while the block lasts; the first ones are there when it begins."""
    first = -(-config.first_rows // config.shard)
    if config.workers == 0:
        for number in range(first):
            draw(number)
        yield
        return
    with drawing(draw, range(config.shards), config.workers) as made:
        while len(available(folder)) < first:
            next(made)
        yield


def configured(argv: list[str] | None = None) -> PicturesConfig:
    """The settings that a command line asks for, over those that suit the device."""
    parser = argparse.ArgumentParser(
        description="Train base and second stage within a time that is given."
    )
    parser.add_argument("--hours", type=float, required=True, help="for everything")
    parser.add_argument("--workers", type=int, default=1, help="processes that make rows")
    parser.add_argument("--device", default="", help="cpu or cuda; without it a GPU if there is")
    parser.add_argument("--folder", type=Path, default=PicturesConfig.folder, help="of the runs")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="change one setting, as base_share=0.6, base.batch=768 or refiner.crop=16 do",
    )  # fmt: skip
    options = parser.parse_args(argv)
    settings: dict[str, Any] = {
        "hours": options.hours,
        "workers": options.workers,
        "device": options.device,
        "folder": str(options.folder),
        **{name: dict(values) for name, values in TOGETHER.items()},
    }
    if device(options.device or None).type == "cuda":
        for name, value in ON_A_GPU.items():
            settings[name] = settings[name] | value if isinstance(value, dict) else value
    return from_mapping(PicturesConfig, settings, options.overrides)


if __name__ == "__main__":
    try:
        main(configured())
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
