"""FLUX.1: packed latents, rotary positions, guidance as an input of the network or by two calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from consistent_gen.diffusion.readers import PromptReader
from consistent_gen.diffusion.seam import PICTURES, Conditioning, Seam, token_ids
from consistent_gen.errors import InputError

LONG, SHORT = 512, 256  # tokens that T5 reads for "dev" and for "schnell"
SIDE = 128  # cells of the latents that it was trained for, which its config does not say
_TOLD = "it is told its guidance, at every step, and has no rows without the prompt"
_NONE = "it was trained to need no guidance"


class PackedSeam(Seam):
    """Latents [b n c], each token four cells, and noise levels that the pipelines give."""

    together = False
    packs = 2
    # What is given is not taken by the scheduler by Heun.
    schedulers = ("FlowMatchEulerDiscreteScheduler",)

    def moments(self, scheduler: Any, sample: Tensor) -> list[float]:
        """See `Seam`: shares of 1000, rounded as the latents are."""
        found: list[float] = (scheduler.timesteps.to(sample.dtype) / 1000).tolist()
        return found

    def guided(self, pipe: Any, options: Mapping[str, Any]) -> bool:
        """See `Seam`."""
        scale = float(options.get("true_cfg_scale") or 1.0)
        return scale > 1.0 and options.get("negative_prompt") is not None

    def row(self, pipe: Any, latent: Tensor) -> Tensor:
        """See `Seam`: c h w -> n 4c."""
        return packed(latent[None])[0]

    def first_sigmas(self, steps: int) -> dict[str, Any]:
        """See `Seam`: evenly from nothing but noise."""
        return {"sigmas": np.linspace(1.0, 1 / steps, steps).tolist()}


class FluxSeam(PackedSeam):
    """The text is T5's, CLIP gives one vector.

    The guidance of "dev" is a number that the network is told, and "schnell" has none: in a
    pipeline a frame has rows without its prompt only where `true_cfg_scale` is above 1 and there
    is a negative prompt.
    """

    def check_parts(self, pipe: Any, name: str, inpaints: bool) -> None:
        """See `Seam`."""
        if pipe.tokenizer_2 is None or pipe.text_encoder_2 is None:
            raise InputError(f"a {name} without its T5 encoder cannot find a subject's words")
        self.check_channels(pipe, name, 4 * int(pipe.vae.config.latent_channels))

    def grid(self, sample: Tensor, kwargs: Mapping[str, Any]) -> tuple[int, int]:
        """See `Seam`; read from the positions that the pipeline gives its tokens."""
        ids = kwargs["img_ids"]  # n axes: picture, row, column
        ids = ids[0] if ids.ndim == 3 else ids
        ids = ids[ids[:, 0] == ids[0, 0]]  # edit models have tokens of other pictures behind
        height, width = (ids[:, 1:3].amax(0) + 1).tolist()
        return int(height), int(width)

    def default_cells(self, config: Mapping[str, Any]) -> tuple[int, int]:
        """See `Seam`."""
        return SIDE, SIDE

    def recommended(self, config: Mapping[str, Any]) -> dict[str, float]:
        """See `Seam`."""
        dev, schnell = {"steps": 28, "guidance": 3.5}, {"steps": 4}
        return super().recommended(config) | (dev if config["guidance_embeds"] else schnell)

    def lacks(self, config: Mapping[str, Any]) -> dict[str, str]:
        """See `Seam`."""
        told = config["guidance_embeds"]
        own = {"unprompted rows": _TOLD} if told else {"unprompted rows": _NONE, "guidance": _NONE}
        return super().lacks(config) | own

    def text_length(self, config: Mapping[str, Any]) -> int | None:
        """See `Seam`."""
        return LONG if config["guidance_embeds"] else SHORT

    def readers(
        self, tokenizers: Sequence[Any | None], length: int | None = None
    ) -> tuple[PromptReader, ...]:
        """See `Seam`: T5 alone; CLIP gives one vector."""
        return (PromptReader(tokenizers[1], 0, length or LONG, "prompt_2"),)

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
        """See `Seam`. CLIP reads as much of a long prompt as it can."""
        config = parts.denoiser.config
        clip = token_ids(
            parts.tokenizer, prompt, int(parts.tokenizer.model_max_length), parts.device
        )
        pooled = parts.text_encoder(clip).pooler_output[0].to(parts.dtype)
        length = self.text_length(config)
        assert length is not None
        ids = token_ids(parts.tokenizer_2, prompt, length, parts.device)
        added = {"pooled_projections": pooled}
        if config["guidance_embeds"]:
            added["guidance"] = torch.tensor(guidance, dtype=torch.float32, device=parts.device)
        return Conditioning(parts.text_encoder_2(ids)[0][0].to(parts.dtype), added)

    def predict(
        self,
        model: Any,
        latents: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        added: Mapping[str, Tensor],
    ) -> Tensor:
        """See `Seam`."""
        height, width = (side // self.packs for side in latents.shape[-2:])
        said: dict[str, Any] = {"guidance": None, **added}
        given = said.pop(PICTURES, latents[:, None, :0, :0, :0])
        seen, places = packed(latents), _places(0, height, width, latents.device)
        n = seen.shape[1]
        if given.numel():
            assert self.edits, "the plan refuses it"
            # Side by side, as one wide picture: b c h k*w.
            wide = given.to(latents).permute(0, 2, 3, 1, 4).flatten(-2)
            seen = torch.cat([seen, packed(wide)], 1)
            beside = _places(1, height, width * given.shape[1], latents.device)
            places = torch.cat([places, beside])
        found = model(
            hidden_states=seen, timestep=timesteps.to(latents.dtype) / 1000,
            encoder_hidden_states=tokens, img_ids=places,
            txt_ids=places.new_zeros(tokens.shape[1], 3), return_dict=False, **said,
        )[0]  # fmt: skip
        return unpacked(found[:, :n], height, width)


class KontextSeam(FluxSeam):
    """FLUX.1 Kontext: FLUX.1 dev, trained to look at a given picture (arXiv 2506.15742)."""

    edits = True

    def recommended(self, config: Mapping[str, Any]) -> dict[str, float]:
        """See `Seam`; the guidance of its authors' examples is lower than that of "dev"."""
        return super().recommended(config) | {"guidance": 2.5}


def _places(picture: int, height: int, width: int, device: torch.device) -> Tensor:
    """Positions of tokens [n 3]: the picture's number, row and column."""
    axes = (torch.arange(side, dtype=torch.float32) for side in (1, height, width))
    places = torch.cartesian_prod(*axes)
    places[:, 0] = picture
    return places.to(device)


def packed(latents: Tensor) -> Tensor:
    """Latents [b c 2h 2w], four cells of them in each token: [b h*w 4c]."""
    b, c, h, w = latents.shape
    cells = latents.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(b, h * w // 4, 4 * c)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens [b h*w 4c] to latents [b c 2h 2w]. height, width: in tokens."""
    b, _, c = tokens.shape
    cells = tokens.reshape(b, height, width, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(b, c // 4, 2 * height, 2 * width)
