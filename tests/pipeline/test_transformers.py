"""`consistent_gen.share` on pipelines with a transformer: of SD 3, FLUX.1 and Qwen-Image."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import ImageOps

import consistent_gen
from consistent_gen.attention.patch import attached
from consistent_gen.attention.policy import AttentionPolicy, Heads
from consistent_gen.attention.roles import FrameRole, Subject
from consistent_gen.errors import InputError
from consistent_gen.pipeline import PipelineStory
from consistent_gen.runtime import generator
from tests.every_run import or_slow
from tests.pipeline import transformer_toys as toys
from tests.pipeline.toys import differ, picture
from tests.pipeline.windows import WIDE

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
GUIDED = {"true_cfg_scale": 3.0, "negative_prompt": "a green cat"}
# Name -> its pipeline's class and parts, and further options.
KINDS: dict[str, Any] = {
    "sd3": ("StableDiffusion3Pipeline", lambda: {}, {}),
    "dev": ("FluxPipeline", lambda: {}, {}),
    "schnell": ("FluxPipeline", lambda: {"transformer": toys.flux_transformer(False)}, {}),
    "dev, guided": ("FluxPipeline", lambda: {}, GUIDED),
    "kontext": ("FluxKontextPipeline", lambda: {}, {"image": picture("blue")}),
    "pixart": ("PixArtSigmaPipeline", lambda: {}, {}),
    "qwen": ("QwenImagePipeline", lambda: {}, {}),
    "qwen, guided": ("QwenImagePipeline", lambda: {}, GUIDED),
}
METHODS = ("consistory", "consistyle", "head_start", "story_diffusion", "style_aligned")
PORTRAITS = ["a red fox", "a fox sitting in the meadow"]


def made(kind: str) -> tuple[Any, dict[str, Any]]:
    name, parts, more = KINDS[kind]
    return toys.made(name, **parts()), toys.options(name) | more


def hero_of(story: PipelineStory, **more: Any) -> Any:
    count = story.run.recipe.anchors
    seeds = list(range(1, count + 1))
    return story.anchor(PORTRAITS[:count], seeds, subject="fox", **more)


def plain(pipe: Any, options: dict[str, Any]) -> Any:
    given = {k: [v] if k == "negative_prompt" else v for k, v in options.items()}
    return pipe(prompt=["a fox reading"], generator=[generator(3, "latent")], **given).images[0]


def joint(story: PipelineStory) -> Any:
    """Anchors and a frame in the same calls."""
    count = story.run.recipe.anchors
    prompts = [*PORTRAITS[:count], "a fox reading"]
    roles = [
        FrameRole(
            frame=f"joint {i}", anchor=i if i < count else None,
            subjects=(Subject(name="fox", tokens=story._tokens(prompt, "fox")),),
        )
        for i, prompt in enumerate(prompts)
    ]  # fmt: skip
    story._planning = "fox"
    twins = [story.run.add_with_twin(role, {}) for role in roles]
    seeds = [*range(1, count + 1), 3]
    return story._draw([role.frame for role in roles], twins, prompts, seeds, {})[-1]


CASES = [(kind, method) for kind in KINDS for method in METHODS]
# In every run: each way of guidance, and each kind of method; `test_contract` has every family.
QUICK = [("sd3", "consistyle"), ("dev, guided", "style_aligned"), ("qwen", "head_start")]


@pytest.mark.parametrize("case", or_slow(CASES, QUICK), ids="-".join)
def test_every_way_gives_the_same_picture(case: tuple[str, str]) -> None:
    """Kept, kept as hidden states, drawn again beside each step, and all in the same calls."""
    (pipe, options), method = made(case[0]), case[1]
    own = dict(pipe.transformer.attn_processors)
    alone = plain(pipe, options)
    found: dict[str, Any] = {}
    for memory in ("kv", "hidden", "replay"):
        with consistent_gen.share(
            pipe, method, memory=memory, seed=5, settings=WIDE.get(method, {}), **options
        ) as story:
            hero = hero_of(story)
            found[memory] = story.frame("a fox reading", 3, [hero])
            assert np.array_equal(story.frame("a fox reading", 3, [hero]), found[memory])
            both = story.frames(["a fox reading", "a fox in the city"], [3, 4], [hero])
            assert differ(both[0], found[memory]) < 1e-5
            assert np.array_equal(story.frame("a fox reading", 3), alone)
    assert differ(found["kv"], alone) > 1e-3
    if method != "head_start":  # its anchors are ahead, so never in the same call
        with consistent_gen.share(
            pipe, method, memory="kv", seed=5, settings=WIDE.get(method, {}), **options
        ) as story:
            found["joint"] = joint(story)
    for memory, same in found.items():
        assert differ(same, found["kv"]) < 1e-5, memory
    assert np.array_equal(plain(pipe, options), alone)
    assert all(pipe.transformer.attn_processors[name] is p for name, p in own.items())


@pytest.mark.parametrize("kind", or_slow(["sd3", "dev", "qwen"], ["dev"]))
def test_masks_come_from_attention_to_the_text_or_are_given(kind: str) -> None:
    pipe, options = made(kind)
    results = []
    for corner in (None, 2, 8):
        masks = None
        if corner is not None:
            mask = torch.zeros(16, 24)
            mask[:corner, :corner] = 1.0
            masks = {0: mask, 1: mask}
        with consistent_gen.share(pipe, "consistory", **options) as story:
            hero = hero_of(story, masks=masks)
            if corner is None:
                seen = story.run.masks._frames["frame-0/twin"]
                assert seen.grid == (8, 12) and seen.maps["fox"]
            results.append(story.frame("a fox reading", 3, [hero]))
    assert differ(results[0], results[1]) > 1e-4 < differ(results[1], results[2])


def rows_seen(pipe: Any, options: dict[str, Any]) -> list[Any]:
    seen: list[Any] = []
    with consistent_gen.share(pipe, "style_aligned", **options) as story:
        begin = story.policy.begin

        def noting(call: Any) -> None:
            seen.append(call)
            begin(call)

        story.policy.begin = noting  # type: ignore[method-assign]
        hero_of(story)
    return seen


def test_steps_and_noise_levels_are_those_of_the_schedule() -> None:
    for kind, branches in (
        ("sd3", [("uncond", "cond")] * 4),
        ("dev", [("cond",)] * 4),
        ("dev, guided", [("cond",), ("uncond",)] * 4),
        ("qwen, guided", [("cond",), ("uncond",)] * 4),
    ):
        pipe, options = made(kind)
        calls = rows_seen(pipe, options)
        assert [tuple(row.branch for row in call.rows) for call in calls] == branches
        steps = [call.rows[0].step for call in calls]
        assert steps == sorted([*range(4)] * (len(calls) // 4))
        levels = [call.rows[0].time for call in calls[:: len(calls) // 4]]
        assert levels == pytest.approx(pipe.scheduler.sigmas[:4].tolist()) and levels[0] == 1.0
        assert {call.latent for call in calls} == {(16, 24) if kind == "sd3" else (8, 12)}


def test_steps_whose_timesteps_round_to_one_in_half_precision() -> None:
    """bfloat16 has no two numbers between 992 and 1000."""
    shared, options = made("dev")
    pipe = type(shared)(**copy.deepcopy(shared.components)).to(torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    sigmas = [1.0, 0.999, 0.998, 0.5, 0.2]
    pipe.scheduler = toys.scheduler(shift=1.0)
    calls = rows_seen(pipe, options | {"num_inference_steps": 5, "sigmas": sigmas})
    assert [call.rows[0].step for call in calls] == [0, 1, 2, 3, 4]
    assert calls[2].rows[0].time == pytest.approx(0.998)


def test_an_img2img_pipeline_starts_in_the_middle() -> None:
    pipe = toys.made("FluxImg2ImgPipeline")
    more = {"image": picture("blue"), "strength": 0.5, "num_inference_steps": 8}
    calls = rows_seen(pipe, toys.options("FluxImg2ImgPipeline") | more)
    assert [call.rows[0].step for call in calls] == [4, 5, 6, 7]


def test_a_scheduler_of_second_order() -> None:
    pipe, options = made("sd3")
    pipe.scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0)
    calls = rows_seen(pipe, options)
    assert [call.rows[0].step for call in calls] == list(range(7))


def test_ones_own_picture_stands_in_for_a_drawing() -> None:
    for kind in ("sd3", "dev", "qwen"):
        pipe, options = made(kind)
        results = []
        for colour in ("red", "blue"):
            with consistent_gen.share(pipe, "style_aligned", **options) as story:
                hero = hero_of(story, pictures={0: picture(colour)})
                results.append(story.frame("a fox reading", 3, [hero]))
        assert differ(*results) > 1e-3
    pipe, options = made("sd3")
    del options["height"], options["width"]
    with (
        consistent_gen.share(pipe, "style_aligned", **options) as story,
        pytest.raises(InputError, match=r"4 x 32 x 32, .* give share\(\) the height and width"),
    ):
        hero_of(story, pictures={0: picture("red", 64)})


def test_ones_own_picture_is_cropped_and_seen_as_a_viewer_shows_it() -> None:
    pipe, options = made("sd3")
    wide = picture("red", 64)
    wide.paste("blue", (0, 16, 64, 48))  # what is left of a square at 48 x 32, but for two edges
    clear = wide.convert("RGBA")
    clear.putalpha(255)
    with consistent_gen.share(pipe, "style_aligned", **options) as story:
        found = [story._encoded(x, generator(1, "reference"))[0] for x in (wide, clear)]
        cropped = ImageOps.fit(wide, (48, 32))
        found.append(story._encoded(cropped, generator(1, "reference"))[0])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_picture_is_encoded_as_its_pipeline_decodes_it() -> None:
    pipe, options = made("dev")
    with consistent_gen.share(pipe, "style_aligned", **options) as story:
        clean, noise = story._encoded(picture("green"), generator(1, "reference"))
    assert clean.shape == noise.shape == (8 * 12, 16)
    unpacked = pipe._unpack_latents(clean[None], 32, 48, pipe.vae_scale_factor)
    vae = pipe.vae
    again = vae.encode(pipe.image_processor.preprocess(picture("green"), height=32, width=48))
    expected = (again.latent_dist.mode() - vae.config.shift_factor) * vae.config.scaling_factor
    assert torch.allclose(unpacked, expected, atol=1e-6)


def test_words_are_looked_for_in_what_each_encoder_reads() -> None:
    pipe, options = made("sd3")
    with consistent_gen.share(pipe, "head_start", **options) as story:
        assert story._tokens("a red fox", "red fox") == (3, 24 + 3)
        assert story._tokens("a red fox", "fox", {"prompt_3": "a fox"}) == (3, 24 + 2)
    pipe.text_encoder_3 = None
    with consistent_gen.share(pipe, "head_start", **options) as story:
        assert story._tokens("a red fox", "fox") == (3,)
        assert differ(story.frame("a fox reading", 3, [hero_of(story)]), plain(pipe, options)) > 0
    pipe, options = made("dev")
    with consistent_gen.share(pipe, "head_start", **options) as story:
        assert story._tokens("a red fox", "fox") == (3,)
        assert story._tokens("a red fox", "fox", {"prompt_2": "the old fox and a fox"}) == (3, 6)
        with pytest.raises(InputError, match="a prompt does not say 'fox'"):
            story.frame("a red fox", 3, [hero_of(story)], prompt_2="a cat")


def test_words_in_a_language_models_text() -> None:
    """The text around the prompt says words too, and a word at the start has no space before it."""
    pipe, options = made("qwen")
    with consistent_gen.share(pipe, "head_start", **options) as story:
        assert story._tokens("a red fox", "fox") == (2,)
        assert story._tokens("fox and a red fox", "fox") == (0, 4)
        assert story._tokens("a red fox", "red fox") == (2,)
        for word in ("drawing", "cat"):
            with pytest.raises(InputError, match=f"does not say '{word}'"):
                story._tokens("a red fox", word)


class Again(AttentionPolicy):
    """Puts queries back in their own place, so that attention is ours and not the layer's."""

    def begin(self, call: Any) -> None:
        raise AssertionError("nobody announces rows here")

    def acts(self, site: Any) -> bool:
        return True

    def self_attention(self, heads: Heads, site: Any) -> None:
        heads.put("q", 0, heads.get("q", 0))


