"""How fast the memory is on this machine, against its budgets and against mem0.

    python -m benchmarks.memory_speed --out benchmarks/results/memory_speed.json
    python -m benchmarks.memory_speed --out FILE.json --compare 0      (without mem0)

Each figure is the median and the 95th percentile over repeated calls, in milliseconds, on a store
that already holds as many records as the figure says. ``cpu`` figures count the time of this
process alone; on a busy machine they show about what the wall clock would on an idle one, waiting
for the disk aside. Every write is durable when its call returns (the log is synced). Texts are
invented; vectors have the size of MiniLM's. Embedding is not part of any figure, because every
memory pays the same for it; ``embed_ms`` tells how much.

The comparison runs the same adds and searches through mem0 (PyPI ``mem0ai``, its default local
vector store, ``infer=False``, telemetry off) in a virtual environment of its own, which is made on
first use and needs PyPI then; ``--mem0 FOLDER`` names one that holds mem0 already. Both sides are
handed the same MiniLM vectors.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from consistent_gen.checkpoints import write_json
from consistent_gen.language.embedders import HashedNgrams, default_embedder
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch, Update
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.data.store import Scope, Store
from consistent_gen.memory.recall.indexing import TEXT_ROLE
from consistent_gen.memory.recall.retriever import Retriever
from consistent_gen.memory.storage.keys import MemoryKey
from consistent_gen.runtime import versions

SIZE = 384
BUDGETS_MS = {
    "turn_write": 15.0, "executor_batch": 10.0, "search_10000": 30.0, "search_50000": 100.0,
    "open": 20.0, "purge_10000": 2_000.0,
}  # fmt: skip
MEM0 = "mem0ai==2.2.1"
WORKER = Path(__file__).with_name("memory_speed_mem0.py")
VOCABULARY = 2_000
WORDS_PER_SENTENCE, WORDS_PER_QUERY = 14, 4


class LookUp:
    """A text embedder that knows its answers: seeded unit vectors, or those it was given."""

    description = "vectors made beforehand"

    def __init__(self, known: dict[str, np.ndarray], space: str = "look-up/1") -> None:
        self.space, self.dimensions = space, SIZE
        self._known = known

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """n texts to n 384."""
        return np.stack([self._known[text] for text in texts])


def sentences(count: int, seed: int, words: int = WORDS_PER_SENTENCE) -> list[str]:
    """Distinct lines of invented words whose frequencies fall off as those of language do
    (Zipf-Mandelbrot); the same seed gives the same.
    """
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    made = np.random.default_rng(0).permutation(len(syllables) ** 2)[:VOCABULARY]
    vocabulary = [syllables[n // len(syllables)] + syllables[n % len(syllables)] for n in made]
    share = 1 / (np.arange(VOCABULARY) + 10)
    rng = np.random.default_rng(seed)
    picks = rng.choice(VOCABULARY, size=(count, words), p=share / share.sum())
    return [f"{' '.join(vocabulary[p] for p in row)} {n}" for n, row in enumerate(picks)]


def random_vectors(texts: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """A unit vector for each text."""
    rows = np.random.default_rng(seed).normal(size=(len(texts), SIZE)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return dict(zip(texts, rows, strict=True))


def filled(
    folder: Path, texts: Sequence[str], embedder: LookUp, key: MemoryKey | None = None
) -> Store:
    """A store with one turn and one vector per text."""
    store = open_memory(folder, "speed", key=key)
    store.create_space(embedder.space, embedder.dimensions)
    store.switch_space(TEXT_ROLE, embedder.space)
    for start in range(0, len(texts), 500):
        some = texts[start : start + 500]
        ids = store.record([Turn(text=text) for text in some]).ids
        store.put_vectors(embedder.space, list(zip(ids, embedder.text(some), strict=True)))
    return store


def timed(calls: Sequence[Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each call: median, 95th percentile, and how many there were."""
    spent = []
    for call in calls:
        started, used = time.perf_counter(), time.process_time()
        call()
        spent.append((time.perf_counter() - started, time.process_time() - used))
    (p50, c50), (p95, c95) = np.quantile(np.array(spent) * 1000, [0.5, 0.95], axis=0)
    figures = {"p50": p50, "p95": p95, "cpu_p50": c50, "cpu_p95": c95}
    return {name: round(float(value), 3) for name, value in figures.items()} | {"calls": len(spent)}


