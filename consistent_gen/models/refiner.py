"""The story world's second stage: from what the denoiser believes to a finished picture of twice
the size.

A latent that was drawn has errors that no latent of a picture has: they agree within a patch of
8 x 8 pixels and end at its border, and eyes, patterns and outlines are smeared. The refiner looks
at the clean latent that the denoiser predicts at some noise level, and at what the decoder makes
of it, and draws the picture anew: one pass, from noise, so that what the prediction leaves open is
decided and not averaged. It is told the noise level, as the stages of a cascade are (Ho et al.,
arXiv 2106.15282), and forgives the more the higher that is.

It is trained by a scoring rule instead of an adversary (`consistent_gen.training.refiner`), which
is why one pass is enough. Nothing is normalised over places, so a crop is refined as the whole
picture is, and a picture is refined alone, so its bytes depend on nobody's company.

Shapes: `b` pictures, `c` channels, `h w` the latent's height and width; grids are 1, 2, 4 and 8
times as fine as the latent's, and the picture 16 times.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from consistent_gen.checkpoints import atomic_dir, write_json
from consistent_gen.errors import InputError

GRIDS = (1, 2, 4, 8)  # cells of a grid along one cell of the latent


class DilatedBlock(nn.Module):
    """RMS norm over channels, 3 x 3 convolution, SiLU, 3 x 3 convolution, with a skip; the last
    convolution starts at zero.
    """

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """b c h w to b c h w."""
        # Over the channels of one place, never over places: crops and whole pictures agree.
        size = x.square().mean(1, keepdim=True).add(1e-4).rsqrt()
        h = self.conv1(x * size * self.scale.view(-1, 1, 1))
        change: Tensor = self.conv2(F.silu(h))
        return x + change


class Refiner(ModelMixin, ConfigMixin):
    """Predicted clean latents and their decode to pictures of twice the decode's size.

    Args:
        latent_channels: of the denoiser's latents, semantic ones included.
        widths: channels of the four grids, the latent's own first.
        blocks: residual blocks at each.
        noise_channels: channels of noise that come in at each.
    """

    config_name = "config.json"  # type: ignore[assignment]

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 50,
        widths: tuple[int, int, int, int] = (160, 96, 48, 24),
        blocks: tuple[int, int, int, int] = (4, 3, 3, 2),
        noise_channels: tuple[int, int, int, int] = (8, 4, 0, 0),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.enter, self.grids = nn.ModuleList(), nn.ModuleList()
        below = latent_channels
        for grid, width, count, noise in zip(GRIDS, widths, blocks, noise_channels, strict=True):
            decode = 3 * (8 // grid) ** 2  # the decode's pixels in a cell
            self.enter.append(nn.Conv2d(below + decode + noise + 1, width, 3, padding=1))
            # Dilated at the latent's grid: a face is told by all of its cells.
            dilations = [1 + (grid == 1 and i % 2) for i in range(count)]
            self.grids.append(
                nn.Sequential(*[DilatedBlock(width, dilation) for dilation in dilations])
            )
            below = width // 2
        # To finer grids: each cell's channels become half as many of four cells.
        self.finer = nn.ModuleList(nn.Conv2d(width, width // 2 * 4, 1) for width in widths[:-1])
        self.leave = nn.Conv2d(widths[-1], 3 * 4, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def noise(self, h: int, w: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Noise for one picture of a latent h x w, one tensor 1 c h w for each grid."""
        return [
            torch.randn(1, channels, h * grid, w * grid, generator=generator)
            for channels, grid in zip(self.config["noise_channels"], GRIDS, strict=True)
        ]

    def forward(
        self, latents: Tensor, decode: Tensor, level: Tensor, noise: Sequence[Tensor]
    ) -> Tensor:
        """Pictures b 3 16h 16w, about [-1, 1].

        Args:
            latents: predicted clean latents b c h w, scaled as the denoiser has them.
            decode: what the autoencoder's decoder makes of them, b 3 8h 8w in about [-1, 1].
            level: timesteps of the predictions over the schedule's length, shape (b,), 0 to 1.
            noise: as `noise` makes it, one tensor for each grid.
        """
        x = latents
        told = level.view(-1, 1, 1, 1)
        for i, grid in enumerate(GRIDS):
            seen = F.pixel_unshuffle(decode, 8 // grid)
            constant = told.expand(-1, 1, *seen.shape[2:]).to(seen)
            x = self.enter[i](torch.cat([x, seen, noise[i].to(seen), constant], 1))
            x = self.grids[i](x)
            if i < len(self.finer):
                x = F.pixel_shuffle(self.finer[i](x), 2)
        drawn: Tensor = F.pixel_shuffle(self.leave(x), 2)
        return F.interpolate(decode, scale_factor=2.0, mode="bilinear") + drawn


def load_refiner(folder: Path) -> Refiner:
    """The refiner in `folder`, for use, in float32.

    Raises:
        InputError: there is none.
    """
    if not (folder / Refiner.config_name).is_file():
        raise InputError(f"no refiner in {folder}; run consistent-gen train refiner")
    model: Refiner = Refiner.from_pretrained(folder, torch_dtype=torch.float32).eval()
    return model


def save_refiner(folder: Path, model: Refiner, made_of: Mapping[str, Any]) -> None:
    """Write `model` to `folder` in float16, which halves it, and what it learnt from beside it."""
    half: Any = copy.deepcopy(model)
    half.to(torch.float16)
    with atomic_dir(folder) as place:
        half.save_pretrained(place, safe_serialization=True)
        write_json(place / "made_of.json", dict(made_of))
