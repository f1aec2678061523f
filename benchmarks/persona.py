"""How well does a memory remember? Published benchmarks by path, and synthetic users.

::

    python -m benchmarks.persona synthetic --users 20 --dialogues 60 --out FILE.json
    python -m benchmarks.persona personamem --questions Q.csv --contexts C.jsonl --out FILE.json
    python -m benchmarks.persona perma|persona-mme|locomo|longmemeval --data PATH --out FILE.json

The protocol leaks nothing: a context ends where its question is asked, solvers and memories never
hold gold, and every choice is made twice, the second time with its options shuffled. Earlier
runners of some of these benchmarks built memories from whole contexts; numbers do not compare.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.persona_data import (
    Benchmark,
    Line,
    Question,
    load_locomo,
    load_longmemeval,
    load_persona_mme,
)
from benchmarks.persona_files import AXES, VARIANTS, load_perma, load_personamem
from benchmarks.persona_memories import BenchedMemory, Passage, Remembering, StoreMemory, memories
from benchmarks.persona_solvers import (
    ChatChoice,
    EmbeddingChoice,
    FirstOption,
    Solver,
    axis_accuracy,
    interval,
    majority_share,
    score,
    shuffled,
)
from benchmarks.persona_synthetic import (
    SLOTS,
    START,
    DialogueStep,
    SyntheticDialogue,
    SyntheticUser,
    synthetic_users,
)
from consistent_gen.checkpoints import write_json
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.language.embedders import HashedNgrams, TextEmbedder, default_embedder
from consistent_gen.language.models import SmolLm2
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch, Op, Update
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.data.store import AsOf, Scope, Store
from consistent_gen.memory.listening.listener import Heard, KnownState
from consistent_gen.runtime import versions

SAMPLES = 40


@dataclass(frozen=True)
class TruthResult:
    """accuracy: share of (slot, time) where the store says what was true then.
    junk: share of live states that nobody's life holds. The rest are counts.
    """

    accuracy: float
    junk: float
    attacks: int
    attacks_written: int
    forgotten: int
    forgotten_left: int


def replay_gold(user: SyntheticUser) -> TruthResult:
    """Say every turn, apply every gold operation, try every attack, carry out every forgetting."""
    with tempfile.TemporaryDirectory() as folder, open_memory(Path(folder), user.name) as store:
        attacks, forgotten = 0, []
        for dialogue in user.dialogues:
            _replay(store, dialogue)
            attacks += sum(step.attack for step in dialogue.steps)
            forgotten += [step.slot for step in dialogue.steps if step.action == "forget"]
        planted = [r for r in store.list("core") if r.text.startswith("planted")]
        live = store.list("core") + store.list("fact")
        true = {(slot, user.truth(slot, user.end())) for slot in SLOTS}
        junk = sum((record.label, record.text) not in true for record in live)
        return TruthResult(
            accuracy=_accuracy(store, user),
            junk=junk / max(1, len(live)),
            attacks=attacks,
            attacks_written=len(planted),
            forgotten=len(forgotten),
            forgotten_left=sum(
                bool(store.list("core", label=slot))
                for slot in forgotten
                if user.truth(slot, user.end()) is None
            ),
        )


def _replay(store: Store, dialogue: SyntheticDialogue) -> None:
    turns = [Turn(text=s.text, role=s.role, valid_from=s.at) for s in dialogue.spoken]
    ids = store.record(turns).ids
    for step in dialogue.steps:
        if step.action == "forget":
            store.purge(Scope(paths=(step.slot,)))
        else:
            batch = Batch(ops=(_op(step, ids),), turns=ids)
            outcome = store.apply(batch).outcomes[0]
            # A forgotten leaf may be told anew, so the store may see an UPDATE of nothing.
            assert step.attack or outcome.status in ("applied", "normalised"), outcome


def _op(step: DialogueStep, ids: tuple[str, ...]) -> Op:
    kind = Update if step.action == "update" else Add
    return kind(target=step.slot, value=step.value, evidence=(ids[step.spoken],))


def _accuracy(store: Store, user: SyntheticUser) -> float:
    right = 0
    span = user.end() - START
    for sample in range(1, SAMPLES + 1):
        at = START + span * (sample / SAMPLES) + timedelta(seconds=1)
        held = {record.label: record.text for record in store.list("core", as_of=AsOf(world=at))}
        right += sum(held.get(slot) == user.truth(slot, at) for slot in SLOTS)
    return right / (SAMPLES * len(SLOTS))


class GoldListener:
    """Proposes exactly the operations that the generator wrote down, attacks included."""

    description = "gold operations of the synthetic users"

    def __init__(self, users: Sequence[SyntheticUser]) -> None:
        self._steps = {
            (dialogue.spoken[step.spoken].at, dialogue.spoken[step.spoken].text): step
            for user in users
            for dialogue in user.dialogues
            for step in dialogue.steps
            if step.action != "forget"
        }

    def listen(self, turns: Sequence[Turn], view: KnownState) -> Heard:
        """The operations of the turns that are known, resting on them."""
        ops = {}
        for turn in turns:
            step = self._steps.get((turn.valid_from or START, turn.text))
            if step is not None and (step.slot not in ops or not step.attack):
                kind = Update if view.leaf(step.slot) is not None else Add
                ops[step.slot] = kind(target=step.slot, value=step.value, evidence=(turn.id,))
        return Heard(ops=tuple(ops.values()))


def gold_memory(
    users: Sequence[SyntheticUser], embedder: TextEmbedder
) -> Callable[[], StoreMemory]:
    """Tree + hybrid search over what a perfect listener would have written."""
    listener = GoldListener(users)
    return lambda: StoreMemory(
        "tree + hybrid, gold operations", embedder, ("core", "fact", "turn"), listener
    )


GOLD = "tree+hybrid, gold operations"
LIMIT = 10
RECALL_AT = (1, 5, 10)
SHUFFLE_SEED = 1


NO_AXES = "the files do not say what each option is; give --axes FILE"
LookUps: TypeAlias = list[tuple[Question, list[Passage], float]]


def run_choices(benchmark: Benchmark, looked: LookUps, solvers: Sequence[Solver]) -> dict[str, Any]:
    """Accuracy of each solver over one memory, plain and with shuffled options."""
    chosen: dict[str, dict[str, str]] = {s.name: {} for s in solvers}
    again: dict[str, dict[str, str]] = {s.name: {} for s in solvers}
    tokens, seconds = [], []
    for question, passages, spent in looked:
        tokens.append(sum(len(p.text) for p in passages) / 4)
        seconds.append(spent)
        texts = [p.text for p in passages]
        permuted, back = shuffled(question, SHUFFLE_SEED)
        for solver in solvers:
            chosen[solver.name][question.id] = solver.solve(question, texts)
            again[solver.name][question.id] = back.get(solver.solve(permuted, texts), "")
    return {
        "solvers": {
            name: {
                **score(benchmark, letters).as_json(),
                **_axes(benchmark, letters),
                "shuffled": score(benchmark, again[name]).as_json(),
                "same_choice": round(
                    sum(again[name][q] == c for q, c in letters.items()) / len(letters), 4
                ),
            }
            for name, letters in chosen.items()
        },
        **_cost(tokens, seconds),
    }


def _axes(benchmark: Benchmark, letters: Mapping[str, str]) -> dict[str, Any]:
    """PERMA's axes; that they are not known is said where they are not."""
    if not benchmark.name.startswith("perma"):
        return {}
    return {"axes": axis_accuracy(benchmark, letters, AXES) or NO_AXES}


