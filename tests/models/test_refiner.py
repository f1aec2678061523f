"""The second stage: a crop is refined as the whole picture is, and noise decides the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from consistent_gen.errors import InputError
from consistent_gen.models.refiner import Refiner, load_refiner, save_refiner

SIDE = 12  # latents


@pytest.fixture(scope="module")
def model() -> Refiner:
    """A small one that changes pictures: what starts at zero is drawn at random."""
    torch.manual_seed(0)
    model = Refiner(8, (16, 16, 8, 8), (2, 1, 1, 1), (4, 2, 1, 1)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.05)
    return model.requires_grad_(False)


def _given(count: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    latents = torch.randn(count, 8, SIDE, SIDE, generator=g)
    decode = torch.rand(count, 3, 8 * SIDE, 8 * SIDE, generator=g) * 2.0 - 1.0
    return latents, decode, torch.rand(count, generator=g)


def _noise(model: Refiner, seed: int) -> list[Tensor]:
    return model.noise(SIDE, SIDE, torch.Generator().manual_seed(seed))


def test_noise_decides_what_is_drawn_and_nothing_else_does(model: Refiner) -> None:
    given = _given()
    first = model(*given, _noise(model, 0))
    assert first.shape == (1, 3, 16 * SIDE, 16 * SIDE)
    assert torch.equal(model(*given, _noise(model, 0)), first)
    assert not torch.equal(model(*given, _noise(model, 1)), first)
    latents, decode, level = given
    assert not torch.equal(model(latents, decode, level + 0.1, _noise(model, 0)), first)
    assert not torch.equal(model(latents + 0.1, decode, level, _noise(model, 0)), first)


def test_a_fresh_one_is_the_decode_twice_as_large() -> None:
    torch.manual_seed(0)
    model = Refiner(8, (16, 16, 8, 8), (1, 1, 1, 1)).eval()
    latents, decode, level = _given()
    noise = model.noise(SIDE, SIDE, torch.Generator().manual_seed(0))
    assert [n.shape[1] for n in noise] == [8, 4, 0, 0]
    larger = torch.nn.functional.interpolate(decode, scale_factor=2.0, mode="bilinear")
    with torch.inference_mode():
        assert torch.equal(model(latents, decode, level, noise), larger)


def test_a_crop_is_refined_as_the_whole_is_away_from_its_ends(model: Refiner) -> None:
    """Nothing is normalised over places. How far a crop's ends reach, in the latent's cells: six on
    its own grid (a convolution, a block, a dilated block), then 1.5, 0.75 and 0.5.
    """
    side, start, size, reach = 24, 1, 22, 9
    g = torch.Generator().manual_seed(2)
    latents = torch.randn(1, 8, side, side, generator=g)
    decode = torch.rand(1, 3, 8 * side, 8 * side, generator=g)
    level = torch.tensor([0.3])
    noise = model.noise(side, side, torch.Generator().manual_seed(0))

    def cut(x: Tensor, cells: int = size, at: int = start) -> Tensor:
        grid = x.shape[-1] // side
        return x[..., at * grid : (at + cells) * grid, at * grid : (at + cells) * grid]

    whole = model(latents, decode, level, noise)
    crop = model(cut(latents), cut(decode), level, [cut(n) for n in noise])
    inner = slice(16 * reach, 16 * (size - reach))
    wanted = cut(whole)
    assert torch.allclose(crop[..., inner, inner], wanted[..., inner, inner], atol=1e-5)
    assert not torch.allclose(crop[..., :16, :], wanted[..., :16, :], atol=1e-3)


def test_a_picture_depends_on_nobodys_company(model: Refiner) -> None:
    latents, decode, level = _given(3)
    noise = [_noise(model, seed) for seed in range(3)]
    together = model(latents, decode, level, [torch.cat(n) for n in zip(*noise, strict=True)])
    for i in range(3):
        alone = model(latents[i : i + 1], decode[i : i + 1], level[i : i + 1], noise[i])
        assert torch.allclose(together[i], alone[0], atol=1e-5)


def test_it_is_stored_in_half_and_loaded_whole(model: Refiner, tmp_path: Path) -> None:
    save_refiner(tmp_path / "refiner", model, {"denoiser": "a"})
    loaded = load_refiner(tmp_path / "refiner")
    assert next(model.parameters()).dtype == torch.float32, "the one that was given stays"
    for name, p in loaded.named_parameters():
        assert p.dtype == torch.float32
        assert torch.equal(p, model.get_parameter(name).half().float()), name
    with pytest.raises(InputError, match="train refiner"):
        load_refiner(tmp_path)
