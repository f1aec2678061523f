"""One step of a network of SDXL's size at 1024 pixels, random weights. Takes 16 GB of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import consistent_gen
from benchmarks.sharing_flop import FULL
from consistent_gen.attention.budget import available_memory

XL = "Stable Diffusion XL, 1024 px"
NEEDED = 16 << 30


def full_size_unet() -> Any:
    """Weights drawn in place, so that there is never a second copy of them."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**FULL[XL]["unet"], sample_size=FULL[XL]["side"])
    unet.to_empty(device="cpu").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, weight in unet.named_parameters():
        if weight.ndim < 2:
            weight.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            bound = (3.0 / weight[0].numel()) ** 0.5
            weight.uniform_(-bound, bound, generator=generator)
    return unet


def full_size_pipe() -> Any:
    """SDXL with its UNet whole; encoders and autoencoder are as narrow as they may be."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from consistent_gen.models.tiny import SCHEDULER, TINY_WORDS
    from consistent_gen.models.words import word_tokenizer

    tokenizer = word_tokenizer(TINY_WORDS, max_tokens=77)
    encoders = []
    for width, kind in ((768, CLIPTextModel), (1280, CLIPTextModelWithProjection)):
        config = CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=64,
            num_hidden_layers=1, num_attention_heads=4, projection_dim=1280,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        encoders.append(kind(config).eval())
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae.eval(), encoders[0], encoders[1], tokenizer, tokenizer, full_size_unet(),
        DDIMScheduler.from_config(SCHEDULER), add_watermarker=False,
    )  # fmt: skip


@pytest.mark.slow
def test_one_step_of_sdxl() -> None:
    """An anchor and a frame, without guidance, in the mode that the machine has room for."""
    if available_memory() < NEEDED:
        pytest.skip("needs 16 GB of free memory")
    pipe = full_size_pipe()
    pipe.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"num_inference_steps": 1, "guidance_scale": 1.0,
                               "output_type": "latent"}  # fmt: skip
    with consistent_gen.share(pipe, "style_aligned", **options) as story:
        hero = story.anchor("a red fox", 1, subject="fox")
        plan = story.plans["fox"]
        assert plan.keeping.exact and story.run.bank.bytes == plan.bytes
        found = story.frame("a fox reading", 3, [hero])
    assert found.shape == (4, 128, 128)
    assert np.isfinite(found.numpy()).all()
