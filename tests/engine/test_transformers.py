"""Folders of models with transformers in the engine, on diffusers' own classes at tiny size."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from consistent_gen import runtime
from consistent_gen.checkpoints import read_json, write_json
from consistent_gen.cli.replay import recipe_named
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameDone, FrameRequest, Step
from consistent_gen.engine.flow import FlowSampler
from consistent_gen.engine.redrawing import Redrawing
from consistent_gen.engine.replaying import redraw, replay
from consistent_gen.engine.schedulers import spaced_timesteps
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.methods import FOR_EVERY_MODEL
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.tiny_transformers import Kind, build_tiny_transformer
from consistent_gen.story.cast import Cast
from consistent_gen.story.plan import Overrides, plan_story
from consistent_gen.story.script import parse_story
from services.plans.planner import ModelOutline
from tests.every_run import or_slow

SIZE = (64, 96)
KINDS: tuple[Kind, ...] = ("sd3", "flux-dev", "flux-schnell", "qwen", "pixart", "pixart-sigma")
GUIDANCE = {
    "sd3": 3.0, "flux-dev": 2.5, "flux-schnell": 1.0, "qwen": 3.0, "pixart": 3.0,
    "pixart-sigma": 3.0,
}  # fmt: skip
QUICK: tuple[Kind, ...] = ("flux-dev", "qwen")  # in every run, where all go one way
STORY = """\
title: Two
seed: 3
steps: 4
size: 64x64
characters: {Mia: a girl with a red hat, Bo: a small bear}
frames: ["{Mia} reading in a library", "{Bo} walking", "{Mia} and {Bo}"]
"""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Backbone]:
    folder = tmp_path_factory.mktemp("models")
    return {
        kind: load_backbone(build_tiny_transformer(folder / kind, kind), device="cpu")
        for kind in KINDS
    }


def asked(kind: str, prompt: str = "a red fox", seed: int = 3, **settings: Any) -> FrameRequest:
    said = {"steps": 4, "size": SIZE, "guidance": GUIDANCE[kind], **settings}
    return FrameRequest(id="one", prompt=prompt, seed=seed, settings=DrawSettings(**said))


def drawn(model: Backbone, request: FrameRequest, **options: Any) -> np.ndarray:
    engine = Engine(model, **options)
    engine.submit(request)
    return engine.drain()[str(request.id)].image


@functools.cache
def pipeline(folder: Path) -> Any:
    import diffusers

    index = read_json(folder / "model_index.json")
    missing = {name: None for name, entry in index.items() if entry == [None, None]}
    kind = getattr(diffusers, index["_class_name"])
    made = kind.from_pretrained(folder, local_files_only=True, **missing)
    made.set_progress_bar_config(disable=True)
    if "Qwen" in index["_class_name"]:  # in the words of the tiny tokenizer
        before = made.prompt_template_encode.split("{}")[0]
        made.prompt_template_encode_start_idx = len(made.tokenizer(before).input_ids)
    if "PixArt" in index["_class_name"]:
        made.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(
            made.scheduler.config, solver_order=1
        )
    return made


def noise_of(model: Backbone, seed: int) -> torch.Tensor:
    generator = runtime.generator(seed, "latent")
    return torch.randn(model.latent_shape(*SIZE), generator=generator)


def by_diffusers(model: Backbone, kind: str, **said: Any) -> torch.Tensor:
    """The latent [c h w] that diffusers' own pipeline ends with, from the same noise."""
    pipe, (width, height) = pipeline(model.path), SIZE
    noise = model.seam.row(pipe, noise_of(model, 3))
    said["true_cfg_scale" if kind == "qwen" else "guidance_scale"] = GUIDANCE[kind]
    if "pixart" in kind:
        steps = spaced_timesteps(pipe.scheduler.config, 4)
        said |= {"use_resolution_binning": False, "clean_caption": False, "timesteps": steps}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        found = pipe(
            height=height, width=width, num_inference_steps=4, latents=noise[None],
            output_type="latent",
            max_sequence_length=model.seam.text_length(model.denoiser.config), **said,
        ).images  # fmt: skip
    if model.seam.packs == 2:
        found = pipe._unpack_latents(found, height, width, pipe.vae_scale_factor)
    return torch.as_tensor(found[0]).reshape(model.latent_shape(*SIZE))


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_that_of_diffusers_own_pipeline(
    models: Mapping[str, Backbone], kind: str
) -> None:
    model = models[kind]
    engine = Engine(model)
    request = asked(kind, "a Red fox")
    said = {"prompt": request.prompt}
    if "flux" not in kind:
        request = replace(request, negative="a cat")
        said["negative_prompt"] = "a cat"
    engine.submit(request)
    state = engine.frames[0]
    image = engine.drain()["one"].image
    expected = by_diffusers(model, kind, **said)
    assert state.latent is not None and image.shape == (96, 64, 3)
    # Untrained PixArt, which starts at 157 times the noise, ends with hundreds.
    assert torch.allclose(state.latent, expected, rtol=1e-5, atol=1e-4)
    other = by_diffusers(model, kind, **(said | {"prompt": "a green bear in the city"}))
    assert (other - expected).abs().max() > 1e-3, "the prompt decides something"


