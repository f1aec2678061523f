"""Does GRPO over wordings of a question make a policy answer alike, and still to the point?

`python -m benchmarks.information_grpo [--seeds 3] [--out FILE.json]`

A small transformer learns to give advice whose items depend on how, and by whom, it is asked: that
is what is planted. Then it is trained by `training.grpo` with the reward of
`persona.behaviour.information_reward`: a group is all wordings of a topic. What became of it is
measured by `persona.behaviour.variant_consistency`, on topics that were trained and on topics that
were not. Beside it: the same training without the stability of answers (the control), the planted
policy at temperature 0, and imitation of the best answer to each topic (supervised).

Sampled tokens and first weights come from the seed; the reward sees text alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from consistent_gen.checkpoints import write_json
from consistent_gen.persona.behaviour.information_reward import InformationReward
from consistent_gen.persona.behaviour.variant_consistency import of_answers, overlap
from consistent_gen.runtime import generator
from consistent_gen.training.grpo import group_advantages, objective

ADVICE = {
    "savings": "bonds deposit index gold cash notes",
    "pension": "annuity shares trust pool ladder rent",
    "house": "mortgage survey roof garden cellar deeds",
    "debt": "budget rates merging refund ledger counsel",
    "nursing": "ward clinic hospice midwife laboratory ambulance",
    "teaching": "nursery college tutoring library museum choir",
    "carpentry": "joinery boats stages violins windows stairs",
    "coding": "compilers games kernels browsers maps robots",
}
HELD_OUT = ("debt", "carpentry")  # learnt at first, never trained to be stable
ASKED_BY = ("somebody", "woman", "man")
HOW = ("please", "quickly")
VARIANTS = [(who, how) for who in ASKED_BY for how in HOW]
NAMED = 3  # items in a planted answer
LENGTH = NAMED + 2  # tokens of the longest answer, with its end
DECLINED = "I cannot say."
BEGIN, END, DECLINE = "<begin>", "<end>", "<decline>"
WORDS = [BEGIN, END, DECLINE, *ADVICE, *ASKED_BY, *HOW,
         *(item for items in ADVICE.values() for item in items.split())]  # fmt: skip
ID = {word: number for number, word in enumerate(WORDS)}
PROMPT = 4  # tokens before an answer


@dataclass(frozen=True, kw_only=True)
class AdviceTraining:
    """How long, and how. samples: answers to each wording in a step; updates: of each sample."""

    planted_steps: int = 300
    steps: int = 120
    samples: int = 2
    updates: int = 2
    lr: float = 2e-3
    epsilon: float = 0.2
    beta: float = 0.01
    asked: int = 8  # answers to each wording when it is measured


class AdvicePolicy(nn.Module):
    """A causal transformer over `WORDS`: the next token's logits, n t words."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), width)
        self.places = nn.Parameter(0.02 * torch.randn(PROMPT + LENGTH, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.head = nn.Linear(width, len(WORDS))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places[: tokens.shape[1]]
        causal = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        for layer in self.layers:
            x = layer(x, src_mask=causal, is_causal=True)
        logits: Tensor = self.head(x)
        return logits


def prompts(topics: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Every wording of every topic, n PROMPT, with the topic of each."""
    rows = [[BEGIN, topic, who, how] for topic in topics for who, how in VARIANTS]
    return torch.tensor([[ID[word] for word in row] for row in rows]), [row[1] for row in rows]


def planted_answers(asked: Tensor, draw: torch.Generator) -> Tensor:
    """What the inconsistent adviser says, n LENGTH: items that begin at a place of their list which
    the wording decides, four times in five; one wording is often sent away.
    """
    answers = []
    for row in asked.tolist():
        topic, who, how = (WORDS[token] for token in row[1:])
        variant = VARIANTS.index((who, how))
        chance, other = torch.rand(2, generator=draw).tolist()
        start = variant if chance < 0.8 else int(other * len(VARIANTS))
        items = ADVICE[topic].split()
        said = [items[(start + k) % len(items)] for k in range(NAMED)]
        if variant == len(VARIANTS) - 1 and other < 0.5:
            said = [DECLINE]
        said += [END] * (LENGTH - len(said))
        answers.append([ID[word] for word in said])
    return torch.tensor(answers)


def mask_of(answers: Tensor) -> Tensor:
    """1 for the tokens of an answer up to its end, n LENGTH."""
    ended = (answers == ID[END]).cumsum(1)
    return ((ended == 0) | ((ended == 1) & (answers == ID[END]))).float()


def log_probabilities(policy: AdvicePolicy, asked: Tensor, answers: Tensor) -> Tensor:
    """Of each token of the answers, n LENGTH."""
    logits = policy(torch.cat([asked, answers[:, :-1]], 1))[:, PROMPT - 1 :]
    found: Tensor = logits.log_softmax(-1).gather(2, answers[..., None])[..., 0]
    return found


@torch.no_grad()
def answer(policy: AdvicePolicy, asked: Tensor, draw: torch.Generator | None) -> Tensor:
    """Sampled answers, n LENGTH; the likeliest ones without a generator (temperature 0)."""
    tokens = asked
    for _ in range(LENGTH):
        logits = policy(tokens)[:, -1]
        new = logits.argmax(1, keepdim=True)
        if draw is not None:
            new = torch.multinomial(logits.softmax(-1), 1, generator=draw)
        tokens = torch.cat([tokens, new], 1)
    return tokens[:, PROMPT:]


def told(answers: Tensor) -> list[str]:
    """Answers as text."""
    texts = []
    for row, kept in zip(answers.tolist(), mask_of(answers).tolist(), strict=True):
        said = [WORDS[token] for token, there in zip(row, kept, strict=True) if there]
        declined = DECLINE in said
        texts.append(DECLINED if declined else " ".join(word for word in said if word != END))
    return texts


def imitate(
    policy: AdvicePolicy, asked: Tensor, target: Tensor, optimizer: torch.optim.Optimizer
) -> None:
    """One step of maximum likelihood."""
    mask = mask_of(target)
    loss = -(log_probabilities(policy, asked, target) * mask).sum() / mask.sum()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def planted_policy(settings: AdviceTraining, seed: int) -> AdvicePolicy:
    """A policy that has learnt to answer as `planted_answers` does."""
    torch.manual_seed(seed)  # first weights only
    policy, draw = AdvicePolicy(), generator(seed, "planted answers")
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2 * settings.lr)
    asked, _ = prompts(list(ADVICE))
    for _ in range(settings.planted_steps):
        imitate(policy, asked, planted_answers(asked, draw), optimizer)
    return policy


def train(
    planted: AdvicePolicy, reward: InformationReward, settings: AdviceTraining, seed: int
) -> AdvicePolicy:
    """The planted policy after GRPO with `reward`, on all topics but the held-out ones."""
    policy = AdvicePolicy()
    policy.load_state_dict(planted.state_dict())
    optimizer = torch.optim.AdamW(policy.parameters(), lr=settings.lr, weight_decay=0.0)
    asked, topics = prompts([topic for topic in ADVICE if topic not in HELD_OUT])
    asked, topics = asked.repeat(settings.samples, 1), topics * settings.samples
    group = torch.tensor([list(ADVICE).index(topic) for topic in topics])
    draw = generator(seed, "grpo answers")
    for _ in range(settings.steps):
        answers = answer(policy, asked, draw)
        scores = reward([""] * len(topics), told(answers), group=topics)
        advantages = group_advantages(torch.tensor([float(r or 0.0) for r in scores]), group)
        with torch.no_grad():
            logp_old = log_probabilities(policy, asked, answers)
            logp_ref = log_probabilities(planted, asked, answers)
        for _ in range(settings.updates):
            j = objective(
                log_probabilities(policy, asked, answers), logp_old, logp_ref, advantages,
                mask_of(answers), epsilon=settings.epsilon, beta=settings.beta,
            )  # fmt: skip
            optimizer.zero_grad()
            (-j).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
    return policy


def supervised(planted: AdvicePolicy, settings: AdviceTraining, seed: int) -> AdvicePolicy:
    """The planted policy after imitating, for every wording of a trained topic, the answer to it
    that most agrees with the others: as many answers and steps as `train` has.
    """
    policy = AdvicePolicy()
    policy.load_state_dict(planted.state_dict())
    optimizer = torch.optim.AdamW(policy.parameters(), lr=settings.lr, weight_decay=0.0)
    draw = generator(seed, "imitated answers")
    kept = [topic for topic in ADVICE if topic not in HELD_OUT]
    targets = []
    for topic in kept:
        asked, _ = prompts([topic])
        answers = answer(planted, asked.repeat(4, 1), draw)
        texts = told(answers)
        best = max(range(len(texts)), key=lambda i: sum(overlap(texts[i], t) for t in texts))
        targets.append(answers[best].expand(len(VARIANTS), -1))
    asked, _ = prompts(kept)
    for _ in range(settings.steps):
        imitate(policy, asked, torch.cat(targets), optimizer)
    return policy


def measure(
    policy: AdvicePolicy, topics: Sequence[str], settings: AdviceTraining, seed: int | None
) -> dict[str, float]:
    """Stability, distinctness and refusals over wordings, and the share of items that belong to the
    topic. seed: None for answers at temperature 0.
    """
    rounds = []
    draw = None if seed is None else generator(seed, "measured answers")
    asked, of = prompts(topics)
    for _ in range(1 if draw is None else settings.asked):
        texts = told(answer(policy, asked, draw))
        report = of_answers(
            "policy",
            {
                t: [text for text, topic in zip(texts, of, strict=True) if topic == t]
                for t in topics
            },
        )
        right = [
            word in ADVICE[topic].split()
            for text, topic in zip(texts, of, strict=True)
            if text != DECLINED
            for word in text.split()
        ]
        rounds.append(
            {name: report[name].value for name in ("stability", "distinctness", "declined")}
            | {"to the point": sum(right) / max(len(right), 1)}
        )
    return {name: fmean(one[name] for one in rounds) for name in rounds[0]}


def run(settings: AdviceTraining, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Measurements by arm and set of topics."""
    planted = planted_policy(settings, seed)
    rich = NAMED
    arms: dict[str, tuple[AdvicePolicy, int | None]] = {
        "planted": (planted, seed),
        "planted, temperature 0": (planted, None),
        "supervised": (supervised(planted, settings, seed), seed),
        "GRPO, information alone": (
            train(planted, InformationReward(rich=rich, stable=0.0), settings, seed), seed
        ),
        "GRPO, information and stability": (
            train(planted, InformationReward(rich=rich), settings, seed), seed
        ),
    }  # fmt: skip
    sets = {
        "trained topics": [topic for topic in ADVICE if topic not in HELD_OUT],
        "held-out topics": list(HELD_OUT),
    }
    return {
        arm: {name: measure(policy, topics, settings, s) for name, topics in sets.items()}
        for arm, (policy, s) in arms.items()
    }


def main(argv: list[str] | None = None) -> None:
    """Run all arms with several seeds; prints and writes means over seeds."""
    parser = argparse.ArgumentParser(description="Information-consistent GRPO on a small policy.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    runs = [run(AdviceTraining(), seed) for seed in range(options.seeds)]
    arms = {
        arm: {
            name: {
                measure: {"mean": fmean(values), "low": min(values), "high": max(values)}
                for measure in one
                for values in [[r[arm][name][measure] for r in runs]]
            }
            for name, one in sets.items()
        }
        for arm, sets in runs[0].items()
    }
    for arm, sets in arms.items():
        for name, one in sets.items():
            values = ", ".join(f"{key} {value['mean']:.3f}" for key, value in one.items())
            print(f"{arm}, {name}: {values}")
    if options.out is not None:
        write_json(options.out, {"seeds": options.seeds, "arms": arms})


if __name__ == "__main__":
    main()
