"""The weights in the repository: complete, honest about themselves, usable by stock diffusers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from consistent_gen.checkpoints import read_manifest, verify_manifest, weights_root
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameDone, FrameRequest
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.plan import plan_story
from consistent_gen.story.script import load_story
from consistent_gen.world.captions import vocabulary

pytestmark = pytest.mark.weights
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.yaml"))
MAX_BYTES = 110_000_000


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone()


def test_the_manifest_agrees_with_the_files() -> None:
    assert verify_manifest(weights_root()) == []
    entries = read_manifest(weights_root())
    assert "storyworld" in entries
    assert sum(entry.bytes for entry in entries.values()) <= MAX_BYTES


def test_the_vocabulary_is_the_worlds(backbone: Backbone) -> None:
    assert backbone.vocabulary() == frozenset(vocabulary())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_can_be_planned(example: Path, backbone: Backbone) -> None:
    assert plan_story(load_story(example), backbone).frames


def test_a_drawing_is_a_picture_and_no_noise(backbone: Backbone) -> None:
    """The sky of a meadow is smooth, and another style is another picture."""
    prompts = ("a flat picture of a fox in a meadow", "a neon picture of a fox in a meadow")
    requests = [
        FrameRequest(prompt=p, seed=3, settings=DrawSettings(steps=10, guidance=2.0))
        for p in prompts
    ]
    events = Engine(backbone).run(requests)
    first, second = (event.image for event in events if isinstance(event, FrameDone))
    assert first.shape == (256, 256, 3)
    corner = first[:24, :24].astype(float)
    assert np.abs(np.diff(corner, axis=1)).mean() < 8.0
    assert np.abs(first.astype(float).mean() - second.astype(float).mean()) > 30.0


def test_stock_diffusers_draws(backbone: Backbone) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(weights_root() / "storyworld")
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    drawn = pipe("a fox in the forest", num_inference_steps=2, generator=generator).images[0]
    assert drawn.size == (128, 128)
