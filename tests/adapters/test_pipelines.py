"""Adapters in stock diffusers pipelines, alone and beside a sharing method."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

import consistent_gen
from consistent_gen.adapters.codec import load_adapter, save_adapter
from consistent_gen.adapters.consistent_id import ConsistentID, facial_prompt, word_positions
from consistent_gen.adapters.instantid import keypoint_picture
from consistent_gen.adapters.pipelines import adapt
from consistent_gen.adapters.references import CharacterRef
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.errors import InputError
from consistent_gen.models.tiny import TINY_WORDS, build_tiny
from consistent_gen.runtime import generator
from tests.adapters.toys import small, small_unet, somebody
from tests.attention.toys import redraw, state
from tests.every_run import or_slow

OPTIONS: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "np"}
NAMES = ("ip_adapter_plus", "faceid_plus", "storymaker", "consistent_id")
FACIAL = ("face", "ears", "eyes", "nose", "mouth", "one", "two", "Detail", ":")


@pytest.fixture(scope="module", params=or_slow(["sd", "xl"], ["sd"]))
def pipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    xl = request.param == "xl"
    words = (*TINY_WORDS, *FACIAL)
    folder = build_tiny(tmp_path_factory.mktemp("models") / request.param, xl=xl, words=words)
    family = StableDiffusionXLPipeline if xl else StableDiffusionPipeline
    made = family.from_pretrained(folder)
    redraw(made.unet)
    made.set_progress_bar_config(disable=True)
    return made


def drawn(pipe: Any, prompt: str = "a fox", seed: int = 3, **more: Any) -> Any:
    return pipe(prompt=prompt, generator=generator(seed, "latent"), **OPTIONS | more).images


@pytest.mark.parametrize("name", or_slow(NAMES, ["storymaker"]))
def test_a_file_acts_in_a_pipeline_and_leaves_it(pipe: Any, name: str, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter.safetensors", small(name, pipe.unet))
    adapter = load_adapter(tmp_path / "adapter.safetensors", pipe.unet, patches=5)
    mia, bruno = somebody(adapter, 1), somebody(adapter, 2)
    before, untouched = state(pipe.unet), drawn(pipe)
    with adapt(pipe, adapter) as drawing:
        assert np.array_equal(drawn(pipe), untouched), "nobody is shown"
        drawing.show([mia])
        first = drawn(pipe)
        assert np.array_equal(drawn(pipe), first), "the second run is the first"
        several = drawn(pipe, num_images_per_prompt=2)
        assert len(several) == 2
        drawing.show([bruno])
        other = drawn(pipe)
        drawing.show([mia], plan=ScalePlan(image=0.0, lora=0.0))
        assert np.array_equal(drawn(pipe), untouched)
        drawing.show([mia])
        unguided = drawn(pipe, guidance_scale=1.0)
        drawing.show([])
        assert np.array_equal(drawn(pipe), untouched)
    assert not np.allclose(first, untouched, atol=1e-3)
    assert not np.allclose(first, other, atol=1e-3)
    assert not np.allclose(unguided, first, atol=1e-3)
    assert state(pipe.unet) == before
    assert np.array_equal(drawn(pipe), untouched)


@pytest.mark.parametrize("outer", or_slow(["adapter", "sharing"], ["adapter"]))
@pytest.mark.parametrize("method", or_slow(["consistory", "consistyle"], ["consistyle"]))
def test_beside_a_sharing_method(pipe: Any, method: str, outer: str) -> None:
    """Both act in one run, and either way round; the method's second calls change nothing."""
    adapter = small("storymaker", pipe.unet)
    cast = [somebody(adapter, 1), somebody(adapter, 2)]
    left = torch.zeros(16, 16)
    left[:, :8] = 1.0
    before = state(pipe.unet)

    def told(shown: list[CharacterRef], plan: ScalePlan | None = None) -> Any:
        with ExitStack() as blocks:
            if outer == "adapter":
                drawing = blocks.enter_context(adapt(pipe, adapter))
            story = blocks.enter_context(consistent_gen.share(pipe, method, seed=5, **OPTIONS))
            if outer == "sharing":
                drawing = blocks.enter_context(adapt(pipe, adapter))
            drawing.show(shown, masks={0: left} if shown else None, plan=plan)
            hero = story.anchor(["a red fox", "a fox sitting"], [1, 2], subject="fox")
            return story.frame("a fox reading", seed=3, subjects=[hero])

    with consistent_gen.share(pipe, method, seed=5, **OPTIONS) as story:
        hero = story.anchor(["a red fox", "a fox sitting"], [1, 2], subject="fox")
        shared = story.frame("a fox reading", seed=3, subjects=[hero])
    both = told(cast)
    assert np.array_equal(told(cast), both)
    assert np.array_equal(told([]), shared)
    assert np.array_equal(told(cast, ScalePlan(image=0.0, lora=0.0)), shared)
    assert not np.allclose(both, shared, atol=1e-3)
    assert state(pipe.unet) == before


