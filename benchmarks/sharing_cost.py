"""What an added frame of a shared story costs, next to a plain frame of the same run.

    python -m benchmarks.sharing_cost --out benchmarks/results/sharing_cost.json

For the story-world model and for untrained UNets shaped like Stable Diffusion 1.5 and XL:

- FLOP of one added frame, counted by `torch.utils.flop_counter`, over those of a plain frame; and
  what the formula says: its denoiser calls over a plain frame's (twin and looks included), plus
  reading r shared keys with q queries at every layer and step, 4 q r d FLOP each (and where shared
  keys have a bias, eight channels more per head for all keys).
- The same for the whole published networks at 512 and 1024 pixels, counted on shapes alone
  (`benchmarks.sharing_flop`).
- Wall time, medians of interleaved repeats.
- Bytes of a character's bank: predicted before anything is drawn (at most so many: as if it filled
  the picture), and used.
- What each way of keeping anchors takes and costs on the published sizes, and which of them fits a
  card of 24 GB (`benchmarks.sharing_memory`).
- Peak memory of stories of 4 to 32 frames, each in a process of its own, and its slope per frame.

The large UNets that are timed have one layer per block, one transformer layer per attention block,
narrow text (32 channels), 16 latent channels and latents of 32 x 32, so that this ends on two
cores; widths, heads and where attention stands are those of the originals. At so small a picture
attention is a small part of the work and every fixed overhead of ours a large one.

On two idle cores about half an hour: story world 6 minutes, large shapes 8 minutes each, shapes
alone 5, memory 4. The file is written after each of these parts; `--only full,memory` measures
these and keeps the others as the file has them, and so does `--method head_start` with the rows of
the timed models. `--counts-only` leaves out what a busy machine would falsify (time and memory).
"""

from __future__ import annotations

import argparse
import itertools
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import sharing_flop, sharing_memory
from benchmarks.speed import flop_counter
from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.roles import Source
from consistent_gen.attention.rows import BOTH
from consistent_gen.attention.settings import Recipe, source_step
from consistent_gen.checkpoints import read_json, write_json
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameRequest, Subject
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.methods.tuning import recipe_of
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.tiny import build_tiny
from consistent_gen.runtime import versions

HERO = "hero"
RECIPES: dict[str, Recipe] = {
    "style_aligned": recipe_of("style_aligned"),
    "story_diffusion": recipe_of("story_diffusion"),
    "consistory, sharing only": recipe_of("consistory", {"injection": 0.0, "mixing_steps": 0.0}),
    "consistory": recipe_of("consistory"),
    "consistyle": recipe_of("consistyle"),
    "head_start": recipe_of("head_start"),
}
FRAME_COUNTS = (4, 8, 16, 32)
PLAIN = "vanilla"
PARTS = ["world", "sd15", "sdxl", "full", "modes", "memory"]
# The two published shapes: block widths, attention per block, heads per block.
SHAPES: dict[str, dict[str, Any]] = {
    "sd15": {
        "widths": (320, 640, 1280, 1280),
        "down": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "heads": (8, 8, 8, 8),
    },
    "sdxl": {
        "widths": (320, 640, 1280),
        "down": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        "up": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        "heads": (5, 10, 20),
    },
}


@dataclass(frozen=True)
class CostTrial:
    """A model and the frames that are drawn with it: `prompt` names the hero at `token`."""

    name: str
    backbone: Backbone
    prompt: str
    token: int
    steps: int

    def request(self, number: int) -> FrameRequest:
        """Frame `number`; hidden, so that decoding plays no part."""
        return FrameRequest(
            prompt=self.prompt, seed=number, hidden=True, id=f"frame {number}",
            settings=DrawSettings(steps=self.steps),
            subjects=(Subject(name=HERO, tokens=(self.token,)),),
        )  # fmt: skip


def story_world_trial(steps: int, model: str | None = None) -> CostTrial:
    """The shipped model (or the folder `model`)."""
    return CostTrial(
        "story world", load_backbone(model, device="cpu"), "a fox in the forest", 2, steps
    )


