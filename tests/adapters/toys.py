"""Small real UNets, adapters of every system at small size, and characters read by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from consistent_gen.adapters.adapter import Adapter
from consistent_gen.adapters.consistent_id import ConsistentID
from consistent_gen.adapters.faceid import FaceID, FaceIDPlus, FaceIDPortrait
from consistent_gen.adapters.instantid import InstantID
from consistent_gen.adapters.ip_adapter import IPAdapter, IPAdapterFullFace, IPAdapterPlus
from consistent_gen.adapters.pulid import PuLID
from consistent_gen.adapters.references import CharacterRef, Feature
from consistent_gen.adapters.storymaker import StoryMaker
from consistent_gen.adapters.weights import places_of
from consistent_gen.attention.rows import Branch, Call, Row
from tests.attention.toys import redraw

WIDTH, TEXT, LATENT = 64, 7, (8, 12)
PATCHES, PATCH, VECTOR = 5, 24, 16

_SMALL: dict[str, tuple[type[Adapter], dict[str, Any]]] = {
    "ip_adapter": (IPAdapter, {"feature_width": VECTOR}),
    "ip_adapter_plus": (
        IPAdapterPlus,
        {"feature_width": PATCH, "patches": PATCHES, "tokens": 3, "inner": 64},
    ),
    "ip_adapter_full_face": (IPAdapterFullFace, {"feature_width": PATCH, "patches": PATCHES}),
    "faceid": (FaceID, {"feature_width": VECTOR, "rank": 4}),
    "faceid_portrait": (FaceIDPortrait, {"feature_width": VECTOR, "tokens": 2}),
    "faceid_plus": (
        FaceIDPlus,
        {"feature_width": VECTOR, "patch_width": PATCH, "patches": PATCHES, "rank": 4},
    ),
    "instantid": (InstantID, {"inner": 64, "depth": 2, "tokens": 3}),
    "pulid": (
        PuLID,
        {"feature_width": VECTOR, "level_width": PATCH, "patches": PATCHES, "inner": 64,
         "depth": 5, "tokens": 3},
    ),
    "consistent_id": (
        ConsistentID,
        {"feature_width": VECTOR, "patch_width": PATCH, "patches": PATCHES, "depth": 2,
         "part_width": 64, "part_heads": 1, "part_depth": 2, "rank": 4},
    ),
    "storymaker": (
        StoryMaker,
        {"feature_width": VECTOR, "patch_width": PATCH, "patches": PATCHES, "depth": 2,
         "body_tokens": 3, "body_width": 64, "body_depth": 2, "rank": 4},
    ),
}  # fmt: skip
SYSTEM_NAMES = tuple(_SMALL)


def small_unet(xl: bool = False, dtype: torch.dtype = torch.float32) -> Any:
    """A UNet with every kind of block, shaped like SD1.5's or SDXL's, with drawn weights."""
    from diffusers import UNet2DConditionModel

    added: dict[str, Any] = {}
    if xl:
        added = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
            "transformer_layers_per_block": (1, 2),
            "use_linear_projection": True,
        }
    unet = UNet2DConditionModel(
        sample_size=LATENT, in_channels=4, out_channels=4, block_out_channels=(32, 64),
        layers_per_block=1, down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2, attention_head_dim=(2, 4), norm_num_groups=8,
        cross_attention_dim=WIDTH, **added,
    )  # fmt: skip
    redraw(unet)
    return unet.to(dtype).eval().requires_grad_(False)


def small(name: str, unet: Any, *, seed: int = 1, trained: bool = True, **changes: Any) -> Adapter:
    """The system at small size for `unet`; its weights are drawn if it shall look trained."""
    system, sizes = _SMALL[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = system(places_of(unet), **{**sizes, **changes})
    if trained:
        redraw(adapter, seed)
    return adapter.to(unet.dtype).eval()


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Normal numbers of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def somebody(adapter: Adapter, seed: int, pictures: int = 1, **changes: Any) -> CharacterRef:
    """A character of whom all that the adapter needs was read."""
    features = {
        spec.name: Feature(
            value=noise((pictures, *spec.shape), seed * 10 + i),
            encoder=spec.encoder,
            blank=noise(spec.shape, 990 + i),
        )
        for i, spec in enumerate(adapter.features)
    }
    return CharacterRef(name=f"somebody {seed}", features=features, **changes)


def call_of(
    frames: list[str], *, guided: bool = True, step: int = 0, steps: int = 4,
    latent: tuple[int, int] = LATENT,
) -> Call:  # fmt: skip
    """A call of these frames, with guidance uncond first."""
    branches: tuple[Branch, ...] = ("uncond", "cond") if guided else ("cond",)
    rows = tuple(
        Row(k * len(frames) + i, frame, branch, step, steps, 1.0)
        for k, branch in enumerate(branches)
        for i, frame in enumerate(frames)
    )
    return Call(len(rows), latent, rows)


def denoise(unet: Any, rows: int, *, xl: bool = False, text: Tensor | None = None,
            embeds: Any = None, **extra: Any) -> Tensor:  # fmt: skip
    """One call of the UNet; every row has its own noise and text."""
    x = torch.stack([noise((4, *LATENT), 100 + i) for i in range(rows)]).to(unet.dtype)
    if text is None:
        text = torch.stack([noise((TEXT, WIDTH), 200 + i) for i in range(rows)])
    added: dict[str, Any] = {}
    if xl:
        pooled = torch.stack([noise((WIDTH,), 300 + i) for i in range(rows)]).to(unet.dtype)
        ids = torch.tensor([8.0, 12.0, 0.0, 0.0, 8.0, 12.0]).expand(rows, 6).to(unet.dtype)
        added = {"text_embeds": pooled, "time_ids": ids}
    if embeds is not None:
        added["image_embeds"] = embeds
    if added:
        extra["added_cond_kwargs"] = added
    out: Tensor = unet(x, 500, text.to(unet.dtype), return_dict=False, **extra)[0]
    return out
