"""How well methods keep a character, measured on equal terms on the story world.

    python -m benchmarks.consistency --stories 100 --methods vanilla,consistory,consistyle \\
        --steps 25 [--style-diverse] --out benchmarks/results/consistency.json

Every story has a held-out character whose words leave most of it open, and is drawn twice, with two
story seeds. Excess consistency C* is read by two networks, of which the judge was never trained or
selected against; its mean over both stands in the table, with each of them in the file. Vanilla and
the best of 4 by the reader are always drawn along. Differences to vanilla are paired by story.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import consistency_scores as scores
from benchmarks.consistency_stories import FRAMES, HERO, BenchmarkStory, make_story
from consistent_gen.checkpoints import weights_folder, write_json
from consistent_gen.encoders.judge import Judge
from consistent_gen.encoders.reader import Reader
from consistent_gen.engine import Engine, FrameDone, FrameError, FrameRequest
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.methods import METHODS
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.registry import resolve
from consistent_gen.rewards.attributes import Wanted, attribute_hits
from consistent_gen.runtime import frame_seed, tune_allocator, versions
from consistent_gen.world.palette import HUES
from consistent_gen.world.spec import PLACES, STYLES

VANILLA, BEST_OF_4 = "vanilla", "best_of_4"
CANDIDATES = 4
STORY_SEEDS = (1, 2)
# Beside C*, what a row of the table has.
COLUMNS = (
    "alignment", "prompt_matching", "pose_diversity", "layout_diversity", "style_accuracy",
    "background_leak", "seconds_per_frame", "peak_mb_per_frame", "denoiser_calls",
)  # fmt: skip
HUE_ANGLES = {name: degrees / 360.0 for name, (degrees, _, _) in HUES.items()}


@dataclass(frozen=True)
class Settings:
    """How stories are drawn."""

    steps: int
    guidance: float
    strength: float = 1.0


@dataclass
class DrawnStory:
    """Pictures [n h w 3] of one story, and what each added frame cost."""

    pictures: np.ndarray
    seconds_per_frame: float
    peak_mb_per_frame: float
    denoiser_calls: float


class Meter:
    """Time, peak memory and denoiser steps between two moments, per added frame."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.steps = 0
        self.start()

    def start(self) -> None:
        """Begin to measure here."""
        self.began, self.memory, self.steps = time.perf_counter(), _peak_mb(), 0

    def finish(self) -> Iterator[FrameDone]:
        """Drain the engine, counting the steps of every frame in it, hidden ones too."""
        self.steps += sum(state.request.steps for state in self.engine.frames)
        while not self.engine.idle:
            for event in self.engine.step():
                if isinstance(event, FrameError):
                    raise event.error
                if isinstance(event, FrameDone):
                    yield event

    def story(self, pictures: Sequence[np.ndarray], frames: int) -> DrawnStory:
        """The result, with costs divided by `frames`."""
        return DrawnStory(
            np.stack(pictures),
            (time.perf_counter() - self.began) / frames,
            (_peak_mb() - self.memory) / frames,
            self.steps / frames,
        )


def draw_plain(engine: Engine, requests: Sequence[FrameRequest]) -> DrawnStory:
    """Every frame on its own."""
    meter = Meter(engine)
    for request in requests:
        engine.submit(request)
    done = {event.id: event.image for event in meter.finish()}
    return meter.story([done[str(r.id)] for r in requests], len(requests))


def draw_best_of(engine: Engine, requests: Sequence[FrameRequest], reader: Any) -> DrawnStory:
    """Of several seeds per frame, the one whose subject the reader finds most like frame 0's."""
    meter = Meter(engine)
    first, later = requests[0], requests[1:]
    tries = [
        replace(r, id=f"{r.id}-{k}", seed=frame_seed(r.seed, k))
        for r in later
        for k in range(CANDIDATES)
    ]
    for request in (first, *tries):
        engine.submit(request)
    done = {event.id: event.image for event in meter.finish()}
    pictures = [done[str(first.id)]]
    for row in range(len(later)):
        group = [done[str(t.id)] for t in tries[row * CANDIDATES : (row + 1) * CANDIDATES]]
        seen = scores.see(read(reader, np.stack([pictures[0], *group])))
        alike = scores.identity_similarity(seen, seen)[0, 1:].nan_to_num(-1.0)
        pictures.append(group[int(alike.argmax())])
    return meter.story(pictures, len(requests))


def draw_shared(
    engine: Engine, story: BenchmarkStory, name: str, seed: int, settings: Settings
) -> DrawnStory:
    """With a method: the anchors are a portrait and the first frames; costs are of later frames."""
    recipe = resolve(METHODS, name, kind="method")().recipe()
    shared = SharedStory(engine, recipe, seed=seed)
    options = seed, settings.steps, settings.guidance
    requests = [story.request(i, *options) for i in range(FRAMES)]
    count = recipe.anchors
    shown = min(count - 1, FRAMES - 1)
    portraits = [replace(story.portrait(i, *options), hidden=True) for i in range(count - shown)]
    meter = Meter(engine)
    shared.cast(HERO, [*portraits, *requests[:shown]], strength=settings.strength)
    done = {event.id: event.image for event in meter.finish()}
    meter.start()
    for request in requests[shown:]:
        shared.submit(request)
    done |= {event.id: event.image for event in meter.finish()}
    return meter.story([done[str(r.id)] for r in requests], FRAMES - shown)


