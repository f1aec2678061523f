"""What a whole turn of the assistant costs, by how much is remembered already.

Part of `benchmarks.memory_speed`, by itself as ``python -m benchmarks.memory_turns``.

A memory is filled through the store's own calls with as many facts as a figure says, each with the
turn that it was read from, an answer for every turn and an episode for every twenty turns: what
years of talk leave behind. Then one of the repository's conversations (40 turns and its questions)
goes through `Assistant.say` with the default listener and the default embedder, the same turns at
every size. The texts of facts are those of the conversations with every second word replaced by an
invented one, so that words are as frequent as they are in language; their vectors are random
(finding the nearest costs the same).

The figure is the processor time of this process, which a busy machine changes little; run with
``OMP_NUM_THREADS=1``, or idle threads of the linear algebra are counted too. The first turn reads
the vectors into memory and is told apart.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from benchmarks.memory_speed import sentences
from consistent_gen.checkpoints import write_json
from consistent_gen.language.embedders import TextEmbedder, default_embedder
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import Kind, Turn
from consistent_gen.memory.data.store import MemoryLimits, Store
from consistent_gen.memory.listening.parsed_listener import default_listener
from consistent_gen.memory.recall.indexing import TEXT_KINDS, TEXT_ROLE
from consistent_gen.memory.talk.assistant import Assistant

CONVERSATIONS = Path(__file__).with_name("conversations")
SIZES = (500, 10_000, 50_000)
BUDGET_MS, BUDGET_GROWTH = 150.0, 1.5
_BATCH, _SESSION = 50, 20
_BEGUN = datetime(2016, 1, 4, 9, tzinfo=UTC)
_SPEAKERS: tuple[tuple[Literal["user", "assistant"], int], ...] = (("user", 0), ("assistant", 1))
_LIMITS = MemoryLimits(facts=200_000, live_records=1_000_000)


def facts_of(conversations: Path, count: int, seed: int) -> list[str]:
    """``count`` distinct facts: gold facts of which every second word is an invented one."""
    gold = [
        str(fact["fact"]).split()
        for path in sorted(conversations.glob("*.yaml"))
        for fact in yaml.safe_load(path.read_text(encoding="utf-8"))["facts"]
    ]
    made = []
    for number, invented in enumerate(sentences(count, seed)):
        words, others = gold[number % len(gold)], invented.split()
        mixed = [others[n % 14] if n % 2 else word for n, word in enumerate(words)]
        made.append(f"{' '.join(mixed)} {number}")
    return made


def fill(store: Store, facts: Sequence[str], embedder: TextEmbedder, seed: int) -> None:
    """Facts with the turns that told them, answers, and episodes, all with vectors."""
    rng = np.random.default_rng(seed)
    store.create_space(embedder.space, embedder.dimensions)
    store.switch_space(TEXT_ROLE, embedder.space)
    for start in range(0, len(facts), _BATCH):
        some = facts[start : start + _BATCH]
        at = [_BEGUN + timedelta(minutes=40 * (start + n)) for n in range(len(some))]
        told = store.record([
            Turn(text=f"By the way, {text}.", role=role, valid_from=when + timedelta(minutes=later))
            for text, when in zip(some, at, strict=True)
            for role, later in _SPEAKERS
        ]).ids[::2]  # fmt: skip
        heard = [
            Add(kind="fact", value=text, evidence=(turn,), fields={"keywords": ("user",)}, at=when)
            for text, turn, when in zip(some, told, at, strict=True)
        ]
        ended = [
            Add(kind="episode", value=f"The user said: {some[n]}", at=at[n],
                evidence=tuple(told[n : n + _SESSION]))
            for n in range(0, len(some), _SESSION)
        ]  # fmt: skip
        done = store.apply(Batch(ops=(*heard, *ended), turns=tuple(told)))
        assert all(o.status in ("applied", "normalised") for o in done.outcomes)
    kinds: tuple[Kind, ...] = TEXT_KINDS
    while bare := store.without_vector(embedder.space, kinds, limit=1_000):
        rows = rng.normal(size=(len(bare), embedder.dimensions)).astype(np.float32)
        store.put_vectors(embedder.space, [(r.id, row) for r, row in zip(bare, rows, strict=True)])


def talk(conversation: Path) -> Iterator[tuple[str, datetime, bool]]:
    """What is said, when, and whether it is one of the questions at the end."""
    told = yaml.safe_load(conversation.read_text(encoding="utf-8"))
    at = _BEGUN
    for turn in told["turns"]:
        at = datetime.fromisoformat(str(turn["at"])).replace(tzinfo=UTC)
        yield str(turn["text"]), at, False
    for number, question in enumerate(told["questions"]):
        yield str(question["q"]), at + timedelta(days=1, minutes=number), True


def turns_at(
    size: int, conversation: Path, *, seed: int = 1, filled: Path | None = None
) -> dict[str, Any]:
    """Milliseconds of processor time of the turns over ``size`` facts.

    filled: where filled memories lie and are kept, since filling takes minutes.
    """
    embedder, listener = default_embedder(), default_listener()
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "filled" if filled is None else filled / str(size)
        if not kept.exists():
            with open_memory(kept, "turns", limits=_LIMITS) as store:
                fill(store, facts_of(CONVERSATIONS, size, seed), embedder, seed)
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        with open_memory(folder, "turns", limits=_LIMITS) as store:
            assistant = Assistant(store, listener=listener, text_embedder=embedder)
            spent: list[tuple[float, bool]] = []
            for text, at, asked in talk(conversation):
                began = time.process_time()
                assistant.say(text, at=at)
                spent.append((1000 * (time.process_time() - began), asked))
    found: dict[str, Any] = {"first_ms": round(spent[0][0], 1), "turns": len(spent) - 1}
    for name, chosen in (
        ("all", spent[1:]),
        ("statements", [s for s in spent[1:] if not s[1]]),
        ("questions", [s for s in spent[1:] if s[1]]),
    ):
        ms = [each for each, _ in chosen]
        figures = {"mean": np.mean(ms), "p50": np.quantile(ms, 0.5), "p95": np.quantile(ms, 0.95)}
        found[name] = {what: round(float(value), 1) for what, value in figures.items()}
    return found


def measured(
    sizes: Sequence[int], conversation: Path, filled: Path | None = None
) -> dict[str, Any]:
    """Every size, and how much the dearest costs of the cheapest."""
    turns_at(sizes[0], conversation, filled=filled)  # warms caches and the parser
    by_size = {str(size): turns_at(size, conversation, filled=filled) for size in sizes}
    means = {
        part: [found[part]["mean"] for found in by_size.values()]
        for part in ("all", "statements", "questions")
    }
    growth = {part: round(max(ms) / min(ms), 3) for part, ms in means.items()}
    return {
        "cpu_ms": by_size,
        "growth": growth,
        "budget_growth": BUDGET_GROWTH,
        "budget_p95_ms": BUDGET_MS,
        "held": growth["all"] <= BUDGET_GROWTH
        and all(found["all"]["p95"] <= BUDGET_MS for found in by_size.values()),
    }


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The figures as a table."""
    for size, found in result["cpu_ms"].items():
        yield f"{size} facts: first turn {found['first_ms']:.0f} ms"
        for part in ("all", "statements", "questions"):
            ms = found[part]
            yield (
                f"  {part:10} mean {ms['mean']:7.1f}  p50 {ms['p50']:7.1f}  "
                f"p95 {ms['p95']:7.1f} ms of processor time"
            )
    grown = ", ".join(f"{part} {ratio:.2f}" for part, ratio in result["growth"].items())
    yield f"dearest size over cheapest: {grown} (budget {BUDGET_GROWTH} for all)"
    yield "held" if result["held"] else "MISSED"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON; a missed budget is told and is no failure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory_turns", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--facts", type=int, nargs="+", default=list(SIZES))
    parser.add_argument(
        "--conversation", type=Path, default=CONVERSATIONS / "c1_new_parent.yaml", help="YAML file"
    )
    parser.add_argument("--filled", type=Path, help="folder that keeps filled memories")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    result = measured(options.facts, options.conversation, options.filled)
    print("\n".join(lines(result)))
    if options.out is not None:
        write_json(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
