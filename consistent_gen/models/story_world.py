"""The story-world model: sizes, untrained parts, and how they are saved in diffusers layout.

Standard classes throughout, so that `diffusers.StableDiffusionPipeline.from_pretrained` loads the
folder: a CLIP-type text encoder over a closed vocabulary, a UNet with self- and cross-attention on
three token grids (16 x 16, 8 x 8, 4 x 4), DDIM over predictions of the clean latent, with zero
terminal signal-to-noise ratio (Lin et al., arXiv 2305.08891), and `PatchAutoencoder`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from consistent_gen.checkpoints import atomic_dir, read_json, write_json
from consistent_gen.models.words import word_tokenizer

MAX_TOKENS = 64
LATENT_SIZE = 16

SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "sample",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,  # stock pipelines insist; trailing spacing does not use it
}

# Of methods (see `methods.tuning`), chosen on development stories (docs/log.md, 2026-11-27).
_AHEAD = {
    "anchors": 1,
    "lead": 0.3,
    "bias": 0.7,
    "dropout": 0.0,
    "cut": 0.5,
    "gate": "nearest",
    "window": {"skip": 0, "branches": ["cond"]},
}
# Of the settings tried on development prompts the best in named attributes (docs/log.md).
RECOMMENDED_SETTINGS = {
    "contours": 2.0,
    "guidance_rescale": 0.7,
    "methods": {"consistory": _AHEAD, "consistyle": {**_AHEAD, "align_values": False}},
}


@dataclass(frozen=True, kw_only=True)
class StoryWorldConfig:
    """Sizes of the default model."""

    latent_channels: int = 50  # 32 components of patches and 18 semantic channels
    widths: tuple[int, ...] = (128, 128, 256)
    heads: tuple[int, ...] = (2, 2, 4)
    layers_per_block: int = 1
    text_width: int = 256
    text_layers: int = 3
    text_heads: int = 4


def build_unet(config: StoryWorldConfig) -> Any:
    """The untrained denoiser, 20.1 M parameters by default."""
    from diffusers import UNet2DConditionModel

    depth = len(config.widths)
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        block_out_channels=config.widths,
        layers_per_block=config.layers_per_block,
        down_block_types=("CrossAttnDownBlock2D",) * depth,
        up_block_types=("CrossAttnUpBlock2D",) * depth,
        attention_head_dim=config.heads,  # diffusers reads this as the number of heads
        norm_num_groups=16,
        cross_attention_dim=config.text_width,
    )


def build_text(config: StoryWorldConfig, words: Iterable[str]) -> tuple[Any, Any]:
    """The tokenizer over `words` and an untrained text encoder for it."""
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = word_tokenizer(words, max_tokens=MAX_TOKENS)
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.text_width,
            intermediate_size=4 * config.text_width,
            num_hidden_layers=config.text_layers,
            num_attention_heads=config.text_heads,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=config.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return tokenizer, encoder


def save_story_world(
    folder: str | Path, *, tokenizer: Any, text_encoder: Any, unet: Any, vae: Any
) -> None:
    """Write a model folder in diffusers layout by rename; weights become float16."""
    parts: dict[str, Any] = {
        "tokenizer": tokenizer,
        "text_encoder": text_encoder,
        "unet": unet,
        "vae": vae,
    }
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", SCHEDULER["_class_name"]],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }
    with atomic_dir(folder) as place:
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                part.half()
            part.save_pretrained(place / name)
            module = type(part).__module__
            library = module if module.startswith("consistent_gen.") else module.partition(".")[0]
            index[name] = [library, type(part).__name__]
        write_json(place / "recommended.json", RECOMMENDED_SETTINGS)
        # transformers computes in the format that its config names, diffusers in float32: they must
        # agree.
        text_config = place / "text_encoder" / "config.json"
        write_json(text_config, read_json(text_config) | {"dtype": "float32"})
        write_json(place / "scheduler" / "scheduler_config.json", SCHEDULER)
        write_json(place / "model_index.json", index)
