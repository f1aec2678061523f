"""What must be known of a family of pipelines to share attention in it.

Everything above (`calls`, `story`, `settings`, `contract`) asks a `Seam` and knows no family. A new
family of pipelines is a file beside this one, an entry in `SEAMS` and its rows in
`contract.PIPELINES`; where its layers are and what they project is `attention.layers`.

Shapes: `b` rows, `c` channels, `h w` cells of the latent, `n` packed tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from consistent_gen.attention.layers import Grid
from consistent_gen.errors import InputError

_SIGMAS = "its timesteps are no places in a training schedule"
_NO_FLOW = "a model of flow matching cannot be sampled by it"
# Reasons by scheduler class, for networks that predict noise and for those that predict a flow.
NOISE_SCHEDULERS: dict[str, str] = {
    "EDMEulerScheduler": _SIGMAS,
    "EDMDPMSolverMultistepScheduler": _SIGMAS,
    "FlowMatchEulerDiscreteScheduler": "a UNet's pipeline cannot scale its inputs by it",
    "FlowMatchHeunDiscreteScheduler": "a UNet's pipeline cannot scale its inputs by it",
    "CosineDPMSolverMultistepScheduler": _SIGMAS,
}
FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")


class Seam:
    """How the pipelines of one family call what denoises. Without state; one serves all pipelines.

    part: the pipeline's attribute with the network. noun: what a user calls it. plain: classes of
    its parts without attention, which may be compiled. together: whether both guidance branches
    stand in one call, the unconditional one first; otherwise each step has a call for the prompt
    and then one without it.
    """

    part = "transformer"
    noun = "transformer"
    plain: tuple[str, ...] = ("FeedForward",)
    together = True
    schedulers: tuple[str, ...] = FLOW_SCHEDULERS

    def model(self, pipe: Any) -> nn.Module:
        """The network that denoises."""
        found: nn.Module = getattr(pipe, self.part)
        return found

    # What a pipeline must have.

    def check_parts(self, pipe: Any, name: str, inpaints: bool) -> None:
        """Refuse a pipeline that would draw something else than it is used for.

        Raises:
            InputError: with the reason.
        """
        raise NotImplementedError

    def check_channels(self, pipe: Any, name: str, made: int, *, inpaints: bool = False) -> None:
        """Compare what the network takes with the `made` channels of the autoencoder's latents, as
        a row has them.

        Raises:
            InputError: they differ, and not by the further channels of an inpainting network.
        """
        model: Any = self.model(pipe)
        channels = int(model.config.in_channels)
        if channels != made and not (inpaints and channels == 2 * made + 1):
            beside = channels == 2 * made + 1
            raise InputError(
                f"the {self.noun} of this {name} takes {channels} channels, and the autoencoder "
                f"makes {made}; load " + ("it as an inpainting pipeline" if beside else "its own")
            )

    def check_scheduler(self, scheduler: Any) -> None:
        """Refuse a scheduler whose steps or noise cannot be told.

        Raises:
            InputError: with the reason.
        """
        name, config = type(scheduler).__name__, scheduler.config
        reason = None if name in self.schedulers else _NO_FLOW
        if config.get("stochastic_sampling"):
            reason = "its noise comes from no seed; make it with stochastic_sampling=False"
        if config.get("invert_sigmas"):
            reason = _SIGMAS
        refuse_scheduler(scheduler, reason)

    def running(self, pipe: Any) -> AbstractContextManager[None]:
        """Around each run of the pipeline."""
        return nullcontext()

    # What a call says.

    def sample(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The latents of a call, a row each: [b c h w], or packed [b n c]."""
        found: Tensor = args[0] if args else kwargs["hidden_states"]
        return found

    def replaced(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], sample: Tensor
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call with other latents."""
        if args:
            return (sample, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": sample}

    def moment(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
        """The timestep of a call, as it is passed."""
        timestep = kwargs["timestep"]
        return float(timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep)

    def moments(self, scheduler: Any, sample: Tensor) -> list[float]:
        """The timestep that the pipeline passes at every step of the schedule."""
        found: list[float] = scheduler.timesteps.tolist()
        return found

    def noise_level(self, scheduler: Any, step: int) -> float:
        """The noise at a step as a share of the training schedule, 1 for nothing but noise."""
        return float(scheduler.timesteps[step]) / int(scheduler.config.num_train_timesteps)

    def grid(self, sample: Tensor, kwargs: Mapping[str, Any]) -> Grid:
        """Height and width of a call's latents in cells; of packed ones, in tokens."""
        return int(sample.shape[-2]), int(sample.shape[-1])

    def guided(self, pipe: Any, options: Mapping[str, Any]) -> bool:
        """Whether a frame has rows without its prompt, beside those with it."""
        return bool(getattr(pipe, "do_classifier_free_guidance", False))

    # What a picture and a prompt become.

    def encoded(self, pipe: Any, picture: Tensor) -> Tensor:
        """Clean latent [c h w] of a picture [1 3 h w] in -1..1, scaled as the network knows it."""
        vae = pipe.vae
        # Some autoencoders exceed half precision; pipelines decode with them in float32, too.
        half, wide = vae.dtype == torch.float16, bool(vae.config.get("force_upcast"))
        if half and wide:
            vae.to(torch.float32)
        try:
            with torch.no_grad():
                made = vae.encode(picture.to(pipe._execution_device, vae.dtype))
        finally:
            if half and wide:
                vae.to(torch.float16)
        known = hasattr(made, "latent_dist")  # a tiny autoencoder gives the latents themselves
        latent: Tensor = (made.latent_dist.mode() if known else made.latents)[0].float()
        mean, deviation = (vae.config.get(f"latents_{which}") for which in ("mean", "std"))
        if mean is not None and deviation is not None:
            shift, scale = (torch.tensor(x).view(-1, 1, 1).to(latent) for x in (mean, deviation))
            latent = (latent - shift) / scale
        moved = latent - float(vae.config.get("shift_factor") or 0.0)
        return moved * float(vae.config.scaling_factor)

    def row(self, pipe: Any, latent: Tensor) -> Tensor:
        """A latent [c h w] in the form of a call's rows."""
        return latent

    def noised(self, scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
        """A clean row with the noise of a step, as the network sees it."""
        sigma = scheduler.sigmas[step].to(clean.device)
        noised: Tensor = (1.0 - sigma) * clean.float() + sigma * noise.float()
        return noised.to(clean)

    def tokens(
        self, pipe: Any, prompt: str, subject: str, options: Mapping[str, Any]
    ) -> tuple[int, ...]:
        """Where the subject's last word stands in the encoded prompt; empty if nowhere.

        options: of the call; some pipelines read a second text there, or less of it.
        """
        raise NotImplementedError


def refuse_scheduler(scheduler: Any, reason: str | None) -> None:
    """Raise for a scheduler if there is a reason."""
    if scheduler.config.get("timestep_type") == "continuous" or not scheduler.config.get(
        "num_train_timesteps"
    ):
        reason = _SIGMAS
    if reason:
        raise InputError(
            f"a {type(scheduler).__name__} cannot be shared with: {reason}; "
            "choose another scheduler"
        )


def mentions(
    pipe: Any, tokenizer: Any, prompt: str, subject: str, length: int | None = None
) -> tuple[int, ...]:
    """Numbers of the tokens at which a subject's words end in a prompt, as a tokenizer reads it.

    length: most tokens that are read, the tokenizer's own limit if None.
    """
    if hasattr(pipe, "maybe_convert_prompt"):
        # Textual inversion may read several vectors where one word is written.
        prompt, subject = (pipe.maybe_convert_prompt(text, tokenizer) for text in (prompt, subject))
    most = tokenizer.model_max_length if length is None else length
    text = tokenizer(prompt, truncation=True, max_length=most).input_ids
    # Some tokenizers write a word otherwise at the start of a text than after a space.
    spelled = [
        tokenizer(before + subject, add_special_tokens=False).input_ids for before in ("", " ")
    ]
    return ends(text, spelled)


def ends(text: Sequence[int], spelled: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Numbers of the tokens at which one of the spellings ends in a text, ascending."""
    found = {
        i + len(words) - 1
        for words in spelled
        if len(words)
        for i in range(len(text) - len(words) + 1)
        if list(text[i : i + len(words)]) == list(words)
    }
    return tuple(sorted(found))
