"""Group relative policy optimisation (GRPO): advantages, the estimate of the KL divergence, and the
objective, of DeepSeekMath (arXiv 2402.03300), with its symbols and the numbers of its equations.

What is a group is the caller's choice: DeepSeekMath takes several answers o_1 ... o_G to one
question q, information-consistent GRPO (arXiv 2512.12858) the answers to questions that mean the
same. Nothing here knows a model: log-probabilities come in, a number to be maximised comes out.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS_STD = 1e-6  # below this spread of rewards a group teaches nothing


def group_advantages(r: Tensor, group: Tensor) -> Tensor:
    """A_i = (r_i - mean(r)) / std(r) inside each group (section 4.1.2, outcome supervision).

    Args:
        r: rewards, n. group: the number of each answer's group, n integers.

    Returns:
        Advantages, n: of mean 0 and variance 1 in each group, 0 where all its rewards are equal.
        The deviation is that of the group as a population.
    """
    advantages = torch.zeros_like(r)
    for number in group.unique():
        mine = group == number
        spread = r[mine].std(correction=0)
        if spread > EPS_STD:
            advantages[mine] = (r[mine] - r[mine].mean()) / spread
    return advantages


def kl_estimate(logp: Tensor, logp_ref: Tensor) -> Tensor:
    """D_KL[pi_theta || pi_ref] of each token, unbiased and never negative (Eq. 4).

    pi_ref / pi_theta - log(pi_ref / pi_theta) - 1, from log-probabilities of sampled tokens.
    """
    return torch.expm1(logp_ref - logp) - (logp_ref - logp)


def objective(
    logp: Tensor,
    logp_old: Tensor,
    logp_ref: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    epsilon: float = 0.2,
    beta: float = 0.04,
) -> Tensor:
    """J_GRPO of answers that pi_old gave (Eq. 3); to be maximised.

    1/G sum_i 1/|o_i| sum_t min(rho A_i, clip(rho, 1 - epsilon, 1 + epsilon) A_i) - beta D_KL, where
    rho = pi_theta(o_it | q, o_i<t) / pi_old(o_it | q, o_i<t).

    Args:
        logp, logp_old, logp_ref: log-probabilities of the tokens, n t; only the first has a
            gradient.
        advantages: n.
        mask: n t, 1 for the tokens of an answer, 0 for padding behind it.
        epsilon: how far a ratio may carry an update. beta: weight of the divergence.
    """
    rho = (logp - logp_old).exp()
    a = advantages[:, None]
    gain = torch.minimum(rho * a, rho.clamp(1.0 - epsilon, 1.0 + epsilon) * a)
    token = (gain - beta * kl_estimate(logp, logp_ref)) * mask
    return (token.sum(1) / mask.sum(1).clamp_min(1.0)).mean()