def measure(
    records: int, *, repeats: int, seed: int, key: MemoryKey | None = None
) -> dict[str, Any]:
    """Writes, searches and opening at a size, and erasing all of it at the end."""
    texts = sentences(records, seed)
    queries = sentences(repeats, seed + 1, WORDS_PER_QUERY)
    known = random_vectors([*texts, *queries], seed)
    with tempfile.TemporaryDirectory() as folder:
        place, embedder = Path(folder), LookUp(known)
        store = filled(place, texts, embedder, key)
        found: dict[str, Any] = {"records": records}
        with store:
            found["first_search"] = timed([lambda: _search(store, embedder, queries[0])])
            found["search"] = timed([partial(_search, store, embedder, q) for q in queries])
            found["turn_write"] = timed(_turn_writes(store, repeats))
            found["turn_write_and_vector"] = timed(_indexed_writes(store, embedder, repeats))
            found["executor_batch"] = timed(_batches(store, repeats))
        opened = partial(open_memory, place, "speed", key=key)
        found["open"] = timed([lambda: opened().close()] * min(repeats, 40))
        with opened() as store:
            found["purge"] = timed([lambda: store.purge(Scope(kinds=("turn",)))])
            assert store.count("turn") == 0
    return found


def _search(store: Store, embedder: LookUp, query: str) -> None:
    assert Retriever(store, embedder).search(query)


def _turn_writes(store: Store, count: int) -> list[Callable[[], object]]:
    turns = [Turn(text=f"a new turn number {number}") for number in range(count)]
    return [partial(store.record, [turn]) for turn in turns]


def _indexed_writes(store: Store, embedder: LookUp, count: int) -> list[Callable[[], object]]:
    vectors = list(random_vectors([str(n) for n in range(count)], 7).values())

    def write(number: int) -> None:
        (id,) = store.record([Turn(text=f"an indexed turn number {number}")]).ids
        store.put_vector(id, embedder.space, vectors[number])

    return [partial(write, number) for number in range(count)]


def _batches(store: Store, count: int) -> list[Callable[[], object]]:
    """Batches of four operations that rest on one turn: two facts and two leaves."""
    made: list[Callable[[], object]] = []
    for number in range(count):
        (turn,) = store.record([Turn(text=f"I moved to street {number} and like tea {number}")]).ids
        ops = (
            Add(kind="fact", value=f"likes tea {number}", evidence=(turn,)),
            Add(kind="fact", value=f"has walked street {number}", evidence=(turn,)),
            Update(target="Identity.Home", value=f"street {number}", evidence=(turn,)),
            Update(target="Work.Job", value=f"job {number}", evidence=(turn,)),
        )
        made.append(partial(store.apply, Batch(ops=ops, turns=(turn,))))
    return made


def compare(count: int, *, environment: Path, repeats: int, seed: int) -> dict[str, Any]:
    """The same adds and searches through both; an installation that fails is told, not hidden."""
    texts, queries = sentences(count, seed), sentences(repeats, seed + 1, WORDS_PER_QUERY)
    embedder = default_embedder()
    started = time.perf_counter()
    if embedder.dimensions != SIZE:
        assert isinstance(embedder, HashedNgrams)
        known = random_vectors([*texts, *queries], seed)
    else:
        known = dict(zip([*texts, *queries], embedder.text([*texts, *queries]), strict=True))
    embed_ms = (time.perf_counter() - started) * 1000 / (count + repeats)
    head = {"adds": count, "searches": repeats, "embedder": embedder.space,
            "embed_ms": round(embed_ms, 3), "mem0": MEM0}  # fmt: skip
    try:
        python = prepared(environment)
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stderr", "") or str(error)
        return {**head, "error": f"mem0 could not be installed: {output.strip()[-600:]}"}
    ours = _our_side(texts, queries, known)
    theirs = _their_side(python, texts, queries, known)
    if "error" in theirs:
        return {**head, "ours_ms": ours, "error": f"mem0 failed: {theirs['error']}"}
    ratios = {
        f"{what}_{q}": round(theirs[what][q] / ours[what][q], 2)
        for what in ("add", "search")
        for q in ("p50", "p95")
    }
    return {**head, "ours_ms": ours, "mem0_ms": theirs, "mem0_over_ours": ratios}


def _our_side(
    texts: Sequence[str], queries: Sequence[str], known: dict[str, np.ndarray]
) -> dict[str, Any]:
    embedder = LookUp(known)
    with tempfile.TemporaryDirectory() as folder, filled(Path(folder), [], embedder) as store:

        def add(text: str) -> None:
            (id,) = store.record([Turn(text=text)]).ids
            store.put_vector(id, embedder.space, known[text])

        return {
            "add": timed([partial(add, text) for text in texts]),
            "search": timed([partial(_search, store, embedder, query) for query in queries]),
        }


