"""Samplers by name, built from a model's own scheduler config.

Both are diffusers' `DPMSolverMultistepScheduler` in its data-prediction form (DPM-Solver++, arXiv
2211.01095), whose first order is DDIM (arXiv 2010.02502) and whose second order needs no further
denoiser call. It is used for DDIM too, since the stock `DDIMScheduler` takes
`num_train_timesteps // steps` as every gap: with 30 steps of 1000 it lands beside the timestep
that it then shows to the model. Timesteps are computed here in whole numbers: the library's
"trailing" spacing gains a step -1 for 62 of the step counts up to 1000 (61, 103, 121, ...).

Zero terminal SNR (arXiv 2305.08891) makes the first noise level infinite. The library puts 4096 in
its place, by which the picture stands at 2e-4 in what is nothing but noise; `DDIMScheduler` has no
such remainder. Of the first order, where no later step looks back at the level, so large a number
stands here that the remainder is a rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

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


# The noise level of nothing but noise: a float32 tells 1 + 1 / level just from 1.
NOTHING_BUT_NOISE = 2.0**23
# Noise levels at which a picture is retouched, as shares of the trained timesteps: what it shows is
# decided above the first (`docs/log.md`), and at the second nothing but faults of single latents
# is left to mend.
RETOUCH_AT = (0.2, 0.1)


def make_scheduler(name: str, config: Mapping[str, Any], steps: int, retouching: int = 0) -> Any:
    """A fresh scheduler at its first step, whose last `retouching` steps are those of `Retouching`.

    Its `timesteps` are int64 [steps]; `step(prediction, timestep, sample)` moves one on.

    Raises:
        UnknownNameError: `name` is not in `SCHEDULERS`.
    """
    make = resolve(SCHEDULERS, name, kind="scheduler")
    if retouching:
        return Retouching(make(config), config, steps - retouching, retouching)
    return _at_first_step(make(config), spaced_timesteps(config, steps))


def _at_first_step(scheduler: Any, timesteps: list[int]) -> Any:
    with warnings.catch_warnings():
        # diffusers hands tensors to numpy in a way that numpy 2 deprecates.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        scheduler.set_timesteps(timesteps=timesteps)
    # Otherwise the first step is searched for by its timestep.
    scheduler.set_begin_index(0)
    said = scheduler.config
    from_noise = said.rescale_betas_zero_snr and timesteps[0] == said.num_train_timesteps - 1
    # Predicted noise would say nothing of the picture there, and be enlarged by as much.
    if from_noise and said.solver_order == 1 and said.prediction_type != "epsilon":
        scheduler.sigmas[0] = NOTHING_BUT_NOISE
    return scheduler


class Retouching:
    """A sampler that draws a picture in its first steps and retouches it in its last.

    A sampler's step goes on from the noise that the last one left. Whatever the denoiser got wrong
    stays in there, agrees with itself from then on, and is kept: close faces are garbled, and the
    cells of the latent show as a grid. So the last steps start anew, as restart sampling does (Xu
    et al., arXiv 2306.14878): noise that knows nothing of the errors is added to the picture so
    far, at a level that leaves what it shows, and the denoiser predicts the clean picture from
    there. Predictions at one level are averaged, since each has an error of its own; then the next,
    lower level begins from their mean.

    It has what the engine needs of a diffusers scheduler: `timesteps`, `sigmas`,
    `init_noise_sigma`, `config`, `model_outputs` (the newest clean estimate last) and `step`.

    Args:
        first: the sampler of the first steps.
        config: the model's scheduler config.
        drawing, retouching: how many steps draw and how many mend.
    """

    def __init__(
        self, first: Any, config: Mapping[str, Any], drawing: int, retouching: int
    ) -> None:
        trained = int(config.get("num_train_timesteps", 1000))
        levels = [_rounded(int(1000 * share) * trained, 1000) for share in RETOUCH_AT]
        top = spaced_timesteps(config, drawing)[0]
        ladder = [top - _rounded(i * (top - levels[0]), drawing) for i in range(drawing)]
        self.first, self.drawing, self.config = _at_first_step(first, ladder), drawing, first.config
        higher = retouching - retouching // 2  # steps at the first level
        self.ends = (drawing + higher, drawing + retouching)  # indices at which a mean is taken
        mending = [levels[0]] * higher + [levels[1]] * (retouching // 2)
        self.timesteps = torch.tensor(ladder + mending)
        alpha_bar = first.alphas_cumprod[mending]
        sigmas = ((1.0 - alpha_bar) / alpha_bar).sqrt()
        self.sigmas = torch.cat([self.first.sigmas[:drawing], sigmas, sigmas.new_zeros(1)])
        self.init_noise_sigma = self.first.init_noise_sigma
        self.prediction_type = config.get("prediction_type", "epsilon")
        self.index = 0
        self.picture: Tensor | None = None  # clean latent that noise is added to
        self.found: list[Tensor] = []  # predictions at the current level
        self.model_outputs: list[Any] = [None]

    def set_begin_index(self, index: int) -> None:
        """Begin at a step that draws instead of the first one."""
        assert index < self.drawing, "no picture yet that could be mended"
        self.index = index
        self.first.set_begin_index(index)

    def step(
        self,
        prediction: Tensor,
        timestep: int,
        sample: Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """The sample [c h w] of the next step, of the denoiser's `prediction` for `sample`.

        generator: where the noise comes from, a CPU generator.
        """
        self.index += 1
        if self.index <= self.drawing:
            moved = self.first.step(prediction, timestep, sample, return_dict=False)
            self.picture = self.first.model_outputs[-1]
            self.model_outputs = [self.picture]
            if self.index < self.drawing:
                return (moved[0],)
        else:
            sigma = self.sigmas[self.index - 1].to(sample)
            self.found.append(clean_latent(prediction, sample, sigma, self.prediction_type))
            self.model_outputs = [self.found[-1]]
            if self.index in self.ends:
                self.picture = torch.stack(self.found).mean(0)
                self.found = []
        assert self.picture is not None
        if self.index == len(self.timesteps):
            self.model_outputs = [self.picture]
            return (self.picture,)
        noise = torch.randn(self.picture.shape, generator=generator).to(self.picture)
        sigma = self.sigmas[self.index].to(self.picture)
        return ((self.picture + sigma * noise) * (1.0 + sigma.square()).rsqrt(),)


def clean_latent(prediction: Tensor, sample: Tensor, sigma: Tensor, kind: str) -> Tensor:
    """The clean latent [c h w] that a prediction stands for (Salimans and Ho, 2202.00512).

    sample: noised to `sigma`, with a variance of one. kind: "epsilon", "sample" or "v_prediction".
    """
    if kind == "sample":
        return prediction
    alpha = (1.0 + sigma.square()).rsqrt()
    if kind == "v_prediction":
        return alpha * sample - sigma * alpha * prediction
    return sample / alpha - sigma * prediction


def move_outputs(scheduler: Any, cells: int) -> None:
    """Move what a sampler of `make_scheduler` remembers of a latent to the right, around its edge.

    cells: of the latent, negative for the left.
    """
    if isinstance(scheduler, Retouching):
        move_outputs(scheduler.first, cells)
        scheduler.found = [torch.roll(one, cells, -1) for one in scheduler.found]
        if scheduler.picture is not None:
            scheduler.picture = torch.roll(scheduler.picture, cells, -1)
    outputs = scheduler.model_outputs
    scheduler.model_outputs = [None if x is None else torch.roll(x, cells, -1) for x in outputs]


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