def test_words_of_a_face(pipe: Any) -> None:
    adapter = small("consistent_id", pipe.unet)
    assert isinstance(adapter, ConsistentID)
    mia = somebody(adapter, 1)
    prompt = facial_prompt("a girl", {"eyes": "two red eyes", "nose": "one small nose"})
    assert prompt == "a girl Detail: two red eyes, one small nose"
    positions = word_positions(pipe.tokenizer, prompt)
    assert set(positions) == {"eyes", "nose"}
    with adapt(pipe, adapter) as drawing:
        drawing.show([mia])
        without = drawn(pipe, prompt)
        drawing.show([mia], fusing=adapter.fusing([mia], positions))
        fused = drawn(pipe, prompt, num_inference_steps=5)
        drawing.show([mia])
        late = drawn(pipe, prompt, num_inference_steps=5)
    assert not np.allclose(fused, late, atol=1e-5)
    assert without.shape == fused.shape


def test_an_adapter_of_another_model(pipe: Any) -> None:
    with pytest.raises(InputError, match="built for a UNet with"):
        adapt(pipe, small("faceid", small_unet())).__enter__()
    with pytest.raises(InputError, match="has no UNet"):
        adapt(object(), small("faceid", small_unet())).__enter__()


def test_tokens_take_the_place_of_text_in_a_controlnet(pipe: Any) -> None:
    """InstantID: where a face is goes through the ControlNet, whose it is through the tokens."""
    from diffusers import (
        ControlNetModel,
        StableDiffusionControlNetPipeline,
        StableDiffusionXLControlNetPipeline,
    )

    xl = hasattr(pipe, "text_encoder_2")
    control = ControlNetModel.from_unet(
        pipe.unet, conditioning_embedding_out_channels=(4, 8, 8, 16)
    )
    redraw(control, 5)
    family = StableDiffusionXLControlNetPipeline if xl else StableDiffusionControlNetPipeline
    parts = {**pipe.components, "controlnet": control}
    guided = family(**parts) if xl else family(**parts, requires_safety_checker=False)
    guided.set_progress_bar_config(disable=True)
    adapter = small("instantid", pipe.unet)
    points = [(40, 50), (80, 50), (60, 70), (45, 90), (75, 90)]
    hint = {"image": keypoint_picture(points, (128, 128)), "num_inference_steps": 2}
    untouched = drawn(guided, **hint)
    with adapt(guided, adapter) as drawing:
        assert np.array_equal(drawn(guided, **hint), untouched)
        shown = drawing.show([somebody(adapter, 1)])
        assert shown is not None
        first = drawn(guided, **hint)
        off = drawing.show([somebody(adapter, 1)], plan=ScalePlan(image=0.0))
        assert off is not None
        through_control_only = drawn(guided, **hint)
    with torch.no_grad():
        wanted = torch.stack([shown.uncond, shown.cond])
    assert not np.allclose(first, untouched, atol=1e-3)
    assert not np.allclose(through_control_only, untouched, atol=1e-4)
    assert np.array_equal(drawn(guided, **hint), untouched)
    states: list[torch.Tensor] = []
    with adapt(guided, adapter) as drawing:
        drawing.show([somebody(adapter, 1)])
        look = control.down_blocks[0].register_forward_pre_hook(
            lambda _m, _a, kwargs: states.append(kwargs["encoder_hidden_states"]), with_kwargs=True
        )
        drawn(guided, **hint)
        look.remove()
    assert all(torch.equal(state, wanted) for state in states) and states
