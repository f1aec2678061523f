"""Short cases for a memory: what must not be stored, what was corrected, what shall be forgotten.

    python -m benchmarks.memory_cases FOLDER [--model qwen] [--words-only] [--show]

FOLDER holds any of three YAML lists, each case in a memory of its own, with the default listener
and the answerer (rules, unless a model is named). All judging is by words, as in
`benchmarks.conversations`.

- ``traps.yaml`` (text, clause, perhaps keep): a trap is stored when a live record holds at least
  75 % of the words of its clause and does not deny it; precision is the share of traps not stored.
  What is in ``keep`` counts as kept when one record, or two together, hold half of its words.
- ``corrections.yaml`` (turns, now, gone, q, answer): the state is right when the live records hold
  half of the words of ``now`` and none holds all words of ``gone`` without those of ``now``; the
  answer when it holds the words of ``answer``.
- ``forgetting.yaml`` (turns, perhaps documents, forget, gone, stays): nothing is left when no file
  of the memory has a byte string of ``gone``, whatever its case; the innocent are there when live
  records or turns hold half of the words of each of ``stays`` (that it was heard before counts:
  what the listener missed and no turn holds cannot stay).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from benchmarks.conversations import KEPT, MODELS, TRAPPED, answerer, covered, judged, live, stems
from consistent_gen.language.embedders import default_embedder
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.listening.parsed_listener import default_listener
from consistent_gen.memory.talk.assistant import Assistant
from consistent_gen.memory.talk.questions import denies
from consistent_gen.memory.talk.rule_model import RuleModel

START = datetime(2026, 3, 2, 9, tzinfo=UTC)  # a Monday


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the lists that the folder holds; see the module."""
    parser = argparse.ArgumentParser(description="traps, corrections and forgetting")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="rules", choices=MODELS)
    parser.add_argument("--words-only", action="store_true", help="search without an embedder")
    parser.add_argument("--show", action="store_true", help="print every miss")
    options = parser.parse_args(arguments)
    kinds = {"traps": trapped, "corrections": corrected, "forgetting": forgotten}
    found = {name: options.folder / f"{name}.yaml" for name in kinds}
    if not any(path.is_file() for path in found.values()):
        parser.error(f"{options.folder} holds none of {', '.join(p.name for p in found.values())}")
    embedder = None if options.words_only else default_embedder()
    model = answerer(options.model)
    for name, judge in kinds.items():
        if not found[name].is_file():
            continue
        counts: Counter[str] = Counter()
        for case in yaml.safe_load(found[name].read_text(encoding="utf-8")):
            with tempfile.TemporaryDirectory() as folder, open_memory(folder, "case") as store:
                assistant = Assistant(
                    store, model=model, listener=default_listener(), text_embedder=embedder,
                    once=not isinstance(model, RuleModel),
                )  # fmt: skip
                got, notes = judge(case, assistant, store, Path(folder))
            counts.update(got)
            if options.show and notes:
                print(f"{name}: {' | '.join(notes)}")
        print(json.dumps({name: dict(counts)}))
    return 0


def trapped(
    case: dict[str, Any], assistant: Assistant, store: Store, folder: Path
) -> tuple[dict[str, int], list[str]]:
    """One clause that must not become a record, and what beside it should."""
    assistant.say(case["text"], at=START)
    clause = stems(case["clause"])
    sprung = [
        r.text for r in live(store)
        if covered(clause, stems(f"{r.label} {r.text}")) >= TRAPPED
        and not (denies(r.text) and not denies(case["clause"]))
    ]  # fmt: skip
    kept = [fact for fact in case.get("keep", ()) if _held(fact, store)]
    notes = [f"stored: {case['clause']} <- {text}" for text in sprung]
    wanted = len(case.get("keep", ()))
    return {"cases": 1, "stored": bool(sprung), "keep": wanted, "kept": len(kept)}, notes


def corrected(
    case: dict[str, Any], assistant: Assistant, store: Store, folder: Path
) -> tuple[dict[str, int], list[str]]:
    """A state that changes, and the question for it."""
    for number, text in enumerate(case["turns"]):
        assistant.say(text, at=START + timedelta(days=number))
    now, gone = stems(case["now"]), stems(case["gone"])
    stale = [
        r.text for r in live(store)
        if covered(gone, stems(f"{r.label} {r.text}")) >= 1
        and covered(now - gone, stems(r.text)) < KEPT and not denies(r.text)
    ]  # fmt: skip
    state = _held(case["now"], store) and not stale
    answer = assistant.say(case["q"], at=START + timedelta(days=len(case["turns"]))).text
    verdict = judged({"answer": case["answer"], "stale": [case["gone"]]}, answer)
    notes = [] if state else [f"state: {case['now']} <- {[r.text for r in live(store)]}"]
    notes += [] if verdict == "right" else [f"{verdict}: {case['q']} -> {answer}"]
    return {"cases": 1, "state right": state, f"answer {verdict}": 1}, notes


def forgotten(
    case: dict[str, Any], assistant: Assistant, store: Store, folder: Path
) -> tuple[dict[str, int], list[str]]:
    """A request to forget; ``gone`` is looked for in the bytes of every file."""
    documents = list(case.get("documents", ()))
    for number, text in enumerate(case["turns"]):
        attached, documents = documents, []
        assistant.say(text, documents=attached, at=START + timedelta(minutes=number))
    before = {fact: _held(fact, store, turns=True) for fact in case["stays"]}
    if assistant.say(case["forget"], at=START + timedelta(days=1)).asks:
        assistant.say("yes", at=START + timedelta(days=1, minutes=1))
    spelt = b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()).lower()
    left = [words for words in case["gone"] if words.lower().encode() in spelt]
    lost = [f for f in case["stays"] if before[f] and not _held(f, store, turns=True)]
    notes = [f"left {left}, lost {lost}: {case['forget']}"] if left or lost else []
    return {
        "cases": 1, "nothing left": not left, "nothing lost": not lost,
        "both": not left and not lost,
    }, notes  # fmt: skip


def _held(fact: str, store: Store, *, turns: bool = False) -> bool:
    records = live(store)
    if turns:
        records += [t for t in store.list("turn") if getattr(t, "role", "") == "user"]
    words = stems(fact)
    held = [stems(f"{r.label} {r.text} {' '.join(r.keywords)}") for r in records]
    return any(covered(words, a, b) >= KEPT for a in held for b in held)


if __name__ == "__main__":
    sys.exit(main())
