"""Pipelines of published size with random weights: they draw noise, and cost what real ones do."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.sharing_flop import FULL
from consistent_gen.models.tiny import SCHEDULER, TINY_WORDS
from consistent_gen.models.words import word_tokenizer

SD15, XL = FULL
NARROW = (4, 4, 4, 4)  # channels of an autoencoder that is there for its shapes
PUBLISHED = (128, 256, 512, 512)


def full_size_unet(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """Weights drawn in place, so that there is never a second copy of them.

    name: of `sharing_flop.FULL`.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**FULL[name]["unet"], sample_size=FULL[name]["side"])
    unet.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for part, weight in unet.named_parameters():
        if weight.ndim < 2:
            weight.fill_(1.0 if part.endswith("weight") else 0.0)
        else:
            bound = (3.0 / weight[0].numel()) ** 0.5
            weight.uniform_(-bound, bound, generator=generator)
    return unet


def full_size_pipe(
    name: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    channels: tuple[int, ...] = NARROW,
) -> Any:
    """A stock pipeline with its UNet whole; text encoders are as narrow as they may be.

    channels: of the autoencoder, `PUBLISHED` for one that costs what a real one does.
    """
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = word_tokenizer(TINY_WORDS, max_tokens=77)
    kinds = ((768, CLIPTextModel), (1280, CLIPTextModelWithProjection))
    encoders = []
    for width, kind in kinds if name == XL else kinds[:1]:
        config = CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=64,
            num_hidden_layers=1, num_attention_heads=4, projection_dim=1280,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        encoders.append(kind(config).eval())
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels, layers_per_block=1, norm_num_groups=2,
    )  # fmt: skip
    scheduler = DDIMScheduler.from_config(SCHEDULER)
    unet = full_size_unet(name, device, dtype)
    if name == XL:
        found: Any = StableDiffusionXLPipeline(
            vae.eval(), *encoders, tokenizer, tokenizer, unet, scheduler, add_watermarker=False
        )
    else:
        found = StableDiffusionPipeline(
            vae.eval(), *encoders, tokenizer, unet, scheduler, None, None,
            requires_safety_checker=False,
        )  # fmt: skip
    return found.to(device, dtype)
