"""Train an adapter of the story world (`adapters.story_world`) on the frozen denoiser.

Pictures come in twos that show the same characters (`adapter_rows`): each is drawn with the other
as its reference, from a caption that names no more of the characters than their kinds. What the
caption leaves open can only come through the adapter.

Departures from how published adapters were trained, and why:
1. Layers first. What words add to the result of a cross-attention layer, for the queries that the
   layer really has, is known: the attention over the whole caption less that over the open one. For
   the first `layered` pictures every layer's branch learns to add that, layer by layer, which
   needs no gradient through the denoiser and tells each layer what to do instead of asking all of
   them at once. It costs a third of a step, and in as many pictures learns several times more.
2. Two teachers from then on. The denoiser itself, told by words all that can be said of the
   characters, says what it would draw; the picture says what it really was. The target is a
   weighted mean of both. A prediction at high noise, where identity is decided, is a mean over many
   pictures, so a single picture is a noisy target for it, and the words' prediction is not. Without
   the true picture an adapter would know only what words can say.
3. Timesteps from `LOWEST` on: below, the noisy latent tells more of a character than an adapter.
4. Squared errors of the clean latent over sigma^2, and loss weights on figures, as in
   `story_model`; StoryMaker's attention loss where an arm has a background.

References are dropped from a share of the rows, so that guidance has something to move away from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.adapters.adapter import Adapter
from consistent_gen.adapters.codec import load_system, save_adapter
from consistent_gen.adapters.losses import mask_mse
from consistent_gen.adapters.policy import Capture, IdentityTokens
from consistent_gen.adapters.reference_tokens import ReferencePolicy
from consistent_gen.adapters.references import CharacterRef, Feature
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.adapters.story_world import (
    DENOISER,
    FEATURES,
    READER,
    build_arm,
    training_call,
)
from consistent_gen.attention.layers import find_sites, project
from consistent_gen.attention.patch import attach
from consistent_gen.attention.rows import Call
from consistent_gen.checkpoints import file_sha256, folder_sha256, write_json
from consistent_gen.encoders.factors import MAX_SUBJECTS
from consistent_gen.models import load_backbone
from consistent_gen.models.patch_autoencoder import load_autoencoder
from consistent_gen.runtime import device, tune_allocator
from consistent_gen.training.adapter_rows import adapter_rows_inputs, owners
from consistent_gen.training.attention_kernel import training_attention
from consistent_gen.training.denoising import alphas_cumprod, loss_weights, noised, timesteps
from consistent_gen.training.loop import RecipeConfig, Training
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.pairs import swapped
from consistent_gen.training.rows import without_words
from consistent_gen.training.shards import ShardPool, world_inputs
from consistent_gen.world.dataset import StoryWorld

LOWEST = 150  # timestep


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(RecipeConfig):
    """Settings of the recipe; lengths in pictures ("images")."""

    arm: str = "people"  # one of `adapters.story_world.ARMS`
    run: Path = Path("runs/adapter")
    model: Path = Path("weights/storyworld")  # the denoiser's folder; it stays as it is
    reader: Path = Path("weights/reader")
    rows: Path = Path("runs/adapter_rows")
    grow_images: int = 600  # between looks for rows that have appeared
    out: Path = Path("runs/adapter/weights")
    init: Path | None = None  # an adapter's folder to go on from
    images: int = 20_000
    layered: int = 14_000  # of them, in which layers learn each on its own; arms with tokens only
    batch: int = 12
    lr: float = 1e-3
    warmup_images: int = 240
    decay_share: float = 0.5
    halflife_images: float = 1500.0
    every_s: float = 120.0
    threads: int = 1
    teacher: float = 0.6  # weight of the words' prediction in the target; the picture has the rest
    drop: float = 0.1  # share of rows without references
    drop_text: float = 0.05  # share of rows without words
    figure_weight: float = 4.0
    head_weight: float = 6.0
    sigma2_floor: float = 0.1
    attention_weight: float = 0.1


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention [b n h d] of q [b n h d] over k and v [b t h d]."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def main(config: AdapterConfig) -> None:
    """Train one arm on `config.images` pictures in all (over resumes) and write the folder
    `config.out`.

    Raises:
        InputError: no rows, or rows of another reader or autoencoder.
        UnknownNameError: no such arm.
    """
    tune_allocator()
    torch.set_num_threads(config.threads)
    place = device(config.device or None)
    step = _AdapterStep(config, place)
    for seen in step.training.steps():
        layered = seen < config.layered and config.arm != "reference"
        step.training.update(**(step.by_layers() if layered else step.backward()))
        if step.training.passed(config.grow_images):
            step.pool.refresh()
        if step.training.due():
            step.training.save()
    arm = step.training.averaged("arm")
    save_adapter(config.out / "adapter.safetensors", arm.half())
    made_for = {
        "arm": config.arm,
        "denoiser": file_sha256(config.model / DENOISER),
        "reader": folder_sha256(config.reader),
    }
    write_json(config.out / "config.json", made_for)


@dataclass(frozen=True, kw_only=True, eq=False)
class _AdapterBatch:
    """Pictures of a step: rows and token ids as in `adapter_rows`, clean and noised latents
    b c h w, timesteps b, sigma b 1 1 1, names and call of the frames, b bool of those without
    references, loss weights b 1 h w.
    """

    rows: dict[str, Tensor]
    captions: dict[str, Tensor]
    x0: Tensor
    x_t: Tensor
    t: Tensor
    sigma: Tensor
    frames: list[str]
    dropped: Tensor
    call: Call
    weight: Tensor


class _AdapterStep:
    """The loss of one batch and its gradients."""

    def __init__(self, config: AdapterConfig, place: torch.device) -> None:
        self.config, self.place = config, place
        backbone = load_backbone(config.model, device=place, dtype="float32")
        self.unet: Any = backbone.denoiser.requires_grad_(False)
        self.text: Any = backbone.text_encoder.requires_grad_(False)
        torch.manual_seed(config.seed)  # initial weights only
        if config.init is None:
            self.arm = build_arm(config.arm, self.unet, FEATURES)
        else:
            self.arm = load_system(
                config.init / "adapter.safetensors", self.unet, **FEATURES.switches(config.arm)
            ).float()
        self.arm.requires_grad_(True).train().to(place)
        matrices, rest = split_parameters([self.arm])
        self.training = Training(
            config, {"arm": self.arm}, build_optimizers(matrices, rest, config.lr)
        )
        world = StoryWorld("train", pairs=True)
        inputs = adapter_rows_inputs(load_autoencoder(config.model / "vae"), config.reader)
        self.pool = ShardPool(config.rows, place, inputs | world_inputs(world))
        self.pool.follow(self.training.facts)
        self.wordless = without_words()["tokens"].to(place)  # t
        self.alpha_bar = alphas_cumprod().to(place)
        vae: Any = load_autoencoder(config.model / "vae").config
        self.scale = vae["scaling_factor"]
        self.capture: Capture | None = None
        if config.arm == "people" and config.attention_weight:
            self.capture = Capture(lambda site: site.level == 2)
        self.policy: Any = (
            self.arm.policy(capture=self.capture)
            if isinstance(self.arm, Adapter)
            else self.arm.policy()
        )
        attach(self.unet, self.policy)
        sites = find_sites(self.unet)
        self.crossing = {name: site for name, site in sites.items() if site.kind == "cross"}

    def by_layers(self) -> dict[str, Tensor]:
        """Add to the arm the gradients of what every cross-attention layer lacks of the words."""
        batch = self._batch()
        with training_attention(self.place):
            with torch.no_grad():
                told = self.text(batch.captions["full"]).last_hidden_state
                text = self.text(batch.captions["open"]).last_hidden_state
                inputs = self._inputs(batch, text)
            shown = self._show(batch.rows, batch.frames)
            self.policy.begin(batch.call)
            keep = (~batch.dropped).to(told).view(-1, 1, 1, 1)
            loss = told.new_zeros(())
            for name, hidden in inputs.items():
                site = self.crossing[name]
                attn = self.unet.get_submodule(name)
                with torch.no_grad():
                    (q, *words), _ = project(attn, hidden, told, site, None)
                    (_, *open_), _ = project(attn, hidden, text, site, None)
                    attended = _attended(q, *open_)
                    lacking = (_attended(q, *words) - attended) * keep  # b n h d
                weight = self._weight(batch, site.grid(batch.call.latent))
                error = (self.policy.branch(q, attended, site) - lacking).square()
                size = (lacking.square() * weight).mean().clamp_min(1e-8)
                loss = loss + (error * weight).mean() / size / len(inputs)
            self.policy.end()
            looked = self._looked(batch.rows["labels"], shown) if self.capture else loss * 0.0
            (loss + self.config.attention_weight * looked).backward()
        return {"lacking": loss.detach(), "looked": looked.detach()}

    def _inputs(self, batch: _AdapterBatch, text: Tensor) -> dict[str, Tensor]:
        """What every cross-attention layer is given, b n c, when the denoiser reads `text`."""
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def note(_attn: Any, args: Any, kwargs: Any) -> None:
                found[name] = args[0] if args else kwargs["hidden_states"]

            return self.unet.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True)

        hooks = [keep(name) for name in self.crossing]
        try:
            self.unet(batch.x_t, batch.t, text)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _weight(self, batch: _AdapterBatch, grid: tuple[int, int]) -> Tensor:
        """How much the places of a layer's grid count, b n 1 1 with mean 1."""
        weight = F.adaptive_avg_pool2d(batch.weight, grid).flatten(1)
        return (weight / weight.mean())[:, :, None, None]

    def _batch(self) -> _AdapterBatch:
        config = self.config
        choice = self.training.generator("rows, captions and timesteps")
        rows, captions = self._rows(choice)
        x0 = rows["latents"].float() * self.scale
        times = LOWEST + timesteps(config.batch, choice, 0.5, schedule=1000 - LOWEST)
        t = times.to(x0.device)
        noise = self.training.generator("noise", x0.device)
        x_t, sigma = noised(x0, t, self.alpha_bar, noise)
        frames = [str(i) for i in range(config.batch)]
        dropped = torch.rand(config.batch, generator=choice) < config.drop
        without = [frame for frame, d in zip(frames, dropped.tolist(), strict=True) if d]
        return _AdapterBatch(
            rows=rows, captions=captions, x0=x0, x_t=x_t, t=t, sigma=sigma, frames=frames,
            dropped=dropped.to(x0.device),
            call=training_call(frames, without, (x0.shape[2], x0.shape[3])),
            weight=loss_weights(rows["labels"], config.figure_weight, config.head_weight),
        )  # fmt: skip

    def backward(self) -> dict[str, Tensor]:
        """Add the gradients of a batch to the arm; returns figures to log."""
        config, batch = self.config, self._batch()
        x0, x_t, t, captions = batch.x0, batch.x_t, batch.t, batch.captions
        with training_attention(x0.device):
            with torch.no_grad():
                words = self.text(captions["full"]).last_hidden_state
                told = self.unet(x_t, t, words).sample
                text = self.text(captions["open"]).last_hidden_state
            shown = self._show(batch.rows, batch.frames)
            self.policy.begin(batch.call)
            drawn = self.unet(x_t, t, text).sample
            self.policy.end()
            # Without references only the picture is known.
            share = torch.where(batch.dropped, 0.0, config.teacher).to(x0).view(-1, 1, 1, 1)
            target = torch.lerp(x0, told, share)
            floor = batch.sigma.square().clamp(min=config.sigma2_floor)
            error = (drawn - target).square() / floor
            loss = (error * batch.weight).mean()
            looked = (
                self._looked(batch.rows["labels"], shown) if self.capture else loss.new_zeros(())
            )
            (loss + config.attention_weight * looked).backward()
        with torch.no_grad():
            untold = (told - target).square() / floor * batch.weight
        return {"loss": loss.detach(), "words": untold.mean(), "looked": looked.detach()}

    def _rows(self, choice: torch.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Random pictures in twos, and token ids [b t] of a caption of each, open and full."""
        config = self.config
        pairs = torch.randint(self.pool.size // 2, (config.batch // 2,), generator=choice)
        index = (2 * pairs[:, None] + torch.arange(2)).flatten()
        version = torch.randint(self.pool.rows["open"].shape[1], (config.batch,), generator=choice)
        rows = {name: values[index.to(self.place)] for name, values in self.pool.rows.items()}
        at = torch.arange(config.batch)
        captions = {name: rows[name][at, version].long() for name in ("open", "full")}
        silent = torch.rand(config.batch, generator=choice) < config.drop_text
        silent = silent.to(self.place)[:, None]
        captions["open"] = torch.where(silent, self.wordless, captions["open"])
        return rows, captions

    def _show(
        self, rows: Mapping[str, Tensor], frames: Sequence[str]
    ) -> dict[int, tuple[list[int], IdentityTokens | None]]:
        """Show every picture the characters of its partner; returns, by row, which of its subjects
        they are.
        """
        shown: dict[int, tuple[list[int], IdentityTokens | None]] = {}
        if isinstance(self.policy, ReferencePolicy):
            self._record(rows, frames)
        for i, frame in enumerate(frames):
            other = i ^ 1
            found = [
                (slot, int(rows["partner"][i, slot]))
                for slot in range(MAX_SUBJECTS)
                if rows["partner"][i, slot] >= 0
                and rows["seen"][other, int(rows["partner"][i, slot])]
            ]
            if isinstance(self.policy, ReferencePolicy):
                self.policy.show(frame, {f"{other}": 1.0} if found else {})
                continue
            people = [self._person(rows, other, theirs) for _, theirs in found]
            tokens = self.arm.identities(people, plan=ScalePlan()) if people else None
            self.policy.show(frame, tokens)
            shown[i] = [slot for slot, _ in found], tokens
        return shown

    def _record(self, rows: Mapping[str, Tensor], frames: Sequence[str]) -> None:
        """Let the model read every picture without noise, as a reference of its partner's."""
        # What a picture has of characters that its partner shows.
        owner = owners(rows["labels"])  # b 32 32
        theirs = swapped(rows["partner"]).long()  # b 3: whom of this one the partner shows
        wanted = (owner[:, None] == theirs[:, :, None, None]) & (theirs >= 0)[:, :, None, None]
        masks = {name: mask.float() for name, mask in zip(frames, wanted.any(1), strict=True)}
        x0 = rows["latents"].float() * self.scale
        nothing = self.text(rows["open"][:, 0].long()).last_hidden_state
        with self.policy.recording(list(frames), masks=masks):
            self.unet(x0, torch.zeros(len(x0), device=x0.device), nothing)

    def _person(self, rows: Mapping[str, Tensor], picture: int, slot: int) -> CharacterRef:
        """A subject of a picture, as the reader read it."""
        features = {
            name: Feature(value=rows[name][picture, slot].float()[None], encoder=READER)
            for name in ("identity", "face", "crop")
        }
        features["picture"] = features["crop"]
        return CharacterRef(name=f"{picture}.{slot}", features=features)

    def _looked(
        self, labels: Tensor, shown: Mapping[int, tuple[list[int], IdentityTokens | None]]
    ) -> Tensor:
        """StoryMaker's attention loss, the mean over rows that show somebody."""
        assert self.capture is not None
        owner = owners(labels)  # b 32 32
        total, count = labels.new_zeros((), dtype=torch.float32), 0
        by_slots: dict[tuple[int, ...], list[Any]] = {}
        for one in self.capture.branch:
            by_slots.setdefault(one.slots, []).append(one)
        for slots, captured in by_slots.items():
            tokens = shown[slots[0]][1]
            assert tokens is not None
            masks = torch.stack(
                [torch.stack([(owner[i] == s).float() for s in shown[i][0]]) for i in slots]
            )
            total = total + len(slots) * mask_mse(captured, tokens.layout, masks)
            count += len(slots)
        self.capture.clear()
        return total / max(count, 1)
