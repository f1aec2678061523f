"""How right are the operations that a listener proposes? Precision and recall, turn by turn.

    python -m benchmarks.memory_operations FOLDER... [--turns N] [--model qwen-small]
        [--url URL --name MODEL] [--replies FILE] [--no-modes] [--out FILE.json]

The claim of Inside Out (arXiv 2601.05171) is about operations, not about answers. The gold are the
facts of natural conversations (as `benchmarks.conversations` reads them): a fact is to be written
at the turns that it is from, and ended at its ``ended_turn``. Each listener hears every turn with
the memory as its own operations left it. All judging is by words:

- written: an ADD or UPDATE at one of the fact's turns has half of its content words.
- ended: an UPDATE or DELETE at the fact's last turn is of a record with half of its words.
- an operation is right when it writes or ends a gold fact, wrong when it holds a trap's clause or
  less than half of its words were said in its turn, and else extra: true, and in no gold fact.
- precision is right over all, ``sound`` is 1 - wrong over all. The score is the scheme that the
  authors describe: +1 a right one with four fifths of the words, +0.5 another right one, -0.5 a
  missing one, -1 a wrong one, less extra ones over gold; clipped to [-1, 1], mean of the turns that
  have gold.

A model is asked in the published line grammar, once a turn; what of its replies could not be read
is counted. Beside it stand the two ways of reading: fast (a static profile in the prompt, asked
once) and agentic (the reasoning loop), with accuracy, tokens and milliseconds a question.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.conversations import KEPT, MODELS, SUPPORTED, TRAPPED, answerer, covered, stems
from benchmarks.memory_ablation import ablated
from benchmarks.memory_arms import ARMS, heard, write_run
from consistent_gen.language.embedders import TextEmbedder, default_embedder
from consistent_gen.language.endpoints import Endpoint
from consistent_gen.language.models import EndpointModel, LanguageModel, Replay
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch, Delete, Op, Update
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.listening.listener import KnownState, Listener, ModelListener, view_of
from consistent_gen.memory.listening.parsed_listener import default_listener
from consistent_gen.memory.listening.rule_listener import RuleListener
from consistent_gen.memory.talk.questions import denies
from consistent_gen.memory.talk.rule_model import RuleModel
from consistent_gen.runtime import versions

EXACT = 0.8
MODES = {"fast": ARMS["static profile"], "agentic": ARMS["no alignment"]}


@dataclass
class JudgedOperations:
    """Counts over the turns of some conversations; ``scores`` has one for each turn with gold."""

    written: int = 0
    to_write: int = 0
    ended: int = 0
    to_end: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    problems: int = 0
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Shares, rounded."""
        total = max(1, sum(self.operations.values()))
        return {
            "turns": len(self.seconds), "operations": sum(self.operations.values()),
            "precision": round(self.operations["right"] / total, 3),
            "sound": round(1 - self.operations["wrong"] / total, 3),
            "recall_written": round(self.written / max(1, self.to_write), 3),
            "recall_ended": round(self.ended / max(1, self.to_end), 3),
            "written": [self.written, self.to_write], "ended": [self.ended, self.to_end],
            "score": round(float(np.mean(self.scores)), 3) if self.scores else None,
            "unreadable": self.problems,
            "milliseconds": round(1000 * float(np.median(self.seconds)), 1),
        }  # fmt: skip


@dataclass(frozen=True)
class Gold:
    """What one turn should change: facts to write and facts to end, as sets of content words."""

    writes: Mapping[str, frozenset[str]]
    ends: Mapping[str, frozenset[str]]
    traps: tuple[str, ...]


def gold_of(told: Mapping[str, Any], number: int) -> Gold:
    """The gold of the turn ``number`` of a conversation."""
    facts = [(fact, stems(f"{fact.get('about', '')} {fact['fact']}")) for fact in told["facts"]]
    return Gold(
        {fact["id"]: words for fact, words in facts if number in fact["from"]},
        {fact["id"]: words for fact, words in facts if fact.get("ended_turn") == number},
        tuple(t["clause"] for t in told.get("traps", ()) if t["turn"] == number),
    )


def judge_turn(
    gold: Gold, ops: Sequence[Op], view: KnownState, said: str
) -> tuple[Counter[str], dict[str, float], set[str]]:
    """How many operations are right, extra and wrong, how much of each fact was written, and which
    facts were ended.
    """
    before = {r.id: r.text for r in (*view.facts, *view.habits)}
    before |= {leaf.path: leaf.text for leaf in view.core}
    kinds: Counter[str] = Counter()
    written: dict[str, float] = {}
    ended: set[str] = set()
    spoken = stems(said)
    for op in ops:
        if not isinstance(op, Add | Update | Delete):
            continue
        value = "" if isinstance(op, Delete) else f"{op.target} {op.value or ''}"
        new, old = stems(value), stems(before.get(op.target, ""))
        writes = {id: covered(words, new) for id, words in gold.writes.items()}
        found = {id: share for id, share in writes.items() if share >= KEPT}
        ends = set()
        if not isinstance(op, Add):
            ends = {id for id, words in gold.ends.items() if covered(words, old) >= KEPT}
        trapped = any(
            covered(stems(clause), new) >= TRAPPED and not (denies(value) and not denies(clause))
            for clause in gold.traps
        )
        own = stems("" if isinstance(op, Delete) else op.value or "")
        unsaid = bool(own) and covered(own, spoken) < SUPPORTED
        if found or ends:
            kinds["right"] += 1
        else:
            kinds["wrong" if trapped or unsaid or isinstance(op, Delete) else "extra"] += 1
        written |= {id: max(share, written.get(id, 0.0)) for id, share in found.items()}
        ended |= ends
    return kinds, written, ended