def test_stable_diffusion_3_may_be_without_t5(tmp_path: Path) -> None:
    model = load_backbone(build_tiny_transformer(tmp_path / "m", "sd3", t5=False), device="cpu")
    engine = Engine(model)
    engine.submit(asked("sd3"))
    state = engine.frames[0]
    engine.drain()
    assert state.latent is not None
    assert (state.latent - by_diffusers(model, "sd3", prompt="a red fox")).abs().max() <= 1e-4
    assert [reader.length for reader in model.readers] == [77]
    with pytest.raises(InputError, match="reads 77"):
        engine.submit(asked("sd3", "a red fox " * 40))


def test_the_second_order_sampler_is_diffusers_own() -> None:
    from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

    def set_up() -> Any:
        made = FlowMatchEulerDiscreteScheduler(shift=2.0)
        made.set_timesteps(6)
        return made

    flow = set_up()
    theirs = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, algorithm_type="dpmsolver++",
        final_sigmas_type="zero",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        theirs.set_timesteps(6)
    theirs.sigmas, theirs.timesteps = flow.sigmas.double(), flow.timesteps
    theirs.set_begin_index(0)
    ours = FlowSampler(flow, second_order=True)
    start = torch.randn(2, 4, 4, generator=runtime.generator(0, "start"))
    one, two = start, start.double()
    for moment in flow.timesteps:
        # A flow that bends, so that orders differ.
        one = ours.step(torch.sin(3 * one) + moment / 1000, float(moment), one)[0]
        two = theirs.step(torch.sin(3 * two) + moment / 1000, moment, two, return_dict=False)[0]
    assert (one - two).abs().max() < 1e-4
    euler, three = FlowSampler(set_up(), second_order=False), start
    for moment in flow.timesteps:
        three = euler.step(torch.sin(3 * three) + moment / 1000, float(moment), three)[0]
    assert (one - three).abs().max() > 1e-2


@pytest.mark.parametrize("kind", or_slow(KINDS, QUICK))
def test_bytes_depend_on_no_company(models: Mapping[str, Backbone], kind: str) -> None:
    model = models[kind]
    alone = drawn(model, asked(kind))
    engine = Engine(model)
    for number, prompt in enumerate(("a cat", "an old bear in the forest", "a city")):
        other = asked(kind, prompt, number, steps=3 + number, scheduler="dpm")
        engine.submit(replace(other, id=f"other {number}"))
    engine.step()  # the others are a step ahead
    engine.submit(asked(kind))
    assert np.array_equal(engine.drain()["one"].image, alone)


STORIES = [(kind, method) for kind in KINDS for method in FOR_EVERY_MODEL]
QUICK_STORIES = [("flux-dev", "consistyle"), ("qwen", "head_start")]


@pytest.mark.parametrize("case", or_slow(STORIES, QUICK_STORIES), ids="-".join)
def test_stories_are_drawn_with_every_method_and_replay(
    models: Mapping[str, Backbone], case: tuple[str, str]
) -> None:
    """Each frame alone, from what its picture says, has the bytes that it has in the story."""
    kind, method = case
    model = models[kind]
    plan = plan_story(parse_story(STORY), model, Overrides(method=method))
    assert all(subject.tokens for frame in plan.frames for subject in frame.subjects)
    engine = Engine(model)
    cast = Cast(plan, engine)
    for frame in plan.frames:
        cast.draw(frame)
    found = {
        event.metadata["story"]["frame"]: event
        for event in engine.drain().values()
        if isinstance(event, FrameDone)
    }
    vanilla = Cast(
        plan_story(parse_story(STORY), model, Overrides(method="vanilla")), engine, prefix="plain "
    )
    for frame in vanilla.plan.frames:
        vanilla.draw(frame)
    plain = {e.metadata["story"]["frame"]: e.image for e in engine.drain().values()}
    assert sorted(found) == sorted(plain) == [0, 1, 2]
    if method != "vanilla":
        # The frame of both may be what the others read, and then reads nobody.
        assert any(not np.array_equal(found[i].image, plain[i]) for i in plain)
    for done in found.values():
        again = replay(done.image, done.metadata, model, partial(recipe_named, model))
        assert again.verdict == "identical", again.reasons


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_characters_are_found_in_every_encoder(
    models: Mapping[str, Backbone], kind: str
) -> None:
    model = models[kind]
    plan = plan_story(parse_story(STORY), model)
    for subject in plan.frames[2].subjects:
        noun = {"Mia": "girl", "Bo": "bear"}[subject.name]
        said = []
        for reader in model.readers:
            ids = reader.read(plan.frames[2].prompt)["input_ids"]
            own = [i - reader.first for i in subject.tokens if 0 <= i - reader.first < len(ids)]
            said.append(reader.tokenizer.decode([ids[i] for i in own]).strip())
        assert said == [noun] * len(model.readers)


