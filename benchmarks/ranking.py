"""Learn which passage answers: `python -m benchmarks.ranking FOLDER... [--words-only]`.

Conversations (`benchmarks.conversations`) are told to an assistant; of each of their questions the
passages that are found become rows of features, and those are positive whose answer would be judged
right. The weights are those of a softmax over all passages of a question and "none of them", with a
ridge. Printed are the verdicts where whole conversations were held out, by how sure an answer must
be, and the constants for `consistent_gen.memory.talk.ranking`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.conversations import VERDICTS, judged, plainly, stems
from consistent_gen.language.embedders import TextEmbedder, Vectors, default_embedder
from consistent_gen.memory import open_memory
from consistent_gen.memory.talk.assistant import Assistant
from consistent_gen.memory.talk.passages import SaidPassage, in_context
from consistent_gen.memory.talk.questions import AskedFor
from consistent_gen.memory.talk.ranking import PassageScorer, ScoredPassage, passage_features
from consistent_gen.memory.talk.reading import gather
from consistent_gen.memory.talk.rule_model import worded

Matrix = NDArray[np.float64]

_RIDGE, _STEPS, _FOLDS = 0.005, 80, 9
_SURE = (0.3, 0.35, 0.4, 0.45, 0.5)
# Of the words of an expected answer to "whether" a passage has this share, besides yes and no.
_TELLS, _TOLD_IN = 0.5, 160
_POLES = stems("yes no not")


@dataclass
class RankedQuestion:
    """One question: features (n, k) of the passages found, whether each is right, and verdicts."""

    conversation: str
    asked: dict[str, Any]
    read: AskedFor
    passages: list[SaidPassage]
    features: Matrix
    right: NDArray[np.bool_]

    def verdict(self, place: int | None) -> str:
        """How an answer by the passage at ``place`` is judged; None says that none is known."""
        if place is None:
            return "right" if self.asked.get("unknown") else "unknown"
        return judged(self.asked, worded(self.read, self.passages[place]))


class _Watching(PassageScorer):
    """Keeps what it scored last, with its features."""

    names: tuple[str, ...] = ()

    def score(
        self,
        question: AskedFor,
        passages: Sequence[SaidPassage],
        known: Mapping[str, Vectors] | None = None,
    ) -> list[ScoredPassage]:
        meaning = self._meaning(question, passages, known or {}) if passages else None
        columns = passage_features(question, passages, meaning) if passages else {}
        self.names = tuple(columns)
        self.last = (
            question,
            list(passages),
            np.column_stack([*columns.values()] or [np.zeros(0)]),
        )
        return super().score(question, passages, known)


def questions_of(
    path: Path, embedder: TextEmbedder | None
) -> tuple[list[RankedQuestion], tuple[str, ...]]:
    """The questions of one conversation that find anything, and the names of the features."""
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    scorer = _Watching(embedder)
    found: list[RankedQuestion] = []
    names: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory() as folder, open_memory(folder, path.stem) as store:
        assistant = Assistant(store, text_embedder=embedder)
        at = datetime.now(UTC)
        for turn in told["turns"]:
            at = datetime.fromisoformat(turn["at"]).replace(tzinfo=UTC)
            assistant.say(turn["text"], at=at)
        for asked in told["questions"]:
            gather(asked["q"], assistant.retriever, scorer, UTC)
            read, passages, features = scorer.last
            if passages:
                names = scorer.names
                right = np.array([_right(asked, read, p) for p in passages])
                found.append(RankedQuestion(path.stem, asked, read, passages, features, right))
    return found, names


def _right(asked: dict[str, Any], read: AskedFor, passage: SaidPassage) -> bool:
    if asked.get("unknown") or judged(asked, worded(read, passage)) != "right":
        return False
    expected = stems(plainly(str(asked["answer"]))) - _POLES
    if read.wants != "whether" or not expected:
        return True  # "yes" alone is right by chance, so its reason must be there, too
    held = stems(plainly(in_context(passage, _TOLD_IN)))
    return len(expected & held) >= _TELLS * len(expected)


@dataclass(frozen=True)
class RankWeights:
    """Means, deviations and weights (k,), and the constant of "none of them"."""

    mean: Matrix
    deviation: Matrix
    weights: Matrix
    none: float

    def odds(self, features: Matrix) -> Matrix:
        """Log-odds (n,) of each passage against none."""
        return np.asarray((features - self.mean) / self.deviation @ self.weights - self.none)


def learn(questions: Sequence[RankedQuestion]) -> RankWeights:
    """The weights that make right passages, or none where there is none, most likely."""
    rows = np.concatenate([q.features for q in questions])
    mean, deviation = rows.mean(0), np.maximum(rows.std(0), 1e-4)
    scaled = [(q.features - mean) / deviation for q in questions]

    def loss(values: Matrix) -> tuple[float, Matrix]:
        weights, none = values[:-1], values[-1]
        total, slope = _RIDGE * float(weights @ weights), 2 * _RIDGE * np.append(weights, 0.0)
        for q, x in zip(questions, scaled, strict=True):
            z = np.append(x @ weights, none)
            parts = np.exp(z - z.max())
            wanted = parts * np.append(q.right, not q.right.any())
            total -= float(np.log(wanted.sum() + 1e-300) - np.log(parts.sum())) / len(questions)
            apart = (parts / parts.sum() - wanted / wanted.sum()) / len(questions)
            slope += np.append(x.T @ apart[:-1], apart[-1])
        return total, slope

    start = np.zeros(rows.shape[1] + 1)
    done = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return RankWeights(mean, deviation, done.x[:-1], float(done.x[-1]))


def held_out(
    questions: Sequence[RankedQuestion], names: Sequence[str]
) -> dict[float, Counter[str]]:
    """Verdicts by how sure an answer must be, each conversation by weights that never saw it."""
    conversations = list(dict.fromkeys(q.conversation for q in questions))
    fold = [conversations.index(q.conversation) % _FOLDS for q in questions]
    holds, astray = names.index("holds"), names.index("astray")
    counts: dict[float, Counter[str]] = {sure: Counter() for sure in _SURE}
    for out in sorted(set(fold)):
        learnt = learn([q for q, f in zip(questions, fold, strict=True) if f != out])
        for q in (q for q, f in zip(questions, fold, strict=True) if f == out):
            odds = learnt.odds(q.features)
            shares = np.exp(odds) / (1 + np.exp(odds).sum())
            may = (q.features[:, holds] > 0) & (q.features[:, astray] == 0)
            best = int(np.argmax(np.where(may, shares, -1.0)))
            source = q.passages[best].line.id
            of_it = sum(s for s, p in zip(shares, q.passages, strict=True) if p.line.id == source)
            for sure, count in counts.items():
                count[q.verdict(best if may[best] and of_it >= sure else None)] += 1
    return counts


def main(arguments: Sequence[str] | None = None) -> int:
    """Learn, and print what held-out conversations gave and the constants."""
    parser = argparse.ArgumentParser(description="learn which passage answers a question")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--words-only", action="store_true", help="without an embedder")
    options = parser.parse_args(arguments)
    embedder = None if options.words_only else default_embedder()
    questions: list[RankedQuestion] = []
    names: tuple[str, ...] = ()
    for path in sorted(path for folder in options.folders for path in folder.glob("*.yaml")):
        found, names = questions_of(path, embedder)
        questions += found
    if len({q.conversation for q in questions}) < 2:
        parser.error("at least two conversations (*.yaml) are needed, since some are held out")
    for sure, count in held_out(questions, names).items():
        shares = ", ".join(f"{v} {count[v] / len(questions):.3f}" for v in VERDICTS)
        print(f"sure {sure}: {shares}")
    learnt = learn(questions)
    columns = zip(names, learnt.mean, learnt.deviation, learnt.weights, strict=True)
    for name, *values in columns:
        print(f'    "{name}": ({", ".join(f"{v:.4f}" for v in values)}),')
    print(f"none: {learnt.none:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
