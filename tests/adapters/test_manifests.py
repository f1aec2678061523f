"""Published files by name and shape: every system at full size on the meta device, against the real
UNet classes of Stable Diffusion 1.5 and SDXL, with the parameters that published files have.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from consistent_gen.adapters.adapter import Adapter
from consistent_gen.adapters.codec import detect, dump
from consistent_gen.adapters.consistent_id import ConsistentID
from consistent_gen.adapters.faceid import FaceID, FaceIDPlus
from consistent_gen.adapters.instantid import InstantID
from consistent_gen.adapters.ip_adapter import IPAdapter, IPAdapterPlus
from consistent_gen.adapters.pulid import PuLID
from consistent_gen.adapters.storymaker import StoryMaker
from consistent_gen.adapters.weights import places_of

SD15: dict[str, Any] = {
    "cross_attention_dim": 768,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
}
SDXL: dict[str, Any] = {
    "cross_attention_dim": 2048,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@pytest.fixture(scope="module")
def unets() -> dict[str, Any]:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return {"sd15": UNet2DConditionModel(**SD15), "sdxl": UNet2DConditionModel(**SDXL)}


PUBLISHED: list[tuple[str, type[Adapter], dict[str, Any], int]] = [
    ("sdxl", StoryMaker, {}, 831_033_600),
    ("sd15", ConsistentID, {}, 184_033_024),
    ("sdxl", ConsistentID, {}, 868_832_256),
    ("sd15", FaceID, {}, 48_354_816),
    ("sd15", FaceIDPlus, {"version": 1}, 78_260_736),
    ("sdxl", FaceIDPlus, {}, 743_707_648),
    ("sdxl", InstantID, {}, 422_765_824),
    ("sdxl", PuLID, {}, 492_185_600),
]


@pytest.mark.parametrize(
    ("base", "system", "sizes", "count"),
    PUBLISHED,
    ids=[f"{s.name}-{b}" for b, s, _, _ in PUBLISHED],
)
def test_parameters_are_the_published_ones_and_the_file_is_recognised(
    unets: dict[str, Any], base: str, system: type[Adapter], sizes: dict[str, Any], count: int
) -> None:
    with torch.device("meta"):
        adapter = system(places_of(unets[base]), **sizes)
    assert sum(p.numel() for p in adapter.parameters()) == count
    file = {key: tuple(tensor.shape) for key, tensor in dump(adapter).items()}
    found = detect(file)
    assert found.system is system
    assert found.base == {"sd15": "Stable Diffusion 1.5", "sdxl": "SDXL"}[base]
    with torch.device("meta"):
        again = system(places_of(unets[base]), **found.sizes)
    assert {key: tuple(tensor.shape) for key, tensor in dump(again).items()} == file


@pytest.mark.parametrize(
    ("base", "system", "sizes"),
    [
        ("sd15", IPAdapter, {}),
        ("sdxl", IPAdapter, {"feature_width": 1280}),
        ("sd15", IPAdapterPlus, {"inner": 768}),
        ("sdxl", IPAdapterPlus, {}),
    ],
)
def test_picture_prompts_are_recognised(
    unets: dict[str, Any], base: str, system: type[Adapter], sizes: dict[str, Any]
) -> None:
    with torch.device("meta"):
        adapter = system(places_of(unets[base]), **sizes)
    shapes = {key: tuple(tensor.shape) for key, tensor in dump(adapter).items()}
    found = detect(shapes)
    assert (found.system, {k: found.sizes[k] for k in sizes}) == (system, sizes)


def shapes_of(adapter: Adapter) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in dump(adapter).items()}


def below(shapes: dict[str, tuple[int, ...]], prefix: str) -> dict[str, tuple[int, ...]]:
    return {k.removeprefix(prefix): s for k, s in shapes.items() if k.startswith(prefix)}


def resampler(width: int, feature: int, out: int, depth: int) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a perceiver in files, without its latents."""
    found: dict[str, tuple[int, ...]] = {
        "proj_in.weight": (width, feature), "proj_in.bias": (width,),
        "proj_out.weight": (out, width), "proj_out.bias": (out,),
        "norm_out.weight": (out,), "norm_out.bias": (out,),
    }  # fmt: skip
    for layer in (f"layers.{i}." for i in range(depth)):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            found |= {f"{layer}{norm}.weight": (width,), f"{layer}{norm}.bias": (width,)}
        found |= {
            f"{layer}0.to_q.weight": (width, width), f"{layer}0.to_kv.weight": (2 * width, width),
            f"{layer}0.to_out.weight": (width, width),
            f"{layer}1.1.weight": (4 * width, width), f"{layer}1.3.weight": (width, 4 * width),
        }  # fmt: skip
    return found


