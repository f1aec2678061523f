"""Models with a UNet: Stable Diffusion 1 and 2, XL, and latent consistency models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from consistent_gen.diffusion.readers import PromptReader
from consistent_gen.diffusion.seam import Conditioning, NoiseSeam, clip_states, token_ids
from consistent_gen.errors import CheckpointError, InputError

# What UNets are told of beside words, noise and, in XL, sizes, by their configs: the usual values.
_TOLD: dict[str, tuple[Any, ...]] = {
    "time_cond_proj_dim": (None,),  # latent consistency models: the guidance
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "addition_embed_type": (None, "text_time"),
    "encoder_hid_dim_type": (None,),
}


class UNetSeam(NoiseSeam):
    """Latents [b c h w], both branches in one call, timesteps as the scheduler has them."""

    part = "unet"
    noun = "UNet"
    plain: tuple[str, ...] = ("FeedForward", "ResnetBlock2D")

    def check_parts(self, pipe: Any, name: str, inpaints: bool) -> None:
        """See `Seam`."""
        if pipe.tokenizer is None and getattr(pipe, "tokenizer_2", None) is None:
            raise InputError(f"a {name} without a tokenizer cannot find a subject's words")
        config = pipe.vae.config
        # The story world's latents also hold what a picture means, which the decoder does not read.
        channels = int(config.latent_channels) + int(config.get("semantic_channels", 0))
        self.check_channels(pipe, name, channels, inpaints=inpaints)

    def sample(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """See `Seam`."""
        found: Tensor = args[0] if args else kwargs["sample"]
        return found

    def replaced(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], sample: Tensor
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Seam`."""
        return ((sample, *args[1:]), kwargs) if args else (args, {**kwargs, "sample": sample})

    def moment(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
        """See `Seam`."""
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        return float(timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep)

    def check_config(self, config: Mapping[str, Any]) -> None:
        """See `Seam`."""
        wrong = [name for name, usual in _TOLD.items() if config.get(name) not in usual]
        if wrong:
            raise CheckpointError(
                f"its UNet is told more than words and noise ({wrong[0]} is "
                f"{config[wrong[0]]!r}), which the engine does not tell it; draw with its own "
                "pipeline and `share`"
            )

    def size_multiple(self, config: Mapping[str, Any], factor: int) -> int:
        """See `Seam`: every grid halves evenly."""
        return int(factor * 2 ** (len(config["block_out_channels"]) - 1))

    def lacks(self, config: Mapping[str, Any]) -> dict[str, str]:
        """See `Seam`."""
        return {}

    def readers(
        self, tokenizers: Sequence[Any | None], length: int | None = None
    ) -> tuple[PromptReader, ...]:
        """See `Seam`. Two encoders' words stand at the same place."""
        found = next(tokenizer for tokenizer in tokenizers if tokenizer is not None)
        return (PromptReader(found, 0, int(found.model_max_length)),)

    @torch.inference_mode()
    def conditioning(
        self,
        parts: Any,
        prompt: str,
        size: tuple[int, int],
        guidance: float,
        *,
        negative: bool = False,
    ) -> Conditioning:
        """See `Seam`."""
        first, second = parts.tokenizer, parts.tokenizer_2
        if second is None:
            ids = token_ids(first, prompt, first.model_max_length, parts.device)
            return Conditioning(parts.text_encoder(ids).last_hidden_state[0].to(parts.dtype))
        # SDXL reads the last but one layer of both encoders and pools the second.
        layers, pooled = [], None
        for tokenizer, encoder in ((first, parts.text_encoder), (second, parts.text_encoder_2)):
            length = tokenizer.model_max_length
            states, pooled = clip_states(tokenizer, encoder, prompt, length, parts.device)
            layers.append(states)
        assert pooled is not None, "text_encoder_2 has no projection"
        tokens, pooled = torch.cat(layers, dim=-1).to(parts.dtype), pooled.to(parts.dtype)
        if negative and prompt == "" and parts.zero_empty_negative:
            tokens, pooled = torch.zeros_like(tokens), torch.zeros_like(pooled)
        width, height = size
        # Micro-conditioning of SDXL (arXiv 2307.01952, 2.2): original size, crop corner, target.
        time_ids = torch.tensor([height, width, 0, 0, height, width])
        time_ids = time_ids.to(parts.device, parts.dtype)
        return Conditioning(tokens, {"text_embeds": pooled, "time_ids": time_ids})

    def predict(
        self,
        model: Any,
        latents: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        added: Mapping[str, Tensor],
    ) -> Tensor:
        """See `Seam`; what it means (noise, v, ...) is the schedule's `prediction_type`."""
        extra = {"added_cond_kwargs": dict(added)} if added else {}
        found: Tensor = model(latents, timesteps, tokens, return_dict=False, **extra)[0]
        return found
