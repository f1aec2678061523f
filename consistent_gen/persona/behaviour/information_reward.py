"""A reward for saying the same, informative thing however one is asked.

Information-consistent GRPO (arXiv 2512.12858) takes prompts that mean the same as one group, each
asked in a context of its own, and rewards answers for information (by entropy) and for stability
inside the group. The formulas are our own reading of that idea:

    h_i = min(1, H(o_i) / log K)        H: entropy of the content words of answer o_i, in nats
    s_i = mean of J(o_i, o_j), j in the group of i, j != i     J: Jaccard of content words
    c_i = mean of J(o_i, o_k), k in other groups
    r_i = w_h h_i + w_s (s_i - c_i)

Without c_i a policy that gives one constant answer to everything would be the best there is. Who
declines gets 0. Invariance is wanted of rules and facts; where an answer is to fit the person,
prompts are marked as not invariant and are never put into a group.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from consistent_gen.errors import InputError, all_of
from consistent_gen.persona.asking import refused
from consistent_gen.persona.behaviour.variant_consistency import content, content_words, jaccard


@dataclass(frozen=True)
class PromptVariant:
    """One wording of a question. group: what it asks; invariant: whether wordings, and who is
    asking, must make no difference.
    """

    text: str
    group: str
    invariant: bool = True


def groups(prompts: Sequence[PromptVariant]) -> dict[str, list[int]]:
    """Places of the invariant prompts by group.

    Raises:
        InputError: a group of one wording, or one that is invariant in part; all of them at once.
    """
    found: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        if prompt.invariant:
            found.setdefault(prompt.group, []).append(place)
    personal = {prompt.group for prompt in prompts if not prompt.invariant}
    wrong = [
        InputError(f"group {name!r} is invariant in part; mark all of its wordings alike, or none")
        for name in sorted(found.keys() & personal)
    ]
    wrong += [
        InputError(f"group {name!r} has one wording; stability needs two or more")
        for name, places in found.items()
        if len(places) < 2
    ]
    if wrong:
        raise all_of(wrong)
    return found


@dataclass(frozen=True, kw_only=True)
class InformationReward:
    """The reward of this module's head, called as TRL's GRPO calls rewards.

    rich: K, how many different content words make a full answer (2 or more). helpful, stable: the
    weights w_h and w_s, each 0 or more.
    """

    rich: int = 8
    helpful: float = 1.0
    stable: float = 1.0

    def __post_init__(self) -> None:
        if self.rich < 2 or self.helpful < 0.0 or self.stable < 0.0:
            raise InputError(
                f"rich is 2 or more, helpful and stable are 0 or more; got {self.rich}, "
                f"{self.helpful} and {self.stable}"
            )

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        group: Sequence[str],
        invariant: Sequence[bool] | None = None,
        **columns: object,
    ) -> list[float | None]:
        """A reward for each completion; None, which is no reward, where the prompt is personal.

        group, invariant: columns of the data set, as in `PromptVariant`. Several completions of
        one prompt count as wordings of their own.

        Raises:
            InputError: columns of unequal length, or groups that `groups` refuses.
        """
        marks = [True] * len(prompts) if invariant is None else list(invariant)
        lengths = {len(prompts), len(completions), len(group), len(marks)}
        if len(lengths) != 1:
            raise InputError(f"prompts, completions and columns have the lengths {sorted(lengths)}")
        variants = [PromptVariant(*each) for each in zip(prompts, group, marks, strict=True)]
        rewards: list[float | None] = [None] * len(prompts)
        placed = groups(variants)
        o = [content(completion) for completion in completions]
        for name, places in placed.items():
            others = [o[k] for other, ks in placed.items() if other != name for k in ks]
            for i in places:
                h_i = self.information(completions[i])
                s_i = _mean(o[i], [o[j] for j in places if j != i])
                c_i = _mean(o[i], others)
                rewards[i] = self.helpful * h_i + self.stable * (s_i - c_i)
        return rewards

    def information(self, answer: str) -> float:
        """h_i, 0..1: how much different content an answer holds; 0 where it declines."""
        counts = np.array(list(Counter(content_words(answer)).values()), float)
        if refused(answer) or not len(counts):
            return 0.0
        p = counts / counts.sum()
        return min(1.0, max(0.0, float(-(p * np.log(p)).sum())) / math.log(self.rich))


def _mean(answer: frozenset[str], others: Sequence[frozenset[str]]) -> float:
    return fmean(jaccard(answer, other) for other in others) if others else 0.0
