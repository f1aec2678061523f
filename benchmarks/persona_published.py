"""The published files of PERMA, PersonaMem and Persona-MME, each run with the scripted model.

    python -m benchmarks.persona_published [--data DIR] [--memories none chunks tree+hybrid]
        [--questions N] [--out FILE.json]

The files are not ours and are not shipped. Put each below DIR (or the folder that
CONSISTENT_GEN_PERSONA_DATA names), as its authors have it:

    perma/            the set ustclsc/PERMA: tasks/, evaluation/, and perhaps option_axes.json
    personamem/       questions_32k.csv and shared_contexts_32k.jsonl of bowen-upenn/PersonaMem
    personamem-v2/    benchmark/text/benchmark.csv and data/ of bowen-upenn/PersonaMem-v2
    persona-mme/      Persona-MME.json and samples/ of the set ClareNie/Persona-MME

What cannot be found is told as "not run on the published file". The scripted model chooses the
option that what a memory found speaks for (`EmbeddingChoice`), and in PERMA's interaction it says
what the memory found: the person is content once six tenths of the words of the goal were said,
and otherwise names half of those that are missing. Both need no network and are no measure of a
language model; they show that the files are read and what a memory brings by itself.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.persona import look_up, run_choices
from benchmarks.persona_data import Benchmark, load_persona_mme
from benchmarks.persona_files import VARIANTS, load_perma, load_perma_tasks, load_personamem
from benchmarks.persona_judged import interact
from benchmarks.persona_memories import Remembering, memories
from benchmarks.persona_solvers import EmbeddingChoice, FirstOption, majority_share
from benchmarks.persona_tables import VARIABLE, data_folder
from consistent_gen.checkpoints import file_sha256, write_json
from consistent_gen.errors import InputError
from consistent_gen.language.embedders import HashedNgrams, TextEmbedder, default_embedder
from consistent_gen.language.models import Message
from consistent_gen.language.words import content_words
from consistent_gen.memory.recall.prompts import BLOCK_END, BLOCK_START

MEMORIES = ("none", "chunks", "tree+hybrid")
CONTENT = 0.6  # share of the goal's words that must have been said
NOT_RUN = "not run on the published file"


class ScriptedTalk:
    """All three parts of PERMA's interaction by rule; see the module."""

    name, sees = "scripted talk", False

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """A reply to one of the three prompts of `benchmarks.persona_judged.interact`."""
        text = messages[-1].content
        goal = re.match(r"(?:The person wants|You want): (.*)", text)
        if goal is None:
            block = text.partition(BLOCK_START)[2].partition(BLOCK_END)[0]
            said = re.findall(r"^Person: (.*)", text, re.MULTILINE)
            return " ".join([*block.split("\n"), *said[1:]])
        answers = " ".join(re.findall(r"^Assistant: (.*)", text, re.MULTILINE))
        wanted = dict.fromkeys(content_words(goal[1]))
        missing = [word for word in wanted if word not in set(content_words(answers))]
        if text.startswith("You want"):
            return f"I would like {' '.join(missing[: max(1, len(missing) // 2)])}."
        content = len(wanted) - len(missing) >= CONTENT * len(wanted)
        return f"<final_answer>({'a' if content else 'b'})"


def choices(
    benchmark: Benchmark, names: Sequence[str], embedder: TextEmbedder, most: int
) -> dict[str, Any]:
    """What the scripted model chooses with each memory, over the first ``most`` questions."""
    asked = benchmark.questions[: most or None]
    some = Benchmark(
        benchmark.name, asked, {q.id: benchmark.answers[q.id] for q in asked},
        axes={q.id: benchmark.axes[q.id] for q in asked if q.id in benchmark.axes},
    )  # fmt: skip
    blind = not any(question.context for question in asked)
    result: dict[str, Any] = {
        "read": benchmark.name, "questions": len(benchmark.questions), "asked": len(asked),
        "left_out": dict(benchmark.left_out), "majority": round(majority_share(some), 4),
        "since": benchmark.since_unit,
    }  # fmt: skip
    if blind:
        result["contexts"] = "not had: the questions alone, no memory"
    offered = memories(embedder)
    for name in ["none"] if blind else names:
        looked = look_up(some, offered[name])
        result[name] = run_choices(some, looked, [FirstOption(), EmbeddingChoice(embedder)])
    return result


