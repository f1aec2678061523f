"""Train the story-world denoiser and its text encoder on cached latents.

Departures from the usual recipe, and why:
1. The text encoder is small and learns together with the denoiser; there is nothing to start from.
2. Muon for matrices (see `optim.py`), constant learning rate, linear decay at the end of the time
   budget.
3. The loss weighs latents on figures, and on heads most, since people look there and a face covers
   only some 30 of 256 latents.
4. Captions are composed anew each time a picture comes by, so that text does not become a key to a
   picture. Half of them name all that can be named: what words mean is learnt sooner from captions
   that leave little open.
5. The network predicts the clean latent, not the velocity or the noise (Li and He, "Back to
   basics", arXiv 2511.13720): fine channels of the latent are weak, and a small network that must
   output their noise leaves noise in the picture, while one that outputs the latent leaves blur.
   The loss is that of the velocity.
6. Where the processor has units for it, everything computes in bfloat16 on a replica; weights,
   averages and the optimizer are float32.
7. A probe asks the middle features who stands where (see `factor_probe.py`).

`prepare` (run first, once per autoencoder) encodes pictures to `latents/`; `main` trains from
there.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.checkpoints import load_tensors, save_tensors
from consistent_gen.models.patch_autoencoder import PatchAutoencoder
from consistent_gen.models.story_world import (
    SCHEDULER,
    StoryWorldConfig,
    build_text,
    build_unet,
    save_story_world,
)
from consistent_gen.runtime import training_dtype, tune_allocator
from consistent_gen.training import parallel, shards
from consistent_gen.training.attention_kernel import training_attention
from consistent_gen.training.factor_probe import FactorProbe
from consistent_gen.training.loop import (
    AveragedWeights,
    Replica,
    TickLog,
    learning_rate,
    load_run,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizers,
    save_run,
    set_learning_rate,
)
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.reader import schema, truth
from consistent_gen.world.captions import vocabulary
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.painter import PARTS


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
    batch: int = 24  # per process
    lr: float = 8e-4
    warmup_s: float = 60.0
    decay_share: float = 0.5
    halflife_images: float = 20_000.0
    sigma2_floor: float = 0.1  # bounds the loss weight 1 / sigma^2 at low noise
    drop_text: float = 0.1  # share of pictures without text, for guidance
    full_captions: float = 0.5  # share of captions that name whatever can be named
    figure_weight: float = 3.0  # loss weight of latents that show a figure
    head_weight: float = 6.0  # and of those that show a head
    factor_weight: float = 0.02  # of the probe's loss
    processes: int = 2  # with `batch` pictures each; see `parallel.py`
    threads: int = 1  # of each process
    seed: int = 0
    init: Path | None = None  # a model folder to start from, when there is no checkpoint


def prepare(config: StoryModelConfig) -> None:
    """Encode every picture shard that has no latents yet."""
    tune_allocator()
    torch.set_num_threads(1)
    world = StoryWorld("train")
    vae = PatchAutoencoder.from_pretrained(config.vae).eval().to(memory_format=torch.channels_last)
    for number in shards.available(config.pictures, world):
        target = config.latents / f"{number:05d}.safetensors"
        if target.exists():
            continue
        data = shards.load_shard(config.pictures, world, number)
        parts = []
        for chunk in data["pictures"].split(64):
            x = (chunk.float() / 127.5 - 1.0).to(memory_format=torch.channels_last)
            with torch.inference_mode():
                z = vae.latents(x)
            parts.append(z.half().contiguous())
        # Labels at latent resolution: 2 x 2 label samples per latent.
        tensors = {"latents": torch.cat(parts), "labels": data["labels"], "heads": data["heads"]}
        save_tensors(target, tensors)
        print(target, flush=True)


def latent_batches(
    config: StoryModelConfig, rng: random.Random
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Endless batches (picture numbers, tensors); new shards are picked up as they appear."""
    cache: dict[int, dict[str, Tensor]] = {}
    while True:
        for path in sorted(config.latents.glob("[0-9]*.safetensors")):
            if int(path.stem) not in cache:
                cache[int(path.stem)] = load_tensors(path)
        if not cache:
            raise FileNotFoundError(f"no latents in {config.latents}; run with --prepare first")
        for _ in range(200):
            # A batch comes from few shards: gathering from all would touch too many pages.
            numbers, parts = [], []
            for shard in rng.sample(sorted(cache), min(8, len(cache))):
                size = len(cache[shard]["latents"])
                picked = rng.sample(range(size), min(size, config.batch // min(8, len(cache))))
                numbers += [shard * size + i for i in picked]
                parts.append({k: v[picked] for k, v in cache[shard].items()})
            yield numbers, {k: torch.cat([part[k] for part in parts]) for k in parts[0]}


def caption(world: StoryWorld, number: int, rng: random.Random, config: StoryModelConfig) -> str:
    """Words for picture `number`: none, a usual caption, or one that names all it can."""
    if rng.random() < config.drop_text:
        return ""
    share = 1.0 if rng.random() < config.full_captions else None
    return world.caption(number, rng.getrandbits(20), share=share).text


def loss_weights(labels: Tensor, figure: float, head: float) -> Tensor:
    """Weight of each latent, b 1 16 16 with mean 1, from labels b 32 32 (see `painter.label`)."""
    part = (labels.long() - 1) % len(PARTS)
    on_figure = labels > 0
    on_head = on_figure & ((part == PARTS.index("face")) | (part == PARTS.index("hair")))
    weight = 1.0 + (figure - 1.0) * on_figure.float() + (head - figure) * on_head.float()
    weight = F.max_pool2d(weight.unsqueeze(1), 2)
    return weight / weight.mean()


def figure_error(error: Tensor, labels: Tensor) -> float:
    """Mean of `error` (b c 16 16) over the latents that show a figure."""
    where = F.max_pool2d((labels > 0).float().unsqueeze(1), 2)
    return ((error * where).sum() / (where.sum() * error.size(1)).clamp(min=1.0)).item()


def alphas_cumprod() -> Tensor:
    """The training schedule's cumulative alphas, shape (1000,); the last is zero."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**{k: v for k, v in SCHEDULER.items() if not k.startswith("_")})
    alphas: Tensor = scheduler.alphas_cumprod  # type: ignore[attr-defined]
    return alphas.clone()


@dataclass
class _Training:
    """What a checkpoint holds: the modules, their averages and the optimizers of one process."""

    modules: dict[str, torch.nn.Module]
    averages: dict[str, AveragedWeights]
    optimizers: list[torch.optim.Optimizer]
    owned: list[list[torch.nn.Parameter]]
    seen: int = 0
    spent_s: float = 0.0

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
            module.load_state_dict({k: v.float() for k, v in tensors.items()})
    probe = FactorProbe(schema(), config.model.widths[1])
    modules = {"unet": unet, "text": text, "probe": probe}
    ends = [unet.conv_in.weight, unet.conv_out.weight, probe.read.weight]
    matrices, rest = split_parameters(modules.values(), exclude=ends)
    owned = parallel.shares(matrices)
    averages = {n: AveragedWeights(m, config.halflife_images) for n, m in modules.items()}
    training = _Training(modules, averages, build_optimizers(owned[rank], rest, config.lr), owned)
    training.resume(config.run / "checkpoint", rank)
    return tokenizer, training


def noised(
    x0: Tensor, alpha_bar: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents x_t (b c h w), their timesteps (b) and sigma (b 1 1 1).

    Timesteps are stratified: every batch covers the whole schedule.
    """
    b = len(x0)
    u = (torch.arange(b) + torch.rand(b, generator=generator)) / b
    t = (u[torch.randperm(b, generator=generator)] * len(alpha_bar)).long()
    t = t.clamp(max=len(alpha_bar) - 1)
    noise = torch.randn(x0.shape, generator=generator)
    alpha = alpha_bar[t].sqrt().view(b, 1, 1, 1)
    sigma = (1.0 - alpha_bar[t]).sqrt().view(b, 1, 1, 1)
    return alpha * x0 + sigma * noise, t, sigma


def main(config: StoryModelConfig) -> None:
    """Train for `config.train_s` seconds in all (over resumes) and write `config.out`."""
    parallel.launch(train, config, config.processes)


def train(config: StoryModelConfig, rank: int) -> None:
    """What each of the training processes does; the first one also logs, averages and saves."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    world = StoryWorld("train")
    tokenizer, training = _set_up(config, rank)
    modules, batch = training.modules, config.batch * parallel.world_size()
    rng = random.Random(f"{config.seed}-{training.seen}-{rank}")
    generator = torch.Generator().manual_seed(rng.getrandbits(62))
    number_format = training_dtype()
    fast = {name: Replica(module, number_format) for name, module in modules.items()}
    probe: Any = fast["probe"].compute
    probe.watch(cast(Any, fast["unet"].compute).up_blocks[-2])
    alpha_bar = alphas_cumprod()
    scale = PatchAutoencoder.load_config(config.vae)["scaling_factor"]
    stream = latent_batches(config, rng)
    log = TickLog(config.run / "log.jsonl", every_s=60.0)
    ticks = 0

    started = time.monotonic() - training.spent_s
    while (elapsed := parallel.agree(time.monotonic() - started)) < config.train_s:
        numbers, data = next(stream)
        x0 = data["latents"].float() * scale
        texts = [caption(world, i, rng, config) for i in numbers]
        encoded = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        x_t, t, sigma = noised(x0, alpha_bar, generator)
        for replica in fast.values():
            replica.refresh()
        with training_attention():
            hidden = fast["text"].compute(encoded.input_ids).last_hidden_state
            x_t = x_t.to(number_format, memory_format=torch.channels_last)
            out = fast["unet"].compute(x_t, t, hidden).sample
            weight = loss_weights(data["labels"], config.figure_weight, config.head_weight)
            # Squared error of v = (alpha x_t - x0) / sigma, bounded where the noise vanishes.
            error = (out.float() - x0).square() / sigma.square().clamp(min=config.sigma2_floor)
            loss = (error * weight).mean()
            factors = probe.loss(truth(world, numbers, data["labels"]), data["labels"])
            (loss + config.factor_weight * factors).backward()
        for replica in fast.values():
            replica.collect_gradients()
        parallel.average_gradients(modules.values())
        for module in modules.values():
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        lr = learning_rate(config.lr, elapsed, config.train_s, config.warmup_s, config.decay_share)
        set_learning_rate(training.optimizers, lr)
        for optimizer in training.optimizers:
            optimizer.step()
        for module in modules.values():
            module.zero_grad()
        parallel.hand_round(training.owned)
        training.seen, training.spent_s = training.seen + batch, elapsed
        if rank == 0:
            for name, module in modules.items():
                training.averages[name].update(module, batch, training.seen)
        figure = figure_error(error.detach(), data["labels"])
        log.add(
            batch,
            loss=loss.item(),
            plain=error.mean().item(),
            figure=figure,
            factors=factors.item(),
        )
        if parallel.agree(float(log.due())):
            if rank == 0:
                print(log.write(seen=training.seen, spent_s=round(elapsed), lr=lr), flush=True)
            ticks += 1
            if ticks % 5 == 0:
                training.save(config.run / "checkpoint", rank)
    training.save(config.run / "checkpoint", rank)
    if rank == 0:
        _export(config, training, tokenizer)


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
