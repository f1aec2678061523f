"""A perceptual distance of latents, in the autoencoder's own features.

A denoiser that predicts the clean latent under a squared error answers with a mean of what could be
there, which is a blur. In the features of a network that looks at pictures a blur is far from every
sharp picture, so a distance there asks for one of them (Lin and Yang, "Diffusion model with
perceptual loss", arXiv 2401.00110). Nothing has to be brought from elsewhere: the decoder sees
contours, and the network that reads semantic channels sees what is shown. Features of unit length
are compared, as in Zhang et al., arXiv 1801.03924. The readers that measure pictures take no part.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.models.patch_autoencoder import PatchAutoencoder, ResidualBlock


class PerceptualDistance:
    """Distances of latents from others.

    Args:
        vae: an autoencoder with semantic channels.
        dtype: the format to compute in.
    """

    def __init__(self, vae: PatchAutoencoder, dtype: torch.dtype) -> None:
        assert vae.semantics is not None, "the recipe has asked for semantic channels"
        self.dtype = dtype
        self.networks: list[Any] = [copy.deepcopy(n) for n in (vae.semantics, vae.decoder)]
        for network in self.networks:
            network.requires_grad_(False).to(dtype, memory_format=torch.channels_last)

    def features(self, z: Tensor) -> list[Tensor]:
        """Features b c h w of components `z` (b c h w, unscaled), of unit length at every place."""
        z = z.to(self.dtype, memory_format=torch.channels_last)
        found = []
        for network in self.networks:
            x = z
            for layer in network[: _last_block(network) + 1]:
                x = layer(x)
                if isinstance(layer, ResidualBlock):
                    found.append(F.normalize(x.float(), dim=1, eps=1e-4))
        return found

    def __call__(self, z: Tensor, target: Tensor) -> Tensor:
        """Mean squared distance of `z` from `target` over layers, places and the batch."""
        with torch.no_grad():
            wanted = self.features(target)
        distances = [
            (a - b).square().sum(1).mean() for a, b in zip(self.features(z), wanted, strict=True)
        ]
        return torch.stack(distances).mean()


def _last_block(network: nn.Sequential) -> int:
    return max(i for i, layer in enumerate(network) if isinstance(layer, ResidualBlock))
