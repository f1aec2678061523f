"""What must be known of a family of models: how its network is called, and how text, time, guidance
and latents reach it.

Two halves ask. `pipeline` shares attention in a diffusers pipeline of a user's own, which calls the
network itself; `models` and `engine` draw a folder's model and call it. Neither knows a family. A
new family is a file beside this one, an entry in `families.SEAMS`, its rows in
`pipeline.contract.PIPELINES` and, if the engine draws it, one in `families.BACKBONES`; where its
layers are and what they project is `attention.layers`.

Shapes: `b` rows, `c` channels, `h w` cells of the latent, `n` packed tokens, `t` text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from consistent_gen.diffusion.readers import PromptReader
from consistent_gen.draw_settings import lacking, unable
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
_BEGUN_ANEW = "it draws by a flow, whose last steps are not begun anew"
_NO_MAPS = "pictures and words share its attention, which cannot be the identity for pictures alone"
_NO_PICTURES = (
    "it draws from words alone; FluxKontextPipeline and Flux2KleinPipeline folders look at pictures"
)
SHARING = "sharing"  # of what a family may be unable to: frames that read each other's layers
PICTURES = "pictures"  # of what is added to a row: clean latents [k c h w] that it looks at


@dataclass(frozen=True)
class Conditioning:
    """What one prompt becomes: what one row of a denoiser call needs.

    tokens: [t c], in the model's number format.
    added: further named inputs per row, without a batch axis; SDXL has `text_embeds` [c] and
        `time_ids` [6], SD 1.5 has none. All rows of a call carry the same names and shapes.
    """

    tokens: Tensor
    added: Mapping[str, Tensor] = field(default_factory=dict)


class Seam:
    """How the models of one family are called. Without state; one serves all.

    part: the pipeline's attribute, and the folder, with the network. noun: what a user calls it.
    plain: classes of its parts without attention, which may be compiled. together: whether a
    pipeline's calls hold both guidance branches, the unconditional one first; otherwise each step
    has a call for the prompt and then one without it. schedulers: that its pipelines take.
    flow: whether it predicts a flow. packs: cells along a side of a latent that are one token
    before the network sees them. edits: whether it was trained to look at given pictures.
    """

    part = "transformer"
    noun = "transformer"
    plain: tuple[str, ...] = ("FeedForward",)
    together = True
    schedulers: tuple[str, ...] = FLOW_SCHEDULERS
    flow = True
    packs = 1
    edits = False

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
        """Refuse a pipeline's scheduler whose steps or noise cannot be told.

        Raises:
            InputError: with the reason.
        """
        name = type(scheduler).__name__
        if reason := self.scheduler_fault(name, scheduler.config):
            raise InputError(f"a {name} cannot be shared with: {reason}; choose another scheduler")

    def scheduler_fault(self, name: str, config: Mapping[str, Any]) -> str | None:
        """Why this family cannot be sampled by a scheduler of that class and config, or None."""
        reason = None if name in self.schedulers else _NO_FLOW
        if config.get("stochastic_sampling"):
            reason = "its noise comes from no seed; make it with stochastic_sampling=False"
        if config.get("invert_sigmas"):
            reason = _SIGMAS
        return no_places(config) or reason

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

    def grid(self, sample: Tensor, kwargs: Mapping[str, Any]) -> tuple[int, int]:
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
                return self.latent_of(vae, picture.to(pipe._execution_device, vae.dtype))
        finally:
            if half and wide:
                vae.to(torch.float16)

    def latent_of(self, vae: Any, picture: Tensor) -> Tensor:
        """Clean latent [c h w] that an autoencoder makes of a picture [1 3 h w] in -1..1."""
        latent = self.raw_latent(vae, picture)
        if (spread := _spread(vae, latent)) is not None:
            latent = (latent - spread[0]) / spread[1]
        moved = latent - float(vae.config.get("shift_factor") or 0.0)
        return moved * float(vae.config.get("scaling_factor", 1.0))

    def picture_of(self, vae: Any, latent: Tensor) -> Tensor:
        """The picture [1 3 h w], about -1..1, of a clean latent [c h w]."""
        z = latent.float() / float(vae.config.get("scaling_factor", 1.0))
        z = z + float(vae.config.get("shift_factor") or 0.0)
        if (spread := _spread(vae, z)) is not None:
            z = z * spread[1] + spread[0]
        return self.decoded_latent(vae, z)

    def raw_latent(self, vae: Any, picture: Tensor) -> Tensor:
        """What an autoencoder makes of a picture [1 3 h w], before it is scaled: c h w, float32."""
        made = vae.encode(picture)
        known = hasattr(made, "latent_dist")  # a tiny autoencoder gives the latents themselves
        found: Tensor = (made.latent_dist.mode() if known else made.latents)[0].float()
        return found

    def decoded_latent(self, vae: Any, z: Tensor) -> Tensor:
        """The other way: the picture [1 3 h w] of z [c h w], as `raw_latent` has it."""
        kind = next(vae.parameters()).dtype
        found: Tensor = vae.decode(
            z[None].to(kind).contiguous(memory_format=torch.channels_last)
        ).sample
        return found

    def guide(self, cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
        """uncond + scale (cond - uncond), all [c h w]: arXiv 2207.12598, equation 6, with
        scale = w + 1.
        """
        return uncond + scale * (cond - uncond)

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
        tokenizers = [getattr(pipe, f"tokenizer{end}", None) for end in ("", "_2", "_3")]
        if getattr(pipe, "text_encoder_3", None) is None:
            tokenizers.pop()
        found: list[int] = []
        for reader in self.readers(tokenizers, options.get("max_sequence_length")):
            read = options.get(reader.option) or prompt
            places = mentions(pipe, reader.tokenizer, read, subject, reader.length)
            found += [reader.first + place for place in places]
        return tuple(found)

    # How a folder's model is drawn with. config: the network's.

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Refuse a network that must be told more than a folder's files and a prompt say.

        Raises:
            CheckpointError: with the reason.
        """

    def latent_channels(self, config: Mapping[str, Any]) -> int:
        """Channels of a latent."""
        return int(config["in_channels"]) // self.packs**2

    def made_channels(self, config: Mapping[str, Any]) -> int:
        """Channels of the latents that an autoencoder makes. config: the autoencoder's."""
        return int(config["latent_channels"])

    def cell_pixels(self, config: Mapping[str, Any]) -> int:
        """Pixels per latent cell along one side. config: the autoencoder's."""
        return int(2 ** (len(config["block_out_channels"]) - 1))

    def token_cells(self, config: Mapping[str, Any]) -> int:
        """Latent cells along one side of what is a token inside the network."""
        return self.packs * int(config["patch_size"])

    def size_multiple(self, config: Mapping[str, Any], factor: int) -> int:
        """A side in pixels must be a multiple of this. factor: pixels per latent cell."""
        return factor * self.token_cells(config)

    def default_cells(self, config: Mapping[str, Any]) -> tuple[int, int]:
        """Height and width of the latents that the model was trained for."""
        side = config["sample_size"]
        height, width = (side, side) if isinstance(side, int) else side
        return int(height), int(width)

    def recommended(self, config: Mapping[str, Any]) -> dict[str, float]:
        """Settings that the family is drawn with, by the names of `DrawSettings`."""
        return lacking(self.lacks(config))

    def lacks(self, config: Mapping[str, Any]) -> dict[str, str]:
        """What settings need (`SettingFacts.needs`) and the family has not, with the reason."""
        return {"noise": _BEGUN_ANEW, "maps": _NO_MAPS}

    def unable(self, config: Mapping[str, Any]) -> dict[str, str]:
        """What does nothing with the family, and why: names of `DrawSettings`, "negative",
        `PICTURES` where its network takes no pictures and `SHARING` where frames cannot read each
        other in it.
        """
        return unable(self.lacks(config)) | ({} if self.edits else {PICTURES: _NO_PICTURES})

    def text_length(self, config: Mapping[str, Any]) -> int | None:
        """Tokens that the encoder of long texts reads; None where it has one length."""
        return None

    def readers(
        self, tokenizers: Sequence[Any | None], length: int | None = None
    ) -> tuple[PromptReader, ...]:
        """Whose tokens the network reads, in order. tokenizers: of the encoders by number, those of
        missing encoders left out or None. length: see `text_length`; None for a pipeline's default.
        """
        raise NotImplementedError

    def conditioning(
        self,
        parts: Any,
        prompt: str,
        size: tuple[int, int],
        guidance: float,
        *,
        negative: bool = False,
    ) -> Conditioning:
        """What one row needs for a prompt at `size` (width, height) in pixels.

        parts: the `models.backbone.Backbone`, whose encoders read it. guidance: where the network
        is told how strongly the prompt binds. negative: the row is the one that is guided away
        from.
        """
        raise NotImplementedError

    def predict(
        self,
        model: Any,
        latents: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        added: Mapping[str, Tensor],
    ) -> Tensor:
        """The network's prediction [b c h w] for latents [b c h w] at timesteps [b] of the
        schedule, with what `conditioning` made of prompts, a row each.
        """
        raise NotImplementedError

    def scheduler(
        self,
        schedule: Mapping[str, Any],
        config: Mapping[str, Any],
        steps: int,
        grid: tuple[int, int],
    ) -> Any:
        """A flow's scheduler with its steps set, as the family's pipeline sets them.

        schedule: the folder's scheduler config. grid: (height, width) of a latent in cells.
        """
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
            FlowMatchEulerDiscreteScheduler,
        )

        made = FlowMatchEulerDiscreteScheduler.from_config(dict(schedule))
        said: dict[str, Any] = self.first_sigmas(steps)
        if made.config.use_dynamic_shifting:
            # The more tokens a picture has, the more noise it takes to hide what it shows.
            patch = self.token_cells(config)
            n = (grid[0] // patch) * (grid[1] // patch)
            few, many = (made.config[f"{which}_image_seq_len"] for which in ("base", "max"))
            low, high = made.config.base_shift, made.config.max_shift
            said["mu"] = low + (high - low) * (n - few) / (many - few)
        made.set_timesteps(steps, **said)
        return made

    def first_sigmas(self, steps: int) -> dict[str, Any]:
        """What a schedule is made of before it is shifted; empty where the scheduler knows."""
        return {}


class NoiseSeam(Seam):
    """Networks that predict noise, or what is as good: steps and noise of their schedulers."""

    flow = False

    def scheduler_fault(self, name: str, config: Mapping[str, Any]) -> str | None:
        """See `Seam`."""
        reason = NOISE_SCHEDULERS.get(name)
        if name == "DPMSolverSDEScheduler" and config.get("noise_sampler_seed") is None:
            reason = "its noise comes from no seed; make it with noise_sampler_seed=0"
        return no_places(config) or reason

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


def _spread(vae: Any, latent: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and deviation [c 1 1] of an autoencoder's latents, where its config knows them."""
    mean, deviation = (vae.config.get(f"latents_{which}") for which in ("mean", "std"))
    if mean is None or deviation is None:
        return None
    shift, scale = (torch.tensor(x).view(-1, 1, 1).to(latent) for x in (mean, deviation))
    return shift, scale


def no_places(config: Mapping[str, Any]) -> str | None:
    """Why the timesteps of a scheduler with this config are no places in its training, or None."""
    continuous = config.get("timestep_type") == "continuous"
    return _SIGMAS if continuous or not config.get("num_train_timesteps") else None


def token_ids(tokenizer: Any, prompt: str, length: int, device: torch.device) -> Tensor:
    """Ids [1 t] of a prompt's tokens, padded or cut to a length."""
    encoded = tokenizer(
        prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    ids: Tensor = encoded["input_ids"]
    return ids.to(device)


def clip_states(
    tokenizer: Any, encoder: Any, prompt: str, length: int, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """What a CLIP encoder says of a prompt: the states [t c] of its last but one layer, and the
    pooled vector [c] where it has a projection.
    """
    output = encoder(token_ids(tokenizer, prompt, length, device), output_hidden_states=True)
    pooled = getattr(output, "text_embeds", None)
    return output.hidden_states[-2][0], None if pooled is None else pooled[0]


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
