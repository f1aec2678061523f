"""Qwen-Image: packed latents, joint blocks, guidance by a second call, a language model's text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from consistent_gen.diffusion.flux import PackedSeam
from consistent_gen.diffusion.seam import mentions
from consistent_gen.errors import InputError


class QwenSeam(PackedSeam):
    """Called as FLUX.1 is, with the shapes of pictures in place of positions.

    A prompt stands in a longer text whose beginning the model does not read; prompts of one batch
    are padded to the longest.
    """

    def check_parts(self, pipe: Any, name: str, inpaints: bool) -> None:
        """See `Seam`."""
        if pipe.tokenizer is None or pipe.text_encoder is None:
            raise InputError(f"a {name} without its text encoder cannot find a subject's words")
        self.check_channels(pipe, name, 4 * int(pipe.vae.config.z_dim))

    def grid(self, sample: Tensor, kwargs: Mapping[str, Any]) -> tuple[int, int]:
        """See `Seam`."""
        shapes = kwargs["img_shapes"][0]  # of one row: a picture's, or those of several
        _, height, width = shapes[0] if isinstance(shapes, list) else shapes
        return int(height), int(width)

    def encoded(self, pipe: Any, picture: Tensor) -> Tensor:
        """See `Seam`; its autoencoder takes films, of which a picture is the first."""
        vae = pipe.vae
        with torch.no_grad():
            made = vae.encode(picture[:, :, None].to(pipe._execution_device, vae.dtype))
        latent: Tensor = made.latent_dist.mode()[0, :, 0].float()  # c h w
        mean, deviation = (
            torch.tensor(vae.config[f"latents_{which}"]).view(-1, 1, 1).to(latent)
            for which in ("mean", "std")
        )
        return (latent - mean) / deviation

    def tokens(
        self, pipe: Any, prompt: str, subject: str, options: Mapping[str, Any]
    ) -> tuple[int, ...]:
        """See `Seam`: in the prompt's part of the text."""
        before, template = int(pipe.prompt_template_encode_start_idx), pipe.prompt_template_encode
        length = int(pipe.tokenizer_max_length) + before
        text = template.format(prompt)
        found = mentions(pipe, pipe.tokenizer, text, subject, length)
        after = len(pipe.tokenizer(template.format("")).input_ids) - before
        whole = len(pipe.tokenizer(text, truncation=True, max_length=length).input_ids)
        last = min(whole - after, before + int(options.get("max_sequence_length") or 512))
        return tuple(i - before for i in found if before <= i < last)