def perma(root: Path, names: Sequence[str], embedder: TextEmbedder, most: int) -> dict[str, Any]:
    """Every variant that is there: choices by axis, and beside them success on the first turn."""
    axes = root / "option_axes.json"
    found: dict[str, Any] = {}
    for variant in VARIANTS:
        try:
            benchmark = load_perma(root, variant=variant, axes=axes if axes.is_file() else None)
        except InputError as error:
            if "no tasks/" not in str(error):
                raise
            continue
        result = choices(benchmark, names, embedder, most)
        linked = [t for t in load_perma_tasks(root, variant=variant) if t.linked][: most or None]
        by_goal = Benchmark(benchmark.name, tuple(task.question for task in linked))
        for name in names if linked else ():
            passages = {
                q.id: [p.text for p in found] for q, found, _ in
                look_up(by_goal, memories(embedder)[name])
            }  # fmt: skip
            talks = [interact(t, passages[t.question.id], ScriptedTalk()) for t in linked]
            for turns in (1, 2):
                done = [t.completed and t.turns <= turns for t in talks]
                result.setdefault(name, {})[f"success in {turns}"] = round(sum(done) / len(done), 4)
        found[variant] = result
    if not found:
        raise InputError("no tasks/user*/input_data_*.json", source=root)
    return found


def personamem(
    root: Path, names: Sequence[str], embedder: TextEmbedder, most: int
) -> dict[str, Any]:
    """Version 1 at every size that is there."""
    found = {}
    for size in ("32k", "128k", "1M"):
        questions = root / f"questions_{size}.csv"
        contexts = root / f"shared_contexts_{size}.jsonl"
        if questions.is_file():
            there = contexts if contexts.is_file() else None
            found[size] = choices(load_personamem(questions, there), names, embedder, most)
    if not found:
        raise InputError("no questions_*.csv", source=root)
    return found


def personamem_v2(
    root: Path, names: Sequence[str], embedder: TextEmbedder, most: int
) -> dict[str, Any]:
    """Version 2, text, with the shorter histories."""
    return choices(
        load_personamem(root / "benchmark" / "text" / "benchmark.csv", None), names, embedder, most
    )


def persona_mme(
    root: Path, names: Sequence[str], embedder: TextEmbedder, most: int
) -> dict[str, Any]:
    """The shorter setting."""
    return choices(load_persona_mme(root / "Persona-MME.json", size="32k"), names, embedder, most)


SETS: dict[str, Callable[[Path, Sequence[str], TextEmbedder, int], dict[str, Any]]] = {
    "perma": perma, "personamem": personamem, "personamem-v2": personamem_v2,
    "persona-mme": persona_mme,
}  # fmt: skip


def hashes(root: Path, most: int = 20) -> dict[str, str]:
    """SHA-256 of the files of a set, the first by name, and how many there are."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    known = {path.relative_to(root).as_posix(): file_sha256(path) for path in files[:most]}
    return known | ({"and more": str(len(files) - most)} if len(files) > most else {})


def main(argv: Sequence[str] | None = None) -> int:
    """Run every set that is there; say of the others that they were not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.persona_published")
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--memories", nargs="+", default=list(MEMORIES))
    parser.add_argument("--questions", type=int, default=0, help="of each set; 0: all")
    parser.add_argument("--embedder", choices=["best", "ngrams"], default="best")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    embedder = Remembering(default_embedder() if options.embedder == "best" else HashedNgrams())
    results: dict[str, Any] = {}
    for name, run in SETS.items():
        root = None if options.data is None else options.data / name
        if root is None or not root.is_dir():
            where = f"no folder {name}/ there" if root else f"give --data DIR or set {VARIABLE}"
            results[name] = f"{NOT_RUN} ({where})"
            print(f"{name}: {results[name]}")
            continue
        try:
            found = run(root, options.memories, embedder, options.questions)
        except InputError as error:
            results[name] = f"{NOT_RUN} ({str(error).replace(str(options.data), 'DIR')})"
            print(f"{name}: {results[name]}")
            continue
        results[name] = {"sha256": hashes(root), **found}
        print(f"{name}: {json.dumps(found, indent=1)}")
    if options.out is not None:
        write_json(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
