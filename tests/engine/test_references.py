"""The method that gives pictures to an edit model, on diffusers' own classes at tiny size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

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
from services.plans.planner import ModelOutline, Planner

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


def klein_by_diffusers(
    model: Backbone, prompt: str, seed: int, given: Sequence[torch.Tensor], guidance: float
) -> torch.Tensor:
    """What diffusers' own pipeline of Klein ends with, [c h w], looking at latents [c h w]."""
    kind: Any = diffusers.Flux2KleinPipeline
    pipe = kind.from_pretrained(model.path, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    # Its pictures are encoded as they come; ours are latents already.
    queue = [latent[None] for latent in given]
    pipe._encode_vae_image = lambda image, generator: queue.pop(0)
    noise = torch.randn(model.latent_shape(*SIZE), generator=runtime.generator(seed, "latent"))
    seen: list[torch.Tensor] = []

    def watch(_pipe: Any, _step: int, _time: Any, said: dict[str, Any]) -> dict[str, Any]:
        seen.append(said["latents"])
        return {}

    width, height = SIZE
    pipe(
        image=[Image.new("RGB", SIZE) for _ in given] or None, prompt=prompt, width=width,
        height=height, num_inference_steps=4, guidance_scale=guidance, latents=noise[None],
        callback_on_step_end=watch, output_type="latent",
    )  # fmt: skip
    return seen[-1][0].T.reshape(noise.shape)


@pytest.fixture(scope="module", params=["klein", "klein-base"])
def klein(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("models") / request.param
    return load_backbone(build_tiny_transformer(folder, request.param), device="cpu")


def test_klein_looks_at_each_picture_in_a_place_of_its_own(klein: Backbone) -> None:
    guidance = 1.0 if "guidance" in klein.unable else 4.0

    def told(*said: Any) -> FrameRequest:
        return asked(*said).with_settings(guidance=guidance)

    engine = Engine(klein)
    story = SharedStory(engine, recipe_of("references"))
    story.cast("Mia", [told("mia", "a red fox", 3, MIA)])
    story.cast("Bo", [told("bo", "a green bear", 5, BO)])
    story.submit(told("next", "a fox in the snow", 4, MIA))
    story.submit(told("both", "a fox and a bear", 4, MIA, BO))
    found = latents(engine, "mia", "bo", "next", "both")
    for name, prompt, seed, given in (
        ("mia", "a red fox", 3, []),
        ("next", "a fox in the snow", 4, [found["mia"]]),
        ("both", "a fox and a bear", 4, [found["mia"], found["bo"]]),
    ):
        expected = klein_by_diffusers(klein, prompt, seed, given, guidance)
        assert (found[name] - expected).abs().max() <= 1e-4, name
    other = klein_by_diffusers(klein, "a fox in the snow", 4, [found["bo"]], guidance)
    assert (other - found["next"]).abs().max() > 1e-3, "the picture decides something"


def test_klein_draws_what_its_own_autoencoder_decodes(klein: Backbone) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), np.uint8)
    found = klein.encode(picture)
    assert found.shape == (1, *klein.latent_shape(64, 64)) == (1, 16, 4, 4)
    x = torch.from_numpy(picture).permute(0, 3, 1, 2) / 127.5 - 1.0
    kind: Any = diffusers.Flux2KleinPipeline
    pipe = kind.from_pretrained(klein.path, local_files_only=True)
    with torch.inference_mode():
        assert torch.allclose(found, pipe._encode_vae_image(x, None), atol=1e-5)
        z = pipe.vae.encode(x).latent_dist.mode()
        decoded = (pipe.vae.decode(z).sample * 0.5 + 0.5).clamp(0, 1) * 255
    seen = klein.decode(found).astype(int) - decoded.permute(0, 2, 3, 1).numpy()
    assert np.abs(seen).max() <= 1


def test_klein_draws_stories_by_references_alone(klein: Backbone) -> None:
    plain = STORY.replace("method: references\n", "")
    plan = plan_story(parse_story(plain), klein)
    assert plan.method == "references"
    assert plan_story(parse_story(plain), ModelOutline(klein.path)) == plan
    info = Planner(loaded=klein).model_info()
    assert (info.methods, info.default_method) == (["references", "vanilla"], "references")
    engine = Engine(klein)
    cast = Cast(plan, engine)
    for frame in plan.frames:
        cast.draw(frame)
    found = [e for e in engine.drain().values() if isinstance(e, FrameDone)]
    assert len(found) == 4
    for event in found:
        again = replay(event.image, event.metadata, klein, lambda m: recipe_named(klein, m))
        assert again.verdict == "identical"
    with pytest.raises(InputError, match=r"'consistory' cannot be used.*in one map"):
        plan_story(parse_story(plain), klein, Overrides(method="consistory"))
    with pytest.raises(InputError, match="in one map"):
        SharedStory(Engine(klein), recipe_of("style_aligned"))
    assert plan_story(parse_story(plain), klein, Overrides(method="vanilla")).method == "vanilla"


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