@pytest.mark.parametrize("kind", ["sd3", "dev", "kontext", "qwen"])
def test_attention_without_anything_shared_is_the_models(kind: str) -> None:
    """Positions, padding of unequal prompts and all: two ways to the same numbers."""
    pipe, options = made(kind)
    prompts = ["a fox", "a small red fox reading in the old city"]

    def latents() -> Any:
        generators = [generator(seed, "latent") for seed in (1, 2)]
        given = options | {"output_type": "latent"}
        return pipe(prompt=prompts, generator=generators, **given).images

    expected = latents()
    with attached(pipe.transformer, Again()):
        assert torch.allclose(latents(), expected, atol=1e-5)


def test_words_as_the_pipeline_cleans_them_and_no_padding() -> None:
    """PixArt reads small letters, and what is no word is not looked at."""
    pipe, options = made("pixart")
    with consistent_gen.share(pipe, "head_start", **options) as story:
        assert story._tokens("A red FOX", "Fox") == (3,)
        add, sums = story.run.masks.add, []

        def noting(frame: str, name: str, step: int, looked: Any, grids: Any) -> None:
            sums.append(looked)
            add(frame, name, step, looked, grids)

        story.run.masks.add = noting  # type: ignore[method-assign]
        hero_of(story)
    # Of five tokens, not of 24, one is the fox.
    assert sums and 0.05 < float(torch.stack(sums).mean()) < 0.8