def shaped_trial(shape: str, folder: Path, steps: int, divide: int = 1) -> CostTrial:
    """An untrained UNet with the widths of `shape`, divided by `divide`."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    tiny = load_backbone(build_tiny(folder / shape), device="cpu")
    form = SHAPES[shape]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=32,
            in_channels=16,
            out_channels=16,
            block_out_channels=tuple(width // divide for width in form["widths"]),
            layers_per_block=1,
            down_block_types=form["down"],
            up_block_types=form["up"],
            attention_head_dim=tuple(max(1, heads // divide) for heads in form["heads"]),
            norm_num_groups=math.gcd(32, form["widths"][0] // divide),
            cross_attention_dim=32,
        )
    unet.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    backbone = replace(tiny, name=shape, unet=unet)
    return CostTrial(f"{shape} shape", backbone, "a fox in the forest", 2, steps)


class BenchStory:
    """A shared story whose anchors are drawn, ready for added frames."""

    def __init__(self, trial: CostTrial, recipe: Recipe) -> None:
        self.trial, self.recipe = trial, recipe
        self.engine = Engine(trial.backbone, bucket=2)
        self.shared = SharedStory(self.engine, recipe)
        anchors = [trial.request(number) for number in range(recipe.anchors)]
        self.predicted = self.shared.predicted_bytes(anchors[0])
        self.shared.cast(HERO, anchors)
        self.engine.drain()
        self._next = recipe.anchors

    def add(self) -> None:
        """Draw one more frame."""
        self._next += 1
        self.shared.submit(self.trial.request(self._next))
        self.engine.drain()


class PlainStory:
    """The same frames without sharing."""

    def __init__(self, trial: CostTrial) -> None:
        self.trial, self.engine = trial, Engine(trial.backbone, bucket=2)
        self._next = 0

    def add(self) -> None:
        """Draw one more frame."""
        self._next += 1
        self.engine.submit(self.trial.request(self._next))
        self.engine.drain()


def frame_flop(story: BenchStory | PlainStory) -> float:
    """FLOP of one added frame."""
    with flop_counter() as counter:
        story.add()
    return float(counter.get_total_flops())


def measure(
    trial: CostTrial, recipes: dict[str, Recipe], repeats: int
) -> dict[str, dict[str, Any]]:
    """Cost of an added frame per method, as ratios to a plain frame of the same run."""
    plain = PlainStory(trial)
    plain.add()
    base_flop = frame_flop(plain)
    found: dict[str, dict[str, Any]] = {}
    for name, recipe in recipes.items():
        story = BenchStory(trial, recipe)
        story.add()
        calls = recipe.calls(trial.steps) / trial.steps
        found[name] = {
            "calls_per_step": calls,
            "flop_ratio": frame_flop(story) / base_flop,
            "flop_ratio_formula": calls + _reading_flop(story) / base_flop,
            "bank_bytes_predicted": story.predicted,
            "bank_bytes": story.shared.run.bank.bytes,
        }
        pairs = [(_seconds(plain), _seconds(story)) for _ in range(repeats)]
        if pairs:
            alone, shared = (statistics.median(side) for side in zip(*pairs, strict=True))
            found[name] |= {"wall_ratio": shared / alone, "plain_seconds": alone}
    return found


def _seconds(story: BenchStory | PlainStory) -> float:
    start = time.perf_counter()
    story.add()
    return time.perf_counter() - start


def _reading_flop(story: BenchStory) -> float:
    """`sharing_flop.reading` for every layer, step and branch."""
    run, trial = story.shared.run, story.trial
    _, height, width = trial.backbone.latent_shape(*trial.backbone.default_size)
    total = 0.0
    for site in find_sites(trial.backbone.denoiser).values():
        h, w = site.grid((height, width))
        for step, branch in itertools.product(range(trial.steps), BOTH):
            rules = run.rules_at(site, step, trial.steps, branch)
            if site.sees_images and any(rule.mix.keys == "concat" for rule in rules):
                read = source_step(rules, step, trial.steps)
                exports = run.bank.get((Source(HERO), site.name, read, branch), torch.device("cpu"))
                shared = sum(len(export.tokens) for export in exports)
                heads = int(trial.backbone.denoiser.get_submodule(site.name).heads)
                total += sharing_flop.reading(h * w, shared, site, heads, rules)
    return total


def peak_memory(method: str, frames: int, steps: int, model: str | None) -> float:
    """Peak resident memory in MB of a process that draws a story of `frames` frames."""
    command = [
        sys.executable, "-m", "benchmarks.sharing_cost", "--steps", str(steps),
        "--one-story", method, "--frames", str(frames),
    ]  # fmt: skip
    command += [] if model is None else ["--model", model]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def memory_slopes(steps: int, model: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Per method: peaks over `FRAME_COUNTS` and the least-squares slope in MB per frame."""
    for name in (PLAIN, *RECIPES):
        peaks = [peak_memory(name, count, steps, model) for count in FRAME_COUNTS]
        slope, _ = statistics.linear_regression(FRAME_COUNTS, peaks)
        yield name, {"peak_mb": peaks, "mb_per_frame": slope}


