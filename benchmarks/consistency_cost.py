"""What one added frame of a benchmark story costs: `python -m benchmarks.consistency_cost METHOD`.

A fresh process, so that nothing of another method is in its memory. After a warm-up the anchors
are drawn (not counted) and then frames are added one at a time, each alone in its denoiser calls.
Prints one line of JSON:

- seconds_per_frame: median over the added frames, first pass and decoding included.
- peak_mb_per_frame: the most resident memory while frames are added, less that of the loaded and
  warmed model; so the anchors' bank and what a denoiser call needs, counted once.
- denoiser_calls: per added frame, counting a guided pair of rows as one call, hidden passes and
  second rows too; for the best of 4 by what its candidates take.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.consistency_drawing import (
    BEST_OF_4,
    CANDIDATES,
    Candidate,
    DrawingSettings,
    anchors_of,
    drain,
    parse_candidate,
)
from benchmarks.consistency_stories import FRAMES, HERO, BenchmarkStory, make_story
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameError, FrameRequest
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.runtime import frame_seed

ADDED = 4
SEED = 3


class Meter:
    """Adds frames one at a time and notes what each took."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seconds: list[float] = []
        self.calls: list[int] = []

    def finish(self) -> None:
        """Drain the engine for the frame that was just submitted."""
        began, calls = time.perf_counter(), 0
        while not self.engine.idle:
            before = {state.id: (state, state.index, state.looking) for state in self.engine.frames}
            for event in self.engine.step():
                if isinstance(event, FrameError):
                    raise event.error
            calls += sum(1 + look for s, index, look in before.values() if s.index > index)
        self.seconds.append(time.perf_counter() - began)
        self.calls.append(calls)


def measure(
    backbone: Backbone, candidate: Candidate, settings: DrawingSettings, story: BenchmarkStory
) -> dict[str, float]:
    """The three figures of the module's text."""
    engine = Engine(backbone)
    warm = story.request(0, SEED + 1, 2, settings.guidance)
    engine.submit(replace(warm, id="warm"))
    drain(engine)
    base = _resident_mb()
    recipe, shared = candidate.recipe, None
    if recipe is not None and recipe.rules:
        shared = SharedStory(engine, recipe, seed=SEED)
        anchors, _ = anchors_of(story, recipe, SEED, settings)
        shared.cast(HERO, anchors, strength=settings.strength)
        drain(engine)
    _reset_peak()
    meter = Meter(engine)
    for number in range(ADDED):
        for request in _added(story, number, settings, candidate):
            _ = engine.submit(request) if shared is None else shared.submit(request)
        meter.finish()
    share = (1 + CANDIDATES * (FRAMES - 1)) / (CANDIDATES * FRAMES)
    scale = share if candidate.label == BEST_OF_4 else 1.0  # frame 0 has one candidate
    return {
        "seconds_per_frame": statistics.median(meter.seconds) * scale,
        "peak_mb_per_frame": max(_peak_mb() - base, 0.0),
        "denoiser_calls": statistics.median(meter.calls) * scale,
    }


def _added(
    story: BenchmarkStory, number: int, settings: DrawingSettings, candidate: Candidate
) -> list[FrameRequest]:
    """The requests of one more frame: one, or the candidates of the best of 4."""
    request = story.request(number % FRAMES, SEED, settings.steps, settings.guidance)
    count = CANDIDATES if candidate.label == BEST_OF_4 else 1
    seeds = [frame_seed(SEED + 50, number, k) for k in range(count)]
    return [replace(request, id=f"added {number} {k}", seed=seed) for k, seed in enumerate(seeds)]


def _reset_peak() -> None:
    """Let the kernel count this process's peak memory from here."""
    Path("/proc/self/clear_refs").write_text("5")


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024.0


def _resident_mb() -> float:
    return _status_mb("VmRSS:")


def _peak_mb() -> float:
    return _status_mb("VmHWM:")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What an added frame costs.")
    parser.add_argument("method")
    parser.add_argument("--steps", type=int, default=DrawSettings.steps)
    parser.add_argument("--guidance", type=float, default=DrawSettings.guidance)
    parser.add_argument("--model", type=Path, default=None)
    options = parser.parse_args(argv)
    backbone = load_backbone(options.model)
    candidate = parse_candidate(options.method, backbone)
    settings = DrawingSettings(steps=options.steps, guidance=options.guidance)
    story = make_story(0, style_diverse=False)
    print(json.dumps(measure(backbone, candidate, settings, story)))


if __name__ == "__main__":
    main()
