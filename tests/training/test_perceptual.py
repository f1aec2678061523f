"""The perceptual distance of latents, in the features of the shipped autoencoder."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.checkpoints import weights_folder
from consistent_gen.models.patch_autoencoder import PatchAutoencoder
from consistent_gen.training.perceptual import PerceptualDistance
from consistent_gen.world.dataset import StoryWorld


@pytest.fixture(scope="module")
def distance() -> PerceptualDistance:
    vae = PatchAutoencoder.from_pretrained(weights_folder("storyworld") / "vae").eval()
    return PerceptualDistance(vae, torch.float32)


@pytest.fixture(scope="module")
def latents() -> Tensor:
    vae = PatchAutoencoder.from_pretrained(weights_folder("storyworld") / "vae").eval()
    x = StoryWorld("held_out").tensor(range(4)).float() / 127.5 - 1.0
    with torch.inference_mode():
        z: Tensor = vae.project(x)
    return z.clone()


def test_a_picture_is_nearest_to_itself(distance: PerceptualDistance, latents: Tensor) -> None:
    assert distance(latents, latents).item() == 0.0
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    near, far = (distance(latents + s * noise, latents).item() for s in (0.05, 0.2))
    other = distance(latents.roll(1, 0), latents).item()
    assert 0.0 < near < far < other


def test_a_mean_of_two_pictures_is_further_than_its_squared_error_says(
    distance: PerceptualDistance, latents: Tensor
) -> None:
    # Half of another picture has a quarter of its squared error; features see two pictures.
    other = latents.roll(1, 0)
    mean = (latents + other) / 2
    assert F.mse_loss(mean, latents).item() == pytest.approx(F.mse_loss(other, latents).item() / 4)
    assert distance(mean, latents).item() > 0.4 * distance(other, latents).item()


def test_its_gradient_leads_nearer_and_its_networks_stay(
    distance: PerceptualDistance, latents: Tensor
) -> None:
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    z = (latents + 0.2 * noise).requires_grad_()
    start = distance(z, latents)
    (gradient,) = torch.autograd.grad(start, z)
    moved = distance(z.detach() - 0.5 * gradient / gradient.norm(), latents)
    assert moved.item() < start.item()
    assert all(not p.requires_grad for n in distance.networks for p in n.parameters())