def turn_score(
    gold: Gold, kinds: Counter[str], written: Mapping[str, float], ended: set[str]
) -> float:
    """The score of one turn in [-1, 1]; it must have gold."""
    wanted = len(gold.writes) + len(gold.ends)
    points = sum(1.0 if share >= EXACT else 0.5 for share in written.values()) + len(ended)
    missing = wanted - len(written) - len(ended)
    raw = points - 0.5 * missing - kinds["wrong"] - kinds["extra"] / wanted
    return float(np.clip(raw / wanted, -1, 1))


def judged(paths: Sequence[Path], listener: Listener, turns: int = 0) -> JudgedOperations:
    """The operations of ``listener`` over the conversations; ``turns`` of each, 0 for all."""
    result = JudgedOperations()
    for path in paths:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        written: set[str] = set()
        to_write: set[str] = set()
        with tempfile.TemporaryDirectory() as folder, open_memory(folder, "user") as store:
            for spoken in told["turns"][: turns or None]:
                at = datetime.fromisoformat(spoken["at"]).replace(tzinfo=UTC)
                ids = store.record([Turn(text=spoken["text"], role="user", valid_from=at)]).ids
                heard_turns = [t for t in store.get(ids) if isinstance(t, Turn)]
                view, start = view_of(store), time.perf_counter()
                found = listener.listen(heard_turns, view)
                result.seconds.append(time.perf_counter() - start)
                result.problems += len(found.problems)
                gold = gold_of(told, spoken["n"])
                kinds, wrote, ended = judge_turn(gold, found.ops, view, spoken["text"])
                result.operations += kinds
                written |= wrote.keys()
                to_write |= gold.writes.keys()
                result.ended += len(ended)
                result.to_end += len(gold.ends)
                if gold.writes or gold.ends:
                    result.scores.append(turn_score(gold, kinds, wrote, ended))
                if found.ops:
                    store.apply(Batch(ops=found.ops, turns=ids))
        result.written += len(written)
        result.to_write += len(to_write)
    return result


def modes(paths: Sequence[Path], embedder: TextEmbedder | None) -> dict[str, Any]:
    """Fast against agentic reading, with the rules as answerer."""
    with ExitStack() as stack:
        conversations = [
            stack.enter_context(heard(path, default_listener(), embedder)) for path in paths
        ]
        return ablated(conversations, RuleModel(), embedder, arms=MODES)


def main(argv: Sequence[str] | None = None) -> int:
    """Judge the rules, the parser and, where one is named, a model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of conversations (*.yaml)")
    parser.add_argument("--turns", type=int, default=0, help="of each conversation; 0: all")
    parser.add_argument("--conversations", type=int, default=0, help="how many; 0: all")
    parser.add_argument("--model", choices=[m for m in MODELS if m != "rules"])
    parser.add_argument("--url", help="an OpenAI-compatible endpoint as listener")
    parser.add_argument("--name", default="", help="its model")
    parser.add_argument("--reply-tokens", type=int, default=256)
    parser.add_argument("--replies", type=Path, help="replies of the model, kept and used again")
    parser.add_argument("--no-modes", action="store_true", help="leave out fast against agentic")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    paths = [path for folder in options.folders for path in sorted(folder.glob("*.yaml"))]
    if not paths:
        parser.error(f"no conversation (*.yaml) in {', '.join(map(str, options.folders))}")
    paths = paths[: options.conversations or None]
    listeners: dict[str, Listener] = {"rules": RuleListener(), "parser": default_listener()}
    model = _model(options)
    if model is not None:
        listeners[model.name] = ModelListener(model, traits=False, max_tokens=options.reply_tokens)
    rows: dict[str, Any] = {}
    for name, listener in listeners.items():
        rows[name] = judged(paths, listener, options.turns).row()
        print(f"{name}: {rows[name]}", flush=True)
    run: dict[str, Any] = {
        "listened": f"{len(paths)} conversations, {options.turns or 'all'} turns of each",
        "versions": versions(), "operations": rows,
    }  # fmt: skip
    if not options.no_modes:
        run["modes"] = modes(paths, default_embedder())
    if options.out is not None:
        write_run(options.out, run, "listened")
    return 0


def _model(options: argparse.Namespace) -> LanguageModel | None:
    if options.url:
        model: LanguageModel = EndpointModel(Endpoint(url=options.url), options.name)
        return model if options.replies is None else Replay(options.replies, recorder=model)
    return answerer(options.model, options.replies) if options.model else None


if __name__ == "__main__":
    sys.exit(main())
