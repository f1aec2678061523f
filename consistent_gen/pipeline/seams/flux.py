"""FLUX.1: packed latents, rotary positions, guidance as an input of the network or by two calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from consistent_gen.attention.layers import Grid
from consistent_gen.errors import InputError
from consistent_gen.pipeline.seams.seam import Seam, mentions


class FluxSeam(Seam):
    """Latents [b n c], each token four cells; the text is T5's, CLIP gives one vector.

    The guidance of "dev" is a number that the network is told, and "schnell" has none: a frame has
    rows without its prompt only where `true_cfg_scale` is above 1 and there is a negative prompt.
    """

    together = False
    # Its pipelines give the scheduler their own noise levels, which the one by Heun does not take.
    schedulers = ("FlowMatchEulerDiscreteScheduler",)

    def check_parts(self, pipe: Any, name: str, inpaints: bool) -> None:
        """See `Seam`."""
        if pipe.tokenizer_2 is None or pipe.text_encoder_2 is None:
            raise InputError(f"a {name} without its T5 encoder cannot find a subject's words")
        self.check_channels(pipe, name, 4 * int(pipe.vae.config.latent_channels))

    def moments(self, scheduler: Any, sample: Tensor) -> list[float]:
        """See `Seam`: shares of 1000, rounded as the latents are."""
        found: list[float] = (scheduler.timesteps.to(sample.dtype) / 1000).tolist()
        return found

    def grid(self, sample: Tensor, kwargs: Mapping[str, Any]) -> Grid:
        """See `Seam`; read from the positions that the pipeline gives its tokens."""
        ids = kwargs["img_ids"]  # n axes: picture, row, column
        ids = ids[0] if ids.ndim == 3 else ids
        ids = ids[ids[:, 0] == ids[0, 0]]  # edit models have tokens of other pictures behind
        height, width = (ids[:, 1:3].amax(0) + 1).tolist()
        return int(height), int(width)

    def guided(self, pipe: Any, options: Mapping[str, Any]) -> bool:
        """See `Seam`."""
        scale = float(options.get("true_cfg_scale") or 1.0)
        return scale > 1.0 and options.get("negative_prompt") is not None

    def row(self, pipe: Any, latent: Tensor) -> Tensor:
        """See `Seam`: c h w -> n 4c."""
        c, h, w = latent.shape
        packed: Tensor = pipe._pack_latents(latent[None], 1, c, h, w)[0]
        return packed

    def tokens(
        self, pipe: Any, prompt: str, subject: str, options: Mapping[str, Any]
    ) -> tuple[int, ...]:
        """See `Seam`: what T5 reads is `prompt_2`, if there is one."""
        read = options.get("prompt_2") or prompt
        length = int(options.get("max_sequence_length") or 512)
        return mentions(pipe, pipe.tokenizer_2, read, subject, length)
