"""Pictures of unfinished frames."""

from __future__ import annotations

import numpy as np
import torch

from consistent_gen import runtime
from consistent_gen.engine.request import Preview
from consistent_gen.models.backbone import Backbone

# Random smooth latents that the linear map is fitted on: 4 pictures give 1024 cells at 16 x 16.
_FIT_PICTURES = 4
_FIT_SIDE = 32  # cells: the map is the same for larger pictures, whose decoding takes seconds


class Previewer:
    """Turns a latent into a picture: exactly through the autoencoder, or by a linear guess."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._map: torch.Tensor | None = None  # [c + 1, 3], last row is the offset

    def show(self, latent: torch.Tensor, how: Preview) -> np.ndarray:
        """uint8 [h w 3] at the picture's size, of a clean latent estimate [c h w]."""
        if how == "decode":
            picture: np.ndarray = self._backbone.decode(latent[None])[0]
            return picture
        if self._map is None:
            self._map = fit_linear(self._backbone)
        colours = _with_offset(latent.to("cpu", torch.float32)) @ self._map
        small = colours.clamp(0, 255).permute(2, 0, 1)[None]
        large = torch.nn.functional.interpolate(
            small, scale_factor=self._backbone.latent_factor, mode="bilinear"
        )
        return large[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


@torch.inference_mode()
def fit_linear(backbone: Backbone) -> torch.Tensor:
    """Least-squares map [c + 1, 3] from a latent cell to the mean colour (0..255) it decodes to.

    Cells of random latents at several smoothness levels are decoded, so any autoencoder will do.
    """
    c, *sides = backbone.latent_shape(*backbone.default_size)
    shape = (c, *(min(side, _FIT_SIDE) for side in sides))
    generator = runtime.generator(0, "preview")
    features, colours = [], []
    for level in range(_FIT_PICTURES):
        noise = torch.randn(shape, generator=generator)
        latent = _smooth(noise, 2 * level + 1)
        picture = torch.from_numpy(backbone.decode(latent[None])).to(torch.float32)
        pooled = torch.nn.functional.avg_pool2d(picture.permute(0, 3, 1, 2), backbone.latent_factor)
        features.append(_with_offset(latent).flatten(0, 1))
        colours.append(pooled[0].permute(1, 2, 0).flatten(0, 1))
    solution: torch.Tensor = torch.linalg.lstsq(torch.cat(features), torch.cat(colours)).solution
    return solution


def _smooth(noise: torch.Tensor, width: int) -> torch.Tensor:
    # [c h w] with the spread of noise again, since the decoder expects latents of that size.
    blurred = torch.nn.functional.avg_pool2d(
        noise, width, stride=1, padding=width // 2, count_include_pad=False
    )
    return blurred / blurred.std()


def _with_offset(latent: torch.Tensor) -> torch.Tensor:
    """[h w c + 1]: the cells of a latent [c h w], each with a 1 appended."""
    cells = latent.permute(1, 2, 0)
    return torch.cat([cells, cells.new_ones(*cells.shape[:2], 1)], dim=-1)
