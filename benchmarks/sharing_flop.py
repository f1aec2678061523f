"""FLOP of an added frame on networks of the full published size, counted without computing.

The networks lie on torch's "meta" device: every operation runs through shapes only, so that Stable
Diffusion 1.5 at 512 and XL at 1024 pixels, whole, can be counted on a laptop, with the very policy
that draws. What would follow from values (masks, correspondences) is given: the subject covers a
quarter of every picture.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.speed import flop_counter
from consistent_gen.attention.keeping import KV, Keeping
from consistent_gen.attention.layers import Site, find_sites
from consistent_gen.attention.matching import Match
from consistent_gen.attention.ops import BIAS_CHANNELS
from consistent_gen.attention.patch import attached
from consistent_gen.attention.roles import FrameRole, Subject, twin_id
from consistent_gen.attention.rows import BOTH, Branch, Call, Row
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import Recipe, Rule
from consistent_gen.attention.sharing import Sharing

HERO = Subject(name="hero", tokens=(2,))
TEXT_TOKENS = 77
# Published configurations: latent side, and what differs from diffusers' defaults.
FULL: dict[str, dict[str, Any]] = {
    "Stable Diffusion 1.5, 512 px": {
        "side": 64,
        "unet": {"cross_attention_dim": 768, "attention_head_dim": 8},
    },
    "Stable Diffusion XL, 1024 px": {
        "side": 128,
        "unet": {
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
            "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
    },
}


# Published transformers: the class, what differs from diffusers' defaults, the latent as their
# calls have it, text tokens, and whether there are rows without the prompt.
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "Stable Diffusion 3.5 medium, 1024 px": {
        "class": "diffusers.models.transformers.transformer_sd3:SD3Transformer2DModel",
        "config": {
            "sample_size": 128, "num_layers": 24, "num_attention_heads": 24,
            "caption_projection_dim": 1536, "pos_embed_max_size": 384, "qk_norm": "rms_norm",
            "dual_attention_layers": tuple(range(13)),
        },
        "side": 128, "text": 333, "width": 4096, "guided": True,
    },
    "FLUX.1-dev, 1024 px": {
        "class": "diffusers.models.transformers.transformer_flux:FluxTransformer2DModel",
        "config": {"guidance_embeds": True},
        "side": 64, "text": 512, "width": 4096, "guided": False,
    },
}  # fmt: skip


@dataclass
class Shapes:
    """A network without numbers. side: of the latent in cells, of a packed one in tokens."""

    network: Any
    side: int
    width: int  # of the text
    text: int = TEXT_TOKENS
    branches: tuple[Branch, ...] = BOTH

    @classmethod
    def of(cls, name: str) -> Shapes:
        """One of `FULL` or `TRANSFORMERS`."""
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        if name in TRANSFORMERS:
            return cls._transformer(**TRANSFORMERS[name])
        form = FULL[name]
        with torch.device("meta"):
            unet = UNet2DConditionModel(**form["unet"])
        return cls(unet.eval(), form["side"], form["unet"]["cross_attention_dim"])

    @classmethod
    def _transformer(cls, *, config: Any, side: int, text: int, width: int, guided: bool,
                     **named: str) -> Shapes:  # fmt: skip
        module, _, name = named["class"].partition(":")
        kind = getattr(importlib.import_module(module), name)
        with torch.device("meta"):
            network = kind(**config).eval()
        if name == "FluxTransformer2DModel":
            # Positions are numbers, which are looked at; their angles are shapes like all else.
            axes = sum(network.config.axes_dims_rope)
            network.pos_embed.forward = lambda ids: (
                torch.empty(len(ids), axes, device="meta"),
                torch.empty(len(ids), axes, device="meta"),
            )
        return cls(network, side, width, text, BOTH if guided else ("cond",))

    @property
    def latent(self) -> tuple[int, int]:
        """Height and width in latent cells."""
        return self.side, self.side

    @property
    def latent_numbers(self) -> int:
        """Numbers of one row's latent."""
        return int(self.network.config.in_channels) * self.side**2

    def call(self, rows: int) -> None:
        """One denoiser call."""
        config, meta = self.network.config, {"device": "meta"}
        text = torch.empty(rows, self.text, self.width, **meta)
        times = torch.empty(rows, **meta)
        said: dict[str, Any] = {"return_dict": False, "encoder_hidden_states": text}
        sample = torch.empty(rows, config.in_channels, self.side, self.side, **meta)
        if type(self.network).__name__ == "UNet2DConditionModel":
            if config.addition_embed_type:
                said["added_cond_kwargs"] = {
                    "text_embeds": torch.empty(rows, 1280, **meta),
                    "time_ids": torch.empty(rows, 6, **meta),
                }
        else:
            width = config.pooled_projection_dim
            said["pooled_projections"] = torch.empty(rows, width, **meta)
        if type(self.network).__name__ == "FluxTransformer2DModel":
            sample = sample.flatten(2).mT
            places = torch.cartesian_prod(*map(torch.arange, (1, self.side, self.side)))
            said |= {"img_ids": places, "txt_ids": torch.zeros(self.text, 3), "guidance": times}
        with torch.no_grad():
            self.network(sample, timestep=times, **said)


def frame_flop(shapes: Shapes, recipe: Recipe, steps: int) -> tuple[float, float]:
    """FLOP of an added frame of a shared story, and of a plain frame."""
    with flop_counter() as plain:
        shapes.call(len(shapes.branches))
    base = float(plain.get_total_flops()) * steps
    if not recipe.rules:
        return base, base
    policy, anchors = _story(shapes, recipe, 0.25)
    with attached(shapes.network, policy):
        for names in (anchors, ["frame"]):
            with flop_counter() as counter:
                _draw(shapes, policy, names, steps)
    return float(counter.get_total_flops()), base


