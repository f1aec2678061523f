"""Samplers by name, built from a model's own scheduler config.

Both are diffusers' `DPMSolverMultistepScheduler` in its data-prediction form (DPM-Solver++, arXiv
2211.01095), whose first order is DDIM (arXiv 2010.02502) and whose second order needs no further
denoiser call. It is used for DDIM too, since the stock `DDIMScheduler` takes
`num_train_timesteps // steps` as every gap: with 30 steps of 1000 it lands beside the timestep
that it then shows to the model. Timesteps are computed here in whole numbers: the library's
"trailing" spacing gains a step -1 for 62 of the step counts up to 1000 (61, 103, 121, ...).

Zero terminal SNR (arXiv 2305.08891) makes the first noise level infinite; the library puts 4096
in its place, where the first-order step that always comes first is exact to 2e-4.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from consistent_gen.draw_settings import SCHEDULERS
from consistent_gen.registry import resolve

# What of a foreign config (PNDM, Euler, ...) describes the model and not its sampler.
_MODEL_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)


def make_scheduler(name: str, config: Mapping[str, Any], steps: int) -> Any:
    """A fresh scheduler at its first step.

    Its `timesteps` are int64 [steps]; `step(prediction, timestep, sample)` moves one on.

    Raises:
        UnknownNameError: `name` is not in `SCHEDULERS`.
    """
    scheduler = resolve(SCHEDULERS, name, kind="scheduler")(config)
    with warnings.catch_warnings():
        # diffusers hands tensors to numpy in a way that numpy 2 deprecates.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        scheduler.set_timesteps(timesteps=spaced_timesteps(config, steps))
    # Otherwise the first step is searched for by its timestep.
    scheduler.set_begin_index(0)
    return scheduler


def ddim(config: Mapping[str, Any]) -> Any:
    """DDIM without noise (eta 0): first order."""
    return _dpm_solver(config, order=1)


def dpm(config: Mapping[str, Any]) -> Any:
    """DPM-Solver++ 2M: second order, multistep; the last step is first order."""
    return _dpm_solver(config, order=2)


def spaced_timesteps(config: Mapping[str, Any], steps: int) -> list[int]:
    """Descending timesteps by the config's `timestep_spacing` (arXiv 2305.08891, table 2)."""
    trained = int(config.get("num_train_timesteps", 1000))
    assert 1 <= steps <= trained, f"{steps} steps of {trained}"
    spacing = config.get("timestep_spacing", "leading")
    if spacing == "trailing":
        return [_rounded(trained * (steps - i), steps) - 1 for i in range(steps)]
    if spacing == "linspace":
        last = max(steps - 1, 1)
        return [_rounded((trained - 1) * (steps - 1 - i), last) for i in range(steps)]
    offset, gap = int(config.get("steps_offset", 0)), trained // steps
    return [min(gap * (steps - 1 - i) + offset, trained - 1) for i in range(steps)]


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _dpm_solver(config: Mapping[str, Any], *, order: int) -> Any:
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    model = {key: config[key] for key in _MODEL_KEYS if key in config}
    return DPMSolverMultistepScheduler(
        **model,
        algorithm_type="dpmsolver++",
        solver_order=order,
        solver_type="midpoint",
        lower_order_final=True,
        final_sigmas_type="zero",
    )
