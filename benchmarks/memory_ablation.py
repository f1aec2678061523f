"""What the reasoning loop and response alignment of PersonaVLM add, on natural conversations.

    python -m benchmarks.memory_ablation FOLDER... [--model qwen-small] [--questions N]
        [--replies FILE] [--out FILE.json]

Each conversation (as `benchmarks.conversations` reads them) is heard once; then every arm of
`benchmarks.memory_arms` answers the same questions. Judged is by words, as there: right, stale,
wrong, or "I don't know". Beside it stand tokens (four characters each) that the model reads and
writes, its calls and milliseconds a question, and the style gap: the mean distance, over eight
dimensions in [0, 1], of the answers' style from the user's own. Alignment cannot make an answer
truer, and rules do not follow it; whether it makes answers more like the person shows in the gap.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conversations import MODELS, VERDICTS, answerer, judged
from benchmarks.memory_arms import (
    ARMS,
    ArmAnswer,
    HeardConversation,
    MemoryArm,
    asked,
    heard,
    write_run,
)
from consistent_gen.language.embedders import TextEmbedder, default_embedder
from consistent_gen.language.models import LanguageModel
from consistent_gen.memory.listening.parsed_listener import default_listener
from consistent_gen.memory.talk.style_policy import Style, read_style
from consistent_gen.runtime import versions


def style_gap(answers: Sequence[ArmAnswer], style: Style) -> float:
    """Mean absolute distance of the answers' styles from ``style``, in [0, 1]."""
    gaps = [np.abs(np.subtract(read_style(answer.text), style)).mean() for answer in answers]
    return float(np.mean(gaps))


def chosen(questions: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` of the questions, evenly spaced; all when it is 0."""
    if not most or most >= len(questions):
        return list(questions)
    return [questions[i * len(questions) // most] for i in range(most)]


def ablated(
    conversations: Sequence[HeardConversation],
    model: LanguageModel,
    embedder: TextEmbedder | None,
    *,
    arms: Mapping[str, MemoryArm] = ARMS,
    most: int = 0,
    reply_tokens: int = 512,
    outputs: int = 6,
) -> dict[str, Any]:
    """A row for each arm: counts of verdicts, and means over all questions."""
    rows: dict[str, Any] = {}
    for name, arm in arms.items():
        verdicts: Counter[str] = Counter()
        all_answers: list[ArmAnswer] = []
        gaps = []
        for conversation in conversations:
            questions = chosen(conversation.told["questions"], most)
            answers = asked(
                conversation, arm, model, embedder, [q["q"] for q in questions],
                reply_tokens=reply_tokens, outputs=outputs,
            )  # fmt: skip
            verdicts.update(judged(q, a.text) for q, a in zip(questions, answers, strict=True))
            gaps.append(style_gap(answers, conversation.style))
            all_answers += answers
        rows[name] = {
            "questions": len(all_answers),
            **{verdict: verdicts[verdict] for verdict in VERDICTS},
            "style_gap": round(float(np.mean(gaps)), 4),
            "calls": round(float(np.mean([a.calls for a in all_answers])), 2),
            "tokens": round(float(np.mean([a.tokens for a in all_answers])), 1),
            "milliseconds": round(float(np.median([a.milliseconds for a in all_answers])), 1),
        }
        print(f"{name}: {rows[name]}", flush=True)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Hear the conversations, ask every arm, print and write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of conversations (*.yaml)")
    parser.add_argument("--model", default="rules", choices=MODELS)
    parser.add_argument("--questions", type=int, default=0, help="of each conversation; 0: all")
    parser.add_argument("--conversations", type=int, default=0, help="how many; 0: all")
    parser.add_argument("--reply-tokens", type=int, default=512, help="longest reply of the model")
    parser.add_argument("--outputs", type=int, default=6, help="most replies to one question")
    parser.add_argument("--replies", type=Path, help="replies of the model, kept and used again")
    parser.add_argument("--words-only", action="store_true", help="search without an embedder")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    paths = [path for folder in options.folders for path in sorted(folder.glob("*.yaml"))]
    if not paths:
        parser.error(f"no conversation (*.yaml) in {', '.join(map(str, options.folders))}")
    if options.model == "rules" and options.replies is not None:
        parser.error("--replies keeps what a language model said; name one with --model")
    embedder = None if options.words_only else default_embedder()
    model = answerer(options.model, options.replies)
    with ExitStack() as stack:
        conversations = [
            stack.enter_context(heard(path, default_listener(), embedder))
            for path in paths[: options.conversations or None]
        ]
        rows = ablated(
            conversations, model, embedder, most=options.questions,
            reply_tokens=options.reply_tokens, outputs=options.outputs,
        )  # fmt: skip
    if options.out is not None:
        unsaid = ("out", "folders", "replies")
        settings = {k: v for k, v in vars(options).items() if k not in unsaid}
        run = {"model": model.name, "settings": settings, "conversations": len(conversations),
               "versions": versions(), "arms": rows}  # fmt: skip
        write_run(options.out, run, "model")
    return 0


if __name__ == "__main__":
    sys.exit(main())
