"""Attaching and detaching: nothing of it shows while it is off, and nothing is left afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.patch import PolicyProcessor, attach, attached, detach
from consistent_gen.attention.policy import AttentionPolicy
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.sharing import Sharing
from consistent_gen.errors import ConsistentGenError
from consistent_gen.methods.tuning import recipe_of
from tests.attention.toys import FAMILIES, Sketch, Toy, build, state

FRAME = [Sketch("frame", 1)]


def sharing() -> Sharing:
    return Sharing(SharedRun(recipe_of("style_aligned")))


@pytest.fixture(scope="module", params=FAMILIES)
def toy(request: pytest.FixtureRequest) -> Toy:
    return build(request.param, torch.float32)


def test_off_and_removed_are_untouched(toy: Toy) -> None:
    before, plain = state(toy.model), toy.sample(FRAME, steps=2)
    with attached(toy.model, sharing(), AttentionPolicy()):
        assert any(isinstance(p, PolicyProcessor) for p in toy.model.attn_processors.values())
        assert list(toy.model.state_dict()) == before[3]
        assert torch.equal(toy.sample(FRAME, steps=2)["frame"], plain["frame"])
    assert state(toy.model) == before
    assert torch.equal(toy.sample(FRAME, steps=2)["frame"], plain["frame"])


def test_an_exception_inside_leaves_the_model_as_it_was(toy: Toy) -> None:
    before = state(toy.model)
    with pytest.raises(ZeroDivisionError), attached(toy.model, sharing()):
        raise ZeroDivisionError
    assert state(toy.model) == before


def test_policies_come_and_go_in_any_order(toy: Toy) -> None:
    before = state(toy.model)
    first, second = AttentionPolicy(), AttentionPolicy()
    attach(toy.model, first)
    attach(toy.model, second)
    detach(toy.model, first)
    with pytest.raises(ConsistentGenError, match="not attached"):
        detach(toy.model, first)
    detach(toy.model, second)
    assert state(toy.model) == before


class Doubler(AttentionPolicy):
    """Adds a branch equal to the queries, and doubles what the layer gives."""

    def acts(self, site: Any) -> bool:
        return site.kind == ("cross" if self.acts_on_text else "self")

    def adds(self, site: Any) -> bool:
        return True

    def branch(self, q: torch.Tensor, attended: torch.Tensor, site: Any) -> torch.Tensor:
        return 0.0 * q

    def output(self, hidden: torch.Tensor, site: Any) -> torch.Tensor:
        return 2.0 * hidden


@pytest.mark.parametrize("on_text", [False, True])
def test_our_maths_is_the_layers_own(on_text: bool) -> None:
    """Self- and cross-attention computed by us, with fused projections too, against diffusers'."""
    toy = build("unet")
    policy = Doubler()
    policy.acts_on_text = on_text
    policy.output = lambda hidden, site: hidden  # type: ignore[method-assign]
    plain = toy.sample(FRAME, steps=2)["frame"]
    with attached(toy.model, policy):
        ours = toy.sample(FRAME, steps=2)["frame"]
        toy.model.fuse_qkv_projections()
        fused = toy.sample(FRAME, steps=2)["frame"]
    # Diffusers now puts back the processors of before, which were ours and stand for its own.
    toy.model.unfuse_qkv_projections()
    assert torch.equal(toy.sample(FRAME, steps=2)["frame"], plain)
    assert torch.allclose(ours, plain, atol=1e-12)
    assert torch.allclose(fused, plain, atol=1e-12)
    with attached(toy.model, Doubler()):
        assert not torch.allclose(toy.sample(FRAME, steps=2)["frame"], plain, atol=1e-3)


def test_sites_keep_their_processors_while_nothing_is_attached(toy: Toy) -> None:
    names = [name for name, site in find_sites(toy.model).items() if site.sees_images]
    assert names
    assert not any(isinstance(p, PolicyProcessor) for p in toy.model.attn_processors.values())