def test_what_cannot_be_shared_is_refused_in_one_line() -> None:
    def refused(kind: str, reason: str, scheduler: Any = None, **more: Any) -> None:
        pipe, options = made(kind)
        if scheduler is not None:
            pipe.scheduler = scheduler
        with (
            pytest.raises(InputError, match=reason) as caught,
            consistent_gen.share(pipe, "style_aligned", **options | more),
        ):
            pass
        assert "\n" not in str(caught.value)

    refused("sd3", "leave out layers", skip_guidance_layers=[1])
    refused("sd3", "its image adapter acts", ip_adapter_image=picture())
    refused("dev", "cannot be sampled by it", diffusers.DDIMScheduler())
    refused("dev", "cannot be sampled by it", diffusers.FlowMatchHeunDiscreteScheduler())
    refused("sd3", "comes from no seed", toys.scheduler(stochastic_sampling=True))
    refused("dev", "no places in a training schedule", toys.scheduler(invert_sigmas=True))
    refused("kontext", "cannot be sampled by it", diffusers.DDIMScheduler())
    refused("dev", "has no option 'strength'", strength=0.5)
    pipe, options = made("dev")
    with (
        consistent_gen.share(pipe, "style_aligned", **options | {"true_cfg_scale": 3.0}) as story,
        pytest.raises(InputError, match="give one to share"),
    ):
        story.frame("a fox reading", 3, [hero_of(story)], negative_prompt="a cat")
    pipe.transformer.transformer_blocks[0].compile(backend="eager")
    with (
        pytest.raises(InputError, match=r"transformer is compiled .* pipe.transformer.modules"),
        consistent_gen.share(pipe, "style_aligned", **options),
    ):
        pass
    with (
        pytest.raises(InputError, match="takes 16 channels, and the autoencoder makes 64"),
        consistent_gen.share(toys.made("FluxPipeline", vae=toys.autoencoder(16))),
    ):
        pass


