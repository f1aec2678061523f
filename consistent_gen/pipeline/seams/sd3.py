"""Stable Diffusion 3 and 3.5: joint blocks over image and text, guidance in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from consistent_gen.errors import InputError
from consistent_gen.pipeline.seams.seam import Seam, mentions


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

    def tokens(
        self, pipe: Any, prompt: str, subject: str, options: Mapping[str, Any]
    ) -> tuple[int, ...]:
        """See `Seam`."""
        first = int(pipe.tokenizer_max_length)
        found = list(mentions(pipe, pipe.tokenizer, prompt, subject, first))
        if pipe.text_encoder_3 is not None and pipe.tokenizer_3 is not None:
            read = options.get("prompt_3") or prompt
            length = int(options.get("max_sequence_length") or 256)
            found += [first + i for i in mentions(pipe, pipe.tokenizer_3, read, subject, length)]
        return tuple(found)
