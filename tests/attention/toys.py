"""Real diffusers classes at tiny size, and a plain sampling loop that drives a run over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.patch import attached
from consistent_gen.attention.roles import FrameRole, Subject
from consistent_gen.attention.rows import Call, Row
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.sharing import Sharing

TEXT, WIDTH = 7, 32
FAMILIES = ("unet", "sdxl", "sd3", "flux")
STEPS = 4


def build(family: str, dtype: torch.dtype = torch.float64) -> Toy:
    """A model of the family with every weight drawn anew: zero-initialised layers hide mistakes."""
    from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel

    side: Any = (8, 12)  # not square on purpose
    if family in ("unet", "sdxl"):
        xl: dict[str, Any] = {}
        if family == "sdxl":
            xl = {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
                "transformer_layers_per_block": (1, 2),
                "use_linear_projection": True,
            }
        model: Any = UNet2DConditionModel(
            sample_size=side,
            in_channels=4,
            out_channels=4,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2,
            attention_head_dim=(2, 4),
            norm_num_groups=8,
            cross_attention_dim=WIDTH,
            **xl,
        )
    elif family == "sd3":
        model = SD3Transformer2DModel(
            sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=3,
            attention_head_dim=16, num_attention_heads=2, joint_attention_dim=WIDTH,
            caption_projection_dim=32, pooled_projection_dim=WIDTH, pos_embed_max_size=8,
            dual_attention_layers=(1,), qk_norm="rms_norm",
        )  # fmt: skip
    else:
        model = FluxTransformer2DModel(
            patch_size=1, in_channels=4, num_layers=1, num_single_layers=2, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH,
            axes_dims_rope=(4, 4, 8),
        )  # fmt: skip
    redraw(model)
    return Toy(family, model.to(dtype).eval().requires_grad_(False), dtype)


def state(model: torch.nn.Module) -> list[Any]:
    """Processors by identity, hooks and attributes of every module, and the weights' names."""
    return [
        [id(getattr(m, "processor", None)) for m in model.modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        [sorted(vars(m)) for m in model.modules()],
        list(model.state_dict()),
    ]


def redraw(model: torch.nn.Module, seed: int = 0) -> None:
    """Draw every weight: matrices with unit gain, norms around 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        gain = 1.0 if weight.ndim < 2 else (weight[0].numel()) ** -0.5
        value = noise * (0.2 if weight.ndim < 2 else 1.2 * gain)
        centre = 1.0 if weight.ndim == 1 and name.endswith("weight") else 0.0
        weight.data.copy_(value + centre)


@dataclass(frozen=True)
class Sketch:
    """A frame to draw: everything about it comes from its seed."""

    id: str
    seed: int
    subjects: tuple[Subject, ...] = ()
    anchor: int | None = None
    prompt: int | None = None  # seed of the text; the frame's own by default


@dataclass
class Toy:
    """One tiny model, seen the same way whatever its family."""

    family: str
    model: Any
    dtype: torch.dtype
    latent: tuple[int, int] = (8, 12)
    guided: bool = True
    own: dict[str, Any] = field(default_factory=dict)  # the model's own processors
    apart: bool = False  # a call per guidance branch
    calls: int = field(default=0)

    @property
    def grid(self) -> tuple[int, int]:
        """Latent cells; of FLUX, tokens."""
        return self.latent

    def noise(self, seed: int) -> Tensor:
        """[c h w]; of FLUX [n c]."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(4, *self.latent, generator=generator, dtype=torch.float64)
        noise = noise.flatten(1).T if self.family == "flux" else noise
        return noise.to(self.dtype)

    def text(self, seed: int, branch: str) -> tuple[Tensor, Tensor]:
        """Tokens [t c] and a pooled vector [c]."""
        generator = torch.Generator().manual_seed(seed + 1000 if branch == "cond" else 17)
        tokens = torch.randn(TEXT, WIDTH, generator=generator, dtype=torch.float64)
        pooled = torch.randn(WIDTH, generator=generator, dtype=torch.float64)
        return tokens.to(self.dtype), pooled.to(self.dtype)

    def denoise(
        self, latents: Tensor, times: Sequence[float], tokens: Tensor, pooled: Tensor
    ) -> Tensor:
        """One call of the real class, every row at its own time."""
        self.calls += 1
        b = len(latents)
        if self.family in ("unet", "sdxl"):
            ids = torch.tensor([8.0, 12.0, 0.0, 0.0, 8.0, 12.0], dtype=self.dtype).expand(b, 6)
            added = {"text_embeds": pooled, "time_ids": ids}
            extra = {"added_cond_kwargs": added} if self.family == "sdxl" else {}
            t = torch.tensor([time * 999 for time in times])
            return self.model(latents, t, tokens, return_dict=False, **extra)[0]
        if self.family == "sd3":
            t = torch.tensor([time * 1000 for time in times], dtype=self.dtype)
            return self.model(latents, tokens, pooled, t, return_dict=False)[0]
        h, w = self.latent
        ids = torch.zeros(h, w, 3, dtype=self.dtype)
        ids[..., 1] = torch.arange(h)[:, None]
        ids[..., 2] = torch.arange(w)[None]
        t = torch.tensor(times, dtype=self.dtype)
        return self.model(
            hidden_states=latents, encoder_hidden_states=tokens, pooled_projections=pooled,
            timestep=t, img_ids=ids.reshape(-1, 3), txt_ids=torch.zeros(TEXT, 3, dtype=self.dtype),
            return_dict=False,
        )[0]  # fmt: skip

    @torch.no_grad()
    def sample(
        self, frames: Sequence[Sketch], policy: Sharing | None = None, steps: int = STEPS,
        guidance: float = 3.0,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Draw frames as one batch by Euler steps; returns the latents by id.

        Where anchors have a lead, their readers join so much later and take as much longer.
        """
        branches: tuple[Any, ...] = ("uncond", "cond") if self.guided else ("cond",)
        x = torch.stack([self.noise(frame.seed) for frame in frames])
        seeds = [frame.seed if frame.prompt is None else frame.prompt for frame in frames]
        text = [self.text(seed, branch) for branch in branches for seed in seeds]
        tokens, pooled = (torch.stack(part) for part in zip(*text, strict=True))
        late = 0 if policy is None else policy.run.recipe.lead(steps) - 1
        delays = [late if _reads_beside(frame, frames) else 0 for frame in frames]
        for tick in range(steps + max(delays)):
            at = {i: tick - delay for i, delay in enumerate(delays) if 0 <= tick - delay < steps}
            live = list(at)
            looking = {
                i: policy is not None and policy.run.looks(frames[i].id, at[i], steps) for i in live
            }
            # (branch, frame, look): looks come last, so that what is kept stands in front.
            kinds = [(k, i, False) for k in range(len(branches)) for i in live]
            kinds += [(k, i, True) for k, i, _ in kinds if looking[i]]
            calls = [[kind for kind in kinds if kind[0] == k] for k in range(len(branches))]
            found: dict[Any, Tensor] = {}
            for part in calls if self.apart else [kinds]:
                times = [1.0 - at[i] / steps for _, i, _ in part]
                rows = tuple(
                    Row(slot, frames[i].id, branches[k], at[i], steps, times[slot], look)
                    for slot, (k, i, look) in enumerate(part)
                )
                if policy is not None:
                    policy.begin(Call(len(rows), self.grid, rows))
                pick = [k * len(frames) + i for k, i, _ in part]
                latents = x[[i for _, i, _ in part]]
                out = self.denoise(latents, times, tokens[pick], pooled[pick])
                if policy is not None:
                    policy.end()
                found |= dict(zip(part, out, strict=True))
            parts = [torch.stack([found[k, i, False] for i in live]) for k in range(len(branches))]
            out = parts[0]
            if self.guided:
                uncond, cond = parts
                out = uncond + guidance * (cond - uncond)
            x[live] = x[live] - out / steps
        return {frame.id: x[i] for i, frame in enumerate(frames)}


def _reads_beside(frame: Sketch, frames: Sequence[Sketch]) -> bool:
    """Whether somebody's anchors are drawn in the same batch, and the frame may read them."""
    return frame.anchor is None and any(other.anchor is not None for other in frames)


FOX = Subject(name="fox", tokens=(2, 3))


def anchors(count: int, use: Subject = FOX, seed: int = 100) -> list[Sketch]:
    """Anchor sketches of a subject."""
    return [Sketch(f"{use.name}{i}", seed + i, (use,), anchor=i) for i in range(count)]


def enter(run: SharedRun, frames: Iterable[Sketch], settings: Any = None) -> list[Sketch]:
    """Admit frames and return their twins, which are drawn before them."""
    twins = []
    for frame in frames:
        role = FrameRole(frame=frame.id, subjects=frame.subjects, anchor=frame.anchor)
        twin = run.add_with_twin(role, settings)
        if twin is not None:
            prompt = frame.seed if frame.prompt is None else frame.prompt
            twins.append(Sketch(twin, frame.seed, frame.subjects, frame.anchor, prompt))
    return twins


def held(run: SharedRun) -> list[int]:
    """Bytes of the run's bank, and how much it remembers of frames beside it."""
    tables: list[Any] = [
        run.roles, run.masks._frames, run._records, run._matches, run.masks._drawn,
    ]  # fmt: skip
    return [run.bank.bytes, *(len(table) for table in tables)]


def draw(
    toy: Toy, run: SharedRun, batches: Sequence[Sequence[Sketch]], steps: int = STEPS
) -> dict[str, Tensor]:
    """Draw batches one after the other, the twins of each before it, under one run."""
    policy = Sharing(run)
    policy.bind(find_sites(toy.model))
    with attached(toy.model, policy):
        return draw_under(toy, policy, batches, steps)


def draw_under(
    toy: Toy, policy: Sharing, batches: Sequence[Sequence[Sketch]], steps: int = STEPS
) -> dict[str, Tensor]:
    """The same under a policy that is attached already."""
    found: dict[str, Tensor] = {}
    for batch in batches:
        # Anchors are known before their readers, wherever they stand in the batch.
        twins = enter(policy.run, sorted(batch, key=lambda frame: frame.anchor is None))
        if twins:
            toy.sample(twins, policy, steps)
        found |= toy.sample(batch, policy, steps)
    return found