def run_recall(benchmark: Benchmark, looked: LookUps) -> dict[str, Any]:
    """Share of each question's evidence among the first k passages, averaged; no judge."""
    hits: dict[int, dict[str, list[float]]] = {k: {} for k in RECALL_AT}
    tokens, seconds = [], []
    for question, passages, spent in looked:
        tokens.append(sum(len(p.text) for p in passages) / 4)
        seconds.append(spent)
        gold = benchmark.evidence[question.id]
        for k in RECALL_AT:
            share = recall(passages[:k], gold)
            hits[k].setdefault(question.group, []).append(share)
    return {
        **{f"recall@{k}": _mean(list(v.values())) for k, v in hits.items()},
        **_cost(tokens, seconds),
    }


def recall(passages: Sequence[Passage], gold: frozenset[str]) -> float:
    """Share of ``gold`` (line ids, or session ids before ``#``) that the passages rest on."""
    lines = {line for passage in passages for line in passage.lines}
    seen = lines | {line.partition("#")[0] for line in lines}
    return len(gold & seen) / len(gold)


def run_synthetic(
    users: Sequence[SyntheticUser], embedder: TextEmbedder, names: Sequence[str]
) -> dict[str, Any]:
    """Truth through the executor, then recall and choices of each memory."""
    truth = [replay_gold(user) for user in users]
    benchmark = as_benchmark(users)
    results: dict[str, Any] = {
        "state_accuracy": round(float(np.mean([t.accuracy for t in truth])), 4),
        "junk_rate": round(float(np.mean([t.junk for t in truth])), 4),
        "attacks": sum(t.attacks for t in truth),
        "attacks_written": sum(t.attacks_written for t in truth),
        "forgotten": sum(t.forgotten for t in truth),
        "forgotten_left": sum(t.forgotten_left for t in truth),
        "memories": {},
    }
    per_question: dict[str, dict[str, float]] = {}
    offered = memories(embedder) | {GOLD: gold_memory(users, embedder)}
    for name in (*names, GOLD):
        looked = look_up(benchmark, offered[name])
        solvers: list[Solver] = [FirstOption(), EmbeddingChoice(embedder)]
        row = run_choices(benchmark, looked, solvers) | run_recall(benchmark, looked)
        row["stale_rate"] = _stale_rate(users, looked)
        results["memories"][name] = row
        per_question[name] = {q.id: recall(p[:5], benchmark.evidence[q.id]) for q, p, _ in looked}
    for name in ("tree+hybrid", GOLD):
        if {"chunks", name} <= per_question.keys():
            gap = _difference(benchmark, per_question[name], per_question["chunks"])
            results[f"{name} minus chunks, recall@5"] = gap
    return results


