"""FLUX.2 Klein: as FLUX.1 Kontext it looks at given pictures, and a language model reads its text.

Its single-stream layers project attention and feed-forward in one map, so frames cannot read each
other inside it; what methods share with it are pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from consistent_gen.diffusion.readers import PromptReader
from consistent_gen.diffusion.seam import PICTURES, SHARING, Conditioning, Seam

LONG = 512  # tokens that the language model reads, what stands around the prompt included
LAYERS = (9, 18, 27)  # of the language model, whose states are read side by side
SIDE = 64  # cells of the latents that it was trained for, which its config does not say
_APART = 10  # from one picture to the next, on the axis that tells them apart
_DISTILLED = "it was trained to need no guidance"
_FUSED = "its single-stream layers project attention and feed-forward in one map"


class KleinSeam(Seam):
    """FLUX.2 Klein "base", which is guided as a UNet is.

    A cell of its latents stands for 16 pixels a side: four cells of the autoencoder's, normalised
    by the running statistics of a batch norm.
    """

    together = False
    schedulers = ("FlowMatchEulerDiscreteScheduler",)
    edits = True

    def latent_of(self, vae: Any, picture: Tensor) -> Tensor:
        """See `Seam`."""
        z: Tensor = vae.encode(picture).latent_dist.mode()[0].float()  # c 2h 2w
        c, h, w = z.shape
        cells = z.reshape(c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3)
        mean, deviation = _spread(vae, z)
        return (cells.reshape(4 * c, h // 2, w // 2) - mean) / deviation

    def picture_of(self, vae: Any, latent: Tensor) -> Tensor:
        """See `Seam`."""
        mean, deviation = _spread(vae, latent.float())
        c, h, w = latent.shape
        cells = (latent.float() * deviation + mean).reshape(c // 4, 2, 2, h, w)
        z = cells.permute(0, 3, 1, 4, 2).reshape(1, c // 4, 2 * h, 2 * w).to(vae.dtype)
        found: Tensor = vae.decode(z.contiguous(memory_format=torch.channels_last)).sample
        return found

    def made_channels(self, config: Mapping[str, Any]) -> int:
        """See `Seam`."""
        return 4 * super().made_channels(config)

    def cell_pixels(self, config: Mapping[str, Any]) -> int:
        """See `Seam`."""
        return 2 * super().cell_pixels(config)

    def default_cells(self, config: Mapping[str, Any]) -> tuple[int, int]:
        """See `Seam`."""
        return SIDE, SIDE

    def recommended(self, config: Mapping[str, Any]) -> dict[str, float]:
        """See `Seam`."""
        return super().recommended(config) | {"steps": 50, "guidance": 4.0}

    def unable(self, config: Mapping[str, Any]) -> dict[str, str]:
        """See `Seam`."""
        return super().unable(config) | {SHARING: _FUSED}

    def text_length(self, config: Mapping[str, Any]) -> int | None:
        """See `Seam`."""
        return LONG

    def readers(
        self, tokenizers: Sequence[Any | None], length: int | None = None
    ) -> tuple[PromptReader, ...]:
        """See `Seam`: what stands around the prompt takes a part of the length."""
        tokenizer: Any = tokenizers[0]
        before, after = (
            len(tokenizer(text).input_ids) for text in _asked(tokenizer, "{}").split("{}")
        )
        return (PromptReader(tokenizer, before, (length or LONG) - before - after),)

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
        """See `Seam`. Padding is read, as the network was trained to."""
        encoded = parts.tokenizer(
            _asked(parts.tokenizer, prompt), padding="max_length", max_length=LONG,
            truncation=True, return_tensors="pt",
        ).to(parts.device)  # fmt: skip
        found = parts.text_encoder(
            input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"],
            output_hidden_states=True, use_cache=False,
        )  # fmt: skip
        states = torch.cat([found.hidden_states[layer][0] for layer in LAYERS], dim=-1)  # t 3c
        return Conditioning(states.to(parts.dtype))

    def predict(
        self,
        model: Any,
        latents: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        added: Mapping[str, Tensor],
    ) -> Tensor:
        """See `Seam`."""
        height, width = latents.shape[-2:]
        seen, places = [latents], [_places(0, height, width)]
        given = added.get(PICTURES, latents[:, None, :0, :0, :0])  # b k c h w
        if given.numel():
            for number, picture in enumerate(given.to(latents).unbind(1)):
                seen.append(picture)
                places.append(_places(_APART * (1 + number), *picture.shape[-2:]))
        text = torch.zeros(tokens.shape[1], 4)
        text[:, 3] = torch.arange(tokens.shape[1])
        found: Tensor = model(
            hidden_states=torch.cat([x.flatten(2).mT for x in seen], 1),  # b n c
            timestep=timesteps.to(latents.dtype) / 1000,
            encoder_hidden_states=tokens,
            img_ids=torch.cat(places).to(latents.device),
            txt_ids=text.to(latents.device),
            guidance=None,
            return_dict=False,
        )[0]
        own: Tensor = found[:, : height * width].mT.unflatten(2, (height, width))
        return own

    def scheduler(
        self,
        schedule: Mapping[str, Any],
        config: Mapping[str, Any],
        steps: int,
        grid: tuple[int, int],
    ) -> Any:
        """See `Seam`; how far it is shifted depends on the steps, too."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
            FlowMatchEulerDiscreteScheduler,
        )

        made = FlowMatchEulerDiscreteScheduler.from_config(dict(schedule))
        mu = compute_empirical_mu(image_seq_len=grid[0] * grid[1], num_steps=steps)
        sigmas = np.linspace(1.0, 1 / steps, steps).tolist()
        made.set_timesteps(steps, sigmas=sigmas, mu=mu)
        return made


class DistilledKleinSeam(KleinSeam):
    """FLUX.2 Klein, of four steps and without guidance."""

    def recommended(self, config: Mapping[str, Any]) -> dict[str, float]:
        """See `Seam`."""
        return super().recommended(config) | {"steps": 4, "guidance": 1.0}

    def lacks(self, config: Mapping[str, Any]) -> dict[str, str]:
        """See `Seam`."""
        return super().lacks(config) | {"unprompted rows": _DISTILLED, "guidance": _DISTILLED}


def _spread(vae: Any, latent: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [4c 1 1] of what its autoencoder makes."""
    mean, variance = (
        x.view(-1, 1, 1).to(latent) for x in (vae.bn.running_mean, vae.bn.running_var)
    )
    return mean, (variance + float(vae.config.batch_norm_eps)).sqrt()


def _places(picture: int, height: int, width: int) -> Tensor:
    """Positions of tokens [n 4]: the picture's number, row, column, and a word's number."""
    axes = (torch.arange(side, dtype=torch.float32) for side in (1, height, width, 1))
    places = torch.cartesian_prod(*axes)
    places[:, 0] = picture
    return places


def _asked(tokenizer: Any, prompt: str) -> str:
    """What the language model is given for a prompt: a turn of a chat, to be answered at once."""
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        tokenize=False, add_generation_prompt=True, enable_thinking=False,
    )  # fmt: skip
    return text