def _their_side(
    python: Path, texts: Sequence[str], queries: Sequence[str], known: dict[str, np.ndarray]
) -> dict[str, Any]:
    import json

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        named = [*texts, *queries]
        np.save(work / "vectors.npy", np.stack([known[text] for text in named]))
        (work / "work.json").write_text(json.dumps({"texts": texts, "queries": queries}))
        environment = {
            "PATH": os.environ.get("PATH", ""), "HOME": folder, "MEM0_DIR": folder,
            "MEM0_TELEMETRY": "False", "OPENAI_API_KEY": "never used",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
        }  # fmt: skip
        done = subprocess.run(
            [python, WORKER, folder], env={k: v for k, v in environment.items() if v},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            return {"error": done.stderr.strip()[-600:]}
        found: dict[str, Any] = json.loads((work / "result.json").read_text())
        return found


def prepared(environment: Path) -> Path:
    """The interpreter of a virtual environment that holds mem0; made when it is not there.

    Raises ``OSError`` or ``subprocess.CalledProcessError`` when it cannot be made.
    """
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    if subprocess.run([python, "-c", "import mem0"], capture_output=True, check=False).returncode:
        subprocess.run(
            [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", MEM0],
            capture_output=True,
            text=True,
            check=True,
        )
    return python


def against_budgets(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each budget with the 95th percentile by the clock, of the slowest size that has one, and
    with that of this process's own time. The clock decides.
    """
    measured: dict[str, dict[str, float]] = {}
    for size, found in figures.items():
        for name in ("turn_write", "executor_batch", "open"):
            slower = measured.get(name, {"p95": 0.0})["p95"] < found[name]["p95"]
            measured[name] = found[name] if slower else measured[name]
        measured[f"search_{size}"] = found["search"]
        measured[f"purge_{size}"] = found["purge"]
    return {
        name: {
            "budget_ms": limit,
            "p95_ms": times["p95"],
            "cpu_p95_ms": times["cpu_p95"],
            "held": times["p95"] <= limit,
        }
        for name, limit in BUDGETS_MS.items()
        if (times := measured.get(name)) is not None
    }


def build_parser() -> argparse.ArgumentParser:
    """The options of this script."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_speed", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--encrypted", type=int, default=10_000, help="size with a key; 0: none")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--compare", type=int, default=2_000, help="adds through mem0; 0: none")
    parser.add_argument("--mem0", default="out/mem0-environment", help="folder of its environment")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the JSON; a missed budget is told and is no failure."""
    options = build_parser().parse_args(argv)
    load = os.getloadavg()[0]
    figures = {
        str(n): measure(n, repeats=options.repeats, seed=options.seed) for n in options.records
    }
    budgets = against_budgets(figures)
    if options.encrypted:
        key = MemoryKey(secrets.token_hex(32))
        figures[f"{options.encrypted} encrypted"] = measure(
            options.encrypted, repeats=options.repeats, seed=options.seed, key=key
        )
    result: dict[str, Any] = {
        "schema": 1, "cores": len(os.sched_getaffinity(0)), "load_at_start": round(load, 2),
        "figures_ms": figures, "budgets": budgets, "versions": versions(),
    }  # fmt: skip
    if options.compare:
        result["comparison"] = compare(
            options.compare,
            environment=Path(options.mem0).absolute(),
            repeats=options.repeats,
            seed=options.seed,
        )
    write_json(Path(options.out), result)
    _print(result)
    return 0


def _print(result: dict[str, Any]) -> None:
    for size, found in result["figures_ms"].items():
        print(f"{size} records")
        for name, times in found.items():
            if isinstance(times, dict):
                shown = [f"{q} {times[q]:9.2f}" for q in ("p50", "p95", "cpu_p50", "cpu_p95")]
                print(f"  {name:22} {'  '.join(shown)} ms")
    for name, row in result["budgets"].items():
        verdict = "held" if row["held"] else "MISSED"
        print(
            f"{name:15} {row['p95_ms']:9.2f} (cpu {row['cpu_p95_ms']:9.2f}) "
            f"of {row['budget_ms']:5.0f} ms  {verdict}"
        )
    comparison = result.get("comparison", {})
    if "error" in comparison:
        print(comparison["error"])
    for side, name in (("ours_ms", "ours"), ("mem0_ms", comparison.get("mem0", "mem0"))):
        for what, times in comparison.get(side, {}).items():
            print(f"{name:15} {what:8} p50 {times['p50']:9.2f}  p95 {times['p95']:9.2f} ms")
    for name, ratio in comparison.get("mem0_over_ours", {}).items():
        print(f"mem0 takes {ratio:.2f} times as long: {name}")


if __name__ == "__main__":
    sys.exit(main())