def bank_bytes(shapes: Shapes, recipe: Recipe, steps: int, keeping: Keeping) -> int:
    """What a character that fills its pictures leaves, counted after its anchors were drawn."""
    policy, anchors = _story(shapes, recipe, 1.0, keeping)
    with attached(shapes.network, policy):
        _draw(shapes, policy, anchors, steps)
    return policy.run.bank.bytes


def _story(
    shapes: Shapes, recipe: Recipe, cover: float, keeping: Keeping = KV
) -> tuple[Sharing, list[str]]:
    """A run with anchors and one frame, whose subject covers a share of every picture."""
    # Shapes alone take no memory.
    run = SharedRun(recipe, limit_bytes=sys.maxsize, keeping=keeping)
    policy = Sharing(run)
    sites = find_sites(shapes.network)
    policy.bind(sites)
    anchors = [f"anchor{i}" for i in range(recipe.anchors)]
    for number, name in enumerate((*anchors, "frame")):
        role = FrameRole(frame=name, subjects=(HERO,), anchor=number if name in anchors else None)
        twin = run.add_with_twin(role)
        mask = torch.zeros(shapes.latent)
        side = round(shapes.side * cover**0.5)
        mask[:side, :side] = 1.0
        for drawing in filter(None, (name, twin)):
            run.masks.set_external(drawing, HERO.name, mask)
    _foresee_matches(run, sites.values(), shapes, anchors)
    return policy, anchors


def _draw(shapes: Shapes, policy: Sharing, names: Sequence[str], steps: int) -> None:
    """The passes of `names`, as the engine makes them: twins first, looks in the same call."""
    twins = [twin for name in names if (twin := twin_id(name)) in policy.run.roles]
    for frames in filter(None, (twins, list(names))):
        for step in range(steps):
            time = 1.0 - step / steps
            rows: list[Row] = []
            for look in (False, True):
                for frame in frames:
                    if look and not policy.run.looks(frame, step, steps):
                        continue
                    rows += [
                        Row(len(rows) + i, frame, branch, step, steps, time, look)
                        for i, branch in enumerate(shapes.branches)
                    ]
            policy.begin(Call(len(rows), shapes.latent, tuple(rows)))
            shapes.call(len(rows))
            policy.end()


def _foresee_matches(run: SharedRun, sites: Any, shapes: Shapes, anchors: Sequence[str]) -> None:
    """Every subject token of a picture corresponds to one of the anchors that it reads."""
    for grid in {site.grid(shapes.latent) for site in sites}:
        for frame in (*anchors, "frame"):
            tokens = run.masks.shown(frame, HERO.name, 0, grid)
            read = [name for name in anchors if name != frame]
            pool = sum(len(run.masks.shown(name, HERO.name, 0, grid)) for name in read)
            if pool:  # a lone anchor reads nobody
                source = torch.arange(len(tokens)) % pool
                run.foresee(frame, HERO.name, grid, Match(tokens, source, ()))


def formula(shapes: Shapes, recipe: Recipe, steps: int, base: float) -> float:
    """Ratio by formula: denoiser calls, and `reading` at every layer, step and branch."""
    run = SharedRun(recipe)
    total = 0.0
    for site in find_sites(shapes.network).values():
        if not site.sees_images:
            continue
        heads = int(shapes.network.get_submodule(site.name).heads)
        for step, branch in itertools.product(range(steps), shapes.branches):
            shared = _shared(run, site, shapes, step, steps, branch)
            rules = run.rules_at(site, step, steps, branch)
            total += reading(_tokens(site, shapes), shared, site, heads, rules)
    return recipe.calls(steps) / steps + total / base


def reading(queries: int, shared: int, site: Site, heads: int, rules: Sequence[Rule]) -> float:
    """FLOP of q queries that read r shared keys: 4 q r d; a bias widens every head for all keys."""
    found = 4.0 * queries * shared * site.channels
    if shared and any(rule.mix.bias for rule in rules):
        found += 4.0 * queries * (queries + shared) * heads * BIAS_CHANNELS
    return found


def _tokens(site: Site, shapes: Shapes) -> int:
    height, width = site.grid(shapes.latent)
    return height * width


def _shared(
    run: SharedRun, site: Site, shapes: Shapes, step: int, steps: int, branch: Branch
) -> int:
    """Keys that a frame reads at a layer, step and branch."""
    rules = run.rules_at(site, step, steps, branch)
    rule = next((rule for rule in rules if rule.mix.keys == "concat"), None)
    if rule is None:
        return 0
    n = _tokens(site, shapes)
    candidates = n if rule.select.tokens == "all" else n // 4
    return rule.topology.anchors * int((1.0 - rule.select.dropout) * candidates + 1e-9)


def measure(recipes: dict[str, Recipe], steps: int, names: Sequence[str] = tuple(FULL)) -> Any:
    """Per network and method: counted ratio, ratio by formula, and TFLOP of a plain frame."""
    found: dict[str, Any] = {}
    for name in names:
        shapes = Shapes.of(name)
        rows = {}
        for method, recipe in recipes.items():
            flop, base = frame_flop(shapes, recipe, steps)
            rows[method] = {
                "flop_ratio": flop / base,
                "flop_ratio_formula": formula(shapes, recipe, steps, base),
                "plain_tflop": base / 1e12,
            }
        found[name] = rows
    return found
