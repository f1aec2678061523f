"""How well methods keep a character, measured on equal terms on the story world.

    python -m benchmarks.consistency --stories 100 --methods vanilla,consistory,consistyle \\
        --steps 25 [--style-diverse] --out benchmarks/results/consistency.json

Every story has a held-out character whose words leave most of it open, and is drawn twice, with two
story seeds. Excess consistency C* is read by two networks, of which the judge was never trained or
selected against; its mean over both stands in the table, with each of them in the file. Vanilla and
the best of 4 by the reader are always drawn along; the row "truth" (no model: the world draws the
scenes with one person whom the words describe) shows what the networks can read at best.
Differences to vanilla are paired by story.

Pictures are kept in `--keep`, so a run can be stopped and goes on where it was, and another method
or a judge that comes later costs only itself. They are told apart by model, settings and number
format, not by the code that drew them: after a change of that, delete them. Where a processor
multiplies bfloat16 in hardware, `--dtype bfloat16` draws in less than half of the time; what a
frame costs is measured in the default format. To try settings: `--dev` takes other stories than the
ones that are reported, and each `--variant "consistory: dropout=0; window.blocks=[mid, up]"` is one
more row. "consistory as published" leaves out what the model's folder recommends for a method;
"head_start with sheets" and "vanilla with sheets" complete what a story's words leave open, as is
done with stories that people write, from the story seed.

Time: drawing alone counts. A story costs 2 x 5 x STEPS x 2 denoiser rows by vanilla, and as a
multiple of that: best_of_4 2.4 (it has vanilla's frames already), style_aligned 1,
story_diffusion and head_start 1.2, consistory and consistyle 2.5. 100 stories of 25 steps at 57
rows/s: 15 minutes for vanilla, 18 for head_start, 36 for best_of_4, 37 for consistory and for
consistyle; at the end about a minute per method to measure what a frame costs.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import consistency_drawing as drawing
from benchmarks import consistency_scores as scores
from benchmarks.consistency_drawing import (
    BEST_OF_4,
    TRUTH,
    VANILLA,
    Candidate,
    DrawingSettings,
    DrawnStory,
    PictureStore,
)
from benchmarks.consistency_stories import BenchmarkStory, make_story
from consistent_gen.checkpoints import folder_sha256, weights_folder, write_json
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.encoders.judge import Judge
from consistent_gen.encoders.reader import Reader
from consistent_gen.errors import CheckpointError
from consistent_gen.methods import FOR_EVERY_MODEL
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.rewards.attributes import Wanted, attribute_hits
from consistent_gen.runtime import DTYPES, frame_seed, versions
from consistent_gen.world.palette import HUES
from consistent_gen.world.spec import PLACES, STYLES

STORY_SEEDS = (1, 2)
# Development stories are made, and drawn, from other seeds.
DEV_WORLD, DEV_STORY_SEEDS = 1, (101, 102)
COSTS = ("seconds_per_frame", "peak_mb_per_frame", "denoiser_calls")
# Beside C*, what a row of the table has.
COLUMNS = (
    "alignment", "prompt_matching", "pose_diversity", "layout_diversity", "style_accuracy",
    "background_leak", *COSTS,
)  # fmt: skip
HUE_ANGLES = {name: degrees / 360.0 for name, (degrees, _, _) in HUES.items()}
KEEP = Path("out/consistency")


def score_story(
    story: BenchmarkStory, pair: Sequence[DrawnStory], networks: Mapping[str, Any]
) -> dict[str, float]:
    """All scores of a story that was drawn with two story seeds."""
    found: dict[str, float] = {}
    for name, network in networks.items():
        first, second = (scores.see(scores.read(network, drawn.pictures)) for drawn in pair)
        found[f"c_star_{name}"] = scores.excess_consistency(first, second)
    found["c_star"] = float(np.mean([found[f"c_star_{name}"] for name in networks]))
    rows = [_score_drawing(story, drawn, networks["reader"]) for drawn in pair]
    return found | {name: _known_mean([row[name] for row in rows]) for name in rows[0]}


def _score_drawing(story: BenchmarkStory, drawn: DrawnStory, reader: Any) -> dict[str, float]:
    reading = scores.read(reader, drawn.pictures)
    seen, schema = scores.see(reading), reader.schema
    wanted = [Wanted(({**story.named, "action": s.action},), {}) for s in story.scenes]
    hits = attribute_hits(reading, wanted, schema.subject, schema.hues, schema.scene, HUE_ANGLES)
    places = [PLACES.index(s.place) for s in story.scenes]
    return {
        "alignment": float(np.mean([value for row in hits for value in row.values()])),
        "prompt_matching": scores.prompt_matching(seen, [s.named for s in story.scenes]),
        "pose_diversity": scores.pose_diversity(seen.mask),
        "layout_diversity": scores.layout_diversity(seen.mask),
        "style_accuracy": scores.class_share(
            seen.scene["style"], [STYLES.index(s.style) for s in story.scenes]
        ),
        "background_leak": scores.background_leak(seen.scene["place"], places, places[0]),
        "subject_seen": float(seen.present.float().mean()),
        "mask_overlap": scores.mask_overlap(drawn.masks, seen.mask),
    }


def _known_mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


class Bench:
    """What all rows of one table have in common."""

    def __init__(
        self,
        backbone: Backbone,
        stories: Sequence[BenchmarkStory],
        seeds: Sequence[int],
        settings: DrawingSettings,
        networks: Mapping[str, Any],
        keep: Path,
    ) -> None:
        self.backbone, self.stories, self.seeds = backbone, stories, seeds
        self.settings, self.networks, self.keep = settings, networks, keep

    def draw(self, candidate: Candidate, console: Console | None = None) -> PictureStore:
        """Draw what is missing of a candidate's stories."""
        store = self.store(candidate)
        wanted = [
            (story, frame_seed(seed, story.number)) for story in self.stories for seed in self.seeds
        ]
        drawing.draw_missing(
            store,
            wanted,
            partial(self._draw, candidate),
            together=4 if self.backbone.device.type == "cpu" else 16,
            tell=None if console is None else partial(_tell, console, candidate.label),
        )
        return store

    def store(self, candidate: Candidate) -> PictureStore:
        """Where a candidate's drawings are kept: everything that decides them is in the name."""
        recipe = None if candidate.recipe is None else candidate.recipe.digest()
        reader = folder_sha256(weights_folder("reader")) if candidate.label == BEST_OF_4 else None
        settings = dict(vars(self.settings))
        if recipe is None:
            settings.pop("strength")  # nobody is shared
        identity: dict[str, Any] = {
            "model": self.backbone.sha256, "label": candidate.label, "recipe": recipe,
            "reader": reader, "settings": settings,
            "stories": [repr(self.stories[0].scenes), self.stories[0].words],
        }  # fmt: skip
        if candidate.sheets:
            identity["sheets"] = True
        if recipe is not None:
            identity["portrait"] = self.stories[0].portrait(0, 0, 1, 0.0).prompt
        if candidate.label == TRUTH:
            identity |= {"model": None, "settings": None}
        elif self.backbone.dtype != torch.float32:
            identity["dtype"] = str(self.backbone.dtype)
        return PictureStore(self.keep, candidate.label, identity)

    def score(self, candidate: Candidate) -> dict[str, list[float]]:
        """Scores of all stories, by name."""
        store, table = self.store(candidate), dict[str, list[float]]()
        for story in self.stories:
            pair = [store.get(story.number, frame_seed(s, story.number)) for s in self.seeds]
            for name, value in score_story(story, pair, self.networks).items():
                table.setdefault(name, []).append(value)
        return table

    def _draw(
        self, candidate: Candidate, part: Sequence[tuple[BenchmarkStory, int]]
    ) -> list[DrawnStory]:
        if candidate.label == TRUTH:
            return drawing.draw_truth(part)
        if candidate.label == BEST_OF_4:
            plain = self.store(Candidate(VANILLA))
            drawn = [plain.get(story.number, seed) for story, seed in part]
            reader = self.networks["reader"]
            return drawing.draw_best_of(self.backbone, part, drawn, self.settings, reader)
        return drawing.draw_stories(self.backbone, part, candidate, self.settings)


