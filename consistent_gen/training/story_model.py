"""Train the story-world denoiser and its text encoder on cached latents.

Departures from the usual recipe, and why:
1. The text encoder is small and learns together with the denoiser; there is nothing to start from.
2. Muon for matrices (see `optim.py`), constant learning rate, linear decay at the end.
3. The loss weighs latents on figures, and on heads and accessories most, since people look there
   and a face covers only some 30 of 256 latents.
4. Every picture has several captions, so that text does not become a key to a picture. Half of
   them name all that can be named: what words mean is learnt sooner from captions that leave
   little open.
5. The network predicts the clean latent, not the velocity or the noise (Li and He, "Back to
   basics", arXiv 2511.13720): fine channels of the latent are weak, and a small network that must
   output their noise leaves noise in the picture, while one that outputs the latent leaves blur.
   The loss is that of the velocity.
6. Where the processor has units for it, everything computes in bfloat16 on a replica; weights,
   averages and the optimizer are float32.
7. A probe asks the middle features who stands where (see `factor_probe.py`), another asks the text
   encoder what was said (see `caption_probe.py`).
8. The model draws a semantic map together with the picture (see `semantic_code.py`).
9. Small batches: the gradient's noise scale (McCandlish et al., arXiv 1812.06162, eq. 2.8) was 13
   pictures after 90,000, so larger batches only make for fewer steps.
10. A perceptual distance pulls predictions away from the blur that a squared error asks for (see
   `perceptual.py`); its gradient has a fixed share of the norm of the loss's.

`python -m consistent_gen.training.rows` draws what is learnt from (see `rows.py`), before the
training or beside it; the recipe `semantics` gives the autoencoder its semantic channels. On a GPU
the recipe is the same with larger batches, since launches bound a step there, not arithmetic (see
the card in `weights/storyworld`).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from consistent_gen.checkpoints import load_tensors
from consistent_gen.errors import InputError
from consistent_gen.models.patch_autoencoder import load_autoencoder
from consistent_gen.models.story_world import (
    StoryWorldConfig,
    build_text,
    build_unet,
    save_story_world,
)
from consistent_gen.runtime import device, training_dtype, tune_allocator
from consistent_gen.training import parallel
from consistent_gen.training.attention_kernel import training_attention
from consistent_gen.training.denoising import (
    alphas_cumprod,
    figure_error,
    loss_weights,
    noised,
    timesteps,
)
from consistent_gen.training.loop import RecipeConfig, Replica, Training, load_grown
from consistent_gen.training.optim import build_optimizers, learn_only, split_parameters
from consistent_gen.training.pairs import PairedKeys
from consistent_gen.training.perceptual import PerceptualDistance
from consistent_gen.training.probes import CaptionProbe, FactorProbe
from consistent_gen.training.rows import RowPool, rows_inputs
from consistent_gen.training.shards import world_inputs
from consistent_gen.training.truth import schema
from consistent_gen.world.captions import vocabulary
from consistent_gen.world.dataset import StoryWorld


@dataclass(frozen=True, kw_only=True)
class StoryModelConfig(RecipeConfig):
    """Settings of the recipe; lengths in pictures ("images")."""

    run: Path = Path("runs/story_model")
    vae: Path = Path("runs/semantics/vae")
    rows: Path = Path("runs/rows")
    grow_images: int = 20_000  # between looks for rows that have appeared
    out: Path = Path("runs/story_model/storyworld")
    model: StoryWorldConfig = field(default_factory=StoryWorldConfig)
    images: int = 100_000
    batch: int = 12  # per process
    lr: float = 8e-4
    warmup_images: int = 1200
    decay_share: float = 0.5
    halflife_images: float = 20_000.0
    sigma2_floor: float = 0.1  # bounds the loss weight 1 / sigma^2 at low noise
    middle: float = 0.5  # share of timesteps drawn towards the middle of the schedule
    drop_text: float = 0.1  # share of pictures without text, for guidance
    full_captions: float = 0.5  # share of captions that name whatever can be named
    figure_weight: float = 3.0  # loss weight of latents that show a figure
    head_weight: float = 6.0  # and of those that show a head or an accessory
    face_weight: float = 6.0  # and of those that show a face, at the timesteps `face_times`
    face_times: tuple[int, int] = (500, 850)  # where faces are decided (docs/log.md, 2026-11-29.2)
    factor_weight: float = 0.02  # of the factor probe's loss
    semantic_weight: float = 0.5  # of the loss of semantic channels; that of the others is 1
    caption_weight: float = 0.01  # of the caption probe's loss
    perceptual: float = 0.8  # norm of the perceptual distance's gradient, in that of the loss
    perceptual_until: int = 750  # timestep up to which it is asked for
    perceptual_rows: int = 12  # pictures per process and step, at most, for which it is
    pairs: bool = False  # pictures come in twos that show the same characters (see `pairs.py`)
    paired: float = 0.7  # share of the steps in which one reads the other
    lead: tuple[float, float] = (0.1, 0.6)  # how far ahead the other is, in shares of the schedule
    paired_dropout: float = 0.3  # share of the subjects' tokens that are not read
    processes: int = 0  # with `batch` pictures each (see `parallel.py`); 0 is 1 on a GPU, else 2
    threads: int = 1  # of each process
    init: Path | None = None  # a model folder to start from, when there is no checkpoint
    learn: str = ""  # pattern of the UNet's parameters that learn; without it everything does


def _set_up(config: StoryModelConfig, rank: int, place: torch.device) -> tuple[Any, Training]:
    """The tokenizer, and everything that learns: from the checkpoint, from `init`, or from
    nothing; on the device `place`.
    """
    torch.manual_seed(config.seed)  # initial weights only
    tokenizer, text = build_text(config.model, vocabulary())
    unet = build_unet(config.model).to(memory_format=torch.channels_last)
    if config.init is not None:
        for module, name in ((unet, "unet/diffusion_pytorch_model"), (text, "text_encoder/model")):
            tensors = load_tensors(config.init / f"{name}.safetensors")
            load_grown(module, {k: v.float() for k, v in tensors.items()})
    probe = FactorProbe(schema(), config.model.widths[1])
    words = CaptionProbe(schema(), config.model.text_width)
    modules = {"unet": unet, "text": text, "probe": probe, "words": words}
    for module in modules.values():
        module.to(place)
    if config.learn:
        learn_only(unet, config.learn, beside=modules.values())
    ends = [unet.conv_in.weight, unet.conv_out.weight, probe.read.weight]
    ends += [words.at_phrase.weight, words.at_end.weight]
    matrices, rest = split_parameters(modules.values(), exclude=ends)
    owned = parallel.shares(matrices)
    optimizers = build_optimizers(owned[rank], rest, config.lr)
    return tokenizer, Training(config, modules, optimizers, owned=owned, rank=rank)


def _autoencoder_config(config: StoryModelConfig) -> dict[str, Any]:
    """The autoencoder's settings.

    Raises:
        InputError: its latents are not those of the model.
    """
    vae: dict[str, Any] = dict(load_autoencoder(config.vae).config)
    channels = vae["latent_channels"] + vae.get("semantic_channels", 0)
    if channels != config.model.latent_channels or not vae.get("semantic_channels"):
        raise InputError(
            f"the autoencoder in {config.vae} has {channels} channels, "
            f"{vae.get('semantic_channels', 0)} of them semantic; the model wants "
            f"{config.model.latent_channels}: run consistent-gen train semantics"
        )
    return vae


def main(config: StoryModelConfig) -> None:
    """Train on `config.images` pictures in all (over resumes) and write `config.out`."""
    on_gpu = device(config.device or None).type == "cuda"
    if on_gpu and config.processes > 1:
        raise InputError(
            f"processes={config.processes} on a GPU; one process keeps it busy: leave it out"
        )
    _autoencoder_config(config)  # here, what is wrong is said once and without a traceback
    _pool(config, torch.device("cpu")).look()
    parallel.launch(train, config, config.processes or (1 if on_gpu else 2))


def train(config: StoryModelConfig, rank: int) -> None:
    """What each of the training processes does; the first one also logs, averages and saves."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    place = device(config.device or None)
    tokenizer, training = _set_up(config, rank, place)
    step = _Step(config, training, place)
    for _ in training.steps():
        training.update(**step.backward())
        if training.passed(config.grow_images):
            step.pool.refresh()
        if training.due():
            training.save()
    if rank == 0:
        _export(config, training, tokenizer)


