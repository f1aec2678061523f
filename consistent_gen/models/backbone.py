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

from consistent_gen.diffusion.readers import PromptReader, cut_short_words, longest
from consistent_gen.diffusion.seam import Conditioning, Seam
from consistent_gen.draw_settings import SETTINGS
from consistent_gen.errors import InputError, LimitError
from consistent_gen.models.loras import Lora, named_with
from consistent_gen.models.offload import on_device
from consistent_gen.models.words import closed_vocabulary, unknown_words
from consistent_gen.registry import nearest

MAX_PROMPT_CHARACTERS = 4000
MAX_SIDE_PIXELS = int(SETTINGS["size"].high)
_TRIAL_CELLS = 32  # of a latent along a side: enough for kernels to be as fast as they get
_NO_ADDED: Mapping[str, torch.Tensor] = {}


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A text-to-image model in its parts.

    `folder_sha256` names the folder's contents (`checkpoints.folder_sha256`), and `loras` are the
    LoRA files whose layers its networks have beside; `sha256` names both together. `seam` says how
    models of its family are called, and `denoiser` is the network that is: a UNet or a transformer.
    Of text encoders and tokenizers a family has one to three, by number. `zero_empty_negative` says
    that an empty negative prompt stands for zeros instead of the encoding of ""
    (`force_zeros_for_empty_prompt` in diffusers).
    `refiner` is the folder's second stage, which draws finished pictures from predicted latents at
    twice their decode's size (`models.refiner`), and `refiner_sha256` names its weights; most
    folders have none.
    `recommended` holds settings that the folder's maker found best, or its family is drawn with, by
    the names of `DrawSettings`, `method_settings` those of methods, by their names (see
    `methods.tuning`).
    """

    name: str
    folder_sha256: str
    seam: Seam
    tokenizer: Any
    text_encoder: Any
    denoiser: Any
    vae: Any
    scheduler_config: Mapping[str, Any]
    path: Path
    device: torch.device
    dtype: torch.dtype
    tokenizer_2: Any = None
    text_encoder_2: Any = None
    tokenizer_3: Any = None
    text_encoder_3: Any = None
    zero_empty_negative: bool = False
    recommended: Mapping[str, float] = field(default_factory=dict)
    method_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refiner: Any = None
    refiner_sha256: str | None = None
    loras: tuple[Lora, ...] = ()

    @property
    def sha256(self) -> str:
        """See `models.loras.named_with`."""
        return named_with(self.folder_sha256, self.loras)

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.seam.latent_channels(self.denoiser.config)

    @property
    def latent_factor(self) -> int:
        """Pixels per latent cell along one side."""
        declared = getattr(self.vae, "spatial_compression", None)
        return self.seam.cell_pixels(self.vae.config) if declared is None else int(declared)

    @property
    def size_multiple(self) -> int:
        """A side in pixels must be a multiple of this."""
        return self.seam.size_multiple(self.denoiser.config, self.latent_factor)

    @property
    def default_size(self) -> tuple[int, int]:
        """(width, height) in pixels that the model was trained for."""
        height, width = self.seam.default_cells(self.denoiser.config)
        return width * self.latent_factor, height * self.latent_factor

    @property
    def trial_size(self) -> tuple[int, int]:
        """(width, height) in pixels at which the model is measured and warmed: its own, and on a
        CPU a smaller one where a call of its own size takes minutes.
        """
        if self.device.type != "cpu":
            return self.default_size
        step = self.size_multiple
        most = max(step, _TRIAL_CELLS * self.latent_factor // step * step)
        width, height = (min(side, most) for side in self.default_size)
        return width, height

    @property
    def unable(self) -> Mapping[str, str]:
        """What it cannot do, by the names of `DrawSettings` and "negative": why."""
        return self.seam.unable(self.denoiser.config)

    @property
    def readers(self) -> tuple[PromptReader, ...]:
        """Whose tokens stand in an encoded prompt."""
        tokenizers = (self.tokenizer, self.tokenizer_2, self.tokenizer_3)
        return self.seam.readers(tokenizers, self.seam.text_length(self.denoiser.config))

    def grid(self, latent: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of a latent of shape (..., h, w) as the network's layers see it."""
        height, width = latent[-2:]
        return height // self.seam.packs, width // self.seam.packs

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
            InputError: a word that the model never saw, half of one that was taught to it, or more
                tokens than it can read.
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
        for each in self.readers:
            if whole := each.cut_short(prompt):
                raise InputError(cut_short_words(self.name, whole))
        reader = longest(self.readers)
        count, limit = reader.count(prompt), reader.length
        if count > limit:
            raise InputError(
                f"the prompt is {count} tokens long with its marks; model {self.name!r} reads "
                f"{limit}: shorten it by {count - limit}"
            )

    def encode_prompt(self, prompts: Sequence[str]) -> torch.Tensor:
        """Token features [b t c] of `prompts`, each encoded on its own.

        Raises:
            InputError, LimitError: as `check_prompt`.
        """
        size = self.default_size
        return torch.stack([self.condition(prompt, size).tokens for prompt in prompts])

    def condition(
        self, prompt: str, size: tuple[int, int], *, guidance: float = 1.0, negative: bool = False
    ) -> Conditioning:
        """Everything that one row needs for `prompt` at `size` (width, height) in pixels.

        guidance: for a network that is told how strongly the prompt binds.

        Raises:
            InputError, LimitError: as `check_prompt`.
        """
        self.check_prompt(prompt)
        return self.seam.conditioning(self, prompt, size, guidance, negative=negative)

    def denoise(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        tokens: torch.Tensor,
        added: Mapping[str, torch.Tensor] = _NO_ADDED,
    ) -> torch.Tensor:
        """One denoiser call: latents [b c h w], one timestep per row [b], tokens [b t c].

        Returns the raw prediction [b c h w] as float32; what it means is `scheduler_config`'s
        "prediction_type" (noise, v, ...), or a flow (`Seam.flow`).
        """
        sample = latents.to(self.dtype).contiguous(memory_format=torch.channels_last)
        predicted = self.seam.predict(self.denoiser, sample, timesteps, tokens, added)
        return predicted.to(torch.float32)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Pictures, uint8 [b h w 3], of latents [b c h w], each decoded on its own."""
        vae, pictures = on_device(self.vae), []
        for latent in latents.to(self.device):
            x = self.seam.picture_of(vae, latent)
            pixels = (x[0].to(torch.float32) * 0.5 + 0.5).clamp(0, 1) * 255
            pictures.append(pixels.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())
        return np.stack(pictures)

    @torch.inference_mode()
    def refine(
        self, latent: torch.Tensor, timestep: float, generator: torch.Generator
    ) -> np.ndarray:
        """The second stage's picture, uint8 [2h 2w 3], of a predicted clean latent [c h w].

        timestep: of the call that predicted it. generator: a CPU generator for the noise.
        """
        assert self.refiner is not None, "the request has been checked"
        scale = float(self.vae.config.scaling_factor)
        kind = next(self.refiner.parameters()).dtype
        z = latent[None].to(self.device, kind).contiguous(memory_format=torch.channels_last)
        seen = (z / scale).to(next(on_device(self.vae).parameters()))
        decode = self.vae.decode(seen).sample.to(kind)
        trained = int(self.scheduler_config.get("num_train_timesteps", 1000))
        level = torch.tensor([timestep / trained]).to(self.device, kind)
        noise = self.refiner.noise(*latent.shape[1:], generator)
        x = self.refiner(z, decode, level, noise)[0]
        pixels = (x.to(torch.float32) * 0.5 + 0.5).clamp(0, 1) * 255
        picture: np.ndarray = pixels.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return picture

    @torch.inference_mode()
    def encode(self, pictures: np.ndarray) -> torch.Tensor:
        """Latents [b c h w], float32, of pictures, uint8 [b h w 3], each encoded on its own."""
        vae = on_device(self.vae)
        weight = next(vae.parameters())
        latents = []
        for picture in torch.tensor(pictures):
            x = picture.permute(2, 0, 1)[None].to(weight) / 127.5 - 1.0
            x = x.contiguous(memory_format=torch.channels_last)
            latents.append(self.seam.latent_of(vae, x))
        return torch.stack(latents)
