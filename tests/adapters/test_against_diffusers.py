"""Our branch is diffusers' own: on one tiny UNet and file, predictions agree within 1e-5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from consistent_gen.adapters.adapter import Adapter
from consistent_gen.adapters.codec import dump
from consistent_gen.adapters.policy import BranchRules
from consistent_gen.adapters.references import CharacterRef, Feature
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.adapters.weights import places_of
from consistent_gen.attention.patch import attached
from tests.adapters.toys import LATENT, call_of, denoise, noise, small, small_unet
from tests.every_run import or_slow

FRAMES = ["a", "b"]
NAMES = ("ip_adapter", "ip_adapter_plus", "ip_adapter_full_face", "faceid_portrait")


def as_published(adapter: Adapter) -> dict[str, dict[str, Tensor]]:
    """A file's content, in two levels as diffusers reads it."""
    found: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, tensor in dump(adapter).items():
        top, _, rest = key.partition(".")
        found[top][rest] = tensor.clone()
    return found


def theirs(
    unet: Any, adapter: Adapter, scale: Any, embeds: Tensor, xl: bool, **more: Any
) -> Tensor:
    unet._load_ip_adapter_weights([as_published(adapter)], low_cpu_mem_usage=False)
    unet.eval()  # diffusers leaves its projection in training
    for processor in unet.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [scale]
    with torch.no_grad():
        return denoise(unet, len(embeds), xl=xl, embeds=[embeds], **more)


def ours(
    unet: Any, adapter: Adapter, people: list[list[CharacterRef]], plan: ScalePlan, xl: bool,
    **shown: Any,
) -> Tensor:  # fmt: skip
    policy = adapter.policy()
    with attached(unet, policy), torch.no_grad():
        for frame, cast in zip(FRAMES, people, strict=True):
            policy.show(frame, adapter.identities(cast, plan=plan, **shown))
        policy.begin(call_of(FRAMES, guided=False))
        out = denoise(unet, len(FRAMES), xl=xl)
        policy.end()
    return out


def character(adapter: Adapter, pictures: Tensor) -> CharacterRef:
    spec = adapter.features[0]
    feature = Feature(value=pictures, encoder=spec.encoder, blank=noise(spec.shape, 7))
    return CharacterRef(name="somebody", features={spec.name: feature})


@pytest.mark.parametrize("xl", [False, True], ids=["sd15", "sdxl"])
@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize("name", or_slow(NAMES, ["ip_adapter", "ip_adapter_plus"]))
def test_several_pictures_share_a_softmax(name: str, pictures: int, xl: bool) -> None:
    unet = small_unet(xl)
    adapter = small(name, unet)
    embeds = noise((2, pictures, *adapter.features[0].shape), 3)  # rows, pictures
    people = [[character(adapter, row)] for row in embeds]
    mine = ours(unet, adapter, people, ScalePlan(image=0.7), xl)
    plain = denoise(unet, 2, xl=xl)
    other = theirs(unet, adapter, 0.7, embeds, xl)
    assert torch.allclose(mine, other, atol=1e-5)
    assert not torch.allclose(mine, plain, atol=1e-3)


@pytest.mark.parametrize("xl", [False, True], ids=["sd15", "sdxl"])
@pytest.mark.parametrize("name", ["ip_adapter", "ip_adapter_plus"])
def test_masks_and_a_scale_for_each_picture(name: str, xl: bool) -> None:
    """With masks diffusers attends to each picture alone, and resizes masks bicubically."""
    unet = small_unet(xl)
    adapter = small(name, unet)
    adapter.rules = BranchRules(combine="separate", masks="bicubic")
    embeds = noise((2, 2, *adapter.features[0].shape), 4)
    masks = torch.zeros(2, LATENT[0] * 8, LATENT[1] * 8)
    masks[0, :, :40], masks[1, 20:, 50:] = 1.0, 1.0
    people = [[character(adapter, row[:1]), character(adapter, row[1:])] for row in embeds]
    plan = ScalePlan(groups={"char:0": 0.5, "char:1": 0.9})
    mine = ours(unet, adapter, people, plan, xl, masks=dict(enumerate(masks)))
    joint = ours(unet, adapter, people, plan, xl)
    kwargs = {"cross_attention_kwargs": {"ip_adapter_masks": [masks[None]]}}
    other = theirs(unet, adapter, [0.5, 0.9], embeds, xl, **kwargs)
    assert torch.allclose(mine, other, atol=1e-5)
    assert not torch.allclose(mine, joint, atol=1e-3)


@pytest.mark.parametrize("version", [1, 2])
def test_projector_of_faceid_plus(version: int) -> None:
    unet = small_unet()
    adapter = small("faceid_plus", unet, version=version)
    spec = {f.name: f.shape for f in adapter.features}
    identity, face = noise((2, *spec["identity"]), 1), noise((2, *spec["face"]), 2)
    layer = unet._convert_ip_adapter_image_proj_to_diffusers(
        as_published(adapter)["image_proj"], low_cpu_mem_usage=False
    )
    layer.clip_embeds, layer.shortcut = face[:, None], version == 2
    with torch.no_grad():
        assert torch.allclose(adapter.projector(identity, face), layer(identity), atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_lora_is_that_of_peft(tmp_path: Path) -> None:
    """FaceID through `load_ip_adapter`, whose LoRA PEFT computes, on a real pipeline."""
    from diffusers import StableDiffusionPipeline

    from consistent_gen.adapters.faceid import FaceID
    from consistent_gen.models.tiny import build_tiny
    from tests.attention.toys import redraw

    pipe = StableDiffusionPipeline.from_pretrained(build_tiny(tmp_path / "tiny"))
    redraw(pipe.unet)
    adapter = FaceID(places_of(pipe.unet), feature_width=16, rank=4)
    redraw(adapter, 5)
    adapter.eval()
    embeds = noise((2, 1, 16), 6)
    x, text = noise((2, 16, 16, 16), 1), noise((2, 5, 32), 2)
    policy = adapter.policy()
    pipe.unet.eval()
    with attached(pipe.unet, policy), torch.no_grad():
        for frame, row in zip(FRAMES, embeds, strict=True):
            policy.show(frame, adapter.identities([character(adapter, row)], plan=ScalePlan()))
        policy.begin(call_of(FRAMES, guided=False, latent=(16, 16)))
        mine = pipe.unet(x, 500, text, return_dict=False)[0]
        policy.end()
    pipe.load_ip_adapter(
        as_published(adapter), subfolder=None, weight_name=None, image_encoder_folder=None,
        low_cpu_mem_usage=False,
    )  # fmt: skip
    pipe.set_ip_adapter_scale(1.0)
    with torch.no_grad():
        added = {"image_embeds": [embeds]}
        other = pipe.unet(x, 500, text, added_cond_kwargs=added, return_dict=False)[0]
    assert torch.allclose(mine, other, atol=1e-5)
