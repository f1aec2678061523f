"""Sharing beside what else people load into a model: LoRA, image adapters, ControlNet (14).

Each of them with the equalities that hold without: the model is left as it was (1), nothing shared
is nothing changed (2), twice is the same (3), anchors know no readers (4), and a frame from the
bank equals one drawn with its anchors (5).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.patch import attached
from consistent_gen.attention.policy import AttentionPolicy
from consistent_gen.attention.roles import Subject
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.sharing import Sharing
from consistent_gen.methods.tuning import recipe_of
from tests.attention.toys import (
    FAMILIES,
    FOX,
    WIDTH,
    Sketch,
    Toy,
    anchors,
    build,
    draw,
    draw_under,
    redraw,
    state,
)
from tests.every_run import COUPLING, or_slow

FRAME = Sketch("frame", 1, (FOX,))
MUTED = Sketch("frame", 1, (Subject(name="fox", tokens=(2, 3), strength=0.0),))
STEPS = 3
WIDE: dict[str, dict[str, Any]] = {
    "consistory": {"mixing_steps": 0.5, "injection_steps": (0.3, 1.0)},
    "consistyle": {"mixing_steps": 0.5, "structure_steps": (0.3, 1.0), "style_steps": (0.3, 1.0)},
    "story_diffusion": {"id_frames": 2, "early_chance": 1.0, "late_chance": 1.0},
}


def new_run(method: str) -> SharedRun:
    return SharedRun(recipe_of(method, WIDE.get(method, {})), seed=3)


def hold(toy: Toy, method: str, tolerance: float = 1e-9) -> None:
    """The equalities of the module's text, for one method."""
    before, plain = state(toy.model), toy.sample([FRAME], steps=STEPS)["frame"]
    cast = anchors(new_run(method).recipe.anchors)
    cached = draw(toy, new_run(method), [cast, [FRAME]], STEPS)
    again = draw(toy, new_run(method), [cast, [FRAME]], STEPS)
    assert all(torch.equal(again[name], latent) for name, latent in cached.items())
    joint = draw(toy, new_run(method), [[*cast, FRAME]], STEPS)
    assert all(torch.allclose(joint[n], cached[n], atol=tolerance) for n in joint)
    others = draw(toy, new_run(method), [cast, [Sketch("other", 7, (FOX,))]], STEPS)
    assert all(torch.equal(others[s.id], cached[s.id]) for s in cast)
    assert not torch.allclose(plain, cached["frame"], atol=1e-3)
    muted = draw(toy, new_run(method), [cast, [MUTED]], STEPS)["frame"]
    assert torch.equal(muted, plain)
    assert state(toy.model) == before
    assert torch.equal(toy.sample([FRAME], steps=STEPS)["frame"], plain)


def lora(model: Any) -> None:
    from peft import LoraConfig

    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    model.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", or_slow(COUPLING, ["consistyle"]))
@pytest.mark.parametrize("family", or_slow(FAMILIES, ["unet"]))
def test_with_a_lora(family: str, method: str) -> None:
    toy = build(family)
    without = toy.sample([FRAME], steps=STEPS)["frame"]
    torch.manual_seed(0)
    lora(toy.model)
    toy.model.to(torch.float64).requires_grad_(False)
    assert not torch.allclose(without, toy.sample([FRAME], steps=STEPS)["frame"])
    hold(toy, method)


def image_adapter(model: Any) -> None:
    """A random IP-Adapter, in the layout that diffusers reads."""
    weights: dict[str, Any] = {}
    crossing = [name for name in model.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(crossing):
        width = model.get_submodule(name.removesuffix(".processor")).inner_dim
        for which in ("to_k_ip", "to_v_ip"):
            weights[f"{2 * number + 1}.{which}.weight"] = torch.randn(width, WIDTH) / WIDTH**0.5
    projection = {
        "proj.weight": torch.randn(4 * WIDTH, WIDTH),
        "proj.bias": torch.zeros(4 * WIDTH),
        "norm.weight": torch.ones(WIDTH),
        "norm.bias": torch.zeros(WIDTH),
    }
    model._load_ip_adapter_weights(
        [{"image_proj": projection, "ip_adapter": weights}], low_cpu_mem_usage=False
    )


class WithPictures(Toy):
    """A toy whose UNet is also given a picture embedding."""

    def denoise(self, latents: Any, times: Any, tokens: Any, pooled: Any) -> Any:
        picture = torch.randn(1, 1, WIDTH, generator=torch.Generator().manual_seed(5))
        added = {"image_embeds": [picture.expand(len(latents), 1, WIDTH).to(self.dtype)]}
        t = torch.tensor([time * 999 for time in times])
        return self.model(latents, t, tokens, added_cond_kwargs=added, return_dict=False)[0]


def test_an_image_adapter_loaded_while_a_method_is_attached() -> None:
    """Loading rebuilds every self-attention processor; sharing stays alive, and leaves cleanly."""
    base = build("unet", torch.float32)
    toy = WithPictures(base.family, base.model, base.dtype)
    own = dict(toy.model.attn_processors)
    run = new_run("style_aligned")
    policy = Sharing(run)
    policy.bind(find_sites(toy.model))
    torch.manual_seed(0)
    with attached(toy.model, policy, AttentionPolicy()):
        image_adapter(toy.model)
        kinds = {type(p).__name__ for p in toy.model.attn_processors.values()}
        assert kinds == {"PolicyProcessor", "IPAdapterAttnProcessor2_0"}
        inside = draw_under(toy, policy, [anchors(1), [FRAME]], STEPS)["frame"]
    after = draw(toy, new_run("style_aligned"), [anchors(1), [FRAME]], STEPS)["frame"]
    assert torch.equal(inside, after)
    assert not torch.allclose(inside, toy.sample([FRAME], steps=STEPS)["frame"], atol=1e-3)
    for name, processor in toy.model.attn_processors.items():
        if name.endswith("attn1.processor"):
            assert processor is own[name]


@pytest.mark.slow  # with ours, `adapters/test_pipelines` holds it in every run
@pytest.mark.parametrize("method", COUPLING)
def test_with_an_image_adapter(method: str) -> None:
    base = build("unet", torch.float32)
    torch.manual_seed(0)
    image_adapter(base.model)
    hold(WithPictures(base.family, base.model, base.dtype), method, tolerance=1e-3)


@pytest.mark.slow  # `pipeline/test_contract` shares with one in every run
@pytest.mark.parametrize("method", COUPLING)
def test_with_a_controlnet(method: str) -> None:
    from diffusers import ControlNetModel

    base = build("unet")
    control = ControlNetModel.from_unet(base.model, conditioning_embedding_out_channels=(8, 16))
    redraw(control, seed=3)
    control = control.to(torch.float64).eval().requires_grad_(False)

    class Guided(Toy):
        def denoise(self, latents: Any, times: Any, tokens: Any, pooled: Any) -> Any:
            t = torch.tensor([time * 999 for time in times])
            hint = torch.ones(len(latents), 3, 16, 24, dtype=self.dtype)
            down, mid = control(latents, t, tokens, hint, return_dict=False)
            return self.model(
                latents, t, tokens, down_block_additional_residuals=down,
                mid_block_additional_residual=mid, return_dict=False,
            )[0]  # fmt: skip

    hold(Guided(base.family, base.model, base.dtype), method)