def _pool(config: StoryModelConfig, place: torch.device) -> RowPool:
    world = StoryWorld("train", pairs=config.pairs)
    inputs = rows_inputs(load_autoencoder(config.vae)) | world_inputs(world)
    if not config.pairs:
        del inputs["pairs"]  # rows of pairs serve alone, too
    return RowPool(config.rows, place, inputs, 2 if config.pairs else 1)


class _Step:
    """The losses of one batch and their gradients."""

    def __init__(self, config: StoryModelConfig, training: Training, place: torch.device) -> None:
        self.config, self.training = config, training
        vae = _autoencoder_config(config)
        self.format = training_dtype(place)
        self.pool = _pool(config, place)
        self.pool.follow(training.facts)
        self.fast = {name: Replica(m, self.format) for name, m in training.modules.items()}
        # Modules have no attribute types; all four compute what their classes say.
        self.unet, self.text, self.probe, self.words = (
            cast(Any, self.fast[name].compute) for name in ("unet", "text", "probe", "words")
        )
        self.probe.watch(self.unet.up_blocks[-2])
        self.paired = PairedKeys(self.unet) if config.pairs else None
        self.scale, self.components = vae["scaling_factor"], vae["latent_channels"]
        autoencoder: Any = load_autoencoder(config.vae)
        self.distance = PerceptualDistance(autoencoder.to(place), self.format)
        self.channels = torch.ones(1, config.model.latent_channels, 1, 1, device=place)
        self.channels[:, self.components :] = config.semantic_weight
        self.alpha_bar = alphas_cumprod().to(place)

    def backward(self) -> dict[str, Tensor]:
        """Add the gradients of a batch to the modules; returns figures to log."""
        config = self.config
        choice = self.training.generator("rows, timesteps and pairs")  # on the CPU everywhere
        rows = self.pool.batch(
            config.batch, choice, drop=config.drop_text, full=config.full_captions
        )
        labels = rows["labels"]
        x0 = rows["latents"].float() * self.scale
        noise = self.training.generator("noise", x0.device)
        if self.paired is not None:
            if torch.rand((), generator=choice) < config.paired:
                self.paired.share(labels, noise, config.paired_dropout)
            else:
                self.paired.alone()
        times = timesteps(
            config.batch, choice, config.middle, config.lead if config.pairs else None
        )
        t = times.to(x0.device)
        x_t, sigma = noised(x0, t, self.alpha_bar, noise)
        for replica in self.fast.values():
            replica.refresh()
        with training_attention(x0.device):
            hidden = self.text(rows["tokens"].long()).last_hidden_state
            x_t = x_t.to(self.format, memory_format=torch.channels_last)
            out = self.unet(x_t, t, hidden).sample
            first, last = config.face_times
            decided = (times >= first) & (times < last)
            face = torch.where(decided, config.face_weight, config.head_weight)
            weight = loss_weights(labels, config.figure_weight, config.head_weight, face)
            # Squared error of v = (alpha x_t - x0) / sigma, bounded where the noise vanishes.
            drawn = out.detach().float().requires_grad_()
            error = (drawn - x0).square() / sigma.square().clamp(min=config.sigma2_floor)
            loss = (error * weight * self.channels).mean()
            (pull,) = torch.autograd.grad(loss, drawn)
            figures = {"loss": loss, "looks": self._look(drawn, x0, times, pull)}
            if config.learn:  # the probes do not
                torch.autograd.backward([out], [pull.to(out.dtype)])
            else:
                factors = self.probe.loss(rows["factors"], rows["hues"], labels)
                named = self.words.loss(hidden, rows)
                rest = config.factor_weight * factors + config.caption_weight * named
                torch.autograd.backward([out, rest], [pull.to(out.dtype), None])
                figures |= {"factors": factors, "named": named}
        for replica in self.fast.values():
            replica.collect_gradients()
        drawn_error, meaning = error.detach().tensor_split([self.components], dim=1)
        figures |= {"plain": drawn_error.mean(), "meaning": meaning.mean()}
        figures["figure"] = figure_error(drawn_error, labels)
        return {name: value.detach() for name, value in figures.items()}

    def _look(self, drawn: Tensor, x0: Tensor, times: Tensor, pull: Tensor) -> Tensor:
        """Add to `pull`, the gradient of the loss in `drawn`, that of the perceptual distance, with
        a fixed share of its norm; returns the distance. `times` lies on the CPU.
        """
        config = self.config
        clear = (times < config.perceptual_until).nonzero().flatten()[: config.perceptual_rows]
        if config.perceptual == 0.0 or len(clear) == 0:
            return torch.zeros(())
        clear = clear.to(x0.device)
        z = (drawn[clear, : self.components] / self.scale).detach().requires_grad_()
        distance = self.distance(z, x0[clear, : self.components] / self.scale)
        (gradient,) = torch.autograd.grad(distance, z)
        with torch.no_grad():
            here = pull[clear, : self.components]
            share = config.perceptual * here.norm() / gradient.norm().clamp(min=1e-12)
            pull[clear, : self.components] = here + share * gradient
        return distance


def _export(config: StoryModelConfig, training: Training, tokenizer: Any) -> None:
    save_story_world(
        config.out,
        tokenizer=tokenizer,
        text_encoder=training.averaged("text"),
        unet=training.averaged("unet"),
        vae=load_autoencoder(config.vae),
    )


def export_checkpoint(config: StoryModelConfig) -> None:
    """Write `config.out` from the newest checkpoint, also of a training that still runs."""
    tokenizer, training = _set_up(config, 0, torch.device("cpu"))
    if training.seen == 0:
        raise InputError(f"no checkpoint in {config.run}")
    _export(config, training, tokenizer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Export the newest checkpoint of a training.")
    parser.add_argument("--run", type=Path, default=StoryModelConfig.run)
    parser.add_argument("--vae", type=Path, default=StoryModelConfig.vae)
    parser.add_argument("--out", type=Path, default=StoryModelConfig.out)
    args = parser.parse_args()
    export_checkpoint(StoryModelConfig(run=args.run, vae=args.vae, out=args.out))
