"""Parts of stock pipelines at tiny size: diffusers' own classes, with random weights."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from PIL import Image

from consistent_gen.models.tiny import SCHEDULER, TINY_WORDS
from consistent_gen.models.words import word_tokenizer
from tests.attention.toys import redraw

WIDTH, SIDE = 32, 16  # of the text, and of latents; pictures are twice as large
OPTIONS: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "np"}


def unet(channels: int = 4, xl: bool = False, **more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    added: dict[str, Any] = {
        "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + WIDTH, "use_linear_projection": True,
        "transformer_layers_per_block": (1, 2),
    } if xl else {}  # fmt: skip
    made = UNet2DConditionModel(
        sample_size=SIDE, in_channels=channels, out_channels=4, block_out_channels=(32, 64),
        layers_per_block=1, down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2, attention_head_dim=(2, 4), norm_num_groups=8,
        cross_attention_dim=2 * WIDTH if xl else WIDTH, **added, **more,
    )  # fmt: skip
    redraw(made)
    return made.eval().requires_grad_(False)


@functools.cache
def autoencoder() -> Any:
    from diffusers import AutoencoderKL

    made = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=2, sample_size=32,
    )  # fmt: skip
    redraw(made, 1)
    return made.eval().requires_grad_(False)


@functools.cache
def text(projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, projection_dim=WIDTH, max_position_embeddings=24,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    kind: Any = CLIPTextModelWithProjection if projected else CLIPTextModel
    return kind(config).eval().requires_grad_(False)


@functools.cache
def tokenizer() -> Any:
    return word_tokenizer(TINY_WORDS, max_tokens=24)


def pipe(kind: Any, *, xl: bool = False, scheduler: Any = None, **parts: Any) -> Any:
    """A pipeline of the class; parts replace those that it would have."""
    from diffusers import DDIMScheduler

    given: dict[str, Any] = {
        "vae": autoencoder(), "text_encoder": text(), "tokenizer": tokenizer(),
        "scheduler": scheduler or DDIMScheduler.from_config(SCHEDULER),
    }  # fmt: skip
    if xl:
        given |= {"text_encoder_2": text(True), "tokenizer_2": tokenizer()}
    else:
        given |= {"safety_checker": None, "feature_extractor": None}
    given |= parts
    given.setdefault("unet", unet(xl=xl))
    if not xl:
        given["requires_safety_checker"] = False
    made = kind(**given)
    made.set_progress_bar_config(disable=True)
    return made


def picture(colour: str = "red", side: int = 32) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


def differ(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())
