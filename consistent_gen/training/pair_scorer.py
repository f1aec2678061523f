"""Train the pair scorer: does a reply follow from, ignore or contradict a persona's statement?

No entailment network comes in a package, so a small one learns from pairs that are made with their
labels (`training.statement_pairs`). MiniLM reads the words and stays as it is; what it says of each
sentence is computed once. Half of the replies stand behind their question, since "No." alone says
nothing. With `space=hashed words/1` the network has only a word table of its own: the baseline that
tells what MiniLM brings. `written` are pairs that people wrote: nothing is learnt from them but the
temperature of the answers, and their accuracy is saved beside the weights.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.checkpoints import write_json
from consistent_gen.persona.evaluate.pair_network import (
    MINILM_SPACE,
    NLI,
    RELEVANCE,
    WORDS,
    PairNetwork,
    Read,
    together,
)
from consistent_gen.runtime import tune_allocator
from consistent_gen.training.loop import RecipeConfig, Training
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.statement_pairs import Part, StatementPair, generate, read_pairs

HELD_OUT: tuple[Part, ...] = ("templates", "words", "both")


@dataclass(frozen=True, kw_only=True)
class PairScorerConfig(RecipeConfig):
    """Settings of the recipe; lengths in pairs ("images")."""

    run: Path = Path("runs/pair_scorer")
    space: str = MINILM_SPACE
    written: Path | None = None  # a table of pairs that people wrote
    pairs: int = 24_000  # that are made
    held_out: int = 600  # of each part that is never learnt from
    images: int = 160_000
    batch: int = 64
    lr: float = 2e-3
    warmup_images: int = 3000
    decay_share: float = 0.6
    halflife_images: float = 6000.0
    width: int = 160
    depth: int = 3
    smoothing: float = 0.1  # of labels
    every_s: float = 60.0


class Reader:
    """Sentences as the network's encoder reads them, each read once."""

    def __init__(self, space: str) -> None:
        self._words = WORDS[space]()
        self._read: dict[str, Read] = {}

    def learn(self, texts: Sequence[str]) -> None:
        """Read what has not been read."""
        new = [text for text in dict.fromkeys(texts) if text not in self._read]
        self._read.update(zip(new, self._words.read(new), strict=True))

    def batch(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
        """Tensors of n pairs, as `together` makes them."""
        self.learn([text for pair in pairs for text in pair])
        return together([(self._read[a], self._read[b]) for a, b in pairs])


def spoken(pair: StatementPair, with_question: bool) -> str:
    """What is held against the statement: the reply, alone or behind its question."""
    return f"{pair.question} {pair.reply}" if with_question else pair.reply


def measure(
    network: PairNetwork, reader: Reader, pairs: Sequence[StatementPair], with_question: bool
) -> tuple[dict[str, float], Tensor]:
    """Accuracies on `pairs`, and the NLI logits n 3.

    Relevance is the mean over both classes: few pairs that people write have an idle question.
    """
    asked = torch.full((len(pairs),), NLI)
    with torch.inference_mode():
        logits = torch.cat([
            network(reader.batch([(p.statement, spoken(p, with_question)) for p in part]),
                    asked[: len(part)])[0]
            for part in _parts(pairs)
        ])  # fmt: skip
        relevant = torch.cat([
            network(reader.batch([(p.statement, p.question) for p in part]),
                    torch.full((len(part),), RELEVANCE))[1]
            for part in _parts(pairs)
        ])  # fmt: skip
    labels = torch.tensor([p.label for p in pairs])
    truth = torch.tensor([p.relevant for p in pairs])
    right = (relevant > 0) == truth
    sides = [right[truth == side].float().mean() for side in (True, False) if (truth == side).any()]
    return {
        "nli": round(float((logits.argmax(1) == labels).float().mean()), 4),
        "relevance": round(float(torch.stack(sides).mean()), 4),
    }, logits


def _parts(pairs: Sequence[StatementPair], size: int = 128) -> list[Sequence[StatementPair]]:
    return [pairs[i : i + size] for i in range(0, len(pairs), size)]


def temperature(logits: Tensor, labels: Tensor) -> float:
    """What to divide logits n 3 by, so that the labels n are likeliest (Guo et al., 2017)."""
    grid = np.geomspace(0.5, 10.0, 60)
    return float(min(grid, key=lambda t: float(F.cross_entropy(logits / t, labels))))


def main(config: PairScorerConfig) -> dict[str, dict[str, float]]:
    """Train and save to `config.run/weights`; returns the accuracies by set of pairs."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    made = generate("train", config.pairs, config.seed)
    reader = Reader(config.space)
    torch.manual_seed(config.seed)  # initial weights only
    network = PairNetwork(config.space, config.width, config.depth)
    optimizers = build_optimizers(*split_parameters([network]), config.lr)
    training = Training(config, {"network": network}, optimizers)

    for seen in training.steps():
        rng = random.Random(f"pair scorer {config.seed} {seen}")
        torch.manual_seed(rng.randrange(2**31))  # dropout
        picked = rng.choices(made, k=config.batch)
        nli = [(p.statement, spoken(p, rng.random() < 0.5)) for p in picked]
        asked = [(p.statement, p.question) for p in picked[: config.batch // 2]]
        what = torch.tensor([NLI] * len(nli) + [RELEVANCE] * len(asked))
        logits, relevant = network(reader.batch([*nli, *asked]), what)
        labels = torch.tensor([p.label for p in picked])
        truth = torch.tensor([float(p.relevant) for p in picked[: len(asked)]])
        answer = F.cross_entropy(logits[: len(nli)], labels, label_smoothing=config.smoothing)
        bears = F.binary_cross_entropy_with_logits(relevant[len(nli) :], truth)
        (answer + 0.5 * bears).backward()
        right = (logits[: len(nli)].argmax(1) == labels).float().mean()
        training.update(answer=answer.detach(), bears=bears.detach(), right=right)
        if training.due():
            training.save()

    final = training.averaged("network")
    scores = {
        part: measure(final, reader, generate(part, config.held_out, 1), True)[0]
        for part in HELD_OUT
    }
    if config.written is not None:
        pairs = read_pairs(config.written)
        scores["written"], logits = measure(final, reader, pairs, True)
        scores["written, reply alone"], _ = measure(final, reader, pairs, False)
        final.temperature = temperature(logits, torch.tensor([p.label for p in pairs]))
    final.save(config.run / "weights", scores)
    write_json(config.run / "scores.json", scores)
    print(scores)
    return scores