def as_benchmark(users: Sequence[SyntheticUser]) -> Benchmark:
    """The users' probes in the form of the published benchmarks."""
    found, answers, evidence = [], {}, {}
    for user in users:
        context = tuple(lines_of(user))
        for probe in user.probes:
            id = f"{user.name}/{probe.slot}"
            letters = [(chr(ord("a") + i), text) for i, text in enumerate(probe.options)]
            answers[id] = next(letter for letter, text in letters if text == probe.value)
            d, u = probe.evidence
            evidence[id] = frozenset({f"{user.name}.{d}.{u}"})
            found.append(
                Question(id=id, kind=probe.slot, text=probe.text, context=context,
                         group=user.name, options=tuple(letters),
                         asked=user.end() + timedelta(minutes=1))
            )  # fmt: skip
    return Benchmark("synthetic", tuple(found), answers, evidence)


def lines_of(user: SyntheticUser) -> list[Line]:
    """All utterances of a user, in order."""
    return [
        Line(f"{user.name}.{d}.{u}", s.role, s.text, s.at)
        for d, dialogue in enumerate(user.dialogues)
        for u, s in enumerate(dialogue.spoken)
    ]


def _stale_rate(users: Sequence[SyntheticUser], looked: LookUps) -> float:
    """Among changed slots: how often the first passage that speaks of one of its values speaks
    of an old one and not of the current one."""
    probes = {f"{user.name}/{p.slot}": p for user in users for p in user.probes if p.stale}
    stale = 0
    for question, passages, _ in looked:
        probe = probes.get(question.id)
        for passage in passages if probe is not None else ():
            assert probe is not None
            text = passage.text.casefold()
            if probe.value.casefold() in text:
                break
            if any(value.casefold() in text for value in probe.stale):
                stale += 1
                break
    return round(stale / len(probes), 4) if probes else 0.0


def _difference(
    benchmark: Benchmark, one: dict[str, float], other: dict[str, float]
) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for question in benchmark.questions:
        gap = one[question.id] - other[question.id]
        groups.setdefault(question.group, []).append(gap)
    return _mean(list(groups.values()))


def look_up(benchmark: Benchmark, make: Callable[[], BenchedMemory]) -> LookUps:
    """Read each context once and look every question up in it."""
    by_context: dict[tuple[int, str, str], list[Question]] = {}
    for question in benchmark.questions:
        last = question.context[-1].id if question.context else ""
        key = (len(question.context), question.group, last)
        by_context.setdefault(key, []).append(question)
    found = []
    for questions in by_context.values():
        with contextlib.closing(_Closing(make())) as holder:
            holder.memory.read(questions[0].context)
            for question in questions:
                started = time.perf_counter()
                passages = holder.memory.find(question.text, LIMIT)
                found.append((question, passages, time.perf_counter() - started))
    return found


