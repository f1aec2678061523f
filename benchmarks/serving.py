"""The server under load, on loopback: rates, latencies, fairness, and whether bytes stay the same.

    python -m benchmarks.serving --out benchmarks/results/serving.json [--model DIR] [--steps 4]

Everything runs against `python -m services.serve` in a process of its own, through HTTP:

- Load: 1, 4, 16 and 64 users who do not wait for each other (open loop, exponential gaps). The
  load per user is set so that 16 users ask for about twice what the server can draw.
- At 16 users the same burst of requests under three policies in turns: step batching, one frame
  at a time, and whole batches (a batch is drawn to its end before the next one joins), with the
  same model, bucket and machine. Requests differ in their steps, from half to one and a half times
  `--steps`, as those of different users do.
- Fairness: a small user, who asks for one picture whenever the last one came, beside a large one
  with a long story. The ratio is between the 95th percentiles of what each waits for a picture.
- Identity: frames of many stories and methods, mixed at random with some cancelled, against the
  same frames drawn alone by this process. A frame counts when its file is equal to the byte.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.serving_load import LoadTally, Served, open_loop, percentile, serve
from consistent_gen.client import Client
from consistent_gen.client.types import StoryIn
from consistent_gen.engine import read_png

USERS = (1, 4, 16, 64)
COMPARED_USERS = 16
POLICIES: dict[str, tuple[str, ...]] = {
    "steps": (),
    "one at a time": ("--set", "engine.max_frames=1"),
    "whole batches": ("--no-late-join",),
}
# So that no key's own limits decide what is measured; the queue's bound stays. One thread: bytes
# are compared, and the number of threads is part of what decides them.
OPEN = (
    "--no-ui", "--threads", "1",
    "--set", "limits.running_per_key=256", "--set", "limits.queued_per_key=256",
)  # fmt: skip
PROMPTS = ("{Mia} walking", "{Mia} and {Bo}", "{Bo} sitting", "a red fox", "{Mia} reading")
CHARACTERS = {
    "Mia": {"description": "a girl with a red hat"},
    "Bo": {"description": "a small bear"},
}
METHODS = ("vanilla", "vanilla", "story_diffusion", "style_aligned", "consistory")
TARGETS = {"speedup": 1.5, "fairness_ratio": 2.0, "identical_share": 1.0}


def first_frame(served: Served, steps: int) -> tuple[float, int]:
    """Seconds from the start of the server's process to the first picture, and its bucket."""
    with Client(served.url, timeout=60.0) as client:
        image = client.create_story(_one(steps, seed=0))
        png = client.artifact(client.wait(image.job).frames[0].artifact or "")
    seconds = time.monotonic() - served.started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.png"
        path.write_bytes(png)
        return seconds, int(read_png(path)[1]["bucket"])


def lone_seconds(served: Served, steps: int) -> float:
    """Seconds per picture for a caller who is alone, asking again at once."""
    with Client(served.url, timeout=60.0) as client:
        started = time.monotonic()
        for seed in range(3):
            client.wait(client.create_story(_one(steps, seed=seed)).job)
        return (time.monotonic() - started) / 3


def load(served: Served, users: int, *, requests: int, between_s: float, steps: int) -> LoadTally:
    """One open-loop run."""
    return asyncio.run(
        open_loop(
            served.url, users=users, requests=requests, between_s=between_s, steps=steps, seed=users
        )
    )


