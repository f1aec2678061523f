"""The method that gives pictures to an edit model, on diffusers' own FLUX Kontext at tiny size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from consistent_gen import runtime
from consistent_gen.checkpoints import read_json
from consistent_gen.cli.replay import recipe_named
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameDone, FrameRequest
from consistent_gen.engine.replaying import replay
from consistent_gen.engine.request import Subject
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.errors import InputError
from consistent_gen.methods.tuning import recipe_of
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.tiny_transformers import build_tiny_transformer
from consistent_gen.pipeline import share
from consistent_gen.story.cast import Cast
from consistent_gen.story.plan import Overrides, plan_story
from consistent_gen.story.script import parse_story

SIZE = (64, 96)
MIA, BO = Subject(name="Mia", tokens=(2,)), Subject(name="Bo", tokens=(3,))
STORY = """\
title: Two
seed: 3
steps: 3
size: 64x64
method: references
characters: {Mia: a girl with a red hat, Bo: a small bear}
frames: ["{Mia} reading in a library", "{Bo} walking", "{Mia} and {Bo}", "{Mia} and {Bo} in a city"]
"""


@pytest.fixture(scope="module")
def kontext(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("models") / "kontext"
    return load_backbone(build_tiny_transformer(folder, "flux-kontext"), device="cpu")


def asked(name: str, prompt: str, seed: int, *who: Subject) -> FrameRequest:
    settings = DrawSettings(steps=4, size=SIZE, guidance=2.5)
    return FrameRequest(id=name, prompt=prompt, seed=seed, settings=settings, subjects=who)


def latents(engine: Engine, *wanted: str) -> dict[str, torch.Tensor]:
    """Final latents of frames, which the engine drops with them."""
    states = {state.id: state for state in engine.frames}
    engine.drain()
    found = {name: states[name].latent for name in wanted}
    return {name: latent for name, latent in found.items() if latent is not None}


def by_diffusers(model: Backbone, prompt: str, seed: int, given: torch.Tensor) -> torch.Tensor:
    """What diffusers' own pipeline ends with, [c h w], looking at a latent [c h w]."""
    index = read_json(model.path / "model_index.json")
    missing = {name: None for name, entry in index.items() if entry == [None, None]}
    kind: Any = diffusers.FluxKontextPipeline
    pipe = kind.from_pretrained(model.path, local_files_only=True, **missing)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(
        model.latent_shape(*SIZE), generator=runtime.generator(seed, "latent")
    )  # c h w
    width, height = SIZE
    found = pipe(
        image=given[None], prompt=prompt, width=width, height=height, num_inference_steps=4,
        guidance_scale=2.5, latents=model.seam.row(pipe, noise)[None], output_type="latent",
        max_area=width * height, _auto_resize=False,
    ).images  # fmt: skip
    return torch.as_tensor(pipe._unpack_latents(found, height, width, pipe.vae_scale_factor)[0])


def test_a_frame_is_that_of_diffusers_own_edit_pipeline(kontext: Backbone) -> None:
    engine = Engine(kontext)
    story = SharedStory(engine, recipe_of("references"))
    story.cast("Mia", [asked("mia", "a red fox", 3, MIA)])
    story.submit(asked("next", "a fox in the snow", 4, MIA))
    found = latents(engine, "mia", "next")
    expected = by_diffusers(kontext, "a fox in the snow", 4, found["mia"])
    assert (found["next"] - expected).abs().max() <= 1e-4
    other = by_diffusers(kontext, "a fox in the snow", 4, -found["mia"])
    assert (other - expected).abs().max() > 1e-3, "the picture decides something"


def test_pictures_stand_side_by_side_and_company_changes_no_byte(kontext: Backbone) -> None:
    def story(engine: Engine) -> SharedStory:
        made = SharedStory(engine, recipe_of("references"))
        made.cast("Mia", [asked("mia", "a red fox", 3, MIA)])
        made.cast("Bo", [asked("bo", "a green bear", 5, BO)])
        return made

    engine = Engine(kontext)
    story(engine).submit(asked("both", "a fox and a bear", 4, MIA, BO))
    found = latents(engine, "mia", "bo", "both")
    wide = torch.cat([found["mia"], found["bo"]], -1)
    assert (found["both"] - by_diffusers(kontext, "a fox and a bear", 4, wide)).abs().max() <= 1e-4

    engine = Engine(kontext)
    other = SharedStory(engine, recipe_of("references"))
    other.cast("Mia", [asked("other", "a cat", 9, MIA)])
    other.submit(asked("third", "a cat in a city", 8, MIA))
    crowd = story(engine)
    engine.submit(asked("plain", "a city", 1))
    crowd.submit(asked("both", "a fox and a bear", 4, MIA, BO))
    assert torch.equal(latents(engine, "both")["both"], found["both"])


def test_a_story_is_drawn_and_replays(kontext: Backbone) -> None:
    plan = plan_story(parse_story(STORY), kontext)
    engine = Engine(kontext)
    cast = Cast(plan, engine)
    for frame in plan.frames:
        cast.draw(frame)
    found = {
        event.metadata["story"]["frame"]: event
        for event in engine.drain().values()
        if isinstance(event, FrameDone)
    }
    plain = plan_story(parse_story(STORY), kontext, Overrides(method="vanilla"))
    for index, frame in enumerate(plain.frames):
        alone = Engine(kontext)
        name = Cast(plain, alone).draw(frame)
        assert not np.array_equal(alone.drain()[str(name)].image, found[index].image)
    for event in found.values():
        again = replay(event.image, event.metadata, kontext, lambda m: recipe_named(kontext, m))
        assert again.verdict == "identical"


def test_models_that_take_no_pictures_are_refused(tmp_path: Path) -> None:
    dev = load_backbone(build_tiny_transformer(tmp_path / "dev", "flux-dev"), device="cpu")
    with pytest.raises(InputError, match=r"'references' cannot be used.*draws from words alone"):
        plan_story(parse_story(STORY), dev)
    with pytest.raises(InputError, match="draws from words alone"):
        SharedStory(Engine(dev), recipe_of("references"))
    index = read_json(dev.path / "model_index.json")
    missing = {name: None for name, entry in index.items() if entry == [None, None]}
    kind: Any = diffusers.FluxPipeline
    pipe = kind.from_pretrained(dev.path, local_files_only=True, **missing)
    with (
        pytest.raises(InputError, match="shares no attention"),
        share(pipe, "references"),
    ):
        pass
