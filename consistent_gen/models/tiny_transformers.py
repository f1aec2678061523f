"""Untrained models with transformers (Stable Diffusion 3, FLUX.1, Qwen-Image, PixArt), built on the
spot in a second, for tests and trials.

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
from consistent_gen.models.words import byte_vocabulary, word_tokenizer

Kind = Literal[
    "sd3", "flux-dev", "flux-schnell", "flux-kontext", "klein", "klein-base", "qwen", "pixart",
    "pixart-sigma",
]  # fmt: skip
_PIPELINES: dict[Kind, str] = {
    "sd3": "StableDiffusion3Pipeline",
    "flux-dev": "FluxPipeline",
    "flux-schnell": "FluxPipeline",
    "flux-kontext": "FluxKontextPipeline",
    "klein": "Flux2KleinPipeline",
    "klein-base": "Flux2KleinPipeline",
    "qwen": "QwenImagePipeline",
    "pixart": "PixArtAlphaPipeline",
    "pixart-sigma": "PixArtSigmaPipeline",
}
_CLIP_WIDTH, _T5_WIDTH = 16, 32  # T5's is that of both CLIP encoders together, or more
_CHANNELS = 4  # of a latent
_CHAT = (  # in the manner of published ones
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>fox\n{% endif %}"
)
_QWEN_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


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
        own = {"qwen": _qwen_parts, "klein": _klein_parts, "klein-base": _klein_parts}
        parts = own[kind]() if kind in own else _parts(kind, t5)
        for name, part in parts.items():
            part.save_pretrained(place / name)
        write_json(place / "scheduler" / "scheduler_config.json", _schedule(kind))
        write_json(place / "model_index.json", _index(kind, parts))
    return Path(folder)


def _parts(kind: Kind, t5: bool) -> dict[str, Any]:
    """Networks and tokenizers of the kinds with T5."""
    parts: dict[str, Any] = {"vae": _autoencoder()}
    if kind in ("pixart", "pixart-sigma"):
        parts["transformer"] = _pixart(told_size=kind == "pixart")
    else:
        parts["tokenizer"] = tokenizer = word_tokenizer(TINY_WORDS, spells=True)
        parts["text_encoder"] = _clip(tokenizer, projected=kind == "sd3")
    if kind == "sd3":
        parts |= {
            "transformer": _sd3(),
            "tokenizer_2": tokenizer,
            "text_encoder_2": _clip(tokenizer, projected=True),
        }
    elif kind.startswith("flux"):
        parts["transformer"] = _flux(guided=kind != "flux-schnell")
    if t5:
        end = {"sd3": "_3", "pixart": "", "pixart-sigma": ""}.get(kind, "_2")
        reader = t5_tokenizer(TINY_WORDS)
        parts |= {f"tokenizer{end}": reader, f"text_encoder{end}": _t5(reader)}
    return parts


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
    if kind in ("pixart", "pixart-sigma"):
        return {
            "_class_name": "DPMSolverMultistepScheduler",
            "num_train_timesteps": 1000,
            "beta_start": 0.0001,
            "beta_end": 0.02,
            "beta_schedule": "linear",
            "prediction_type": "epsilon",
            "timestep_spacing": "linspace",
        }
    shifts: dict[Kind, dict[str, Any]] = {
        "sd3": {"shift": 3.0},
        "flux-schnell": {"shift": 1.0},
        "flux-dev": {"shift": 3.0, "use_dynamic_shifting": True},
        "flux-kontext": {"shift": 3.0, "use_dynamic_shifting": True},
        "klein": {"shift": 3.0, "use_dynamic_shifting": True},
        "klein-base": {"shift": 3.0, "use_dynamic_shifting": True},
        "qwen": {
            "shift": 1.0,
            "use_dynamic_shifting": True,
            "time_shift_type": "exponential",
            "max_shift": 0.9,
            "max_image_seq_len": 8192,
            "shift_terminal": 0.02,
        },
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
    index: dict[str, Any] = {
        "_class_name": _PIPELINES[kind],
        "scheduler": ["diffusers", _schedule(kind)["_class_name"]],
    }
    for name, part in parts.items():
        index[name] = [type(part).__module__.partition(".")[0], type(part).__name__]
    missing = [] if kind != "sd3" else ["tokenizer_3", "text_encoder_3"]
    if kind == "sd3" or kind.startswith("flux"):
        missing += ["image_encoder", "feature_extractor"]
    if _PIPELINES[kind] == "Flux2KleinPipeline":
        index["is_distilled"] = kind == "klein"
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


def _pixart(*, told_size: bool) -> Any:
    from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel

    return PixArtTransformer2DModel(
        sample_size=128, num_layers=3, patch_size=2, attention_head_dim=12, num_attention_heads=2,
        caption_channels=_T5_WIDTH, in_channels=_CHANNELS, out_channels=2 * _CHANNELS,
        cross_attention_dim=24, use_additional_conditions=told_size,
    )  # fmt: skip


def _qwen_tokenizer() -> Any:
    from transformers import Qwen2Tokenizer

    vocabulary, merges = byte_vocabulary(TINY_WORDS, marks=_QWEN_MARKS)
    build: Any = Qwen2Tokenizer
    return build(
        vocab=vocabulary, merges=merges, model_max_length=1024, eos_token="<|im_end|>",
        additional_special_tokens=list(_QWEN_MARKS), chat_template=_CHAT,
    )  # fmt: skip


def _klein_parts() -> dict[str, Any]:
    from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
    from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer, width = _qwen_tokenizer(), 8
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=16, num_hidden_layers=28,
        num_attention_heads=1, num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=2, sample_size=256,
        latent_channels=_CHANNELS,
    )  # fmt: skip
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.5, 2.0)
    return {
        "transformer": Flux2Transformer2DModel(
            in_channels=4 * _CHANNELS, num_layers=1, num_single_layers=2, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=3 * width, guidance_embeds=False,
            timestep_guidance_channels=32, axes_dims_rope=(4, 4, 4, 4),
        ),
        "vae": vae,
        "tokenizer": tokenizer,
        "text_encoder": Qwen3ForCausalLM(config),
    }  # fmt: skip


def _qwen_parts() -> dict[str, Any]:
    from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage
    from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = _qwen_tokenizer()
    rotary = {"mrope_section": [2, 2, 4], "rope_type": "default", "rope_theta": 1e6}
    configure: Any = Qwen2_5_VLConfig
    config = configure(
        text_config={
            "hidden_size": _T5_WIDTH, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer),
            "rope_parameters": rotary, "bos_token_id": None, "eos_token_id": 0,
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
            "out_hidden_size": _T5_WIDTH,
        },
        vocab_size=len(tokenizer), hidden_size=_T5_WIDTH,
    )  # fmt: skip
    return {
        "transformer": QwenImageTransformer2DModel(
            patch_size=2, in_channels=4 * _CHANNELS, out_channels=_CHANNELS, num_layers=3,
            attention_head_dim=16, num_attention_heads=2, joint_attention_dim=_T5_WIDTH,
            axes_dims_rope=(4, 4, 8),
        ),
        "vae": AutoencoderKLQwenImage(
            base_dim=8, z_dim=_CHANNELS, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
            temperal_downsample=[False, False, False], latents_mean=[0.1, 0.0, -0.1, 0.0],
            latents_std=[2.0, 1.0, 1.5, 1.0],
        ),
        "tokenizer": tokenizer,
        "text_encoder": Qwen2_5_VLForConditionalGeneration(config),
    }  # fmt: skip


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
