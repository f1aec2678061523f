"""Attaching and detaching: nothing of it shows while it is off, and nothing is left afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.patch import attach, attached, detach
from consistent_gen.attention.policy import AttentionPolicy
from consistent_gen.attention.processor import PolicyProcessor
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.sharing import Sharing
from consistent_gen.errors import ConsistentGenError
from consistent_gen.methods.style_aligned import StyleAligned
from tests.attention.toys import FAMILIES, FOX, WIDTH, Sketch, Toy, anchors, build, draw, redraw

FRAME = [Sketch("frame", 1)]


def state(model: torch.nn.Module) -> list[Any]:
    """Processors by identity, hooks and attributes of every module, and the weights' names."""
    return [
        [id(getattr(m, "processor", None)) for m in model.modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        [sorted(vars(m)) for m in model.modules()],
        list(model.state_dict()),
    ]


def sharing() -> Sharing:
    return Sharing(SharedRun(StyleAligned().recipe()))


@pytest.fixture(scope="module", params=FAMILIES)
def toy(request: pytest.FixtureRequest) -> Toy:
    return build(request.param, torch.float32)


def test_off_and_removed_are_untouched(toy: Toy) -> None:
    before, plain = state(toy.model), toy.sample(FRAME, steps=2)
    with attached(toy.model, sharing(), AttentionPolicy()):
        assert any(isinstance(p, PolicyProcessor) for p in toy.model.attn_processors.values())
        assert list(toy.model.state_dict()) == before[3]
        assert torch.equal(toy.sample(FRAME, steps=2)["frame"], plain["frame"])
    assert state(toy.model) == before
    assert torch.equal(toy.sample(FRAME, steps=2)["frame"], plain["frame"])


def test_an_exception_inside_leaves_the_model_as_it_was(toy: Toy) -> None:
    before = state(toy.model)
    with pytest.raises(ZeroDivisionError), attached(toy.model, sharing()):
        raise ZeroDivisionError
    assert state(toy.model) == before


def test_policies_come_and_go_in_any_order(toy: Toy) -> None:
    before = state(toy.model)
    first, second = AttentionPolicy(), AttentionPolicy()
    attach(toy.model, first)
    attach(toy.model, second)
    detach(toy.model, first)
    with pytest.raises(ConsistentGenError, match="not attached"):
        detach(toy.model, first)
    detach(toy.model, second)
    assert state(toy.model) == before


class Doubler(AttentionPolicy):
    """Adds a branch equal to the queries, and doubles what the layer gives."""

    def acts(self, site: Any) -> bool:
        return site.kind == ("cross" if self.acts_on_text else "self")

    def branch(self, q: torch.Tensor, site: Any) -> torch.Tensor:
        return 0.0 * q

    def output(self, hidden: torch.Tensor, site: Any) -> torch.Tensor:
        return 2.0 * hidden


@pytest.mark.parametrize("on_text", [False, True])
def test_our_maths_is_the_layers_own(on_text: bool) -> None:
    """Self- and cross-attention computed by us, with fused projections too, against diffusers'."""
    toy = build("unet")
    policy = Doubler()
    policy.acts_on_text = on_text
    policy.output = lambda hidden, site: hidden  # type: ignore[method-assign]
    plain = toy.sample(FRAME, steps=2)["frame"]
    with attached(toy.model, policy):
        ours = toy.sample(FRAME, steps=2)["frame"]
        toy.model.fuse_qkv_projections()
        fused = toy.sample(FRAME, steps=2)["frame"]
    # Diffusers now puts back the processors of before, which were ours and stand for its own.
    toy.model.unfuse_qkv_projections()
    assert torch.equal(toy.sample(FRAME, steps=2)["frame"], plain)
    assert torch.allclose(ours, plain, atol=1e-12)
    assert torch.allclose(fused, plain, atol=1e-12)
    with attached(toy.model, Doubler()):
        assert not torch.allclose(toy.sample(FRAME, steps=2)["frame"], plain, atol=1e-3)


def lora(model: Any) -> None:
    from peft import LoraConfig

    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    model.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))


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

    def denoise(self, latents: Any, time: float, tokens: Any, pooled: Any) -> Any:
        picture = torch.randn(1, 1, WIDTH, generator=torch.Generator().manual_seed(5))
        added = {"image_embeds": [picture.expand(len(latents), 1, WIDTH).to(self.dtype)]}
        t = torch.full((len(latents),), time * 999)
        return self.model(latents, t, tokens, added_cond_kwargs=added, return_dict=False)[0]


def compare_modes(toy: Toy) -> float:
    """Largest difference of a frame drawn from the bank and drawn with its anchor."""
    recipe = StyleAligned().recipe()
    frame = [Sketch("frame", 1, (FOX,))]
    cached = draw(toy, SharedRun(recipe), [anchors(1), frame], 2)["frame"]
    joint = draw(toy, SharedRun(recipe), [anchors(1) + frame], 2)["frame"]
    plain = toy.sample(frame, steps=2)["frame"]
    assert not torch.allclose(plain, cached, atol=1e-3)
    return float((cached - joint).abs().max())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_with_a_lora() -> None:
    toy = build("unet")
    without = toy.sample(FRAME, steps=2)["frame"]
    torch.manual_seed(0)
    lora(toy.model)
    toy.model.to(torch.float64)
    before, plain = state(toy.model), toy.sample(FRAME, steps=2)["frame"]
    assert not torch.allclose(without, plain)
    assert compare_modes(toy) < 1e-9
    assert state(toy.model) == before
    assert torch.equal(toy.sample(FRAME, steps=2)["frame"], plain)


def test_with_an_image_adapter_loaded_while_attached() -> None:
    base = build("unet", torch.float32)
    toy = WithPictures(base.family, base.model, base.dtype)
    own = dict(toy.model.attn_processors)
    torch.manual_seed(0)
    with attached(toy.model, AttentionPolicy()):
        image_adapter(toy.model)
        kinds = {type(p).__name__ for p in toy.model.attn_processors.values()}
        assert kinds == {"PolicyProcessor", "IPAdapterAttnProcessor2_0"}
        inside = toy.sample(FRAME, steps=2)["frame"]
    assert torch.equal(inside, toy.sample(FRAME, steps=2)["frame"])
    for name, processor in toy.model.attn_processors.items():
        if name.endswith("attn1.processor"):
            assert processor is own[name]
    # Sharing stays alive beside the adapter.
    assert compare_modes(toy) < 1e-3


def test_with_a_controlnet() -> None:
    from diffusers import ControlNetModel

    base = build("unet")
    control = ControlNetModel.from_unet(base.model, conditioning_embedding_out_channels=(8, 16))
    redraw(control, seed=3)
    control = control.to(torch.float64).eval()

    class Guided(Toy):
        def denoise(self, latents: Any, time: float, tokens: Any, pooled: Any) -> Any:
            t = torch.full((len(latents),), time * 999)
            hint = torch.ones(len(latents), 3, 16, 24, dtype=self.dtype)
            down, mid = control(latents, t, tokens, hint, return_dict=False)
            return self.model(
                latents, t, tokens, down_block_additional_residuals=down,
                mid_block_additional_residual=mid, return_dict=False,
            )[0]  # fmt: skip

    assert compare_modes(Guided(base.family, base.model, base.dtype)) < 1e-9


def test_sites_keep_their_processors_while_nothing_is_attached(toy: Toy) -> None:
    names = [name for name, site in find_sites(toy.model).items() if site.sees_images]
    assert names
    assert not any(isinstance(p, PolicyProcessor) for p in toy.model.attn_processors.values())
