"""What another picture's keys are worth to a model: error with them over error without.

    python -m benchmarks.shared_keys --model weights/storyworld [--lead 0.3] [--pairs 48]

Validation pictures in twos of the same characters, whose captions leave things open. The first of
each two is denoised once, from several noise levels, alone and while its self-attention reads the
subjects of the second, which is `--lead` of the schedule further on (`training/pairs.py`; methods
read the same layers). A model that does not know what such keys are for has a ratio of 1. Drawing
whole stories costs minutes, this costs seconds, so it is what to look at while a model trains.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from consistent_gen.checkpoints import weights_folder, write_json
from consistent_gen.models import load_backbone
from consistent_gen.training.denoising import alphas_cumprod, figure_error
from consistent_gen.training.pairs import PairedKeys
from consistent_gen.training.semantic_code import semantic_code
from consistent_gen.training.shards import draw_shard
from consistent_gen.world.dataset import StoryWorld

TIMES = (999, 900, 750, 550, 350, 150)


def measure(model: Path | None, pairs: int, lead: float) -> list[dict[str, float]]:
    """Per timestep: error of the subject's latents alone, with the keys, and their ratio."""
    backbone: Any = load_backbone(model, device="cpu")
    world = StoryWorld("validation", pairs=True)
    numbers = list(range(2 * pairs))
    data = draw_shard(world, 0, len(numbers))
    components = backbone.vae.config.latent_channels
    with torch.inference_mode():
        z = backbone.vae.project(data["pictures"].float() / 127.5 - 1.0)
        x0 = torch.cat([z, semantic_code(world, numbers, data)], 1)
        x0 = x0 * backbone.vae.config.scaling_factor
        hidden = backbone.encode_prompt([world.caption(number).text for number in numbers])
        keys = PairedKeys(backbone.denoiser)
        rows = []
        for time in TIMES:
            x_t, t = _noisy(x0, time, lead)
            errors = []
            for shared in (False, True):
                if shared:
                    keys.share(data["labels"], torch.Generator(), 0.0)
                else:
                    keys.alone()
                error = (backbone.denoiser(x_t, t, hidden).sample - x0)[::2, :components].square()
                errors.append(figure_error(error, data["labels"][::2]).item())
            ratio = errors[1] / errors[0]
            rows.append({"time": time, "alone": errors[0], "shared": errors[1], "ratio": ratio})
    return rows


def _noisy(x0: Tensor, time: int, lead: float) -> tuple[Tensor, Tensor]:
    """Noisy latents and their timesteps: `time`, and of every second picture `lead` further on."""
    alpha_bar = alphas_cumprod()
    t = torch.full((len(x0),), time)
    t[1::2] = max(time - round(lead * len(alpha_bar)), 0)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(time))
    alpha = alpha_bar[t].view(-1, 1, 1, 1)
    return alpha.sqrt() * x0 + (1.0 - alpha).sqrt() * noise, t


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=weights_folder("storyworld"))
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--lead", type=float, default=0.3, help="how far ahead the other is")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args(argv)
    rows = measure(options.model, options.pairs, options.lead)
    table = Table("timestep", "alone", "with the other's keys", "ratio")
    for row in rows:
        table.add_row(
            str(row["time"]), f"{row['alone']:.4f}", f"{row['shared']:.4f}", f"{row['ratio']:.3f}"
        )
    Console().print(table)
    if options.out is not None:
        write_json(options.out, {"lead": options.lead, "pairs": options.pairs, "rows": rows})


if __name__ == "__main__":
    main()
