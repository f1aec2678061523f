"""Pipelines with a UNet: Stable Diffusion 1 and 2, XL, and latent consistency models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from consistent_gen.errors import InputError
from consistent_gen.pipeline.seams.seam import (
    NOISE_SCHEDULERS,
    Seam,
    mentions,
    refuse_scheduler,
)


class NoiseSeam(Seam):
    """Networks that predict noise, or what is as good: steps and noise of their schedulers."""

    def check_scheduler(self, scheduler: Any) -> None:
        """See `Seam`."""
        name = type(scheduler).__name__
        reason = NOISE_SCHEDULERS.get(name)
        if name == "DPMSolverSDEScheduler" and scheduler.config.get("noise_sampler_seed") is None:
            reason = "its noise comes from no seed; make it with noise_sampler_seed=0"
        refuse_scheduler(scheduler, reason)

    def noise_level(self, scheduler: Any, step: int) -> float:
        """See `Seam`."""
        steps = int(scheduler.config.num_train_timesteps)
        return (float(scheduler.timesteps[step]) + 1) / steps

    def noised(self, scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
        """See `Seam`."""
        moment = scheduler.timesteps[step]
        noised = scheduler.add_noise(clean[None], noise[None], moment[None].cpu())
        found: Tensor = scheduler.scale_model_input(noised, moment)[0]
        return found


class UNetSeam(NoiseSeam):
    """Latents [b c h w], both branches in one call, timesteps as the scheduler has them."""

    part = "unet"
    noun = "UNet"
    plain: tuple[str, ...] = ("FeedForward", "ResnetBlock2D")

    def check_parts(self, pipe: Any, name: str, inpaints: bool) -> None:
        """See `Seam`."""
        if pipe.tokenizer is None and getattr(pipe, "tokenizer_2", None) is None:
            raise InputError(f"a {name} without a tokenizer cannot find a subject's words")
        config = pipe.vae.config
        # The story world's latents also hold what a picture means, which the decoder does not read.
        channels = int(config.latent_channels) + int(config.get("semantic_channels", 0))
        self.check_channels(pipe, name, channels, inpaints=inpaints)

    def sample(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """See `Seam`."""
        found: Tensor = args[0] if args else kwargs["sample"]
        return found

    def replaced(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], sample: Tensor
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Seam`."""
        return ((sample, *args[1:]), kwargs) if args else (args, {**kwargs, "sample": sample})

    def moment(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
        """See `Seam`."""
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        return float(timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep)

    def tokens(
        self, pipe: Any, prompt: str, subject: str, options: Mapping[str, Any]
    ) -> tuple[int, ...]:
        """See `Seam`. Two encoders' words stand at the same place."""
        return mentions(pipe, pipe.tokenizer or pipe.tokenizer_2, prompt, subject)
