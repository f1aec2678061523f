"""Mixed traffic for minutes on end: does the server's memory stay where it was after warm-up?

    python -m benchmarks.soak --minutes 20 --out benchmarks/results/soak.json [--model DIR]

Several users draw stories with every method, watch events, re-roll, cancel, export, upload, delete
and send nonsense. The memory of the server's process is read every few seconds; growth is the
median of the last fifth of the time over the median of the fifth after warm-up. For Linux.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.serving import OPEN, say, story_of
from benchmarks.serving_load import Served, serve
from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import LibraryCharacterIn
from consistent_gen.methods import FOR_EVERY_MODEL

TARGET_GROWTH = 0.05
SAMPLE_S = 2.0
# Refusals that are the right answer to what a user did.
EXPECTED_STATUS = {404, 409, 410, 413, 415, 422, 429, 503}


@dataclass
class Watched:
    """What happened so far. `memory` are (seconds, bytes)."""

    counts: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        """One more of something."""
        with self.lock:
            self.counts[what] += 1


def draw_and_keep(client: Client, dice: random.Random, steps: int) -> None:
    """A story, watched to its end, a frame of it drawn again, exported, sometimes deleted."""
    story = story_of(
        dice.choice(sorted(FOR_EVERY_MODEL)), seed=dice.randrange(1 << 30), steps=steps
    )
    accepted = client.create_story(story)
    for _ in client.events(accepted.job):
        pass
    client.wait(client.reroll(accepted.story, dice.randrange(5)).job)
    client.export(accepted.story, format=dice.choice(("png", "zip", "pdf", "gif")))
    if dice.random() < 0.7:
        client.delete_story(accepted.story)


def change_mind(client: Client, dice: random.Random, steps: int) -> None:
    """A story that is cancelled on its way, or deleted under the worker's hands."""
    accepted = client.create_story(story_of("vanilla", seed=dice.randrange(1 << 30), steps=100))
    time.sleep(dice.random())
    if dice.random() < 0.5:
        client.cancel(accepted.job)
    client.delete_story(accepted.story)


def keep_character(client: Client, dice: random.Random, steps: int) -> None:
    """A character of the library with a picture, and away with it."""
    buffer = io.BytesIO()
    Image.new("RGB", (96, 96), (dice.randrange(256), 80, 120)).save(buffer, "PNG")
    entry = client.create_character(
        LibraryCharacterIn(name=f"Mia {dice.randrange(1 << 30)}", description="a girl")
    )
    client.add_reference(entry.id, buffer.getvalue())
    client.delete_character(entry.id)


def talk_nonsense(client: Client, dice: random.Random, steps: int) -> None:
    """What must be refused."""
    if dice.random() < 0.5:
        client.upload(b"<svg/>", "image/png")
    else:
        broken = story_of("vanilla", seed=0, steps=steps)
        client.create_story(broken.model_copy(update={"method": "none such"}))


ACTIONS: tuple[tuple[int, Callable[[Client, random.Random, int], None]], ...] = (
    (6, draw_and_keep),
    (2, change_mind),
    (2, keep_character),
    (2, talk_nonsense),
)


def user(served: Served, number: int, end: float, steps: int, watched: Watched) -> None:
    """One user's doings until `end`."""
    dice = random.Random(number)
    weights = [weight for weight, _ in ACTIONS]
    with Client(served.url, user=f"user-{number}", timeout=120.0) as client:
        while time.monotonic() < end:
            action = dice.choices([action for _, action in ACTIONS], weights)[0]
            try:
                action(client, dice, steps)
                watched.count(action.__name__)
            except ApiError as error:
                status = error.problem.status
                watched.count(f"refused {status}")
                if status not in EXPECTED_STATUS:
                    watched.surprises.append(f"{action.__name__}: {status} {error.problem.code}")


def watch_memory(served: Served, end: float, watched: Watched) -> None:
    """Resident memory of the server's process, every `SAMPLE_S` seconds."""
    started, page = time.monotonic(), os.sysconf("SC_PAGE_SIZE")
    while time.monotonic() < end:
        resident = int(Path(f"/proc/{served.pid}/statm").read_text().split()[1]) * page
        watched.memory.append((time.monotonic() - started, resident))
        time.sleep(SAMPLE_S)


def growth(memory: Sequence[tuple[float, int]], warm_s: float) -> dict[str, float]:
    """Median megabytes of the first and last fifth after `warm_s`, and the growth between them."""
    kept = [size for at, size in memory if at >= warm_s]
    fifth = max(1, len(kept) // 5)
    first, last = statistics.median(kept[:fifth]), statistics.median(kept[-fifth:])
    return {
        "first_mb": round(first / 1e6, 1),
        "last_mb": round(last / 1e6, 1),
        "peak_mb": round(max(kept) / 1e6, 1),
        "growth": round(last / first - 1.0, 4),
    }


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run."""
    arguments = [*OPEN, *(("--model", options.model) if options.model else ())]
    watched = Watched()
    with serve(*arguments) as served:
        end = time.monotonic() + 60.0 * options.minutes
        threads = [
            threading.Thread(target=user, args=(served, n, end, options.steps, watched))
            for n in range(options.users)
        ]
        threads.append(threading.Thread(target=watch_memory, args=(served, end, watched)))
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(10.0)
            if watched.memory:
                say(f"{watched.memory[-1][0]:.0f} s, {watched.memory[-1][1] / 1e6:.0f} MB")
        for thread in threads:
            thread.join()
    return {
        "schema": 1,
        "minutes": options.minutes,
        "users": options.users,
        "did": dict(watched.counts),
        "surprises": watched.surprises,
        "memory": growth(watched.memory, 60.0 * options.minutes * options.warm_share),
        "target_growth": TARGET_GROWTH,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print, write the JSON; 1 when memory grew too much or a call failed unexpectedly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--model", help="model folder; default: the shipped one")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--warm-share", type=float, default=0.2, help="of the time, left out")
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args(arguments)
    result = soak(options)
    print(result, file=sys.stderr)
    if options.out:
        from consistent_gen.checkpoints import write_json

        write_json(options.out, result)
    return int(result["memory"]["growth"] > TARGET_GROWTH or bool(result["surprises"]))


if __name__ == "__main__":
    raise SystemExit(main())
