"""The scores that need a judge: PERMA's memory score and interaction, Persona-MME's alignment.

::

    python -m benchmarks.persona_judged perma|alignment --data PATH --url URL --name MODEL \\
        --transcript FILE --out FILE.json

The judge is any chat model. With ``--transcript`` its replies are recorded, and a later run without
``--url`` replays them: a prompt that is not in the transcript is an error, so a figure can be made
again without the model. Scores of different judges do not compare, so results name theirs.

BERT-F1 is that of BERTScore (arXiv 1904.09675): greedy matching of token vectors. The vectors are
MiniLM's last layer, not those of the published score's model; compare it between memories only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.persona import look_up
from benchmarks.persona_data import AlignmentItem, Benchmark, load_alignment
from benchmarks.persona_files import VARIANTS, Task, load_perma_tasks
from benchmarks.persona_memories import BenchedMemory, Remembering, memories
from benchmarks.persona_solvers import interval, read_choice
from consistent_gen.checkpoints import write_json
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.language.embedders import MiniLm, Vectors, default_embedder
from consistent_gen.language.endpoints import Endpoint
from consistent_gen.language.models import EndpointModel, LanguageModel, Message, Replay
from consistent_gen.memory.recall.prompts import BLOCK_END, BLOCK_START, one_line
from consistent_gen.runtime import versions

LIMIT = 10
MAX_TURNS = 10
CRITERIA = ("coverage", "accuracy", "relevance")
_SCORE = re.compile(rf"\b({'|'.join(CRITERIA)})\b\W*([1-4])\b", re.IGNORECASE)


@dataclass(frozen=True)
class Interaction:
    """One simulated conversation: whether and when the person had what they wanted."""

    turns: int
    completed: bool
    user_tokens: float


def judge_alignment(
    items: Sequence[AlignmentItem], make: Callable[[], BenchedMemory], judge: LanguageModel
) -> dict[str, Any]:
    """Two yes-or-no questions per item: the chosen reply must suit and the rejected must not."""
    benchmark = Benchmark("alignment", tuple(item.question for item in items))
    found = {q.id: [p.text for p in passages] for q, passages, _ in look_up(benchmark, make)}
    suits: dict[str, tuple[bool, bool]] = {}
    for item in items:
        verdicts = [
            _suits(item.question.text, reply, found[item.question.id], judge)
            for reply in (item.chosen, item.rejected)
        ]
        suits[item.question.id] = (verdicts[0] == "a", verdicts[1] == "b")
    groups: dict[str, list[float]] = {}
    for item in items:
        right = suits[item.question.id]
        groups.setdefault(item.question.group, []).append(float(np.mean(right)))
    return {
        "accuracy": _summary(list(groups.values())),
        "chosen_accepted": round(float(np.mean([s[0] for s in suits.values()])), 4),
        "rejected_refused": round(float(np.mean([s[1] for s in suits.values()])), 4),
        "items": len(items),
    }


def _suits(query: str, reply: str, passages: Sequence[str], judge: LanguageModel) -> str:
    content = (
        f"{_block(passages)}\n\nThe person said: {one_line(query)}\nA reply: {one_line(reply)}\n\n"
        "Does the reply suit this person, given what is known of them?\n(a) yes\n(b) no\n"
        "End with <final_answer> and one letter in parentheses."
    )
    return read_choice(judge.chat([Message("user", content)], max_tokens=300))


def judge_perma(
    tasks: Sequence[Task],
    make: Callable[[], BenchedMemory],
    judge: LanguageModel,
    token_vectors: Callable[[str], Vectors] | None,
) -> dict[str, Any]:
    """Memory score, BERT-F1 and interaction over all tasks that are linked to a dialogue."""
    linked = [task for task in tasks if task.linked]
    if not linked:
        raise InputError("no task is linked to a dialogue; there is nothing to judge")
    benchmark = Benchmark("perma", tuple(task.question for task in linked))
    found = {q.id: [p.text for p in passages] for q, passages, _ in look_up(benchmark, make)}
    scores: dict[str, list[dict[str, int]]] = {}
    similar: dict[str, list[float]] = {}
    talks = []
    unread = 0
    for task in linked:
        passages = found[task.question.id]
        score = memory_score(task, passages, judge)
        unread += score is None
        if score is not None:
            scores.setdefault(task.question.group, []).append(score)
        if token_vectors is not None and passages:
            f1 = bert_f1("\n".join(passages), "\n".join(task.linked), token_vectors)
            similar.setdefault(task.question.group, []).append(f1)
        talks.append(interact(task, passages, judge))
    result: dict[str, Any] = {"tasks": len(linked), "unread_judgements": unread}
    for name in CRITERIA:
        result[name] = _summary([[s[name] for s in group] for group in scores.values()])
    result["memory_score"] = _summary(
        [[float(np.mean(list(s.values()))) for s in group] for group in scores.values()]
    )
    result["bert_f1"] = _summary(list(similar.values()))
    return result | {
        "completed": round(float(np.mean([t.completed for t in talks])), 4),
        "completed_in_1": round(float(np.mean([t.completed and t.turns == 1 for t in talks])), 4),
        "completed_in_2": round(float(np.mean([t.completed and t.turns <= 2 for t in talks])), 4),
        "user_tokens": round(float(np.mean([t.user_tokens for t in talks])), 1),
    }


def memory_score(
    task: Task, passages: Sequence[str], judge: LanguageModel
) -> dict[str, int] | None:
    """Three scores from 1 to 4, or None when the judge's reply does not hold each of them once."""
    content = (
        f"A memory was asked: {one_line(task.question.text)}\nIt found:\n{_block(passages)}\n\n"
        f"What the person had really said:\n{_block(task.linked)}\n\nScore what was found from 1 "
        "(bad) to 4 (good): does it cover what matters (coverage), is it true to what was said "
        "(accuracy), is it free of what does not matter (relevance)?\n"
        "Answer with three lines: coverage: N, accuracy: N, relevance: N."
    )
    reply = judge.chat([Message("user", content)], max_tokens=200)
    pairs = [(name.lower(), int(score)) for name, score in _SCORE.findall(reply)]
    return dict(pairs) if sorted(name for name, _ in pairs) == sorted(CRITERIA) else None


