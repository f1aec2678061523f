"""Stable Diffusion 3 and 3.5: joint blocks over image and text, guidance in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.diffusion.readers import PromptReader
from consistent_gen.diffusion.seam import Conditioning, Seam, clip_states, token_ids
from consistent_gen.errors import InputError

LONG = 256  # tokens that T5 reads


class SD3Seam(Seam):
    """Latents [b c h w]; the text is that of two CLIP encoders, side by side, then that of T5."""

    def check_parts(self, pipe: Any, name: str, inpaints: bool) -> None:
        """See `Seam`."""
        if pipe.tokenizer is None or pipe.tokenizer_2 is None:
            raise InputError(f"a {name} without both CLIP tokenizers cannot read a prompt")
        self.check_channels(pipe, name, int(pipe.vae.config.latent_channels), inpaints=inpaints)

    @contextmanager
    def running(self, pipe: Any) -> Iterator[None]:
        """See `Seam`. The pipeline with a ControlNet samples the latent of its control picture from
        no seed; the mean stands for it, so that a frame is always the same.
        """
        if getattr(pipe, "controlnet", None) is None:
            yield
            return
        encode = pipe.vae.encode

        def certain(*args: Any, **kwargs: Any) -> Any:
            found = encode(*args, **kwargs)
            found.latent_dist.std = torch.zeros_like(found.latent_dist.mean)
            return found

        pipe.vae.encode = certain
        try:
            yield
        finally:
            del pipe.vae.encode

    def recommended(self, config: Mapping[str, Any]) -> dict[str, float]:
        """See `Seam`."""
        return super().recommended(config) | {"steps": 28, "guidance": 7.0}

    def text_length(self, config: Mapping[str, Any]) -> int | None:
        """See `Seam`."""
        return LONG

    def readers(
        self, tokenizers: Sequence[Any | None], length: int | None = None
    ) -> tuple[PromptReader, ...]:
        """See `Seam`. The words of both CLIP encoders stand at the same place."""
        first, _, *more = tokenizers
        assert first is not None, "the parts have been checked"
        clip = PromptReader(first, 0, int(first.model_max_length))
        t5 = [
            PromptReader(t, clip.length, length or LONG, "prompt_3") for t in more if t is not None
        ]
        return (clip, *t5)

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
        """See `Seam`. Without T5, zeros stand for what it would say."""
        layers, pooled = [], []
        length = int(parts.tokenizer.model_max_length)
        for tokenizer, encoder in (
            (parts.tokenizer, parts.text_encoder),
            (parts.tokenizer_2, parts.text_encoder_2),
        ):
            states, vector = clip_states(tokenizer, encoder, prompt, length, parts.device)
            assert vector is not None, "its CLIP encoders have projections"
            layers.append(states)
            pooled.append(vector)
        clip = torch.cat(layers, dim=-1).to(parts.dtype)  # t c
        if parts.text_encoder_3 is None:
            width = int(parts.denoiser.config["joint_attention_dim"])
            long = clip.new_zeros(LONG, width)
        else:
            ids = token_ids(parts.tokenizer_3, prompt, LONG, parts.device)
            long = parts.text_encoder_3(ids)[0][0].to(parts.dtype)
        clip = F.pad(clip, (0, long.shape[-1] - clip.shape[-1]))
        tokens = torch.cat([clip, long])
        return Conditioning(
            tokens, {"pooled_projections": torch.cat(pooled, dim=-1).to(parts.dtype)}
        )

    def predict(
        self,
        model: Any,
        latents: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        added: Mapping[str, Tensor],
    ) -> Tensor:
        """See `Seam`."""
        found: Tensor = model(
            hidden_states=latents, timestep=timesteps, encoder_hidden_states=tokens,
            return_dict=False, **added,
        )[0]  # fmt: skip
        return found
