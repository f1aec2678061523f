"""The story world's autoencoder: principal components of 8 x 8 patches, and a decoder that adds
contours.

The encoder is a fixed linear map: a latent is a patch's first principal components, partly
equalised. It has nothing to learn, so the denoiser can train before the decoder does, and a better
decoder never makes a denoiser stale. The decoder is the inverse map plus a convolutional residual
that starts at zero and restores, from the neighbourhood, what the projection left out. Nothing is
convolved at full resolution, which keeps it fast on a CPU.

A latent may have semantic channels beside its components: a map of what is where, which a small
network reads off the components and which the decoder ignores. It is there for the denoiser, which
learns to draw the map and the picture together (see `consistent_gen.training.semantic_code`).

It speaks the interface of `diffusers.AutoencoderKL`, so that stock pipelines use it.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from consistent_gen.errors import InputError


class PointDistribution:
    """A distribution without spread: what `AutoencoderKL` callers expect, for a deterministic
    encoder.
    """

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    def mode(self) -> Tensor:
        """The latent, shape b c h w."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """The latent, shape b c h w; `generator` is not needed."""
        return self.mean


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3 x 3 convolution, twice, with a skip; the last convolution starts at
    zero.
    """

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """b c h w to b c h w."""
        h = self.conv1(F.silu(self.norm1(x)))
        change: Tensor = self.conv2(F.silu(self.norm2(h)))
        return x + change


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Pictures b 3 h w in [-1, 1] to latents b c h/8 w/8 and back.

    Args:
        latent_channels: principal components that a latent keeps.
        semantic_channels: channels that follow them and that the decoder ignores.
        semantic_width: channels of the network that reads them.
        decoder_widths: channels of the residual network at 1/8 and 1/4 of the picture's size.
        decoder_blocks: residual blocks at each of them.
        scaling_factor: multiplies latents for the denoiser (unit variance); pipelines apply it.
    """

    config_name = "config.json"  # type: ignore[assignment]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 32,
        semantic_channels: int = 0,
        semantic_width: int = 96,
        decoder_widths: tuple[int, int] = (128, 64),
        decoder_blocks: tuple[int, int] = (2, 2),
        # Four entries: pipelines read the downsampling, 2**3 = 8, off their number.
        block_out_channels: tuple[int, ...] = (1, 1, 1, 1),
        scaling_factor: float = 0.5,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        wide, narrow = decoder_widths
        self.project = nn.Sequential(
            nn.PixelUnshuffle(8), nn.Conv2d(in_channels * 64, latent_channels, 1)
        )
        self.expand = nn.Sequential(
            nn.Conv2d(latent_channels, out_channels * 64, 1), nn.PixelShuffle(8)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, wide, 3, padding=1),
            *[ResidualBlock(wide) for _ in range(decoder_blocks[0])],
            nn.Conv2d(wide, narrow * 4, 1),
            nn.PixelShuffle(2),
            *[ResidualBlock(narrow) for _ in range(decoder_blocks[1])],
            nn.GroupNorm(8, narrow),
            nn.SiLU(),
            _zero(nn.Conv2d(narrow, out_channels * 16, 3, padding=1)),
            nn.PixelShuffle(4),
        )

        self.semantics: nn.Sequential | None = None
        if semantic_channels:
            # Dilated: who is shown is not told by one place.
            self.semantics = nn.Sequential(
                nn.Conv2d(latent_channels, semantic_width, 3, padding=1),
                *[ResidualBlock(semantic_width, dilation) for dilation in (1, 2, 4, 4, 2, 1)],
                nn.GroupNorm(8, semantic_width),
                nn.SiLU(),
                _zero(nn.Conv2d(semantic_width, semantic_channels, 1)),
            )

    def encode(
        self, x: Tensor, return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[PointDistribution]:
        """Unscaled latents of pictures `x` (b 3 h w, [-1, 1]; h and w multiples of 8)."""
        latent = PointDistribution(self.latents(x))
        return AutoencoderKLOutput(latent_dist=latent) if return_dict else (latent,)

    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Pictures (b 3 8h 8w, about [-1, 1]) of unscaled latents `z` (b c h w)."""
        x = self.pictures(z)
        return DecoderOutput(sample=x) if return_dict else (x,)

    def latents(self, x: Tensor) -> Tensor:
        """Unscaled latents b c h/8 w/8 of pictures `x`, without the interface's wrapping."""
        z: Tensor = self.project(x)
        return z if self.semantics is None else torch.cat([z, self.semantics(z)], 1)

    def pictures(self, z: Tensor) -> Tensor:
        """Pictures b 3 8h 8w of unscaled latents `z`, without the interface's wrapping."""
        z = z[:, : self.config["latent_channels"]]
        x: Tensor = self.expand(z) + self.decoder(z)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of `x`, b 3 h w."""
        return self.pictures(self.latents(x))

    @torch.no_grad()
    def copy_maps(self, other: PatchAutoencoder) -> None:
        """Take both linear maps of `other`, so that its latents stay valid."""
        self.project.load_state_dict(other.project.state_dict())
        self.expand.load_state_dict(other.expand.state_dict())

    @torch.no_grad()
    def fit_components(self, pictures: Tensor, equalise: float = 0.25) -> None:
        """Set the linear maps from the 8 x 8 patches of `pictures` (n 3 h w in [-1, 1]).

        A component of variance L gets the standard deviation L^((1 - equalise) / 2), up to one
        common scale that brings the mean variance to 1. With `equalise` 0 fine components are so
        weak that a denoiser hardly learns them; with 1 (whitening) they weigh as much as coarse
        ones and its pictures are noisy.
        """
        inward, outward = self.project[1], self.expand[0]
        assert isinstance(inward, nn.Conv2d) and isinstance(outward, nn.Conv2d)
        c = inward.out_channels
        patches = F.pixel_unshuffle(pictures, 8).permute(0, 2, 3, 1).flatten(0, 2).double()  # n 192
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        values, basis = values[-c:].flip(0), vectors[:, -c:].flip(1)  # largest variance first
        values = values.clamp(min=1e-9 * float(values[0]))  # rounding makes empty ones negative
        gain = values ** (-equalise / 2)
        gain = gain / (values * gain.square()).mean().sqrt()
        assert inward.bias is not None and outward.bias is not None
        inward.weight.copy_((basis * gain).T.reshape(inward.weight.shape))
        inward.bias.copy_(-(basis * gain).T @ mean)
        outward.weight.copy_((basis / gain).reshape(outward.weight.shape))
        outward.bias.copy_(mean)


def load_autoencoder(folder: Path) -> PatchAutoencoder:
    """The autoencoder in `folder`, for use.

    Raises:
        InputError: there is none.
    """
    if not (folder / PatchAutoencoder.config_name).is_file():
        raise InputError(
            f"no autoencoder in {folder}; run consistent-gen train autoencoder, or name a folder "
            "that holds one, as vae=weights/storyworld/vae does"
        )
    model: PatchAutoencoder = PatchAutoencoder.from_pretrained(folder).eval()
    return model
