"""PixArt-alpha and -sigma: transformers whose layers are those of a UNet, with the text of T5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from consistent_gen.diffusion.readers import PromptReader
from consistent_gen.diffusion.seam import Conditioning, NoiseSeam, mentions
from consistent_gen.errors import InputError

WORDS = "encoder_attention_mask"  # of what is added to a row: which tokens are no padding, [t]
_LARGE = 128  # cells of networks that are told the size of the picture if they say nothing of it
_ALIKE = "its layers have no middle, in which shapes are decided, and no end"


class PixArtSeam(NoiseSeam):
    """PixArt-alpha. Latents [b c h w], noise and schedulers as in a UNet's pipeline."""

    length = 120  # tokens that T5 reads

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
        length = int(options.get("max_sequence_length") or self.length)
        clean = bool(options.get("clean_caption", True))
        read, said = (
            pipe._text_preprocessing(text, clean_caption=clean)[0] for text in (prompt, subject)
        )
        return mentions(pipe, pipe.tokenizer, read, said, length)

    def recommended(self, config: Mapping[str, Any]) -> dict[str, float]:
        """See `Seam`."""
        return super().recommended(config) | {"steps": 20, "guidance": 4.5}

    def lacks(self, config: Mapping[str, Any]) -> dict[str, str]:
        """See `Seam`."""
        return {"maps": _ALIKE}

    def text_length(self, config: Mapping[str, Any]) -> int | None:
        """See `Seam`."""
        return self.length

    def readers(
        self, tokenizers: Sequence[Any | None], length: int | None = None
    ) -> tuple[PromptReader, ...]:
        """See `Seam`."""
        return (PromptReader(tokenizers[0], 0, length or self.length, lower=True),)

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
        (reader,) = self.readers([parts.tokenizer])
        encoded = reader.padded(prompt).to(parts.device)
        words = encoded["attention_mask"]
        states = parts.text_encoder(encoded["input_ids"], attention_mask=words)[0]
        added = {WORDS: words[0].to(parts.dtype)}
        told = parts.denoiser.config.get("use_additional_conditions")
        if int(parts.denoiser.config["sample_size"]) == _LARGE if told is None else told:
            width, height = size
            place = {"device": parts.device, "dtype": parts.dtype}
            added["resolution"] = torch.tensor([float(height), float(width)], **place)
            added["aspect_ratio"] = torch.tensor([height / width], **place)
        return Conditioning(states[0].to(parts.dtype), added)

    def predict(
        self,
        model: Any,
        latents: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        added: Mapping[str, Tensor],
    ) -> Tensor:
        """See `Seam`. It also says how unsure it is, which no sampler of ours asks."""
        said = dict(added)
        words = said.pop(WORDS)
        size = {name: said.get(name) for name in ("resolution", "aspect_ratio")}
        found: Tensor = model(
            latents, encoder_hidden_states=tokens, timestep=timesteps, added_cond_kwargs=size,
            encoder_attention_mask=words, return_dict=False,
        )[0]  # fmt: skip
        return found[:, : latents.shape[1]]


class PixArtSigmaSeam(PixArtSeam):
    """PixArt-sigma (arXiv 2403.04692): it reads longer prompts."""

    length = 300