@pytest.mark.parametrize("kind", or_slow(KINDS, ["flux-dev"]))
def test_previews_show_the_picture_so_far(models: Mapping[str, Backbone], kind: str) -> None:
    model = models[kind]
    for how in ("linear", "decode"):
        engine = Engine(model)
        events = [*engine.run([replace(asked(kind), preview=how)])]
        shown = [e.preview for e in events if isinstance(e, Step) and e.preview is not None]
        assert len(shown) == 3 and {one.shape for one in shown} == {(96, 64, 3)}
        assert not np.array_equal(shown[0], shown[2])


@pytest.mark.parametrize("kind", or_slow(KINDS, QUICK))
def test_a_part_is_drawn_again_and_the_rest_stays(
    models: Mapping[str, Backbone], kind: str
) -> None:
    model = models[kind]
    engine = Engine(model)
    engine.submit(asked(kind))
    done = engine.drain()["one"]
    mask = np.zeros((96, 64), np.bool_)
    mask[:, 32:] = True
    again = redraw(done.image, done.metadata, model, mask, seed=9).image
    assert np.array_equal(again[~mask], done.image[~mask])
    assert not np.array_equal(again[mask], done.image[mask])
    redrawing = Redrawing(picture=done.image, mask=mask)
    assert drawn(model, replace(asked(kind, seed=9), redrawing=redrawing)).shape == (96, 64, 3)


def test_a_part_of_a_shared_frame_is_drawn_with_another_prompt(
    models: Mapping[str, Backbone],
) -> None:
    model = models["sd3"]
    plan = plan_story(parse_story(STORY), model, Overrides(method="consistory"))
    engine = Engine(model)
    Cast(plan, engine).draw(plan.frames[2])
    (done,) = [e for e in engine.drain().values() if e.metadata["story"]["frame"] == 2]
    mask = np.ones((64, 64), np.bool_)
    recipes = partial(recipe_named, model)
    other = "an old bear and a green girl in the city"
    found = redraw(done.image, done.metadata, model, mask, seed=4, prompt=other, recipe_of=recipes)
    tokens = dict(found.metadata["story"]["sharing"]["subjects"])
    assert all(len(of) == len(model.readers) for of in tokens.values())
    with pytest.raises(InputError, match="does not say the word that stands for Mia: 'girl'"):
        redraw(done.image, done.metadata, model, mask, seed=4, prompt="a bear", recipe_of=recipes)