def _tell(console: Console, label: str, done: int, of: int) -> None:
    console.print(f"{label}: {done} of {of} drawings")


def summarize(table: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, Any]]:
    """Means with intervals for every C*, plain means for the rest, differences to vanilla."""
    found: dict[str, dict[str, Any]] = {}
    base = table[VANILLA]
    for name, columns in table.items():
        entry: dict[str, Any] = {}
        for score, values in columns.items():
            ranged = score.startswith("c_star")
            entry[score] = scores.interval(values) if ranged else _known_mean(values)
        entry["over_vanilla"] = {
            score: scores.paired_interval(values, base[score]) for score, values in columns.items()
        }
        found[name] = entry
    return found


def print_table(summary: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """The contract's columns, one row per method."""
    table = Table()
    for column in ("method", "C* (95 %)", "over vanilla", *COLUMNS, "mask_overlap"):
        table.add_column(column.replace("_", " "))
    for name, entry in summary.items():
        both = (entry["c_star"], entry["over_vanilla"]["c_star"])
        ranges = [f"{c['mean']:.3f} ({c['lo']:.3f} to {c['hi']:.3f})" for c in both]
        rest = [entry.get(column, float("nan")) for column in (*COLUMNS, "mask_overlap")]
        table.add_row(name, *ranges, *(f"{value:.3f}" for value in rest))
    console.print(table)


def load_networks(console: Console) -> dict[str, Any]:
    """Reader and judge; without weights of a judge the reader alone, with a notice."""
    networks: dict[str, Any] = {"reader": Reader.load(weights_folder("reader"))}
    try:
        networks["judge"] = Judge.load(weights_folder("judge"))
    except CheckpointError:
        console.print("no judge in the weights: C* is the reader's alone, which is no result yet")
    return networks


def frame_costs(
    candidate: Candidate, settings: DrawingSettings, model: Path | None
) -> dict[str, float]:
    """Seconds, memory and denoiser calls of an added frame, measured in a fresh process."""
    command = [
        sys.executable, "-m", "benchmarks.consistency_cost", candidate.label,
        "--steps", str(settings.steps), "--guidance", str(settings.guidance),
    ]  # fmt: skip
    command += [] if model is None else ["--model", str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    costs: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return costs


def machine(backbone: Backbone) -> dict[str, Any]:
    """What a run was made on."""
    on_gpu = backbone.device.type == "cuda"
    device = torch.cuda.get_device_name(backbone.device) if on_gpu else backbone.device.type
    threads = torch.get_num_threads()
    return {"processor": platform.machine(), "threads": threads, "device": device}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stories", type=int, default=100)
    parser.add_argument(
        "--methods", default=",".join(FOR_EVERY_MODEL), help="names, separated by commas"
    )
    parser.add_argument("--variant", action="append", default=[], help="a method with settings")
    parser.add_argument("--steps", type=int, default=DrawSettings.steps)
    parser.add_argument("--guidance", type=float, default=DrawSettings.guidance)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--style-diverse", action="store_true", help="another style per frame")
    parser.add_argument("--dev", action="store_true", help="other stories, to choose settings by")
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--dtype", choices=DTYPES, default=None, help="number format to draw in")
    parser.add_argument("--keep", type=Path, default=KEEP, help="where drawings are kept")
    parser.add_argument("--no-costs", action="store_true", help="leave time and memory out")
    parser.add_argument("--no-best-of", action="store_true", help="leave the best of 4 out")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    options = arguments(argv)
    asked = [name for name in options.methods.split(",") if name] + options.variant
    baselines = [TRUTH, VANILLA] + ([] if options.no_best_of else [BEST_OF_4])
    console = Console(width=200)
    networks = load_networks(console)
    backbone = load_backbone(options.model, dtype=options.dtype)
    found = [drawing.parse_candidate(text, backbone) for text in [*baselines, *asked]]
    named = {candidate.label: candidate for candidate in found}
    world, seeds = (DEV_WORLD, DEV_STORY_SEEDS) if options.dev else (0, STORY_SEEDS)
    stories = [
        make_story(n, style_diverse=options.style_diverse, seed=world)
        for n in range(options.stories)
    ]
    settings = DrawingSettings(
        steps=options.steps, guidance=options.guidance, strength=options.strength
    )
    bench = Bench(backbone, stories, seeds, settings, networks, options.keep)
    table = {}
    for label, candidate in named.items():
        bench.draw(candidate, console)
        table[label] = bench.score(candidate)
    summary = summarize(table)
    for label, candidate in named.items():
        if not options.no_costs and label != TRUTH:
            summary[label] |= frame_costs(candidate, settings, options.model)
    print_table(summary, console)
    # The ceiling is not a method; the contract's table has methods only.
    ceiling = summary.pop(TRUTH)
    write_json(
        options.out,
        scores.without_nan(
            {
                "methods": summary,
                "truth": ceiling,
                "networks": list(networks),
                "machine": machine(backbone),
                "versions": versions(),
                "seeds": {"stories": [story.number for story in stories], "drawings": seeds},
                "model": {"name": backbone.name, "sha256": backbone.sha256},
                "settings": {
                    k: str(v) for k, v in vars(options).items() if k not in ("keep", "out")
                },
            }
        ),
    )


if __name__ == "__main__":
    main()