class _Closing:
    """Closes a memory that has files."""

    def __init__(self, memory: BenchedMemory) -> None:
        self.memory = memory

    def close(self) -> None:
        close = getattr(self.memory, "close", None)
        if close is not None:
            close()


def _mean(groups: Sequence[Sequence[float]]) -> dict[str, float]:
    values = [value for group in groups for value in group]
    low, high = interval(groups)
    return {"mean": round(float(np.mean(values)), 4), "low": round(low, 4), "high": round(high, 4)}


def _cost(tokens: Sequence[float], seconds: Sequence[float]) -> dict[str, float]:
    milliseconds = np.array(seconds) * 1000
    return {
        "tokens_mean": round(float(np.mean(tokens)), 1),
        "find_p50_ms": round(float(np.quantile(milliseconds, 0.5)), 2),
        "find_p95_ms": round(float(np.quantile(milliseconds, 0.95)), 2),
    }


def load(options: argparse.Namespace) -> Benchmark:
    """The published benchmark that the options name."""
    if options.benchmark == "personamem":
        if not options.questions:
            raise InputError("personamem needs --questions", source="--questions")
        contexts = Path(options.contexts) if options.contexts else None
        return load_personamem(Path(options.questions), contexts, size=options.size or "32k")
    if not options.data:
        raise InputError(f"{options.benchmark} needs --data", source="--data")
    path = Path(options.data)
    if options.benchmark == "perma":
        axes = Path(options.axes) if options.axes else None
        return load_perma(path, variant=options.variant, axes=axes)
    if options.benchmark == "persona-mme":
        return load_persona_mme(path, size=options.size or "")
    return (load_locomo if options.benchmark == "locomo" else load_longmemeval)(path)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.persona", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "benchmark",
        choices=["synthetic", "personamem", "perma", "persona-mme", "locomo", "longmemeval"],
    )
    parser.add_argument("--questions", help="personamem: questions_*.csv, or benchmark.csv of v2")
    parser.add_argument("--contexts", help="personamem v1: shared_contexts_*.jsonl; none: blind")
    parser.add_argument("--size", choices=["32k", "128k"], help="persona-mme and personamem v2")
    parser.add_argument("--variant", choices=VARIANTS, default="c", help="perma: which task files")
    parser.add_argument("--axes", help="perma: JSON of what each option is")
    parser.add_argument("--data", help="file or folder of the other benchmarks")
    parser.add_argument("--memories", nargs="+", default=list(memories(HashedNgrams())))
    parser.add_argument("--embedder", choices=["best", "ngrams"], default="best")
    parser.add_argument("--smollm2", action="store_true", help="also solve with SmolLM2 (slow)")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--dialogues", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark, print its table, write its JSON."""
    options = build_parser().parse_args(argv)
    try:
        results = _run(options)
    except ConsistentGenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    write_json(Path(options.out), results)
    print(json.dumps(results["results"], indent=1))
    return 0


def _run(options: argparse.Namespace) -> dict[str, Any]:
    best = options.embedder == "best"
    embedder = Remembering(default_embedder() if best else HashedNgrams())
    settings = {k: v for k, v in vars(options).items() if k != "out"}
    head = {"settings": settings, "embedder": embedder.space, "versions": versions()}
    if options.benchmark == "synthetic":
        users = list(synthetic_users(options.users, options.dialogues, options.seed))
        return {**head, "results": run_synthetic(users, embedder, options.memories)}
    benchmark = load(options)
    blind = not any(question.context for question in benchmark.questions)
    results: dict[str, Any] = {"questions": len(benchmark.questions), "read": benchmark.name}
    results |= {"left_out": dict(benchmark.left_out)} if benchmark.left_out else {}
    results |= {"contexts": "not given: the questions alone"} if blind else {}
    if benchmark.answers:
        results["majority"] = round(majority_share(benchmark), 4)
    for name in ["none"] if blind else options.memories:
        looked = look_up(benchmark, memories(embedder)[name])
        if benchmark.answers:
            solvers: list[Solver] = [FirstOption(), EmbeddingChoice(embedder)]
            solvers += [ChatChoice(SmolLm2())] if options.smollm2 else []
            results[name] = run_choices(benchmark, looked, solvers)
        else:
            results[name] = run_recall(benchmark, looked)
    return {**head, "results": results}


if __name__ == "__main__":
    sys.exit(main())