def test_a_users_own_picture_is_read(models: Mapping[str, Backbone]) -> None:
    """A reference stands in for a drawing: at every step the picture with that step's noise."""
    model = models["flux-dev"]
    picture = np.full((96, 64, 3), 90, np.uint8)
    engine = Engine(model)
    engine.submit(replace(asked("flux-dev"), reference=picture))
    state, clean = engine.frames[0], model.encode(picture[None])[0]
    engine.step()
    sigma = state.scheduler.sigmas[1]
    expected = (1 - sigma) * clean + sigma * noise_of(model, 3)
    assert state.latent is not None and torch.allclose(state.latent, expected, atol=1e-6)
    engine.drain()
    assert torch.allclose(state.latent, clean)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("sd3", {"retouch": 0.5}, "retouch does nothing"),
        ("sd3", {"contours": 3.0}, "contours does nothing"),
        ("flux-dev", {"guidance_until": 0.5}, "guidance_until does nothing"),
        ("flux-schnell", {"retouch": 0.5}, "retouch does nothing"),
        ("flux-dev", {"refine": 1}, "no second stage"),
        ("sd3", {"size": (40, 64)}, "multiples of 16"),
    ],
)
def test_what_a_model_cannot_do_is_refused(
    models: Mapping[str, Backbone], kind: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        Engine(models[kind]).submit(asked(kind, **settings))


def test_a_story_is_refused_by_line_from_configs_alone(models: Mapping[str, Backbone]) -> None:
    """Before anything is loaded: `ModelOutline` has no weights and knows the same."""
    dev, schnell = models["flux-dev"], models["flux-schnell"]
    wrong = STORY.replace("steps: 4", "retouch: 0.5").replace(
        'frames: ["{Mia} reading in a library"', 'frames: [{prompt: "{Mia}", negative: old}'
    )
    for model in (dev, ModelOutline(dev.path)):
        with pytest.raises(InputError) as told:
            plan_story(parse_story(wrong), model)
        said = str(told.value)
        assert "retouch does nothing" in said and "negative does nothing" in said
        assert told.value.line == 3
    guided = Overrides(settings={"guidance": 3.0})
    with pytest.raises(InputError, match="guidance does nothing"):
        plan_story(parse_story(STORY), ModelOutline(schnell.path), guided)
    assert plan_story(parse_story(STORY), dev, guided).settings.guidance == 3.0


@pytest.mark.parametrize("kind", KINDS)
def test_an_outline_answers_as_the_loaded_model(models: Mapping[str, Backbone], kind: str) -> None:
    model, outline = models[kind], ModelOutline(models[kind].path)
    for name in ("name", "default_size", "size_multiple", "sha256", "unable", "recommended"):
        assert getattr(outline, name) == getattr(model, name), name
    assert outline.vocabulary() is model.vocabulary() is None
    assert plan_story(parse_story(STORY), outline) == plan_story(parse_story(STORY), model)


def test_a_family_says_how_it_is_drawn(models: Mapping[str, Backbone]) -> None:
    plain = STORY.replace("steps: 4\n", "")
    found = {kind: plan_story(parse_story(plain), model).settings for kind, model in models.items()}
    assert [(found[kind].steps, found[kind].guidance) for kind in KINDS] == [
        (28, 7.0), (28, 3.5), (4, 1.0), (50, 4.0), (20, 4.5), (20, 4.5),
    ]  # fmt: skip
    settled = asked("flux-dev").settled(models["flux-dev"]).settings
    assert not settled.guided and asked("sd3").settled(models["sd3"]).settings.guided


@pytest.mark.parametrize("kind", or_slow(KINDS, QUICK))
def test_half_precision_draws(models: Mapping[str, Backbone], kind: str) -> None:
    half = load_backbone(models[kind].path, device="cpu", dtype="bfloat16")
    near = drawn(half, asked(kind)).astype(int) - drawn(models[kind], asked(kind)).astype(int)
    assert 0 < np.abs(near).mean() < 8


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "a DDIMScheduler"),
        ("scheduler/scheduler_config.json", {"invert_sigmas": True}, "training schedule"),
        ("scheduler/scheduler_config.json", {"max_image_seq_len": 256}, "no schedule can be made"),
        ("scheduler/scheduler_config.json", {"base_shift": "x"}, "no schedule can be made"),
        ("model_index.json", {"text_encoder_2": [None, None]}, "names None as text_encoder_2"),
        ("model_index.json", {"_class_name": "StableDiffusion3Pipeline"}, "tokenizer|Transformer"),
        ("model_index.json", {"_class_name": ["FluxPipeline"]}, "families that can be loaded"),
    ],
)
def test_a_folder_that_would_draw_something_else_is_refused(
    file: str, change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = build_tiny_transformer(tmp_path / "m", "flux-dev")
    write_json(folder / file, read_json(folder / file) | change)
    with pytest.raises(CheckpointError, match=words):
        load_backbone(folder, device="cpu")


def test_a_transformer_that_is_told_more_is_refused(tmp_path: Path) -> None:
    folder = build_tiny_transformer(tmp_path / "m", "qwen")
    network = load_backbone(folder, device="cpu").denoiser
    type(network).from_config({**network.config, "guidance_embeds": True}).save_pretrained(
        folder / "transformer"
    )
    with pytest.raises(CheckpointError, match=r"guidance_embeds.*told the text alone"):
        load_backbone(folder, device="cpu")


def test_an_autoencoder_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = build_tiny_transformer(tmp_path / "m", "sd3")
    from diffusers import AutoencoderKL

    AutoencoderKL(latent_channels=8).save_pretrained(folder / "vae")
    with pytest.raises(CheckpointError, match="4 channels, and its autoencoder makes 8"):
        load_backbone(folder, device="cpu")
