"""Untrained models of the shapes of Stable Diffusion 3 and FLUX.1, built on the spot in a second,
for tests and trials.

They are made of diffusers' and transformers' own classes, read any word, and draw coloured noise.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch

from consistent_gen.checkpoints import atomic_dir, write_json
from consistent_gen.models.tiny import TINY_WORDS
from consistent_gen.models.words import word_tokenizer

Kind = Literal["sd3", "flux-dev", "flux-schnell", "flux-kontext"]
_CLIP_WIDTH, _T5_WIDTH = 16, 32  # T5's is that of both CLIP encoders together, or more
_CHANNELS = 4  # of a latent


def build_tiny_transformer(
    folder: str | Path, kind: Kind, *, seed: int = 0, t5: bool = True
) -> Path:
    """Write an untrained model folder in diffusers format; the same arguments give equal weights.

    t5: whether it has the encoder of long texts, which only "sd3" can be without.

    Raises:
        OutputError: the folder cannot be written.
    """
    # The libraries initialise from the global generator: lend them one and put the old one back.
    with torch.random.fork_rng(devices=[]), atomic_dir(folder) as place:
        torch.manual_seed(seed)
        tokenizer = word_tokenizer(TINY_WORDS, spells=True)
        parts: dict[str, Any] = {"vae": _autoencoder(), "tokenizer": tokenizer}
        if kind == "sd3":
            parts |= {
                "transformer": _sd3(),
                "text_encoder": _clip(tokenizer, projected=True),
                "tokenizer_2": tokenizer,
                "text_encoder_2": _clip(tokenizer, projected=True),
            }
        else:
            parts |= {
                "transformer": _flux(guided=kind != "flux-schnell"),
                "text_encoder": _clip(tokenizer, projected=False),
            }
        long = "_3" if kind == "sd3" else "_2"
        if t5:
            reader = t5_tokenizer(TINY_WORDS)
            parts |= {f"tokenizer{long}": reader, f"text_encoder{long}": _t5(reader)}
        for name, part in parts.items():
            part.save_pretrained(place / name)
        write_json(place / "scheduler" / "scheduler_config.json", _schedule(kind))
        write_json(place / "model_index.json", _index(kind, parts))
    return Path(folder)


def t5_tokenizer(words: Iterable[str]) -> Any:
    """A `T5Tokenizer` that knows `words` as one piece each and spells all others."""
    from transformers import T5Tokenizer

    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    letters = [(letter, -10.0) for letter in string.ascii_letters + string.digits + ".,;:!?'-"]
    whole = [(f"\u2581{word}", -5.0) for word in sorted(set(words))]
    build: Any = T5Tokenizer
    return build(vocab=[*marks, *letters, *whole], extra_ids=0, model_max_length=512)


def _schedule(kind: Kind) -> dict[str, Any]:
    # Of the published folders.
    shifts: dict[Kind, dict[str, Any]] = {
        "sd3": {"shift": 3.0},
        "flux-schnell": {"shift": 1.0},
        "flux-dev": {"shift": 3.0, "use_dynamic_shifting": True},
        "flux-kontext": {"shift": 3.0, "use_dynamic_shifting": True},
    }
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
        "use_dynamic_shifting": False,
        **shifts[kind],
    }


def _index(kind: Kind, parts: dict[str, Any]) -> dict[str, Any]:
    names = {"sd3": "StableDiffusion3Pipeline", "flux-kontext": "FluxKontextPipeline"}
    index: dict[str, Any] = {
        "_class_name": names.get(kind, "FluxPipeline"),
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    }
    for name, part in parts.items():
        index[name] = [type(part).__module__.partition(".")[0], type(part).__name__]
    missing = [] if kind != "sd3" else ["tokenizer_3", "text_encoder_3"]
    missing += ["image_encoder", "feature_extractor"]
    return index | {name: [None, None] for name in missing if name not in index}


def _sd3() -> Any:
    from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

    # Of SD 3.5 medium: normalised queries and keys, and a second attention in the first blocks.
    return SD3Transformer2DModel(
        sample_size=32, patch_size=2, in_channels=_CHANNELS, out_channels=_CHANNELS, num_layers=3,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=_T5_WIDTH,
        caption_projection_dim=32, pooled_projection_dim=2 * _CLIP_WIDTH, pos_embed_max_size=48,
        dual_attention_layers=(0, 1), qk_norm="rms_norm",
    )  # fmt: skip


def _flux(*, guided: bool) -> Any:
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    return FluxTransformer2DModel(
        patch_size=1, in_channels=4 * _CHANNELS, num_layers=1, num_single_layers=2,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=_T5_WIDTH,
        pooled_projection_dim=_CLIP_WIDTH, axes_dims_rope=(4, 4, 8), guidance_embeds=guided,
    )  # fmt: skip


def _clip(tokenizer: Any, *, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=_CLIP_WIDTH, intermediate_size=2 * _CLIP_WIDTH,
        num_hidden_layers=2, num_attention_heads=2, projection_dim=_CLIP_WIDTH,
        max_position_embeddings=tokenizer.model_max_length, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _t5(tokenizer: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(tokenizer), d_model=_T5_WIDTH, d_kv=8, d_ff=2 * _T5_WIDTH, num_layers=1,
        num_heads=4, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return T5EncoderModel(config)


def _autoencoder() -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=2, sample_size=256,
        latent_channels=_CHANNELS, shift_factor=0.1, scaling_factor=0.4, use_quant_conv=False,
        use_post_quant_conv=False,
    )  # fmt: skip
