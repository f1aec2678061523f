"""GRPO's arithmetic: advantages, the estimate of the divergence, the objective."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from consistent_gen.training.grpo import group_advantages, kl_estimate, objective

REWARDS = st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=8)


@given(REWARDS, REWARDS, st.floats(0.5, 4.0), st.floats(-3.0, 3.0))
def test_advantages_are_standard_in_each_group_and_know_no_other_group(
    first: list[float], second: list[float], scale: float, shift: float
) -> None:
    r = torch.tensor([*first, *second], dtype=torch.float64)
    group = torch.tensor([0] * len(first) + [1] * len(second))
    a = group_advantages(r, group)
    for number, rewards in ((0, first), (1, second)):
        mine = a[group == number]
        assert mine.mean().abs() < 1e-6
        if torch.tensor(rewards, dtype=torch.float64).std(correction=0) > 1e-3:
            assert mine.std(correction=0) == pytest.approx(1.0)
    # Another unit or zero of a group's rewards changes nothing, nor does what stands elsewhere.
    moved = torch.where(group == 1, r * scale + shift, r)
    if r[group == 1].std(correction=0) > 1e-3:
        assert torch.allclose(group_advantages(moved, group), a, atol=1e-6)
    order = torch.randperm(len(r), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(group_advantages(r[order], group[order]), a[order])


def test_equal_rewards_teach_nothing() -> None:
    assert group_advantages(torch.full((4,), 0.3), torch.tensor([0, 0, 1, 1])).eq(0).all()


def test_the_divergence_is_unbiased_and_never_negative() -> None:
    p, q = (torch.tensor(x).log_softmax(0) for x in ([0.1, 1.0, -0.5], [0.4, 0.0, 0.3]))
    assert (kl_estimate(p, q) >= 0).all() and kl_estimate(p, p).eq(0).all()
    # Its mean over pi_theta's own samples is the divergence itself.
    exact = (p.exp() * (p - q)).sum()
    assert (p.exp() * kl_estimate(p, q)).sum() == pytest.approx(float(exact))


def test_the_objective_by_hand_and_clipped() -> None:
    """Two answers of two tokens and of one, rho of 1.5 and 0.5, no divergence."""
    logp = torch.tensor([[1.5, 1.5], [0.5, 9.0]]).log().requires_grad_()
    old, mask = torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    a = torch.tensor([1.0, -1.0])
    j = objective(logp, old, logp.detach(), a, mask, epsilon=0.2, beta=0.04)
    assert float(j.detach()) == pytest.approx((1.2 - 0.8) / 2)
    j.backward()  # type: ignore[no-untyped-call]
    assert logp.grad is not None and logp.grad.eq(0).all()  # beyond the clip nothing pulls
    # Where pi_theta is pi_old the gradient is that of A log pi, each answer by its own length.
    new = torch.zeros(2, 2, requires_grad=True)
    objective(new, old, old, a, mask, beta=0.0).backward()  # type: ignore[no-untyped-call]
    assert new.grad is not None
    assert torch.allclose(new.grad, torch.tensor([[0.25, 0.25], [-0.5, 0.0]]))
