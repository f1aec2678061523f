"""Information-consistent GRPO: what the reward prefers, and what training by it does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.information_grpo import (
    ADVICE,
    DECLINED,
    HELD_OUT,
    AdviceTraining,
    answer,
    log_probabilities,
    measure,
    planted_policy,
    prompts,
    train,
)
from consistent_gen.errors import InputError
from consistent_gen.persona.behaviour.information_reward import (
    InformationReward,
    PromptVariant,
    groups,
)

TRAINED = [topic for topic in ADVICE if topic not in HELD_OUT]


def rewarded(**answers: list[str]) -> float:
    """The mean reward of answers by group."""
    group = [name for name, some in answers.items() for _ in some]
    flat = [text for some in answers.values() for text in some]
    rewards = InformationReward(rich=3)([""] * len(flat), flat, group=group)
    return sum(r for r in rewards if r is not None) / len(flat)


def test_who_is_informative_and_stable_wins() -> None:
    best = rewarded(a=["bonds gold cash"] * 3, b=["roof garden deeds"] * 3)
    assert best == pytest.approx(2.0)
    for worse in (
        rewarded(a=["nice good thing"] * 3, b=["nice good thing"] * 3),  # one constant answer
        rewarded(a=[DECLINED] * 3, b=[DECLINED] * 3),
        rewarded(a=["bonds gold woman", "bonds gold man", "bonds gold"], b=["roof"] * 3),  # leaks
        rewarded(a=["bonds bonds bonds"] * 3, b=["roof roof roof"] * 3),  # says little
        rewarded(a=["bonds gold cash", "notes fund trust"], b=["roof cellar", "deeds garden"]),
    ):
        assert worse < best - 0.4
    assert rewarded(a=[DECLINED] * 3, b=[DECLINED] * 3) == 0.0


def test_personal_prompts_never_enter_a_group() -> None:
    texts, group = ["bonds gold", "bonds gold", "my own way"], ["a", "a", "b"]
    found = InformationReward()(["", "", ""], texts, group=group, invariant=[True, True, False])
    assert found[2] is None and found[0] == found[1]
    with pytest.raises(InputError) as caught:
        groups([PromptVariant("x", "a"), PromptVariant("y", "a", False), PromptVariant("z", "b")])
    assert "'a' is invariant in part" in str(caught.value) and "'b' has one" in str(caught.value)
    with pytest.raises(InputError, match="lengths"):
        InformationReward()([""], texts, group=group)


def test_a_planted_policy_becomes_consistent_and_only_by_that_reward() -> None:
    torch.set_num_threads(1)
    settings = AdviceTraining(planted_steps=120, steps=40, lr=4e-3, samples=1, asked=3)
    planted = planted_policy(settings, 0)
    before = measure(planted, TRAINED, settings, 0)
    assert before["stability"] < 0.4 and before["to the point"] > 0.9
    assert measure(planted, TRAINED, settings, None)["stability"] < 0.4  # at temperature 0, too
    after = {
        stable: train(planted, InformationReward(rich=3, stable=stable), settings, 0)
        for stable in (0.0, 1.0)
    }
    kept = measure(after[1.0], TRAINED, settings, 0)
    assert kept["stability"] > 0.8 and kept["distinctness"] > 0.9
    assert kept["declined"] < 0.02 and kept["to the point"] > 0.95
    control = measure(after[0.0], TRAINED, settings, 0)
    assert control["stability"] < kept["stability"] - 0.3
    asked, _ = prompts(TRAINED)
    few = replace(settings, steps=2)
    twice = [train(planted, InformationReward(rich=3), few, 0) for _ in range(2)]
    first, second = (log_probabilities(p, asked, answer(p, asked, None)) for p in twice)
    assert torch.equal(first, second)
