"""Arms for the story world's UNet at its own size: they run, learn, and are nothing when off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from consistent_gen.adapters.codec import load_adapter, load_system, save_adapter
from consistent_gen.adapters.policy import Capture
from consistent_gen.adapters.reference_tokens import ReferencePolicy
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.adapters.story_world import (
    ARMS,
    StoryWorldFeatures,
    build_arm,
    training_call,
)
from consistent_gen.attention.patch import attached
from consistent_gen.errors import CheckpointError, ConsistentGenError, InputError, UnknownNameError
from tests.adapters.toys import noise, somebody
from tests.attention.toys import state

GIVEN = StoryWorldFeatures(vector=64, patch=96, patches=16)
LATENT, FRAMES = (16, 16), ["a", "b"]
OFF = ScalePlan(image=0.0, lora=0.0)


@pytest.fixture(scope="module")
def unet() -> Any:
    from consistent_gen.models.story_world import StoryWorldConfig, build_unet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_unet(StoryWorldConfig()).eval().requires_grad_(False)


@pytest.fixture
def arm(request: pytest.FixtureRequest, unet: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build_arm(request.param, unet, GIVEN)


def predicted(unet: Any, rows: int = 2) -> Tensor:
    x, text = noise((rows, 50, 16, 16), 1), noise((rows, 9, 256), 2)
    out: Tensor = unet(x, 500, text, return_dict=False)[0]
    return out


def show(policy: Any, adapter: Any, unet: Any, plan: ScalePlan | None = None) -> Any:
    """Show each frame somebody; returns what was made of them, of the last."""
    made: Any = None
    if isinstance(policy, ReferencePolicy):
        with policy.recording(["mia", "bruno"]):
            unet(noise((2, 50, 16, 16), 7), 0, noise((2, 9, 256), 8), return_dict=False)
        for frame, name in zip(FRAMES, ("mia", "bruno"), strict=True):
            policy.show(frame, {name: 1.0}, plan=plan)
        return made
    for seed, frame in enumerate(FRAMES, 1):
        mia = somebody(adapter, seed)
        fusing = None if adapter.fuser is None else adapter.fusing([mia], {"face": 2, "eyes": 4})
        made = adapter.identities([mia], plan=plan, fusing=fusing)
        policy.show(frame, made)
    return made


@pytest.mark.parametrize("arm", list(ARMS), indirect=True)
def test_off_is_no_adapter_to_the_byte(arm: Any, unet: Any) -> None:
    before = state(unet)
    with torch.no_grad():
        plain = predicted(unet)
        policy = arm.policy()
        with attached(unet, policy):
            show(policy, arm, unet, OFF)
            policy.begin(training_call(FRAMES, (), LATENT))
            off = predicted(unet)
            show(policy, arm, unet, ScalePlan())
            policy.begin(training_call(FRAMES, (), LATENT))
            on = predicted(unet)
            policy.begin(training_call(FRAMES, ["b"], LATENT))
            dropped = predicted(unet)
    assert torch.equal(off, plain)
    assert not torch.allclose(on, plain, atol=1e-4)
    assert torch.allclose(dropped[0], on[0], atol=1e-5)
    assert not torch.allclose(dropped[1], on[1], atol=1e-4)
    assert state(unet) == before


@pytest.mark.parametrize("arm", list(ARMS), indirect=True)
def test_a_step_of_training(arm: Any, unet: Any) -> None:
    """The loss falls, every parameter of the arm takes part, and none of the UNet's."""
    arm.train()
    capture = Capture(lambda site: site.level == 2)
    reference = arm.name == "reference_tokens"
    policy = arm.policy() if reference else arm.policy(capture=capture)
    optimizer = torch.optim.Adam(arm.parameters(), lr=1e-3)
    target, losses = noise((2, 50, 16, 16), 5), []
    with attached(unet, policy):
        for _ in range(2):
            capture.clear()
            show(policy, arm, unet, ScalePlan())
            policy.begin(training_call(FRAMES, (), LATENT))
            loss = (predicted(unet) - target).square().mean()
            policy.end()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(p.grad is None for p in unet.parameters())
    still = [name for name, p in arm.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still
    if not reference:
        assert {one.site.level for one in capture.branch} == {2}


@pytest.mark.parametrize("arm", list(ARMS), indirect=True)
def test_a_trained_arm_is_a_small_file(arm: Any, unet: Any, tmp_path: Path) -> None:
    path = tmp_path / "arm.safetensors"
    save_adapter(path, arm.half())
    assert path.stat().st_size < 7e6
    switches: dict[str, Any] = {
        "picture": {"patches": 16},
        "parts": {"patches": 16, "shortcut": True, "order": "semantic"},
        "people": {"patches": 16},
        "reference": {},
    }
    name = next(k for k in ARMS if type(build_arm(k, unet, GIVEN)) is type(arm))
    again = load_system(path, unet, **switches[name])
    assert again.state_dict().keys() == arm.state_dict().keys()
    assert all(torch.equal(t, again.state_dict()[k]) for k, t in arm.state_dict().items())
    if name == "reference":
        with pytest.raises(CheckpointError, match="has no tokens: use load_system"):
            load_adapter(path, unet)


def test_references_are_read_where_they_belong(unet: Any) -> None:
    arm = build_arm("reference", unet, GIVEN)
    policy = arm.policy()
    left = torch.zeros(16, 16)
    left[:, :8] = 1.0
    with attached(unet, policy), torch.no_grad():
        show(policy, arm, unet)
        outs = []
        for masks in (None, {"mia": left, "bruno": 1.0 - left}, {"mia": 1.0 - left, "bruno": left}):
            policy.show("a", {"mia": 1.0, "bruno": 1.0}, masks=masks)
            policy.begin(training_call(FRAMES, (), LATENT))
            outs.append(predicted(unet))
        policy.show("a", {"mia": 1.0, "bruno": 0.0})
        policy.begin(training_call(FRAMES, (), LATENT))
        alone = predicted(unet)
        policy.show("a", {"mia": 1.0})
        policy.begin(training_call(FRAMES, (), LATENT))
        assert torch.equal(predicted(unet), alone)
    for i, one in enumerate(outs):
        assert all(not torch.allclose(one[0], two[0], atol=1e-5) for two in outs[i + 1 :])
        assert torch.allclose(one[1], outs[0][1], atol=1e-6)


def test_mistakes_of_references(unet: Any) -> None:
    arm = build_arm("reference", unet, GIVEN)
    policy = arm.policy()
    with attached(unet, policy), torch.no_grad():
        show(policy, arm, unet)
        with pytest.raises(InputError, match="'tom' was not recorded; there are: mia, bruno"):
            policy.show("a", {"tom": 1.0})
        with pytest.raises(InputError, match="weighs -1"):
            policy.show("a", {"mia": -1.0})
        policy.forget("mia")
        with pytest.raises(InputError, match="there are: bruno"):
            policy.show("a", {"mia": 1.0})
        twice = pytest.raises(ConsistentGenError, match="2 rows for 1 references")
        with policy.recording(["mia"]), twice:
            predicted(unet)
    with pytest.raises(UnknownNameError, match="did you mean 'people'"):
        build_arm("peopel", unet, GIVEN)