def draw_one_story(method: str, frames: int, steps: int, model: str | None) -> float:
    """Draw a story in this process; returns its peak memory in MB."""
    trial = story_world_trial(steps, model)
    story = PlainStory(trial) if method == PLAIN else BenchStory(trial, RECIPES[method])
    for _ in range(frames):
        story.add()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def print_tables(result: dict[str, Any], console: Console) -> None:
    """Costs per model and method, then memory."""
    table = Table("model", "method", "FLOP", "formula", "wall", "bank MB", "predicted MB")
    for model, rows in result["models"].items():
        for name, row in rows.items():
            table.add_row(
                model, name, f"{row['flop_ratio']:.3f}", f"{row['flop_ratio_formula']:.3f}",
                f"{row.get('wall_ratio', math.nan):.3f}", f"{row['bank_bytes'] / 2**20:.1f}",
                f"{row['bank_bytes_predicted'] / 2**20:.1f}",
            )  # fmt: skip
    for model, rows in result["full_size"].items():
        for name, row in rows.items():
            ratios = f"{row['flop_ratio']:.3f}", f"{row['flop_ratio_formula']:.3f}"
            table.add_row(model, name, *ratios, "", "", "")
    console.print(table)
    for model, rows in result.get("modes", {}).items():
        names = sharing_memory.SHOWN
        modes = Table(model, *(f"{mode}, GB" for mode in names), "24 GB card")
        for name, row in rows.items():
            sizes = (f"{row['modes'][mode]['bytes'] / 1e9:.2f}" for mode in names)
            modes.add_row(name, *sizes, row["auto_24_gb"])
        console.print(modes)
    memory = Table("method", *(f"{count} frames, MB" for count in FRAME_COUNTS), "MB per frame")
    for name, row in result["memory"].items():
        peaks = [f"{peak:.0f}" for peak in row["peak_mb"]]
        memory.add_row(name, *peaks, f"{row['mb_per_frame']:.2f}")
    console.print(memory)


def measure_part(part: str, options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Put one of `PARTS` into the result."""
    repeats = 0 if options.counts_only else options.repeats
    recipes = {name: RECIPES[name] for name in options.method or RECIPES}
    if part == "world":
        trial = story_world_trial(options.steps, options.model)
        result["models"].setdefault(trial.name, {}).update(measure(trial, recipes, repeats))
    elif part == "full":
        steps = options.full_steps
        result["full_size"] = sharing_flop.measure(RECIPES, steps) if steps else {}
    elif part == "modes":
        steps = options.count_steps
        result["modes"] = sharing_memory.measure(recipes, options.mode_steps, steps)
    elif part == "memory":
        slopes = memory_slopes(options.memory_steps, options.model)
        result["memory"] = {} if options.counts_only else dict(slopes)
    elif not options.counts_only:
        # Without time there is nothing to learn from them that the full size does not tell.
        with tempfile.TemporaryDirectory() as folder:
            trial = shaped_trial(part, Path(folder), options.large_steps, options.divide)
            rows = measure(trial, recipes, max(1, repeats // 2))
            result["models"].setdefault(trial.name, {}).update(rows)


def _parts(text: str) -> list[str]:
    found = text.split(",")
    if wrong := [part for part in found if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part {wrong[0]!r}; expected {', '.join(PARTS)}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Measure what shared frames cost.")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", type=_parts, default=PARTS, metavar="PART,...")
    parser.add_argument("--method", action="append", choices=RECIPES, help="only this one")
    parser.add_argument("--model", default=None, help="instead of the shipped story-world model")
    parser.add_argument("--steps", type=int, default=DrawSettings.steps)
    parser.add_argument("--large-steps", type=int, default=5, help="for the large shapes")
    parser.add_argument(
        "--full-steps", type=int, default=DrawSettings.steps, help="for counting on shapes alone"
    )
    parser.add_argument("--mode-steps", type=int, default=50, help="for what each mode takes")
    parser.add_argument("--count-steps", type=int, default=10, help="for counting what is kept")
    parser.add_argument("--memory-steps", type=int, default=8, help="for the slope of memory")
    parser.add_argument("--counts-only", action="store_true", help="no time, no memory")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--divide", type=int, default=1, help="divides the large shapes' widths")
    parser.add_argument("--one-story", metavar="METHOD", help=argparse.SUPPRESS)
    parser.add_argument("--frames", type=int, default=4, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one_story:
        print(draw_one_story(options.one_story, options.frames, options.steps, options.model))
        return 0
    whole = options.only == PARTS and not options.method
    known = options.out is not None and options.out.exists() and not whole
    result = read_json(options.out) if known else {}
    result = {"models": {}, "full_size": {}, "modes": {}, "memory": {}, **result}
    for part in options.only:
        measure_part(part, options, result)
        result |= {
            "schema": 2,
            "frame_counts": FRAME_COUNTS,
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "settings": {k: str(v) for k, v in vars(options).items() if k != "out"},
        }
        if options.out is not None:
            write_json(options.out, result)
    print_tables(result, Console(width=120))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
