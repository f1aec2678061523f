"""How long the default story takes, beside the default settings before there was a second stage.

    python -m benchmarks.default_story [--repeats 3] [--threads N] [--out FILE]

`examples/two_friends.yaml` in one process after one warm-up, both ways in turn: as the model
recommends (256 x 256, ten steps, three of them retouching, second stage), and with 25 steps and
neither of the two (128 x 128). Planning, drawing, reading of scores and writing of all files count;
imports and loading do not. Memory is the largest that the process had, loading included.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from consistent_gen.checkpoints import write_json
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.runtime import tune_allocator
from consistent_gen.story.draw import draw_story
from consistent_gen.story.plan import Overrides, plan_story
from consistent_gen.story.script import load_story

STORY = Path(__file__).parent.parent / "examples" / "two_friends.yaml"
WAYS: dict[str, dict[str, Any]] = {
    "as recommended": {},
    "25 steps, no second stage": {"steps": 25, "retouch": 0.0, "refine": 0},
}


def draw(backbone: Backbone, settings: dict[str, Any]) -> tuple[float, str]:
    """Seconds, and the size of the pictures."""
    story = load_story(STORY)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        plan = plan_story(story, backbone, Overrides(settings=settings), STORY.parent)
        drawing = draw_story(plan, backbone, Path(folder) / "out")
        seconds = time.perf_counter() - start
    height, width = drawing.frames[0].picture.shape[:2]
    return seconds, f"{width}x{height}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args(argv)
    tune_allocator()
    if options.threads:
        torch.set_num_threads(options.threads)
    backbone = load_backbone(None, device="cpu", dtype="float32")
    for settings in WAYS.values():
        draw(backbone, {**settings, "steps": 2})
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    sizes: dict[str, str] = {}
    for _ in range(options.repeats):
        for name, settings in WAYS.items():
            seconds, sizes[name] = draw(backbone, settings)
            found[name].append(seconds)
    table = Table("way", "size", "seconds (median)", "all", title="The default story, 4 frames")
    for name, times in found.items():
        each = ", ".join(f"{s:.2f}" for s in times)
        table.add_row(name, sizes[name], f"{median(times):.2f}", each)
    console = Console()
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"{torch.get_num_threads()} threads; peak memory of the process {peak:.0f} MiB")
    if options.out is not None:
        ways = {n: {"size": sizes[n], "seconds": median(found[n])} for n in WAYS}
        write_json(options.out, {"ways": ways, "peak_mib": peak})


if __name__ == "__main__":
    main()
