"""One loaded text-to-image model, seen the same way by everything above it.

Shapes: `b` images, `c` channels, `h` and `w` height and width, `t` text tokens. Pictures are
uint8 RGB [b h w 3] in 0..255; latents are scaled so that training saw unit-variance noise on them.

Text encoding and decoding run one item at a time: a frame's bytes then never depend on what else
was encoded or decoded with it, and both are a small part of the time of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from consistent_gen.draw_settings import SETTINGS
from consistent_gen.errors import InputError, LimitError
from consistent_gen.models.words import closed_vocabulary, unknown_words
from consistent_gen.registry import nearest

MAX_PROMPT_CHARACTERS = 4000
MAX_SIDE_PIXELS = int(SETTINGS["size"].high)
_NO_ADDED: Mapping[str, torch.Tensor] = {}


@dataclass(frozen=True)
class Conditioning:
    """What one prompt becomes: what one row of a denoiser call needs.

    tokens: [t c], in the model's number format.
    added: further named inputs per row, without a batch axis; SDXL has `text_embeds` [c] and
        `time_ids` [6], SD 1.5 has none. All rows of a call carry the same names and shapes.
    """

    tokens: torch.Tensor
    added: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A text-to-image model in its parts.

    `sha256` names the folder's contents (`checkpoints.folder_sha256`). `text_encoder_2` and
    `tokenizer_2` are SDXL's; `zero_empty_negative` says that an empty negative prompt stands for
    zeros instead of the encoding of "" (`force_zeros_for_empty_prompt` in diffusers).
    `refiner` is the folder's second stage, which draws finished pictures from predicted latents at
    twice their decode's size (`models.refiner`), and `refiner_sha256` names its weights; most
    folders have none.
    `recommended` holds settings that the folder's maker found best, by the names of `DrawSettings`,
    `method_settings` those of methods, by their names (see `methods.tuning`).
    """

    name: str
    sha256: str
    tokenizer: Any
    text_encoder: Any
    unet: Any
    vae: Any
    scheduler_config: Mapping[str, Any]
    path: Path
    device: torch.device
    dtype: torch.dtype
    tokenizer_2: Any = None
    text_encoder_2: Any = None
    zero_empty_negative: bool = False
    recommended: Mapping[str, float] = field(default_factory=dict)
    method_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refiner: Any = None
    refiner_sha256: str | None = None

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.unet.config.in_channels)

    @property
    def latent_factor(self) -> int:
        """Pixels per latent cell along one side."""
        declared = getattr(self.vae, "spatial_compression", None)
        if declared is not None:
            return int(declared)
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def size_multiple(self) -> int:
        """A side in pixels must be a multiple of this, so that every grid halves evenly."""
        return int(self.latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def default_size(self) -> tuple[int, int]:
        """(width, height) in pixels that the model was trained for."""
        side = self.unet.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        return int(width * self.latent_factor), int(height * self.latent_factor)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(c, h, w) of the latent of a picture of `width` x `height` pixels.

        Raises:
            InputError: a side is not a multiple of `size_multiple`; names the nearest valid size.
            LimitError: a side is above `MAX_SIDE_PIXELS`.
        """
        if max(width, height) > MAX_SIDE_PIXELS:
            raise LimitError(
                f"size {width}x{height} is too large; a side may have at most "
                f"{MAX_SIDE_PIXELS} pixels"
            )
        step = self.size_multiple
        if width < 1 or height < 1 or width % step or height % step:
            fitting = "x".join(
                str(max(step, round(side / step) * step)) for side in (width, height)
            )
            raise InputError(
                f"size {width}x{height} does not fit model {self.name!r}: both sides must be "
                f"multiples of {step}; the nearest valid size is {fitting}"
            )
        return self.latent_channels, height // self.latent_factor, width // self.latent_factor

    def vocabulary(self) -> frozenset[str] | None:
        """The words that a small model knows; None for a model with an open vocabulary."""
        return closed_vocabulary(self.tokenizer)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` that the model never saw, in order; none for an open vocabulary."""
        return unknown_words(self.tokenizer, prompt)

    def check_prompt(self, prompt: str) -> None:
        """Accept a prompt or say what is wrong with it.

        Raises:
            InputError: a word that the model never saw, or more tokens than it can read.
            LimitError: more than `MAX_PROMPT_CHARACTERS` characters.
        """
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise LimitError(
                f"the prompt has {len(prompt)} characters; at most {MAX_PROMPT_CHARACTERS} fit"
            )
        unknown = self.unknown_words(prompt)
        if unknown:
            guess = nearest(unknown[0].lower(), self.vocabulary() or ())
            hint = f"; did you mean {guess!r}?" if guess else ""
            raise InputError(f"model {self.name!r} does not know the word {unknown[0]!r}{hint}")
        limit = self.tokenizer.model_max_length
        count = len(self.tokenizer(prompt, truncation=False, verbose=False)["input_ids"])
        if count > limit:
            raise InputError(
                f"the prompt is {count} tokens long with its two marks; model {self.name!r} reads "
                f"{limit}: shorten it by {count - limit}"
            )

    def encode_prompt(self, prompts: Sequence[str]) -> torch.Tensor:
        """Token features [b t c] of `prompts`, each encoded on its own.

        Raises:
            InputError, LimitError: as `check_prompt`.
        """
        return torch.stack([self._encode(prompt)[0] for prompt in prompts])

    def condition(
        self, prompt: str, size: tuple[int, int], *, negative: bool = False
    ) -> Conditioning:
        """Everything that one row needs for `prompt` at `size` (width, height) in pixels.

        Raises:
            InputError, LimitError: as `check_prompt`.
        """
        tokens, pooled = self._encode(prompt)
        if pooled is None:
            return Conditioning(tokens, _NO_ADDED)
        if negative and prompt == "" and self.zero_empty_negative:
            tokens, pooled = torch.zeros_like(tokens), torch.zeros_like(pooled)
        width, height = size
        # Micro-conditioning of SDXL (arXiv 2307.01952, 2.2): original size, crop corner, target.
        time_ids = torch.tensor([height, width, 0, 0, height, width])
        time_ids = time_ids.to(self.device, self.dtype)
        return Conditioning(tokens, {"text_embeds": pooled, "time_ids": time_ids})

    def denoise(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        tokens: torch.Tensor,
        added: Mapping[str, torch.Tensor] = _NO_ADDED,
    ) -> torch.Tensor:
        """One denoiser call: latents [b c h w], one timestep per row [b], tokens [b t c].

        Returns the raw prediction [b c h w] as float32; what it means (noise, v, ...) is in
        `scheduler_config["prediction_type"]`.
        """
        sample = latents.to(self.dtype).contiguous(memory_format=torch.channels_last)
        extra = {"added_cond_kwargs": dict(added)} if added else {}
        predicted: torch.Tensor = self.unet(sample, timesteps, tokens, return_dict=False, **extra)[
            0
        ]
        return predicted.to(torch.float32)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Pictures, uint8 [b h w 3], of latents [b c h w], each decoded on its own."""
        scale = float(getattr(self.vae.config, "scaling_factor", 1.0))
        shift = float(getattr(self.vae.config, "shift_factor", None) or 0.0)
        vae_dtype = next(self.vae.parameters()).dtype
        pictures = []
        for latent in latents.to(self.device):
            z = (latent.to(torch.float32) / scale + shift)[None].to(vae_dtype)
            x = self.vae.decode(z.contiguous(memory_format=torch.channels_last)).sample
            pixels = (x[0].to(torch.float32) * 0.5 + 0.5).clamp(0, 1) * 255
            pictures.append(pixels.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())
        return np.stack(pictures)

    @torch.inference_mode()
    def refine(self, latent: torch.Tensor, timestep: int, generator: torch.Generator) -> np.ndarray:
        """The second stage's picture, uint8 [2h 2w 3], of a predicted clean latent [c h w].

        timestep: of the call that predicted it. generator: a CPU generator for the noise.
        """
        assert self.refiner is not None, "the request has been checked"
        scale = float(self.vae.config.scaling_factor)
        weight = next(self.refiner.parameters())
        z = latent[None].to(weight).contiguous(memory_format=torch.channels_last)
        decode = self.vae.decode((z / scale).to(next(self.vae.parameters()))).sample.to(weight)
        trained = int(self.scheduler_config.get("num_train_timesteps", 1000))
        level = torch.tensor([timestep / trained]).to(weight)
        noise = self.refiner.noise(*latent.shape[1:], generator)
        x = self.refiner(z, decode, level, noise)[0]
        pixels = (x.to(torch.float32) * 0.5 + 0.5).clamp(0, 1) * 255
        picture: np.ndarray = pixels.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return picture

    @torch.inference_mode()
    def encode(self, pictures: np.ndarray) -> torch.Tensor:
        """Latents [b c h w], float32, of pictures, uint8 [b h w 3], each encoded on its own."""
        scale = float(getattr(self.vae.config, "scaling_factor", 1.0))
        shift = float(getattr(self.vae.config, "shift_factor", None) or 0.0)
        weight = next(self.vae.parameters())
        latents = []
        for picture in torch.tensor(pictures):
            x = picture.permute(2, 0, 1)[None].to(weight) / 127.5 - 1.0
            encoded = self.vae.encode(x.contiguous(memory_format=torch.channels_last))
            found = getattr(encoded, "latents", None)  # the tiny autoencoder has no distribution
            z = encoded.latent_dist.mode() if found is None else found
            latents.append((z[0].to(torch.float32) - shift) * scale)
        return torch.stack(latents)

    @torch.inference_mode()
    def _encode(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """States [t c] of a prompt's tokens, and for SDXL the pooled [c] of the second encoder."""
        self.check_prompt(prompt)
        if self.text_encoder_2 is None:
            output = self.text_encoder(_token_ids(self.tokenizer, prompt, self.device))
            return output.last_hidden_state[0].to(self.dtype), None
        # SDXL reads the last but one layer of both encoders and pools the second.
        parts, pooled = [], None
        for tokenizer, encoder in (
            (self.tokenizer, self.text_encoder),
            (self.tokenizer_2, self.text_encoder_2),
        ):
            ids = _token_ids(tokenizer, prompt, self.device)
            output = encoder(ids, output_hidden_states=True)
            parts.append(output.hidden_states[-2][0])
            pooled = getattr(output, "text_embeds", None)
        assert pooled is not None, "text_encoder_2 has no projection"
        return torch.cat(parts, dim=-1).to(self.dtype), pooled[0].to(self.dtype)


def _token_ids(tokenizer: Any, prompt: str, device: torch.device) -> torch.Tensor:
    encoded = tokenizer(
        prompt,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    ids: torch.Tensor = encoded["input_ids"]  # 1 t
    return ids.to(device)
