"""Pictures of the story world beside latents of them as the denoiser draws them.

A decoder that was trained on true latents alone meets errors of another kind in drawn ones: patches
that do not fit their neighbours, contours that fade. So a picture's latent is noised up to some
level and drawn anew from there (Meng et al., "SDEdit", arXiv 2108.01073), with a caption that names
whatever can be named and with the model's own guidance. What comes out shows the same picture, with
the errors that a drawn latent has. A shard is one safetensors file:
    latents   n c 16 16 float16, unscaled: components, then the semantic channels, as drawn
    pictures  n 3 128 128 uint8, the truth
    numbers   n int32, of the pictures
Shards appear by rename, so that a training may read while `python -m consistent_gen.training.drawn`
draws.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from consistent_gen.attention.identity import IdentityAttention
from consistent_gen.attention.patch import attached
from consistent_gen.checkpoints import save_tensors
from consistent_gen.engine import FrameRequest
from consistent_gen.engine.state import FrameState
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.runtime import training_dtype, tune_allocator
from consistent_gen.training.rows import shard_path
from consistent_gen.training.semantic_code import semantic_code
from consistent_gen.training.shards import draw_shard, draw_shards
from consistent_gen.world.dataset import StoryWorld

COUNT = 256  # rows of a shard
BATCH = 8  # pictures drawn together; they start at one level
STEPS, GUIDANCE = 15, 5.0


@torch.inference_mode()
def redraw(
    backbone: Backbone, clean: Tensor, captions: Sequence[str], start: int, seed: int
) -> Tensor:
    """Latents like `clean` (n c h w, scaled), drawn from step `start` of `STEPS` on."""
    size = backbone.default_size
    empty = backbone.condition("", size)
    states = []
    for i, caption in enumerate(captions):
        request = FrameRequest(prompt=caption, seed=seed + i, steps=STEPS, guidance=GUIDANCE)
        shape = backbone.latent_shape(*size)
        state = FrameState(str(i), request.settled(backbone), shape)
        state.start(backbone, {"cond": backbone.condition(caption, size), "uncond": empty})
        assert state.latent is not None
        sigma = state.scheduler.sigmas[start]
        noise = state.latent / state.scheduler.init_noise_sigma
        state.latent = (clean[i] + sigma * noise) * (1.0 + sigma.square()).rsqrt()
        state.index = start
        state.scheduler.set_begin_index(start)
        states.append(state)
    while not states[0].finished:
        rows = [row for i, state in enumerate(states) for row in state.layout_rows(2 * i)]
        latents = torch.stack([s.latent for s in states if s.latent is not None])
        tokens = torch.stack([states[r.slot // 2].conditions[r.branch].tokens for r in rows])
        times = torch.tensor([states[r.slot // 2].timestep for r in rows])
        perturbed = [row.slot for row in rows if row.perturbed]
        weak = IdentityAttention(backbone.unet, perturbed)
        with attached(backbone.unet, weak):
            found = backbone.denoise(latents.repeat_interleave(2, 0), times, tokens)
        for i, state in enumerate(states):
            state.advance(found[2 * i : 2 * i + 2])
    return torch.stack([s.latent for s in states if s.latent is not None])


def draw_rows(
    backbone: Backbone, world: StoryWorld, number: int, count: int, levels: tuple[int, int]
) -> dict[str, Tensor]:
    """Rows of pictures `number * count` to `(number + 1) * count`.

    levels: the first and the last step of `STEPS` from which pictures are drawn anew.
    """
    data = draw_shard(world, number, count)
    scale = float(backbone.vae.config.scaling_factor)
    rng = random.Random(f"drawn {world.seed} {number}")
    latents = []
    for first in range(0, count, BATCH):
        chosen = slice(first, min(first + BATCH, count))
        part = {name: values[chosen] for name, values in data.items()}
        numbers = [number * count + i for i in range(chosen.start, chosen.stop)]
        with torch.inference_mode():
            z = backbone.vae.project(part["pictures"].float() / 127.5 - 1.0)
            clean = torch.cat([z, semantic_code(world, numbers, part)], 1) * scale
        captions = [world.caption(n, rng.getrandbits(20), share=1.0).text for n in numbers]
        drawn = redraw(backbone, clean, captions, rng.randint(*levels), rng.getrandbits(30))
        latents.append((drawn / scale).half())
    numbers_of_all = torch.arange(number * count, (number + 1) * count, dtype=torch.int32)
    return {"latents": torch.cat(latents), "pictures": data["pictures"], "numbers": numbers_of_all}


def _draw(
    number: int, *, model: Path | None, split: str, folder: Path, levels: tuple[int, int]
) -> Path:
    path = shard_path(folder, number)
    if not path.exists():
        torch.set_num_threads(1)
        tune_allocator()
        # Its own errors are far larger than those of the number format, which takes a third of the
        # time where the processor multiplies it in hardware.
        half = training_dtype() == torch.bfloat16
        backbone = load_backbone(model, device="cpu", dtype="bfloat16" if half else "float32")
        backbone.vae.float()
        rows = draw_rows(backbone, StoryWorld(split), number, COUNT, levels)
        save_tensors(path, rows)
    return path


def main(argv: list[str] | None = None) -> None:
    """Draw the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("runs/drawn"))
    parser.add_argument("--model", type=Path, default=None, help="the shipped model by default")
    parser.add_argument("--split", default="train")
    parser.add_argument("--levels", type=int, nargs=2, default=(3, 9), metavar=("FIRST", "LAST"))
    parser.add_argument("--first", type=int, default=0, help="number of the first shard")
    parser.add_argument("--shards", type=int, default=12, help=f"shards of {COUNT} pictures")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(argv)
    draw = partial(
        _draw,
        model=options.model,
        split=options.split,
        folder=options.folder,
        levels=tuple(options.levels),
    )
    numbers = range(options.first, options.first + options.shards)
    draw_shards(draw, numbers, options.processes)


if __name__ == "__main__":
    main()