def bert_f1(candidate: str, reference: str, token_vectors: Callable[[str], Vectors]) -> float:
    """F1 of greedy token matching: each token's largest cosine on the other side, averaged."""
    one, other = token_vectors(candidate), token_vectors(reference)
    if not len(one) or not len(other):
        return 0.0
    cosines = one @ other.T
    precision, recall = float(cosines.max(1).mean()), float(cosines.max(0).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def interact(task: Task, passages: Sequence[str], judge: LanguageModel) -> Interaction:
    """A conversation of at most `MAX_TURNS` between a simulated person and an assistant.

    The assistant sees the memory and the talk; the person sees the talk and the goal; a verdict
    after each answer ends the talk when the goal is met. One model plays all three.
    """
    said, tokens = [f"Person: {one_line(task.question.text)}"], len(task.question.text) / 4
    for turn in range(1, MAX_TURNS + 1):
        answer = judge.chat(
            [Message("user", f"{_block(passages)}\n\n{_talk(said)}\n\nAnswer the person as their "
                             "assistant, using what is known of them.")],
            max_tokens=400,
        )  # fmt: skip
        said.append(f"Assistant: {one_line(answer)}")
        verdict = judge.chat(
            [Message("user", f"The person wants: {one_line(task.goal)}\n\n{_talk(said)}\n\nHas the "
                             "person what they want?\n(a) yes\n(b) no\nEnd with <final_answer> "
                             "and one letter in parentheses.")],
            max_tokens=200,
        )  # fmt: skip
        if read_choice(verdict) == "a":
            return Interaction(turn, True, tokens)
        if turn == MAX_TURNS:
            break
        more = judge.chat(
            [Message("user", f"You want: {one_line(task.goal)}\n\n{_talk(said)}\n\nSay in one "
                             "sentence, as the person, what is still missing.")],
            max_tokens=100,
        )  # fmt: skip
        said.append(f"Person: {one_line(more)}")
        tokens += len(more) / 4
    return Interaction(MAX_TURNS, False, tokens)


def _talk(said: Sequence[str]) -> str:
    return "\n".join(["The talk so far:", *said])


def _block(passages: Sequence[str]) -> str:
    return "\n".join([BLOCK_START, *map(one_line, passages), BLOCK_END])


def _summary(groups: Sequence[Sequence[float]]) -> dict[str, float] | None:
    values = [value for group in groups for value in group]
    if not values:
        return None
    low, high = interval(groups)
    return {"mean": round(float(np.mean(values)), 4), "low": round(low, 4), "high": round(high, 4)}


def judge_of(options: argparse.Namespace) -> LanguageModel:
    """The model that the options name: an endpoint, recorded or not, or a transcript alone."""
    if not options.url and not options.transcript:
        raise InputError("name a judge with --url and --name, or a recorded --transcript")
    model = EndpointModel(Endpoint(url=options.url), options.name) if options.url else None
    if options.transcript:
        return Replay(Path(options.transcript), model=options.name, recorder=model)
    assert model is not None
    return model


def main(argv: Sequence[str] | None = None) -> int:
    """Judge one benchmark with the memories that are named; write the JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.persona_judged", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("benchmark", choices=["perma", "alignment"])
    parser.add_argument("--data", required=True, help="folder of PERMA, or Persona-MME.json")
    parser.add_argument("--variant", choices=VARIANTS, default="c", help="perma: which task files")
    parser.add_argument("--url", help="OpenAI-compatible endpoint of the judge")
    parser.add_argument("--name", default="", help="the judge's name there and in results")
    parser.add_argument("--transcript", help="file to record into, or to replay without --url")
    parser.add_argument("--memories", nargs="+", default=["none", "chunks", "tree+hybrid"])
    parser.add_argument("--out", required=True)
    options = parser.parse_args(argv)
    try:
        results = _run(options)
    except ConsistentGenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    write_json(Path(options.out), results)
    print(json.dumps(results["results"], indent=1))
    return 0


def _run(options: argparse.Namespace) -> dict[str, Any]:
    judge, embedder = judge_of(options), default_embedder()
    offered = memories(Remembering(embedder))
    results: dict[str, Any] = {}
    for name in options.memories:
        if options.benchmark == "alignment":
            items = load_alignment(Path(options.data))
            results[name] = judge_alignment(items, offered[name], judge)
        else:
            vectors = embedder.tokens if isinstance(embedder, MiniLm) else None
            tasks = load_perma_tasks(Path(options.data), variant=options.variant)
            results[name] = judge_perma(tasks, offered[name], judge, vectors)
    head = {"benchmark": options.benchmark, "judge": judge.name, "embedder": embedder.space}
    return {**head, "versions": versions(), "results": results}


if __name__ == "__main__":
    sys.exit(main())
