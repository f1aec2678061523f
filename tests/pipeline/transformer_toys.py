"""Parts of pipelines with a transformer at tiny size: diffusers' own classes, random weights."""

from __future__ import annotations

import functools
from typing import Any

import torch

from consistent_gen.models.tiny import TINY_WORDS
from consistent_gen.pipeline.contract import PIPELINES
from tests.attention.toys import redraw
from tests.pipeline.toys import WIDTH, text, tokenizer

T5_WIDTH = 64  # at least that of both CLIP encoders together, as in the real SD3


def sd3_transformer(channels: int = 4) -> Any:
    from diffusers import SD3Transformer2DModel

    made = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=channels, out_channels=channels, num_layers=3,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=T5_WIDTH,
        caption_projection_dim=32, pooled_projection_dim=2 * WIDTH, pos_embed_max_size=16,
        dual_attention_layers=(1,), qk_norm="rms_norm",
    )  # fmt: skip
    return _drawn(made)


def flux_transformer(guidance: bool = True) -> Any:
    from diffusers import FluxTransformer2DModel

    made = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=T5_WIDTH, pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8), guidance_embeds=guidance,
    )  # fmt: skip
    return _drawn(made)


@functools.cache
def t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer()), d_model=T5_WIDTH, d_kv=16, d_ff=64, num_layers=1, num_heads=4
    )
    return T5EncoderModel(config).eval().requires_grad_(False)


@functools.cache
def autoencoder(channels: int = 4) -> Any:
    from diffusers import AutoencoderKL

    made = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=2, sample_size=32,
        latent_channels=channels, shift_factor=0.1, scaling_factor=0.4,
    )  # fmt: skip
    return _drawn(made, 1)


def scheduler(**more: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **more})


def sd3(kind: Any, **parts: Any) -> Any:
    """A pipeline of a Stable Diffusion 3 class."""
    given = {
        "vae": autoencoder(), "scheduler": scheduler(),
        "text_encoder": text(True), "tokenizer": tokenizer(),
        "text_encoder_2": text(True), "tokenizer_2": tokenizer(),
        "text_encoder_3": t5(), "tokenizer_3": tokenizer(),
    } | parts  # fmt: skip
    given.setdefault("transformer", sd3_transformer())
    return _quiet(kind(**given))


def flux(kind: Any, **parts: Any) -> Any:
    """A pipeline of a FLUX.1 class, "dev" if no transformer is given."""
    shifted = scheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    given = {
        "vae": autoencoder(), "scheduler": shifted,
        "text_encoder": text(), "tokenizer": tokenizer(),
        "text_encoder_2": t5(), "tokenizer_2": tokenizer(),
    } | parts  # fmt: skip
    given.setdefault("transformer", flux_transformer())
    return _quiet(kind(**given))


QWEN = "<|im_start|>system\n{0}<|im_end|><|im_start|>user\n{{}}<|im_end|><|im_start|>fox\n"
SYSTEM = "a small drawing with the city"


@functools.cache
def qwen_tokenizer() -> Any:
    """Bytes that are joined into words with the space before them, as Qwen's are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=marks, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator([f"{word} a {word}" for word in TINY_WORDS], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=marks[0], eos_token=marks[2], model_max_length=1024
    )


@functools.cache
def qwen_text() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 400,
            "rope_parameters": {
                "mrope_section": [2, 2, 4], "rope_type": "default", "rope_theta": 1e6,
            },
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
            "out_hidden_size": WIDTH,
        },
        vocab_size=400, hidden_size=WIDTH,
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config).eval().requires_grad_(False)


@functools.cache
def qwen_autoencoder() -> Any:
    from diffusers import AutoencoderKLQwenImage

    made = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, 0.0, 0.0, 0.0], latents_std=[2.0, 1.0, 1.0, 1.0],
    )  # fmt: skip
    return _drawn(made, 1)


def qwen_transformer() -> Any:
    from diffusers import QwenImageTransformer2DModel

    made = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=3, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=WIDTH, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return _drawn(made)


def qwen(kind: Any, **parts: Any) -> Any:
    """A pipeline of a Qwen-Image class, with a shorter text around its prompts."""
    given = {
        "vae": qwen_autoencoder(), "text_encoder": qwen_text(), "tokenizer": qwen_tokenizer(),
        "scheduler": scheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9),
    } | parts  # fmt: skip
    given.setdefault("transformer", qwen_transformer())
    made = kind(**given)
    made.prompt_template_encode = QWEN.format(SYSTEM)
    before = made.prompt_template_encode.split("{}")[0]
    made.prompt_template_encode_start_idx = len(qwen_tokenizer()(before).input_ids)
    return _quiet(made)


def pixart(kind: Any, **parts: Any) -> Any:
    """A pipeline of a PixArt class."""
    from diffusers import DPMSolverMultistepScheduler, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        sample_size=16, num_layers=6, patch_size=2, attention_head_dim=16, num_attention_heads=2,
        caption_channels=T5_WIDTH, in_channels=4, out_channels=8, cross_attention_dim=32,
        use_additional_conditions=False,
    )  # fmt: skip
    given = {
        "vae": autoencoder(), "text_encoder": t5(), "tokenizer": tokenizer(),
        "scheduler": DPMSolverMultistepScheduler(),
    } | parts  # fmt: skip
    given.setdefault("transformer", _drawn(transformer))
    return _quiet(kind(**given))


def network(name: str) -> dict[str, Any]:
    """The further parts of a pipeline class."""
    if name == "StableDiffusion3InpaintPipeline":  # it takes no other width
        return {"transformer": sd3_transformer(16), "vae": autoencoder(16)}
    if "ControlNet" not in name:
        return {}
    if name.startswith("Qwen"):
        from diffusers import QwenImageControlNetModel

        made: Any = QwenImageControlNetModel(
            patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=WIDTH, axes_dims_rope=(4, 4, 8),
        )  # fmt: skip
    elif name.startswith("Flux"):
        from diffusers import FluxControlNetModel

        made = FluxControlNetModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=T5_WIDTH, pooled_projection_dim=WIDTH,
            axes_dims_rope=[4, 4, 8],
        )  # fmt: skip
    else:
        from diffusers import SD3ControlNetModel

        made = SD3ControlNetModel(
            sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=2,
            attention_head_dim=16, num_attention_heads=2, joint_attention_dim=T5_WIDTH,
            caption_projection_dim=32, pooled_projection_dim=2 * WIDTH, pos_embed_max_size=16,
        )  # fmt: skip
    return {"controlnet": _drawn(made, 3)}


def made(name: str, **parts: Any) -> Any:
    """A pipeline of the class with this name."""
    import diffusers

    build = {"sd3": sd3, "flux": flux, "qwen": qwen, "pixart": pixart}[
        PIPELINES[name].seam.removesuffix("-sigma")
    ]
    return build(getattr(diffusers, name), **network(name) | parts)


def options(name: str) -> dict[str, Any]:
    """What its calls are given, beside pictures."""
    found: dict[str, Any] = {
        "num_inference_steps": 4, "output_type": "np", "height": 32, "width": 48,
        "max_sequence_length": 24,
    }  # fmt: skip
    if "Kontext" in name:  # its pictures are large otherwise
        found |= {"max_area": 32 * 48, "_auto_resize": False}
    if "PixArt" in name:
        found |= {"use_resolution_binning": False, "clean_caption": False}
    if PIPELINES[name].seam == "sd3" or "PixArt" in name:
        found["guidance_scale"] = 3.0
    return found


def _drawn(model: Any, seed: int = 0) -> Any:
    redraw(model, seed)
    return model.eval().requires_grad_(False)


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe
