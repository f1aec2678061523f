"""Train the story-world denoiser and its text encoder on cached latents.

Departures from the usual recipe, and why:
1. The text encoder is small and learns together with the denoiser; there is nothing to start from.
2. Muon for matrices (see `optim.py`), constant learning rate, linear decay at the end of the time
   budget.
3. The loss weighs latents on figures, and on heads and accessories most, since people look there
   and a face covers only some 30 of 256 latents.
4. Captions are composed anew each time a picture comes by, so that text does not become a key to a
   picture. Half of them name all that can be named: what words mean is learnt sooner from captions
   that leave little open.
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

`prepare` (run first, once per autoencoder) encodes pictures to `latents/`; then the recipe
`semantics` gives the autoencoder its semantic channels; `main` trains from there.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from consistent_gen.checkpoints import load_tensors, save_tensors
from consistent_gen.errors import InputError
from consistent_gen.models.patch_autoencoder import PatchAutoencoder
from consistent_gen.models.story_world import (
    StoryWorldConfig,
    build_text,
    build_unet,
    save_story_world,
)
from consistent_gen.runtime import training_dtype, tune_allocator
from consistent_gen.training import parallel
from consistent_gen.training.attention_kernel import training_attention
from consistent_gen.training.caption_probe import CaptionProbe
from consistent_gen.training.denoising import alphas_cumprod, figure_error, loss_weights, noised
from consistent_gen.training.factor_probe import FactorProbe
from consistent_gen.training.latents import encode_shards, latent_batches
from consistent_gen.training.loop import (
    AveragedWeights,
    Replica,
    TickLog,
    descend,
    learning_rate,
    load_grown,
    load_run,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizers,
    save_run,
)
from consistent_gen.training.optim import build_optimizers, learn_only, split_parameters
from consistent_gen.training.pairs import PairedKeys
from consistent_gen.training.perceptual import PerceptualDistance
from consistent_gen.training.prompting import captions
from consistent_gen.training.reader import schema, truth
from consistent_gen.training.semantic_code import semantic_code
from consistent_gen.world.captions import vocabulary
from consistent_gen.world.dataset import StoryWorld


@dataclass(frozen=True, kw_only=True)
class StoryModelConfig:
    """Settings of the recipe; times in seconds."""

    run: Path = Path("runs/story_model")
    vae: Path = Path("runs/autoencoder/vae")
    pictures: Path = Path("runs/pictures")
    latents: Path = Path("runs/latents")
    out: Path = Path("runs/story_model/storyworld")
    model: StoryWorldConfig = field(default_factory=StoryWorldConfig)
    train_s: float = 4800.0
    batch: int = 12  # per process
    lr: float = 8e-4
    warmup_s: float = 60.0
    decay_share: float = 0.5
    halflife_images: float = 20_000.0
    sigma2_floor: float = 0.1  # bounds the loss weight 1 / sigma^2 at low noise
    middle: float = 0.5  # share of timesteps drawn towards the middle of the schedule
    drop_text: float = 0.1  # share of pictures without text, for guidance
    full_captions: float = 0.5  # share of captions that name whatever can be named
    figure_weight: float = 3.0  # loss weight of latents that show a figure
    head_weight: float = 6.0  # and of those that show a head or an accessory
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
    processes: int = 2  # with `batch` pictures each; see `parallel.py`
    threads: int = 1  # of each process
    seed: int = 0
    init: Path | None = None  # a model folder to start from, when there is no checkpoint
    learn: str = ""  # pattern of the UNet's parameters that learn; without it everything does


def prepare(config: StoryModelConfig) -> None:
    """Encode every picture shard that has no latents yet."""
    tune_allocator()
    torch.set_num_threads(1)
    vae = PatchAutoencoder.from_pretrained(config.vae).eval().to(memory_format=torch.channels_last)
    world = StoryWorld("train", pairs=config.pairs)
    encode_shards(vae, world, pictures=config.pictures, latents=config.latents)


@dataclass
class _Training:
    """What a checkpoint holds: the modules, their averages and the optimizers of one process."""

    modules: dict[str, torch.nn.Module]
    averages: dict[str, AveragedWeights]
    optimizers: list[torch.optim.Optimizer]
    owned: list[list[torch.nn.Parameter]]
    seen: int = 0
    spent_s: float = 0.0

    def update(self, lr: float) -> None:
        """Average the gradients over the processes and let the optimizers move the weights."""
        parallel.average_gradients(self.modules.values())
        descend(self.modules.values(), self.optimizers, lr)
        parallel.hand_round(self.owned)

    def save(self, folder: Path, rank: int) -> None:
        """Write the checkpoint; optimizer states lie in one file per process."""
        own = dict(optimizer_tensors(self.optimizers))
        save_tensors(folder / f"optimizer-{rank}.safetensors", own)
        if rank == 0:
            tensors: dict[str, Tensor] = {}
            for name, module in self.modules.items():
                tensors |= module_tensors(name, module, self.averages[name])
            state = {
                "seen_images": self.seen,
                "spent_s": self.spent_s,
                "processes": parallel.world_size(),
            }
            save_run(folder, tensors, state)

    def resume(self, folder: Path, rank: int) -> None:
        """Read the checkpoint in `folder` if there is one."""
        saved = load_run(folder)
        if saved is None:
            return
        tensors, state = saved
        for name, module in self.modules.items():
            if any(key.startswith(f"{name}.") for key in tensors):  # a probe may be a new one
                restore_module(tensors, name, module, self.averages[name])
        if state.get("processes") == parallel.world_size():  # momentum is owned by process
            restore_optimizers(
                self.optimizers, load_tensors(folder / f"optimizer-{rank}.safetensors")
            )
        self.seen, self.spent_s = state["seen_images"], state["spent_s"]


def _set_up(config: StoryModelConfig, rank: int) -> tuple[Any, _Training]:
    """The tokenizer, and everything that learns: from the checkpoint, from `init`, or from
    nothing.
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
    if config.learn:
        learn_only(unet, config.learn, beside=modules.values())
    ends = [unet.conv_in.weight, unet.conv_out.weight, probe.read.weight]
    ends += [words.at_phrase.weight, words.at_end.weight]
    matrices, rest = split_parameters(modules.values(), exclude=ends)
    owned = parallel.shares(matrices)
    averages = {n: AveragedWeights(m, config.halflife_images) for n, m in modules.items()}
    training = _Training(modules, averages, build_optimizers(owned[rank], rest, config.lr), owned)
    training.resume(config.run / "checkpoint", rank)
    return tokenizer, training


