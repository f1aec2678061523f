"""The samplers against data whose probability-flow ODE has a closed form.

For data N(mu, s^2) the posterior mean is linear, and the ODE carries x / alpha along quantiles
(arXiv 2011.13456, section 4.3). From zero SNR, noise x_T therefore ends at mu + s x_T exactly.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from consistent_gen.draw_settings import SCHEDULERS
from consistent_gen.engine.schedulers import (
    RETOUCH_AT,
    Retouching,
    _at_first_step,
    dpm,
    make_scheduler,
    spaced_timesteps,
)
from consistent_gen.errors import UnknownNameError
from consistent_gen.models.tiny import SCHEDULER
from tests.every_run import or_slow

COSINE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
CONFIGS = {"scaled_linear": SCHEDULER, "cosine": COSINE}
MU, SPREAD = 0.7, 0.5


def sample_gaussian(name: str, config: dict[str, Any], steps: int) -> float:
    """Largest error of a sampler with the exact model of N(MU, SPREAD^2)."""
    scheduler = make_scheduler(name, config, steps)
    noise = torch.linspace(-2, 2, 64).view(1, 8, 8)
    x = noise.clone()
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[index].double()
        alpha = 1 / (1 + sigma**2).sqrt()
        sigma = alpha * sigma
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        x0 = MU + gain * (x - alpha * MU)
        epsilon = (x - alpha * x0) / sigma
        v = (alpha * epsilon - sigma * x0).float()
        x = scheduler.step(v, timestep, x, return_dict=False)[0]
    assert len(scheduler.timesteps) == steps
    return float((x - (MU + SPREAD * noise)).abs().max())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_ddim_converges_at_first_order(config: dict[str, Any]) -> None:
    errors = [sample_gaussian("ddim", config, steps) for steps in (25, 50, 100, 200)]
    for coarse, fine in pairwise(errors):
        assert 1.5 < coarse / fine < 2.6
    assert errors[-1] < 0.02


@pytest.mark.parametrize("steps", [10, 15, 25, 50])
def test_dpm_is_nearer_at_equal_steps(steps: int) -> None:
    # With the scaled-linear schedule the first, always first-order step makes most of the error.
    for config, share in ((SCHEDULER, 0.85), (COSINE, 0.5)):
        assert sample_gaussian("dpm", config, steps) < share * sample_gaussian(
            "ddim", config, steps
        )


def test_dpm_needs_a_quarter_of_the_steps() -> None:
    assert sample_gaussian("dpm", COSINE, 25) < sample_gaussian("ddim", COSINE, 100)


@pytest.mark.parametrize("steps", or_slow([7, 30, 61, 103, 333, 700], [7, 61, 103]))
@pytest.mark.parametrize("name", SCHEDULERS)
def test_step_counts_that_do_not_divide_are_as_good(name: str, steps: int) -> None:
    worst = max(sample_gaussian(name, COSINE, near) for near in (steps - 1, steps + 1))
    assert sample_gaussian(name, COSINE, steps) < 1.5 * worst + 2e-3


@pytest.mark.parametrize("steps", [1, 4, 25])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_ddim_equals_the_stock_one_where_that_is_right(config: dict[str, Any], steps: int) -> None:
    # Step counts that divide 1000.
    ours = make_scheduler("ddim", config, steps)
    stock = DDIMScheduler(**{k: v for k, v in config.items() if k[0] != "_"} | {
        "clip_sample": False})  # fmt: skip
    stock.set_timesteps(steps)
    assert ours.timesteps.tolist() == stock.timesteps.tolist()
    generator = torch.Generator().manual_seed(0)
    x = y = torch.randn(4, 8, 8, generator=generator)
    for timestep in stock.timesteps:
        prediction = torch.randn(4, 8, 8, generator=generator)
        x = ours.step(prediction, timestep, x, return_dict=False)[0]
        y = stock.step(prediction, timestep, y, return_dict=False)[0]
    torch.testing.assert_close(x, y, atol=1e-5, rtol=0)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_timesteps_for_every_step_count(spacing: str) -> None:
    config = {"num_train_timesteps": 1000, "timestep_spacing": spacing}
    for steps in range(1, 1001):
        found = spaced_timesteps(config, steps)
        assert len(found) == steps
        assert all(later < earlier for earlier, later in pairwise(found))
        assert 0 <= found[-1] <= found[0] <= 999
        if spacing == "trailing":
            assert found[0] == 999


def test_a_foreign_config_is_understood() -> None:
    pndm = {
        "_class_name": "PNDMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    }
    scheduler = make_scheduler("dpm", pndm, 4)
    assert scheduler.timesteps.tolist() == [751, 501, 251, 1]
    assert scheduler.config.prediction_type == "epsilon"


def test_unknown_names_are_told_apart() -> None:
    with pytest.raises(UnknownNameError, match="'ddmi'; did you mean 'ddim'"):
        make_scheduler("ddmi", SCHEDULER, 4)


# steps that retouch ------------------------------------------------------------------------------
def retouched(
    config: dict[str, Any], steps: int, retouching: int, truth: torch.Tensor, wrong: float = 0.0
) -> torch.Tensor:
    """What is drawn of one picture by a model that knows it, but for errors of size `wrong` that
    differ from call to call.
    """
    scheduler = make_scheduler("ddim", config, steps, retouching)
    generator, errors = torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)
    x = torch.randn(truth.shape, generator=generator)
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[index]
        alpha = (1 + sigma**2).rsqrt()
        x0 = truth + wrong * torch.randn(truth.shape, generator=errors)
        epsilon = (x - alpha * x0) / (alpha * sigma)
        kind = config["prediction_type"]
        prediction = {"sample": x0, "epsilon": epsilon,
            "v_prediction": alpha * epsilon - alpha * sigma * x0}[kind]  # fmt: skip
        x = scheduler.step(prediction, timestep, x, generator, return_dict=False)[0]
        assert scheduler.model_outputs[-1].shape == x.shape
    return x


@pytest.mark.parametrize("kind", ["sample", "epsilon", "v_prediction"])
def test_a_model_that_knows_the_picture_ends_at_it(kind: str) -> None:
    truth = torch.linspace(-1, 1, 64).view(1, 8, 8)
    config = COSINE | {"prediction_type": kind, "rescale_betas_zero_snr": False}
    for steps, retouching in ((2, 1), (12, 6), (7, 3)):
        torch.testing.assert_close(
            retouched(config, steps, retouching, truth), truth, atol=5e-3, rtol=0
        )


def test_errors_are_averaged_away() -> None:
    truth = torch.zeros(4, 16, 16)
    size = [retouched(COSINE, 6 + n, n, truth, wrong=0.2).std().item() for n in (0, 2, 6, 18)]
    # The mean of n / 2 predictions at the last level has their error over the root of n / 2.
    assert size[0] == pytest.approx(0.2, rel=0.1) and size[1] == pytest.approx(0.2, rel=0.1)
    assert size[2] == pytest.approx(size[1] / 3**0.5, rel=0.1)
    assert size[3] == pytest.approx(size[1] / 3, rel=0.1)


def test_the_first_steps_draw_as_they_do_alone() -> None:
    scheduler = make_scheduler("dpm", COSINE, 12, 6)
    assert isinstance(scheduler, Retouching)
    levels = scheduler.timesteps.tolist()
    high, low = (int(1000 * share) for share in RETOUCH_AT)
    assert levels[6:] == [high] * 3 + [low] * 3 and levels[0] == 999
    assert all(later < earlier for earlier, later in pairwise(levels[:7]))
    stock = _at_first_step(dpm(COSINE), levels[:6])
    x = y = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))
    for timestep in levels[:5]:
        prediction = torch.tanh(x)
        x = scheduler.step(prediction, timestep, x)[0]
        y = stock.step(prediction, timestep, y, return_dict=False)[0]
        assert torch.equal(x, y)
