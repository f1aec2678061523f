"""An untrained story-world-shaped model, built on the spot in a second, for tests and trials.

It has every part of the real one (diffusers layout, closed vocabulary, v-prediction with zero
terminal SNR, 16 x 16 x 16 latents of 128 x 128 pictures), and draws coloured noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from consistent_gen.checkpoints import atomic_dir, write_json
from consistent_gen.models.words import word_tokenizer

TINY_WORDS = (
    *("a", "an", "and", "in", "on", "the", "with", "red", "green", "blue", "small", "old"),
    *("fox", "cat", "bear", "girl", "boy", "hat", "scarf", "meadow", "forest", "city"),
    *("walking", "reading", "sitting", "flat", "pencil", "drawing", "of", ",", "."),
)
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,  # without meaning for trailing timesteps; pipelines warn about 0
}
_WIDTHS = (16, 32, 48)
_TEXT_WIDTH = 32


def build_tiny(
    folder: str | Path, *, words: Iterable[str] = TINY_WORDS, seed: int = 0, xl: bool = False
) -> Path:
    """Write an untrained model folder in diffusers format; the same arguments give equal weights.

    With `xl` it has SDXL's two text encoders and added conditioning.

    Raises:
        OutputError: the folder cannot be written.
    """
    # The libraries initialise from the global generator: lend them one and put the old one back.
    with torch.random.fork_rng(devices=[]), atomic_dir(folder) as place:
        torch.manual_seed(seed)
        tokenizer = word_tokenizer(words, max_tokens=24)
        parts: dict[str, Any] = {
            "tokenizer": tokenizer,
            "text_encoder": _text_encoder(tokenizer, projected=False),
            "unet": _unet(xl),
            "vae": _autoencoder(),
        }
        if xl:
            parts |= {
                "tokenizer_2": tokenizer,
                "text_encoder_2": _text_encoder(tokenizer, projected=True),
            }
        for name, part in parts.items():
            part.save_pretrained(place / name)
        write_json(place / "scheduler" / "scheduler_config.json", SCHEDULER)
        write_json(place / "model_index.json", _index(parts, xl))
    return Path(folder)


def _index(parts: dict[str, Any], xl: bool) -> dict[str, Any]:
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline",
        "scheduler": ["diffusers", SCHEDULER["_class_name"]],
    }
    for name, part in parts.items():
        module = type(part).__module__
        # Pipelines import what they are told: ours by its module, the others by their package.
        library = module if module.startswith("consistent_gen.") else module.partition(".")[0]
        index[name] = [library, type(part).__name__]
    if xl:
        return index | {"force_zeros_for_empty_prompt": True}
    empty = {"safety_checker": [None, None], "feature_extractor": [None, None]}
    return index | empty | {"requires_safety_checker": False, "image_encoder": [None, None]}


def _unet(xl: bool) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    added: dict[str, Any] = {}
    if xl:
        added = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + _TEXT_WIDTH,
        }
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=16,
        out_channels=16,
        block_out_channels=_WIDTHS,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        # diffusers reads this as the number of heads: 16 channels each.
        attention_head_dim=(1, 2, 3),
        norm_num_groups=8,
        cross_attention_dim=_TEXT_WIDTH * (2 if xl else 1),
        **added,
    )


def _text_encoder(tokenizer: Any, *, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_TEXT_WIDTH,
        intermediate_size=2 * _TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=_TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _autoencoder() -> Any:
    from consistent_gen.models.patch_autoencoder import PatchAutoencoder

    return PatchAutoencoder(latent_channels=16, decoder_widths=(16, 16), decoder_blocks=(1, 1))
