"""Anchors that are ahead: which step is read, nothing but that, and that training saw the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from consistent_gen.attention.keeping import pack
from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.patch import attached
from consistent_gen.attention.roles import FrameRole
from consistent_gen.attention.rows import Call, Row
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import Rule, Topology, Window, source_step
from consistent_gen.attention.sharing import Sharing
from consistent_gen.methods.tuning import recipe_of
from consistent_gen.models.story_world import StoryWorldConfig, build_unet
from consistent_gen.training.pairs import PairedKeys
from tests.attention.toys import FOX, Sketch, anchors, build, draw

ALL_STEPS = Window(skip=0)


@pytest.mark.parametrize(
    ("lead", "steps", "window", "step", "expected"),
    [
        (0.3, 25, ALL_STEPS, 0, 8),  # 7.5 steps, and an even number of them
        (0.3, 25, ALL_STEPS, 16, 24),
        (0.3, 25, ALL_STEPS, 17, 23),  # the last one of the same kind
        (0.3, 25, ALL_STEPS, 24, 24),
        (0.3, 25, Window(skip=0, steps=(0.0, 0.4)), 4, 8),
        (0.3, 25, Window(skip=0, steps=(0.0, 0.4)), 9, 9),
        (0.0, 25, ALL_STEPS, 5, 5),
        (1.0, 4, ALL_STEPS, 0, 2),
        (0.3, 1, ALL_STEPS, 0, 0),
    ],
)
def test_which_step_is_read(
    lead: float, steps: int, window: Window, step: int, expected: int
) -> None:
    rule = Rule(window=window, topology=Topology(lead=lead))
    assert source_step([rule], step, steps) == expected


def test_anchors_stay_as_far_ahead_as_readers_read() -> None:
    for steps in range(1, 40):
        for lead in (0.0, 0.1, 0.3, 0.5, 1.0):
            recipe = recipe_of("head_start", {"lead": lead})
            (rule,) = recipe.rules
            ahead = max(source_step([rule], step, steps) - step for step in range(steps))
            assert ahead < recipe.lead(steps), "an anchor has left the step that is read"


def test_readers_read_nothing_but_what_is_ahead() -> None:
    toy = build("unet")
    run = SharedRun(recipe_of("head_start", {"lead": 0.5}), seed=1)  # two of four steps
    run.masks.set_external("fox0", "fox", torch.ones(8, 12))
    first = draw(toy, run, [anchors(1), [Sketch("a", 1, (FOX,))]])["a"]
    exports = run.bank._exports
    assert {key[2] for key in exports} == {2, 3}, "a lone anchor leaves what somebody reads"
    for key in [key for key in exports if key[2] == 2]:
        for number, kept in exports[key].items():
            other = pack(kept.parts["v"].on(torch.device("cpu")) + 1.0, run.bank.keeping)
            exports[key][number] = replace(kept, parts={**kept.parts, "v": other})
    assert not torch.allclose(draw(toy, run, [[Sketch("a", 1, (FOX,))]])["a"], first, atol=1e-3)


def test_anchors_read_each_other_on_their_way() -> None:
    """Two anchors leave something at every step; readers use nothing of the first ones."""
    toy = build("unet")
    run = SharedRun(recipe_of("head_start", {"lead": 0.5, "anchors": 2}), seed=1)
    for name in ("fox0", "fox1"):
        run.masks.set_external(name, "fox", torch.ones(8, 12))
    first = draw(toy, run, [anchors(2), [Sketch("a", 1, (FOX,))]])["a"]
    exports = run.bank._exports
    assert {key[2] for key in exports} == {0, 1, 2, 3}
    for key in [key for key in exports if key[2] < 2]:
        del exports[key]
    assert torch.equal(first, draw(toy, run, [[Sketch("a", 1, (FOX,))]])["a"])


def test_training_on_pairs_shows_the_model_what_the_method_does() -> None:
    """One call, a frame at step 0 and its anchor at step 2: equal to the recipe's forward pass."""
    torch.manual_seed(0)
    config = StoryWorldConfig(widths=(16, 16, 32), heads=(2, 2, 2), text_width=32)
    unet: Any = build_unet(config).eval()
    x = torch.randn(2, 50, 16, 16)
    text = torch.randn(2, 8, 32)
    t = torch.tensor([999, 499])
    labels = torch.zeros(2, 32, 32, dtype=torch.uint8)
    labels[1, 8:24, 8:24] = 1  # whole tokens on every grid

    run = SharedRun(recipe_of("head_start", {"anchors": 1, "lead": 0.5, "bias": 0.0}))
    run.masks.set_external("fox0", "fox", (labels[1] > 0).float())
    run.add(FrameRole(frame="fox0", subjects=(FOX,), anchor=0))
    run.add(FrameRole(frame="frame", subjects=(FOX,)))
    policy = Sharing(run)
    policy.bind(find_sites(unet))
    rows = (Row(0, "frame", "cond", 0, 4, 1.0), Row(1, "fox0", "cond", 2, 4, 0.5))
    with torch.no_grad(), attached(unet, policy):
        policy.begin(Call(2, (16, 16), rows))
        drawn = unet(x, t, text).sample
        policy.end()
    with torch.no_grad():
        alone = unet(x, t, text).sample
        pairs = PairedKeys(unet)
        pairs.share(labels, torch.Generator(), 0.0)
        trained = unet(x, t, text).sample
    assert not torch.allclose(drawn[0], alone[0], atol=1e-3)
    assert torch.allclose(drawn, trained, atol=1e-5)
