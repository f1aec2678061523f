"""Which pipelines can share, each on the real class: what works is right, all else is refused."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    DPMSolverSinglestepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    T2IAdapter,
)

import consistent_gen
from consistent_gen.attention.rows import Row
from consistent_gen.errors import InputError
from consistent_gen.models.tiny import SCHEDULER
from consistent_gen.pipeline import PipelineStory
from consistent_gen.pipeline.contract import PIPELINES, REFUSED, SCHEDULERS, seam_of
from consistent_gen.runtime import generator
from tests.attention.toys import redraw
from tests.every_run import QUICK_PIPELINES, or_slow
from tests.pipeline import transformer_toys
from tests.pipeline.toys import OPTIONS, differ, picture, pipe, text, tokenizer, unet

# What diffusers says of itself and of numpy.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
MIXED = {"mixing_steps": 1.0, "injection": 0.0}  # a look at every step but the first


def hero_of(story: PipelineStory, **more: Any) -> Any:
    count = story.run.recipe.anchors
    prompts = ["a red fox", "a fox sitting in the meadow"][:count]
    return story.anchor(prompts, list(range(1, count + 1)), subject="fox", **more)


def class_of(name: str) -> Any:
    return getattr(diffusers, name)


def network(name: str) -> dict[str, Any]:
    """The further parts of a pipeline class."""
    xl = "XL" in name
    if "ControlNet" in name:
        whole = unet(xl=xl)
        control = ControlNetModel.from_unet(
            whole, conditioning_embedding_out_channels=(8, 16), load_weights_from_unet=False
        )
        redraw(control, 3)
        return {"unet": whole, "controlnet": control.eval().requires_grad_(False)}
    if "Adapter" in name:
        made = T2IAdapter(
            in_channels=3, channels=[32, 64], num_res_blocks=1, downscale_factor=2,
            adapter_type="full_adapter",
        )  # fmt: skip
        redraw(made, 4)
        return {"adapter": made.eval().requires_grad_(False)}
    if "Latent" in name:
        return {"unet": unet(time_cond_proj_dim=8), "scheduler": LCMScheduler(steps_offset=1)}
    return {}


def options_of(name: str) -> dict[str, Any]:
    support, options = PIPELINES[name], dict(OPTIONS)
    if support.seam != "unet":
        options = transformer_toys.options(name)
    for wanted in {"image", "control_image"}.intersection(support.needs):
        options[wanted] = picture("blue")
    if "mask_image" in support.needs:
        mask = picture("black")
        mask.paste((255, 255, 255), (8, 8, 24, 24))
        options["mask_image"] = mask
    if "strength" in support_parameters(name):
        options["strength"] = 0.75
    if "Img2Img" not in name and support.seam == "unet":
        options |= {"height": 32, "width": 32}
    return options


def support_parameters(name: str) -> Any:
    return inspect.signature(class_of(name).__call__).parameters


def made(name: str, **parts: Any) -> Any:
    if PIPELINES[name].seam != "unet":
        return transformer_toys.made(name, **parts)
    return pipe(class_of(name), xl="XL" in name, **network(name) | parts)


@pytest.mark.parametrize("name", or_slow(PIPELINES, QUICK_PIPELINES))
def test_every_listed_class_shares(name: str) -> None:
    """Nobody's frame is the pipeline's own, the hero's differs, and a look changes no call.

    With weight 0 the queries that a look finds count nothing, so the frame is as without looks.
    """
    tried, options = made(name), options_of(name)
    with seam_of(PIPELINES[name]).running(tried):
        found = tried(prompt=["a fox reading"], generator=[generator(3, "latent")], **options)
    plain = found.images[0]
    results = {}
    for memory in ("kv", "hidden"):
        with consistent_gen.share(
            tried, "consistory", memory=memory, settings=MIXED, **options
        ) as story:
            hero = hero_of(story)
            results[memory] = story.frame("a fox reading", 3, [hero])
            assert differ(story.frame("a fox reading", 3), plain) == 0.0
    assert differ(results["kv"], plain) > 1e-3
    assert differ(results["hidden"], results["kv"]) < 1e-3
    still = {"mixing": (0.0, 0.0)}
    found = []
    for settings in (MIXED | still, {"mixing_steps": 0.0, "injection": 0.0}):
        with consistent_gen.share(tried, "consistory", settings=settings, **options) as story:
            found.append(story.frame("a fox reading", 3, [hero_of(story)]))
    assert differ(*found) < 1e-4


@pytest.mark.parametrize("name", ["StableDiffusionAdapterPipeline"])
def test_a_look_sees_the_adapters_residuals(name: str) -> None:
    """A model takes residuals out of the list it is given; each call has a list of its own."""
    tried, options = made(name), options_of(name)
    seen: list[int] = []
    hook = tried.unet.register_forward_pre_hook(
        lambda _m, _a, kwargs: seen.append(len(kwargs["down_intrablock_additional_residuals"])),
        with_kwargs=True,
    )
    with consistent_gen.share(tried, "consistory", settings=MIXED, **options) as story:
        hero_of(story)
    hook.remove()
    assert set(seen) == {2}


def test_a_pictures_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "StableDiffusionControlNetPipeline"
    tried = made(name)
    with consistent_gen.share(tried, "head_start", **options_of(name)) as story:
        hero = hero_of(story)
        usual = story.frame("a fox reading", 3, [hero])
        assert differ(story.frame("a fox reading", 3, [hero], image=picture("green")), usual) > 1e-4
        other = story.frame("a fox reading", 3, [hero], negative_prompt="a green hat")
        assert differ(other, usual) > 1e-4
        with pytest.raises(InputError, match=r"cannot have num_inference_steps= .* whole story"):
            story.frame("a fox reading", 3, [hero], num_inference_steps=9)
        with pytest.raises(InputError, match="of a frame is one text"):
            story.frame("a fox reading", 3, [hero], negative_prompt=["a", "b"])
        with pytest.raises(InputError, match="2 prompts and 1 seeds"):
            story.frames(["a fox", "a fox"], [1], [hero])


# Steps, noise levels and rows.


def rows_seen(tried: Any, options: dict[str, Any], method: str = "style_aligned") -> list[Row]:
    seen: list[Row] = []
    with consistent_gen.share(tried, method, **options) as story:
        begin = story.policy.begin

        def noting(call: Any) -> None:
            seen.append(call.rows[0])
            begin(call)

        story.policy.begin = noting  # type: ignore[method-assign]
        hero_of(story)
    return seen


def test_img2img_starts_in_the_middle_of_its_schedule() -> None:
    name = "StableDiffusionImg2ImgPipeline"
    options = options_of(name) | {"strength": 0.5, "num_inference_steps": 8}
    rows = rows_seen(made(name), options)
    assert [row.step for row in rows] == [4, 5, 6, 7]
    assert {row.steps for row in rows} == {8}
    assert rows[0].time == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "kind", or_slow([HeunDiscreteScheduler, KDPM2DiscreteScheduler], [HeunDiscreteScheduler])
)
def test_schedulers_of_second_order(kind: Any) -> None:
    """Each of their calls is a step; what is kept is as much as was said."""
    tried = made("StableDiffusionPipeline", scheduler=kind())
    rows = rows_seen(tried, OPTIONS)
    assert [row.step for row in rows] == list(range(7))
    times = [row.time for row in rows]
    assert times == sorted(times, reverse=True)
    with consistent_gen.share(tried, "style_aligned", memory="kv", **OPTIONS) as story:
        hero = hero_of(story)
        assert story.run.bank.bytes == story.plans["fox"].bytes
        story.frame("a fox reading", 3, [hero])


def test_another_size_than_the_models_own() -> None:
    tried = made("StableDiffusionPipeline")
    for size in ({}, {"height": 64, "width": 32}):
        with consistent_gen.share(tried, "style_aligned", memory="kv", **OPTIONS, **size) as story:
            hero = hero_of(story)
            assert story.run.bank.bytes == story.plans["fox"].bytes
            story.frame("a fox reading", 3, [hero])


def test_guidance_is_told_by_the_pipeline() -> None:
    """Off, and in a model that has the guidance as an input."""
    tried = made("StableDiffusionPipeline")
    assert {r.branch for r in rows_seen(tried, OPTIONS | {"guidance_scale": 1.0})} == {"cond"}
    assert {r.branch for r in rows_seen(tried, OPTIONS)} == {"uncond"}  # of the first row
    embedded = made("StableDiffusionPipeline", unet=unet(time_cond_proj_dim=8))
    assert {r.branch for r in rows_seen(embedded, OPTIONS)} == {"cond"}


def test_windows_are_shares_at_few_steps() -> None:
    tried = made("StableDiffusionPipeline", scheduler=LCMScheduler(steps_offset=1))
    assert [row.step for row in rows_seen(tried, OPTIONS | {"num_inference_steps": 2})] == [0, 1]


# Refusals.


def test_what_is_refused_has_a_reason() -> None:
    for name, reason in (
        ("StableDiffusionPAGPipeline", "perturbed rows"),
        ("StableDiffusionInstructPix2PixPipeline", "three rows"),
    ):
        tried = pipe(class_of(name))
        with (
            pytest.raises(InputError, match=f"a {name} cannot share attention: .*{reason}"),
            consistent_gen.share(tried),
        ):
            pass

    class Own(diffusers.StableDiffusionPipeline):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    class Named(diffusers.StableDiffusionPipeline):
        pass

    with (
        pytest.raises(InputError, match=r"an? Own .*how it calls its UNet is not known"),
        consistent_gen.share(pipe(Own)),
    ):
        pass
    with consistent_gen.share(pipe(Named), **OPTIONS) as story:
        assert story._open


# Classes that no table names, of every kind of network.
UNLISTED = ("HunyuanDiTPipeline", "AuraFlowPipeline", "WanPipeline", "StableCascadeDecoderPipeline",
            "StableDiffusionLDM3DPipeline", "StableDiffusion3ControlNetInpaintingPipeline",
            "FluxControlNetImg2ImgPipeline", "QwenImageLayeredPipeline")  # fmt: skip


@pytest.mark.parametrize("name", [*REFUSED, *UNLISTED])
def test_a_class_is_refused_before_its_parts_are_looked_at(name: str) -> None:
    """In one line with a reason: never a raw error, and nothing is drawn unshared."""
    kind = class_of(name)
    bare = kind.__new__(kind)
    with pytest.raises(InputError) as caught, consistent_gen.share(bare):
        pass
    said = str(caught.value)
    assert "\n" not in said and said.startswith(f"a {name} ")
    assert REFUSED.get(name, "has no UNet") in said


def test_lists_name_classes_that_exist() -> None:
    for name in (*PIPELINES, *REFUSED, *SCHEDULERS):
        assert hasattr(diffusers, name), name
    assert not PIPELINES.keys() & REFUSED.keys()


@pytest.mark.parametrize(
    ("scheduler", "reason"),
    [
        (EDMEulerScheduler(), "no places in a training schedule"),
        (FlowMatchEulerDiscreteScheduler(), "cannot scale its inputs"),
        (
            EulerDiscreteScheduler(timestep_type="continuous", steps_offset=1),
            "no places in a training schedule",
        ),
    ],
)
def test_schedulers_whose_noise_level_is_not_told(scheduler: Any, reason: str) -> None:
    tried = made("StableDiffusionPipeline", scheduler=scheduler)
    with pytest.raises(InputError, match=reason), consistent_gen.share(tried):
        pass
    usual = made("StableDiffusionPipeline")
    with consistent_gen.share(usual, "head_start", **OPTIONS) as story:
        usual.scheduler = scheduler
        with pytest.raises(InputError, match=reason):
            hero_of(story)


def test_noise_without_a_seed() -> None:
    """DPM++ SDE draws its noise from a tree of its own; the class needs a package, its name not."""
    named = type("DPMSolverSDEScheduler", (DDIMScheduler,), {})
    tried = made("StableDiffusionPipeline", scheduler=named.from_config(SCHEDULER))
    with pytest.raises(InputError, match="comes from no seed"), consistent_gen.share(tried):
        pass


def test_a_scheduler_that_writes_to_its_own_config_is_no_other() -> None:
    scheduler = DPMSolverSinglestepScheduler(solver_order=2, lower_order_final=False)
    tried = made("StableDiffusionPipeline", scheduler=scheduler)
    options = OPTIONS | {"num_inference_steps": 5}
    with consistent_gen.share(tried, "head_start", **options) as story:
        hero = hero_of(story)
        story.frame("a fox reading", 3, [hero])
        assert scheduler.config.lower_order_final  # changed by its own steps


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_images_per_prompt": 2}, "draw frames with other seeds"),
        ({"negative_prompt": ["a", "b"]}, "one text"),
        ({"latents": torch.zeros(1)}, "noise comes from its seed"),
        ({"prompt_embeds": torch.zeros(1)}, "give the prompt as text"),
        ({"return_dict": False}, "pictures come back"),
        ({"num_inference_step": 4}, "has no option 'num_inference_step'"),
    ],
)
def test_options_that_a_story_cannot_have(options: dict[str, Any], named: str) -> None:
    with (
        pytest.raises(InputError, match=named),
        consistent_gen.share(made("StableDiffusionPipeline"), **options),
    ):
        pass


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"negative": "a hat"}, "no such option; did you mean negative_prompt="),
        ({"control": "a picture"}, "a StableDiffusionPipeline has no such option"),
        ({"prompt_embeds": torch.zeros(1)}, "give the prompt as text"),
        ({"num_images_per_prompt": 2}, "draw frames with other seeds"),
        ({"negative_prompt": ["a", "b"]}, "is one text"),
        ({"guidance_scale": 2.0}, "holds for the whole story"),
    ],
)
def test_options_that_a_frame_cannot_have(own: dict[str, Any], said: str) -> None:
    with consistent_gen.share(made("StableDiffusionPipeline"), "head_start", **OPTIONS) as story:
        with pytest.raises(InputError, match=said) as told:
            story.frame("a fox reading", 3, **own)
        assert "\n" not in told.value.message


def test_a_picture_that_is_needed_is_asked_for() -> None:
    with (
        pytest.raises(InputError, match="draws its anchors from image="),
        consistent_gen.share(made("StableDiffusionImg2ImgPipeline")),
    ):
        pass


def test_another_unet_another_weight_or_a_closed_story() -> None:
    tried = made("StableDiffusionPipeline")
    own = tried.unet
    with consistent_gen.share(tried, "head_start", **OPTIONS) as story:
        hero = hero_of(story)
        tried.unet = unet()
        with pytest.raises(InputError, match="another UNet than when the story began"):
            story.frame("a fox reading", 3, [hero])
        tried.unet = own
        weight = own.conv_in.bias
        weight.data += 1.0
        with pytest.raises(InputError, match=r"model is .* draw the anchors again"):
            story.frame("a fox reading", 3, [hero])
        weight.data -= 1.0
        tried.enable_freeu(0.9, 0.2, 1.2, 1.4)
        with pytest.raises(InputError, match="freeu is "):
            story.frame("a fox reading", 3, [hero])
        tried.disable_freeu()
    with pytest.raises(InputError, match="this story is closed"):
        story.frame("a fox reading", 3, [hero])
    with pytest.raises(InputError, match="this story is closed"):
        hero_of(story)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_another_weight_of_a_lora() -> None:
    from peft import LoraConfig

    tried = made("StableDiffusionPipeline")
    torch.manual_seed(0)
    tried.unet.add_adapter(
        LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False), "brush"
    )
    results = []
    for weight in (1.0, 0.5):
        tried.unet.set_adapters(["brush"], [weight])
        with consistent_gen.share(tried, "head_start", **OPTIONS) as story:
            hero = hero_of(story)
            assert hero.settings["adapter_scales"] == [["brush", 4.0 * weight]]
            results.append(story.frame("a fox reading", 3, [hero]))
            tried.unet.set_adapters(["brush"], [0.25])
            with pytest.raises(InputError, match=r"adapter_scales is \[\['brush', 1.0\]\]"):
                story.frame("a fox reading", 3, [hero])
    assert differ(*results) > 1e-4


# What a folder says.


def test_channels_that_are_not_the_autoencoders() -> None:
    with (
        pytest.raises(InputError, match=r"takes 9 channels.* load it as an inpainting pipeline"),
        consistent_gen.share(pipe(diffusers.StableDiffusionPipeline, unet=unet(9))),
    ):
        pass
    name = "StableDiffusionInpaintPipeline"
    tried = made(name, unet=unet(9))
    options = options_of(name)
    plain = tried(prompt=["a fox reading"], generator=[generator(3, "latent")], **options).images[0]
    with consistent_gen.share(tried, "style_aligned", **options) as story:
        hero = hero_of(story, pictures={0: picture("green")})
        assert differ(story.frame("a fox reading", 3, [hero]), plain) > 1e-3


def test_a_missing_encoder() -> None:
    """SDXL without its first encoder and tokenizer, as a refiner has it."""
    tried = pipe(
        diffusers.StableDiffusionXLPipeline, xl=True, text_encoder=None, tokenizer=None,
        unet=narrow_xl(),
    )  # fmt: skip
    with consistent_gen.share(tried, "head_start", **OPTIONS) as story:
        story.frame("a fox reading", 3, [hero_of(story)])
    bare = pipe(
        diffusers.StableDiffusionXLPipeline, xl=True, tokenizer=None, tokenizer_2=None,
    )  # fmt: skip
    with pytest.raises(InputError, match="without a tokenizer"), consistent_gen.share(bare):
        pass


def narrow_xl() -> Any:
    whole = diffusers.UNet2DConditionModel.from_config(
        {**unet(xl=True).config, "cross_attention_dim": 32}
    )
    redraw(whole)
    return whole.eval().requires_grad_(False)


def encoded(vae: Any, **parts: Any) -> torch.Tensor:
    tried = pipe(diffusers.StableDiffusionPipeline, vae=vae, **parts)
    with consistent_gen.share(tried, "style_aligned", **OPTIONS) as story:
        return story._encoded(picture("green"), generator(1, "reference"))[0]


def test_ones_own_picture_through_every_autoencoder() -> None:
    """A tiny one, latents with a mean and a deviation, and one that exceeds half precision."""
    tiny = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
    )  # fmt: skip
    assert encoded(tiny.eval()).shape[0] == 4
    base = diffusers.AutoencoderKL.from_config(fresh_config())
    redraw(base, 1)
    plain = encoded(base.eval())
    base.register_to_config(latents_mean=[0.5, 0.0, 0.0, 0.0], latents_std=[2.0, 1.0, 1.0, 1.0])
    moved = encoded(base)
    scale = base.config.scaling_factor
    assert torch.allclose(moved[0], (plain[0] / scale - 0.5) / 2.0 * scale, atol=1e-5)
    assert torch.allclose(moved[1:], plain[1:], atol=1e-6)
    base.register_to_config(latents_mean=None, latents_std=None, force_upcast=True)
    base.to(torch.float16)
    seen: list[torch.dtype] = []
    hook = base.encoder.register_forward_pre_hook(lambda _m, args: seen.append(args[0].dtype))
    found = encoded(base)
    hook.remove()
    assert seen == [torch.float32] and base.dtype == torch.float16
    assert torch.allclose(found, plain, atol=0.05)


def fresh_config() -> dict[str, Any]:
    from tests.pipeline.toys import autoencoder

    return dict(autoencoder().config)


def test_words_are_looked_for_in_what_the_model_reads() -> None:
    """Textual inversion with two vectors moves every later word by one."""
    own_words, own_text = copy.deepcopy(tokenizer()), copy.deepcopy(text())
    tried = pipe(diffusers.StableDiffusionPipeline, tokenizer=own_words, text_encoder=own_text)
    tried.load_textual_inversion(
        {"<hat>": torch.randn(2, own_text.config.hidden_size)}, token="<hat>"
    )
    with consistent_gen.share(tried, "head_start", **OPTIONS) as story:
        plain = story._tokens("a fox reading", "fox")
        assert story._tokens("<hat> fox reading", "fox") == (plain[0] + 1,)


# Half precision.


def test_statistics_do_not_overflow_in_half_precision() -> None:
    from consistent_gen.attention.ops import adain, token_statistics

    x = 600.0 * torch.randn(64, 2, 8, generator=torch.Generator().manual_seed(0))
    mean, deviation = token_statistics(x.half())
    assert bool(torch.isfinite(deviation).all())
    assert torch.allclose(deviation, token_statistics(x)[1], rtol=1e-2)
    moved = adain(x.half(), (mean, deviation), (mean * 0, deviation * 0 + 1.0))
    assert moved.dtype == torch.float16
    assert torch.allclose(moved.float().std(0), torch.ones(2, 8), atol=0.05)


def test_what_is_not_finite_is_named_with_layer_and_step() -> None:
    tried = made("StableDiffusionPipeline")
    with consistent_gen.share(tried, "style_aligned", **OPTIONS) as story:
        hero = hero_of(story)
        tried.unet.conv_out.bias.data[0] = float("nan")
        # As if the weights had been so before the anchor was drawn.
        model, settings = hero.settings["model"], story._settings
        story._settings = lambda: settings() | {"model": model}  # type: ignore[method-assign]
        with pytest.raises(InputError, match="result is not finite at step 1 of frame-1"):
            story.frame("a fox reading", 3, [hero])
    broken = made("StableDiffusionPipeline")
    attn = broken.unet.up_blocks[0].attentions[0].transformer_blocks[0].attn1
    attn.to_v.weight.data[0, 0] = float("inf")
    with (
        consistent_gen.share(broken, "style_aligned", **OPTIONS) as story,
        pytest.raises(InputError, match=r"not finite at step 1 in layer up_blocks\.0.*attn1"),
    ):
        hero_of(story)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_device_map(tmp_path: Any) -> None:
    """A half of the network on disk, whose layers come when they are called."""
    from accelerate import dispatch_model

    results = []
    for mapped in (False, True):
        tried = made("FluxPipeline")
        if mapped:
            parts = {name: "cpu" for name, _ in tried.transformer.named_children()}
            parts["single_transformer_blocks"] = "disk"
            dispatch_model(tried.transformer, parts, main_device="cpu", offload_dir=tmp_path)
        options = options_of("FluxPipeline")
        with consistent_gen.share(tried, "style_aligned", **options) as story:
            results.append(story.frame("a fox reading", 3, [hero_of(story)]))
    assert differ(*results) < 1e-5


def test_offloaded_parts() -> None:
    """Layers whose weights lie elsewhere between their calls, hidden states projected again."""
    from accelerate import cpu_offload

    results = []
    for offloaded in (False, True):
        tried = made("StableDiffusionPipeline")
        if offloaded:
            cpu_offload(tried.unet, execution_device=torch.device("cpu"))
        with consistent_gen.share(tried, "head_start", memory="hidden", **OPTIONS) as story:
            results.append(story.frame("a fox reading", 3, [hero_of(story)]))
    assert differ(*results) < 1e-5
    assert np.isfinite(results[0]).all()