def _autoencoder_config(config: StoryModelConfig) -> dict[str, Any]:
    """The autoencoder's settings.

    Raises:
        InputError: its latents are not those of the model.
    """
    vae: dict[str, Any] = PatchAutoencoder.load_config(config.vae)
    channels = vae["latent_channels"] + vae.get("semantic_channels", 0)
    if channels != config.model.latent_channels or not vae.get("semantic_channels"):
        raise InputError(
            f"the autoencoder in {config.vae} has {channels} channels, "
            f"{vae.get('semantic_channels', 0)} of them semantic; the model wants "
            f"{config.model.latent_channels}: run consistent-gen train semantics"
        )
    return vae


def main(config: StoryModelConfig) -> None:
    """Train for `config.train_s` seconds in all (over resumes) and write `config.out`."""
    parallel.launch(train, config, config.processes)


def train(config: StoryModelConfig, rank: int) -> None:
    """What each of the training processes does; the first one also logs, averages and saves."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    tokenizer, training = _set_up(config, rank)
    batch = config.batch * parallel.world_size()
    rng = random.Random(f"{config.seed}-{training.seen}-{rank}")
    step = _Step(config, training, tokenizer, rng)
    stream = latent_batches(config.latents, config.batch, rng, step.group)
    log = TickLog(config.run / "log.jsonl", every_s=60.0)
    ticks = 0

    started = time.monotonic() - training.spent_s
    while (elapsed := parallel.agree(time.monotonic() - started)) < config.train_s:
        numbers, data = next(stream)
        figures = step.backward(numbers, data)
        lr = learning_rate(config.lr, elapsed, config.train_s, config.warmup_s, config.decay_share)
        training.update(lr)
        training.seen, training.spent_s = training.seen + batch, elapsed
        if rank == 0:
            for name, module in training.modules.items():
                training.averages[name].update(module, batch, training.seen)
        log.add(batch, **figures)
        if parallel.agree(float(log.due())):
            if rank == 0:
                print(log.write(seen=training.seen, spent_s=round(elapsed), lr=lr), flush=True)
            ticks += 1
            if ticks % 5 == 0:
                training.save(config.run / "checkpoint", rank)
    training.save(config.run / "checkpoint", rank)
    if rank == 0:
        _export(config, training, tokenizer)


class _Step:
    """The losses of one batch and their gradients."""

    def __init__(
        self, config: StoryModelConfig, training: _Training, tokenizer: Any, rng: random.Random
    ) -> None:
        self.config, self.tokenizer, self.rng = config, tokenizer, rng
        self.generator = torch.Generator().manual_seed(rng.getrandbits(62))
        self.world = StoryWorld("train", pairs=config.pairs)
        self.format = training_dtype()
        self.fast = {name: Replica(m, self.format) for name, m in training.modules.items()}
        # Modules have no attribute types; all four compute what their classes say.
        self.unet, self.text, self.probe, self.words = (
            cast(Any, self.fast[name].compute) for name in ("unet", "text", "probe", "words")
        )
        self.probe.watch(self.unet.up_blocks[-2])
        self.group = 2 if config.pairs else 1
        self.paired = PairedKeys(self.unet) if config.pairs else None
        vae = _autoencoder_config(config)
        self.scale, self.components = vae["scaling_factor"], vae["latent_channels"]
        self.distance = PerceptualDistance(
            PatchAutoencoder.from_pretrained(config.vae).eval(), self.format
        )
        self.channels = torch.ones(1, config.model.latent_channels, 1, 1)
        self.channels[:, self.components :] = config.semantic_weight
        self.alpha_bar = alphas_cumprod()

    def backward(self, numbers: list[int], data: dict[str, Tensor]) -> dict[str, float]:
        """Add the gradients of pictures `numbers` to the modules; returns figures to log."""
        config = self.config
        x0 = torch.cat([data["latents"].float(), semantic_code(self.world, numbers, data)], 1)
        x0 = x0 * self.scale
        words = captions(
            self.world, numbers, self.rng,
            drop=config.drop_text, full=config.full_captions, group=self.group,
        )  # fmt: skip
        if self.paired is not None:
            self._pair(self.paired, data["labels"])
        texts = ["" if caption is None else caption.text for caption in words]
        encoded = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        lead = config.lead if config.pairs else None
        x_t, t, sigma = noised(x0, self.alpha_bar, self.generator, config.middle, lead)
        for replica in self.fast.values():
            replica.refresh()
        with training_attention():
            hidden = self.text(encoded.input_ids).last_hidden_state
            x_t = x_t.to(self.format, memory_format=torch.channels_last)
            out = self.unet(x_t, t, hidden).sample
            weight = loss_weights(data["labels"], config.figure_weight, config.head_weight)
            # Squared error of v = (alpha x_t - x0) / sigma, bounded where the noise vanishes.
            drawn = out.detach().float().requires_grad_()
            error = (drawn - x0).square() / sigma.square().clamp(min=config.sigma2_floor)
            loss = (error * weight * self.channels).mean()
            (pull,) = torch.autograd.grad(loss, drawn)
            looks = self._look(drawn, x0, t, pull)
            factors = self.probe.loss(truth(self.world, numbers, data["labels"]), data["labels"])
            named = self.words.loss(hidden, words)
            rest = config.factor_weight * factors + config.caption_weight * named
            if config.learn:  # the probes do not
                torch.autograd.backward([out], [pull.to(out.dtype)])
            else:
                torch.autograd.backward([out, rest], [pull.to(out.dtype), None])
        for replica in self.fast.values():
            replica.collect_gradients()
        error = error.detach()
        return {
            "loss": loss.item(),
            "plain": error[:, : self.components].mean().item(),
            "meaning": error[:, self.components :].mean().item(),
            "figure": figure_error(error[:, : self.components], data["labels"]),
            "looks": looks,
            "factors": factors.item(),
            "named": named.item(),
        }

    def _pair(self, paired: PairedKeys, labels: Tensor) -> None:
        """Let partners read each other in some steps."""
        if self.rng.random() < self.config.paired:
            paired.share(labels, self.generator, self.config.paired_dropout)
        else:
            paired.alone()

    def _look(self, drawn: Tensor, x0: Tensor, t: Tensor, pull: Tensor) -> float:
        """Add to `pull`, the gradient of the loss in `drawn`, that of the perceptual distance, with
        a fixed share of its norm; returns the distance.
        """
        config = self.config
        clear = (t < config.perceptual_until).nonzero().flatten()[: config.perceptual_rows]
        if config.perceptual == 0.0 or len(clear) == 0:
            return 0.0
        z = (drawn[clear, : self.components] / self.scale).detach().requires_grad_()
        distance = self.distance(z, x0[clear, : self.components] / self.scale)
        (gradient,) = torch.autograd.grad(distance, z)
        with torch.no_grad():
            here = pull[clear, : self.components]
            share = config.perceptual * here.norm() / gradient.norm().clamp(min=1e-12)
            pull[clear, : self.components] = here + share * gradient
        return distance.item()


def _export(config: StoryModelConfig, training: _Training, tokenizer: Any) -> None:
    for name, module in training.modules.items():
        training.averages[name].copy_to(module)
    save_story_world(
        config.out,
        tokenizer=tokenizer,
        text_encoder=training.modules["text"],
        unet=training.modules["unet"],
        vae=PatchAutoencoder.from_pretrained(config.vae),
    )


def export_checkpoint(config: StoryModelConfig) -> None:
    """Write `config.out` from the newest checkpoint, also of a training that still runs."""
    tokenizer, training = _set_up(replace(config, processes=1), 0)
    if training.seen == 0:
        raise FileNotFoundError(f"no checkpoint in {config.run}")
    _export(config, training, tokenizer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="The stages beside `consistent-gen train story_model`."
    )
    parser.add_argument("stage", choices=("prepare", "export"))
    args = parser.parse_args()
    {"prepare": prepare, "export": export_checkpoint}[args.stage](StoryModelConfig())