def draw(
    engine: Engine, story: BenchmarkStory, method: str, seed: int, settings: Settings, reader: Any
) -> DrawnStory:
    """One story by one method under one story seed."""
    if method not in (VANILLA, BEST_OF_4):
        return draw_shared(engine, story, method, seed, settings)
    options = seed, settings.steps, settings.guidance
    requests = [story.request(i, *options) for i in range(FRAMES)]
    if method == BEST_OF_4:
        return draw_best_of(engine, requests, reader)
    return draw_plain(engine, requests)


@torch.inference_mode()
def read(network: Any, pictures: np.ndarray) -> Any:
    """What a network reads in pictures, uint8 [n h w 3]."""
    return network(torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous())


def score_story(
    story: BenchmarkStory, pair: Sequence[DrawnStory], networks: Mapping[str, Any]
) -> dict[str, float]:
    """All scores of a story that was drawn with two story seeds."""
    found: dict[str, float] = {}
    for name, network in networks.items():
        first, second = (scores.see(read(network, drawn.pictures)) for drawn in pair)
        found[f"c_star_{name}"] = scores.excess_consistency(first, second)
    found["c_star"] = float(np.mean([found[f"c_star_{name}"] for name in networks]))
    rows = [_score_drawing(story, drawn, networks["reader"]) for drawn in pair]
    return found | {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


def _score_drawing(story: BenchmarkStory, drawn: DrawnStory, reader: Any) -> dict[str, float]:
    reading = read(reader, drawn.pictures)
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
        "seconds_per_frame": drawn.seconds_per_frame,
        "peak_mb_per_frame": drawn.peak_mb_per_frame,
        "denoiser_calls": drawn.denoiser_calls,
    }


def measure(
    backbone: Backbone,
    stories: Sequence[BenchmarkStory],
    methods: Sequence[str],
    settings: Settings,
    networks: Mapping[str, Any],
    console: Console | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Scores per method and story; all methods draw a story before the next one begins."""
    table: dict[str, dict[str, list[float]]] = {name: {} for name in methods}
    for story in stories:
        for name in methods:
            pair = [
                draw(
                    Engine(backbone),
                    story,
                    name,
                    frame_seed(seed, story.number),
                    settings,
                    networks["reader"],
                )
                for seed in STORY_SEEDS
            ]
            for score, value in score_story(story, pair, networks).items():
                table[name].setdefault(score, []).append(value)
        if console is not None:
            console.print(f"story {story.number + 1} of {len(stories)}")
    return table


def summarize(table: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, Any]]:
    """Means with intervals for every C*, plain means for the rest, differences to vanilla."""
    found: dict[str, dict[str, Any]] = {}
    base = table[VANILLA]
    for name, columns in table.items():
        entry: dict[str, Any] = {}
        for score, values in columns.items():
            ranged = score.startswith("c_star")
            entry[score] = scores.interval(values) if ranged else float(np.nanmean(values))
        entry["over_vanilla"] = {
            score: scores.paired_interval(values, base[score]) for score, values in columns.items()
        }
        found[name] = entry
    return found


def print_table(summary: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """The contract's columns, one row per method."""
    table = Table()
    for column in ("method", "C* (95 %)", *COLUMNS):
        table.add_column(column.replace("_", " "))
    for name, entry in summary.items():
        c = entry["c_star"]
        first = f"{c['mean']:.3f} ({c['lo']:.3f} to {c['hi']:.3f})"
        table.add_row(name, first, *(f"{entry[column]:.3f}" for column in COLUMNS))
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Measure how methods keep a character.")
    parser.add_argument("--stories", type=int, default=100)
    parser.add_argument("--methods", default=",".join(METHODS), help="names, separated by commas")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--style-diverse", action="store_true", help="another style per frame")
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--first", type=int, default=0, help="number of the first story")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    asked = [name for name in options.methods.split(",") if name]
    for name in asked:
        if name != BEST_OF_4:
            resolve(METHODS, name, kind="method")
    tune_allocator()
    console = Console(width=160)
    networks = {
        "reader": Reader.load(weights_folder("reader")),
        "judge": Judge.load(weights_folder("judge")),
    }
    backbone = load_backbone(options.model)
    numbers = range(options.first, options.first + options.stories)
    stories = [make_story(n, style_diverse=options.style_diverse) for n in numbers]
    settings = Settings(options.steps, options.guidance, options.strength)
    methods = list(dict.fromkeys([VANILLA, BEST_OF_4, *asked]))
    table = measure(backbone, stories, methods, settings, networks, console)
    summary = summarize(table)
    print_table(summary, console)
    write_json(
        options.out,
        {
            "methods": summary,
            "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
            "versions": versions(),
            "seeds": {"stories": [story.number for story in stories], "drawings": STORY_SEEDS},
            "settings": {key: str(value) for key, value in vars(options).items()},
        },
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


if __name__ == "__main__":
    main()