def test_keys_and_shapes_of_storymaker(unets: dict[str, Any]) -> None:
    with torch.device("meta"):
        shapes = shapes_of(StoryMaker(places_of(unets["sdxl"])))
    own = below(shapes, "image_proj_model.")
    assert len(own) == 113
    d = 2048
    assert below(own, "perceiver_resampler.") == resampler(d, 1280, d, 4)
    latents = {"latents": (1, 16, 1280)}
    assert below(own, "resample.") == latents | resampler(1280, 1280, d, 4)
    rest = {k: s for k, s in own.items() if not k.startswith(("perceiver_resampler.", "resample."))}
    assert rest == {
        "proj.0.weight": (1024, 512), "proj.0.bias": (1024,),
        "proj.2.weight": (8192, 1024), "proj.2.bias": (8192,),
        "norm.weight": (d,), "norm.bias": (d,), "norm_out.weight": (d,), "norm_out.bias": (d,),
        "proj_out.weight": (d, d), "proj_out.bias": (d,),
        "pos_embed": (3, 20, d), "bg_embed": (1, 20, d),
    }  # fmt: skip
    layers = below(shapes, "ip_adapter.")
    assert len(layers) == 1260
    counts = Counter(int(key.partition(".")[0]) for key in layers)
    assert counts == {i: 10 if i % 2 else 8 for i in range(140)}
    # The table of the layers' numbers: down, up, mid.
    hidden = {0: 640, 7: 640, 8: 1280, 47: 1280, 48: 1280, 107: 1280, 108: 640, 119: 640, 120: 1280,
              139: 1280}  # fmt: skip
    for number, width in hidden.items():
        assert layers[f"{number}.to_q_lora.down.weight"] == (128, width)
        assert layers[f"{number}.to_out_lora.up.weight"] == (width, 128)
        if number % 2:
            assert layers[f"{number}.to_k_ip.weight"] == (width, d)
            assert layers[f"{number}.to_k_lora.down.weight"] == (128, d)


@pytest.mark.parametrize(("base", "d", "modules"), [("sd15", 768, 288), ("sdxl", 2048, 1260)])
def test_keys_and_shapes_of_consistent_id(
    unets: dict[str, Any], base: str, d: int, modules: int
) -> None:
    with torch.device("meta"):
        shapes = shapes_of(ConsistentID(places_of(unets[base])))
    projector = below(shapes, "image_proj.")
    assert len(projector) == 56
    assert below(projector, "perceiver_resampler.") == resampler(d, 1280, d, 4)
    assert projector["proj.2.weight"] == (4 * d, 1024)
    facial = below(shapes, "FacialEncoder.")
    assert len(facial) == 109
    latents = {"latents": (1, 1, 1024)}
    assert below(facial, "visual_projection.") == latents | resampler(1024, 1280, d, 8)
    assert below(facial, "fuse_module.") == {
        "mlp1.layernorm.weight": (2 * d,), "mlp1.layernorm.bias": (2 * d,),
        "mlp1.fc1.weight": (d, 2 * d), "mlp1.fc1.bias": (d,),
        "mlp1.fc2.weight": (d, d), "mlp1.fc2.bias": (d,),
        "mlp2.layernorm.weight": (d,), "mlp2.layernorm.bias": (d,),
        "mlp2.fc1.weight": (d, d), "mlp2.fc1.bias": (d,),
        "mlp2.fc2.weight": (d, d), "mlp2.fc2.bias": (d,),
        "layer_norm.weight": (d,), "layer_norm.bias": (d,),
    }  # fmt: skip
    assert len(below(shapes, "adapter_modules.")) == modules


def test_numbers_of_layers_are_those_of_the_note(unets: dict[str, Any]) -> None:
    """Down blocks, up blocks, and the mid block last; even is self, odd is cross."""
    for base, table in (
        ("sd15", {"down_blocks": range(12), "up_blocks": range(12, 30),
                  "mid_block": range(30, 32)}),
        ("sdxl", {"down_blocks": range(48), "up_blocks": range(48, 120),
                  "mid_block": range(120, 140)}),
    ):  # fmt: skip
        places = places_of(unets[base])
        for block, numbers in table.items():
            found = [p.number for p in places if p.name.startswith(block)]
            assert found == list(numbers)
        assert all(p.cross == bool(p.number % 2) for p in places)