def fairness(served: Served, *, steps: int, frames: int) -> dict[str, Any]:
    """A small user beside a large one; see the module."""
    large = Client(served.url, user="large", timeout=60.0)
    small = Client(served.url, user="small", timeout=60.0)
    with large, small:
        story = _one(steps, seed=1).model_copy(update={"frames": _one(steps).frames * frames})
        job = large.create_story(story).job
        stop = threading.Event()
        waits: list[float] = []
        arrivals: list[float] = []

        def ask() -> None:
            seed = 0
            while not stop.is_set():
                asked = time.monotonic()
                seed += 1
                small.wait(small.create_story(_one(steps, seed=seed)).job)
                waits.append(time.monotonic() - asked)

        thread = threading.Thread(target=ask)
        thread.start()
        for event in large.events(job):
            if event.type == "frame":
                arrivals.append(time.monotonic())
        stop.set()
        thread.join()
    # What the large user waits for a picture is the time from one of its pictures to the next.
    gaps = [b - a for a, b in pairwise(arrivals)]
    waits = waits[: max(1, len(waits) - 1)]
    small_p95, large_p95 = percentile(waits, 95), percentile(gaps, 95)
    return {
        "large_frames": frames,
        "small_frames": len(waits),
        "small_p95_s": round(small_p95, 3),
        "large_p95_s": round(large_p95, 3),
        "ratio": round(max(small_p95, large_p95) / max(1e-9, min(small_p95, large_p95)), 3),
        "small_over_large": round(small_p95 / max(1e-9, large_p95), 3),
    }


def identity(served: Served, model: str | None, *, bucket: int, steps: int, frames: int) -> int:
    """How many of `frames` files that came through HTTP equal those drawn alone here."""
    dice = random.Random(0)
    stories: list[StoryIn] = []
    while 5 * len(stories) < frames:
        n = len(stories)
        stories.append(story_of(METHODS[n % len(METHODS)], seed=n, steps=steps))
    found: list[list[bytes]] = []
    with Client(served.url, timeout=60.0) as client:
        jobs = []
        for story in stories:
            jobs.append(client.create_story(story).job)
            if dice.random() < 0.5:
                extra = client.create_story(_one(30, seed=len(jobs)))
                time.sleep(dice.random() * 0.3)
                client.cancel(extra.job)
        for job in jobs:
            done = client.wait(job)
            found.append([client.artifact(frame.artifact or "") for frame in done.frames])
    expected = [drawn_alone(story, model, bucket) for story in stories]
    pairs = [pair for a, b in zip(found, expected, strict=True) for pair in zip(a, b, strict=True)]
    return sum(ours == theirs for ours, theirs in pairs[:frames])


