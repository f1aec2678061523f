"""PixArt-alpha and -sigma: transformers whose layers are those of a UNet, with the text of T5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consistent_gen.diffusion.seam import NoiseSeam, mentions
from consistent_gen.errors import InputError


class PixArtSeam(NoiseSeam):
    """Latents [b c h w], noise and schedulers as in a UNet's pipeline."""

    def check_parts(self, pipe: Any, name: str, inpaints: bool) -> None:
        """See `Seam`."""
        if pipe.tokenizer is None or pipe.text_encoder is None:
            raise InputError(f"a {name} without its T5 encoder cannot find a subject's words")
        self.check_channels(pipe, name, int(pipe.vae.config.latent_channels))

    def guided(self, pipe: Any, options: Mapping[str, Any]) -> bool:
        """See `Seam`; its pipelines do not say so themselves."""
        scale = options.get("guidance_scale")
        return scale is None or float(scale) > 1.0

    def tokens(
        self, pipe: Any, prompt: str, subject: str, options: Mapping[str, Any]
    ) -> tuple[int, ...]:
        """See `Seam`: in the prompt as the pipeline cleans it."""
        length = int(options.get("max_sequence_length") or (300 if "Sigma" in _name(pipe) else 120))
        clean = bool(options.get("clean_caption", True))
        read, said = (
            pipe._text_preprocessing(text, clean_caption=clean)[0] for text in (prompt, subject)
        )
        return mentions(pipe, pipe.tokenizer, read, said, length)


def _name(pipe: Any) -> str:
    return " ".join(kind.__name__ for kind in type(pipe).__mro__)