def test_a_saved_character_opens_and_another_model_is_refused(tmp_path: Path) -> None:
    pipe, options = made("dev")
    with consistent_gen.share(pipe, "head_start", **options) as story:
        hero = hero_of(story)
        expected = story.frame("a fox reading", 3, [hero])
        hero.save(tmp_path / "fox.json")
    with consistent_gen.share(pipe, "head_start", **options) as story:
        again = story.load(tmp_path / "fox.json")
        assert np.array_equal(story.frame("a fox reading", 3, [again]), expected)
        pipe.transformer.x_embedder.bias.data += 1.0
        with pytest.raises(InputError, match=r"model is .* draw the anchors again"):
            story.frame("a fox reading", 3, [again])
    with (
        consistent_gen.share(pipe, "head_start", **options | {"guidance_scale": 2.0}) as story,
        pytest.raises(InputError, match="was saved with"),
    ):
        story.load(tmp_path / "fox.json")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_lora_acts_and_its_weight_is_known() -> None:
    from peft import LoraConfig

    pipe, options = made("dev")
    without = plain(pipe, options)
    torch.manual_seed(0)
    pipe.transformer.add_adapter(
        LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False), "brush"
    )
    assert differ(plain(pipe, options), without) > 1e-4
    with consistent_gen.share(pipe, "head_start", **options) as story:
        hero = hero_of(story)
        assert np.array_equal(story.frame("a fox reading", 3), plain(pipe, options))
        pipe.transformer.set_adapters(["brush"], [0.25])
        with pytest.raises(InputError, match="adapter_scales is"):
            story.frame("a fox reading", 3, [hero])
