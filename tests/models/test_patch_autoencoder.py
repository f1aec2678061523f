"""The patch autoencoder: linear maps that invert, an interface that pipelines accept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from consistent_gen.models.patch_autoencoder import PatchAutoencoder


def _pictures(count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 16, 16, generator=generator) * 2.0 - 1.0
    return torch.nn.functional.interpolate(coarse, scale_factor=4.0, mode="bilinear")


def _model(channels: int = 32, **options: float) -> PatchAutoencoder:
    model = PatchAutoencoder(
        latent_channels=channels, decoder_widths=(16, 8), decoder_blocks=(1, 1)
    )
    model.fit_components(_pictures(64), **options)
    return model.eval()


def test_all_components_reconstruct_exactly() -> None:
    model = _model(192)
    x = _pictures()
    with torch.inference_mode():
        assert torch.allclose(model(x), x, atol=1e-3)


@pytest.mark.parametrize("equalise", [0.0, 0.25, 1.0])
def test_latents_have_unit_variance_and_fall_off_as_asked(equalise: float) -> None:
    model = _model(equalise=equalise)
    with torch.inference_mode():
        z = model.latents(_pictures(64))
    deviation = z.std((0, 2, 3))
    assert deviation.square().mean().item() == pytest.approx(1.0, rel=0.05)
    if equalise == 1.0:
        assert deviation.min() > 0.9
    else:
        assert deviation[0] > 1.5 * deviation[-1]


def test_more_components_never_reconstruct_worse() -> None:
    x = _pictures()
    with torch.inference_mode():
        errors = [(_model(c)(x) - x).square().mean().item() for c in (4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)


def test_the_interface_of_a_pipeline() -> None:
    model, x = _model(), _pictures(2)
    with torch.inference_mode():
        z = model.encode(x).latent_dist.sample()
        assert z.shape == (2, 32, 8, 8)
        assert torch.equal(z, model.encode(x, return_dict=False)[0].mode())
        out = model.decode(z).sample
        assert torch.equal(out, model.decode(z, return_dict=False)[0])
        assert torch.equal(out, model(x))


def test_round_trip_to_disk(tmp_path: Path) -> None:
    model, x = _model(), _pictures(1)
    model.save_pretrained(tmp_path)
    with torch.inference_mode():
        assert torch.equal(PatchAutoencoder.from_pretrained(tmp_path)(x), model(x))