def drawn_alone(request: StoryIn, model: str | None, bucket: int) -> list[bytes]:
    """The files of a story's frames, drawn by an engine that does nothing else."""
    from consistent_gen.engine import Engine, write_png
    from consistent_gen.story.cast import Cast
    from consistent_gen.story.plan import plan_story

    backbone = _backbone(model)
    plan = plan_story(_as_story(request), backbone)
    engine = Engine(backbone, bucket=bucket)
    cast = Cast(plan, engine)
    for frame in plan.frames:
        cast.draw(frame)
    files: dict[int, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.png"
        for frame_id, event in engine.drain().items():
            write_png(path, event.image, event.metadata)
            files[int(frame_id)] = path.read_bytes()
    return [files[i] for i in range(len(files))]


def policies(common: tuple[str, ...], bucket: int, options: argparse.Namespace) -> dict[str, Any]:
    """The same requests under every policy, in turns, so that all meet the same weather."""
    totals = {policy: LoadTally(COMPARED_USERS) for policy in POLICIES}
    requests = max(1, min(options.requests, options.most // COMPARED_USERS))
    with ExitStack() as stack:
        servers = {
            # What the first server measured, so that all draw with calls of one size.
            policy: stack.enter_context(serve(*common, "--bucket", str(bucket), *arguments))
            for policy, arguments in POLICIES.items()
        }
        for _ in range(options.rounds):
            for policy, served in servers.items():
                # All at once: what counts is how fast the line gets shorter.
                tally = load(
                    served, COMPARED_USERS, requests=requests, between_s=0.01, steps=options.steps
                )
                totals[policy].add(tally)
                say(f"{policy}: {tally.figures()}")
    rates = {policy: t.figures()["frames_per_second"] for policy, t in totals.items()}
    return {
        "policies": [{"policy": policy, **t.figures()} for policy, t in totals.items()],
        "speedup": {
            policy: round(rates["steps"] / rate, 3)
            for policy, rate in rates.items()
            if policy != "steps"
        },
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run."""
    common = (*OPEN, *(("--model", options.model) if options.model else ()))
    if options.bucket:
        common += ("--bucket", str(options.bucket))
    result: dict[str, Any] = {
        "schema": 1, "steps": options.steps, "targets": TARGETS, "load": [],
    }  # fmt: skip
    with serve(*common) as served:
        seconds, bucket = first_frame(served, options.steps)
        result["bucket"] = bucket
        result["start"] = {
            "ready_s": round(served.ready_s, 2),
            "first_frame_s": round(seconds, 2),
        }
        alone_s = lone_seconds(served, options.steps)
        between_s = alone_s * COMPARED_USERS / 2
        result["alone_s"] = round(alone_s, 3)
        for users in USERS:
            requests = max(1, min(options.requests, options.most // users))
            tally = load(served, users, requests=requests, between_s=between_s, steps=options.steps)
            result["load"].append(tally.figures())
            say(f"{users} users: {result['load'][-1]}")
        result["fairness"] = fairness(served, steps=options.steps, frames=options.fair_frames)
        say(f"fairness: {result['fairness']}")
        same = identity(
            served,
            options.model,
            bucket=bucket,
            steps=options.identity_steps,
            frames=options.identity_frames,
        )
        result["identity"] = {"frames": options.identity_frames, "identical": same}
        say(f"identity: {result['identity']}")
    result |= policies(common, bucket, options)
    return result | _machine(options.model)


def say(line: str) -> None:
    """Progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--model", help="model folder; default: the shipped one")
    parser.add_argument("--bucket", type=int, help="rows per denoiser call; default: measured")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--requests", type=int, default=4, help="per user, at most")
    parser.add_argument("--most", type=int, default=128, help="requests of one run, at most")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison of policies")
    parser.add_argument("--fair-frames", type=int, default=48)
    parser.add_argument("--identity-frames", type=int, default=200)
    parser.add_argument("--identity-steps", type=int, default=2)
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)  # as the server's worker, and it stands in the metadata
    result = measure(options)
    if options.out:
        from consistent_gen.checkpoints import write_json

        write_json(options.out, result)
    return 0


def _one(steps: int, seed: int = 0) -> StoryIn:
    return StoryIn.model_validate(
        {"title": "one", "frames": [{"prompt": "a fox"}], "steps": steps, "seed": seed,
         "preview_every": 0}
    )  # fmt: skip


def story_of(method: str, *, seed: int, steps: int) -> StoryIn:
    """Five frames with two characters."""
    return StoryIn.model_validate(
        {"title": f"story {seed}", "characters": CHARACTERS, "method": method, "seed": seed,
         "frames": [{"prompt": prompt} for prompt in PROMPTS], "steps": steps, "preview_every": 0}
    )  # fmt: skip


def _as_story(request: StoryIn) -> Any:
    from consistent_gen.draw_settings import parse_size
    from consistent_gen.story.types import Character, Frame, Story

    size = None if request.size is None else parse_size(request.size)
    said = {
        "steps": request.steps, "size": size, "refine": request.refine, "retouch": request.retouch
    }  # fmt: skip
    return Story(
        title=request.title,
        method=request.method,
        seed=request.seed,
        settings={name: value for name, value in said.items() if value is not None},
        characters={
            name: Character(name=name, description=c.description)
            for name, c in request.characters.items()
        },
        frames=tuple(Frame(prompt=frame.prompt) for frame in request.frames),
    )


@cache
def _backbone(model: str | None) -> Any:
    from consistent_gen.models import load_backbone

    return load_backbone(model, device="cpu")


def _machine(model: str | None) -> dict[str, Any]:
    from consistent_gen import runtime
    from consistent_gen.engine.metadata import machine

    backbone = _backbone(model)
    return {
        "model": {"name": backbone.name, "sha256": backbone.sha256},
        "machine": machine(backbone),
        "versions": runtime.versions(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
