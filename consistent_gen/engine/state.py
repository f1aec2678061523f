"""The state of one frame between denoiser calls. Nothing in it depends on other frames."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch

from consistent_gen import runtime
from consistent_gen.attention.rows import Branch, Row
from consistent_gen.diffusion.seam import Conditioning, Seam
from consistent_gen.engine.flow import FlowSampler
from consistent_gen.engine.request import FrameRequest
from consistent_gen.engine.schedulers import make_scheduler, move_outputs
from consistent_gen.models.backbone import Backbone


def rescaled(guided: torch.Tensor, cond: torch.Tensor, rescale: float) -> torch.Tensor:
    """A guided prediction [c h w], pulled back towards the spread of `cond` [c h w].

    `rescale` is phi of arXiv 2305.08891, equations 15 and 16: 0 leaves `guided` alone, 1 gives it
    the standard deviation of `cond` over the whole frame.
    """
    if rescale == 0.0:
        return guided
    matched = guided * (cond.std() / guided.std().clamp_min(1e-8))
    return rescale * matched + (1.0 - rescale) * guided


@dataclass(eq=False)
class FrameState:
    """One frame on its way. Latent, generator, seam, scheduler and conditioning exist once
    started.
    """

    id: str
    request: FrameRequest
    latent_shape: tuple[int, int, int]
    alone_for: int = 0  # of the request; 0 where calls have any size
    index: int = 0
    cancelled: bool = False
    bucket: int | None = None  # rows of the calls that drew it; None without fixed buckets
    generator: torch.Generator | None = None
    latent: torch.Tensor | None = None  # [c h w] float32
    reference: tuple[torch.Tensor, torch.Tensor] | None = None  # clean latent and its noise
    redrawn: torch.Tensor | None = None  # [h w], which cells are not the reference's
    seam: Seam | None = None
    scheduler: Any = None
    conditions: dict[Branch, Conditioning] = field(default_factory=dict)

    @property
    def drawing(self) -> str:
        """Id of the frame that is drawn; of a twin, the one it is for."""
        return self.request.twin_of or self.id

    @property
    def started(self) -> bool:
        """Whether the frame has its noise and its conditioning."""
        return self.latent is not None

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.index >= self.request.settings.steps

    @property
    def alone(self) -> bool:
        """Whether its next call is one of its own (see `FrameRequest.alone_for`)."""
        return self.index < self.alone_for

    @property
    def looking(self) -> bool:
        """Whether its next call has a second, unshared set of its rows (see `Coupling.looks`)."""
        coupling, steps = self.request.coupling, self.request.settings.steps
        return coupling is not None and coupling.looks(self.id, self.index, steps)

    @property
    def guiding(self) -> bool:
        """Whether its next call is guided (see `DrawSettings.guided_steps`)."""
        return self.index < self.request.settings.guided_steps

    @property
    def contouring(self) -> bool:
        """Whether its next call guides away from perturbed attention (every second one does)."""
        return bool(self.guiding and self.request.settings.contours and self.index % 2 == 1)

    @property
    def rows(self) -> int:
        """Rows that the frame takes in its next denoiser call."""
        return (2 if self.guiding else 1) * (1 + self.looking)

    @property
    def key(self) -> Hashable:
        """Only frames with equal keys share a call: same latent shape, compatible couplings, as
        many given pictures.

        Guided and unguided frames may meet, since each row stands for itself.
        """
        coupling, given = self.request.coupling, len(self.request.given)
        return self.latent_shape, None if coupling is None else coupling.group, given

    @property
    def timestep(self) -> float:
        """The timestep that the next call shows to the denoiser; whole where schedules are."""
        moment: float = self.scheduler.timesteps[self.index].item()
        return moment

    def start(self, backbone: Backbone, conditions: dict[Branch, Conditioning]) -> None:
        """Draw the first noise and set up the sampler."""
        request, settings = self.request, self.request.settings
        self.seam, schedule = backbone.seam, backbone.scheduler_config
        if backbone.seam.flow:
            config, grid = backbone.denoiser.config, self.latent_shape[1:]
            made = backbone.seam.scheduler(schedule, config, settings.steps, grid)
            self.scheduler = FlowSampler(made, second_order=settings.scheduler == "dpm")
        else:
            self.scheduler = make_scheduler(
                settings.scheduler, schedule, settings.steps, settings.retouching_steps
            )
        self.generator = runtime.generator(request.seed, "latent")
        noise = torch.randn(self.latent_shape, generator=self.generator)
        self.latent = (noise * self.scheduler.init_noise_sigma).to(backbone.device)
        self.conditions = conditions
        picture = request.reference
        if request.redrawing is not None:
            picture = request.redrawing.drawn_at(*request.size(backbone))
            self.redrawn = request.redrawing.cells(self.latent_shape[1:]).to(backbone.device)
        if picture is not None:
            clean = backbone.encode(picture[None])[0]
            self.reference = clean, noise.to(clean)
            known = self._noised_reference()
            if self.redrawn is not None:
                known = torch.where(self.redrawn, self.latent, known)
            self.latent = known

    def layout_rows(self, first_slot: int) -> list[Row]:
        """Its rows in the next call: cond, then uncond if it is guided, then looks at both."""
        branches = [b for b in self.conditions if b == "cond" or self.guiding]
        kinds = [(branch, look) for look in (False, True) for branch in branches]
        assert self.seam is not None
        time = self.seam.noise_level(self.scheduler, self.index)
        return [
            Row(
                first_slot + i,
                self.id,
                branch,
                self.index,
                self.request.settings.steps,
                time,
                look,
                perturbed=branch == "uncond" and self.contouring,
                request=self.request,
            )
            for i, (branch, look) in enumerate(kinds[: self.rows])
        ]

    def advance(self, predictions: torch.Tensor) -> None:
        """Take the frame's rows of a call's result [rows c h w] and move one step on."""
        assert self.latent is not None
        if self.reference is not None and self.redrawn is None:
            self.index += 1
            self.latent = self._noised_reference()
            return
        predicted = predictions[0].contiguous()
        if self.guiding:
            settings = self.request.settings
            scale = settings.contours if self.contouring else settings.guidance
            rescale = settings.guidance_rescale
            assert scale is not None and rescale is not None, "settings are settled"
            assert self.seam is not None
            guided = self.seam.guide(predicted, predictions[1].contiguous(), scale)
            predicted = rescaled(guided, predicted, rescale)
        moved = self.scheduler.step(
            predicted, self.timestep, self.latent, generator=self.generator, return_dict=False
        )
        self.latent = moved[0]
        self.index += 1
        if self.redrawn is not None:
            self.latent = torch.where(self.redrawn, self.latent, self._noised_reference())
        elif self.index == self.request.moves_at and not self.finished:
            self._move()

    def _move(self) -> None:
        """Move what is drawn so far, noise and all, around the picture's edge."""
        assert self.latent is not None
        cells = round(self.request.moved * self.latent_shape[2])
        self.latent = torch.roll(self.latent, cells, -1)
        move_outputs(self.scheduler, cells)
        for coupling in self.request.couplings:
            coupling.moved(self.id, self.request.moved)

    def _noised_reference(self) -> torch.Tensor:
        """The reference [c h w] at the noise level of the next step; clean after the last."""
        assert self.reference is not None and self.seam is not None
        clean, noise = self.reference
        if self.seam.flow:
            return self.seam.noised(self.scheduler, self.index, clean, noise)
        sigma = self.scheduler.sigmas[self.index].to(clean)
        alpha = (1.0 + sigma.square()).rsqrt()
        noised: torch.Tensor = alpha * (clean + sigma * noise)
        return noised

    @property
    def last_timestep(self) -> float:
        """The timestep that the newest call showed to the denoiser."""
        moment: float = self.scheduler.timesteps[self.index - 1].item()
        return moment

    @property
    def clean_estimate(self) -> torch.Tensor:
        """The model's latest guess of the finished latent, [c h w]."""
        if self.reference is not None and self.redrawn is None:
            return self.reference[0]
        estimate: torch.Tensor = self.scheduler.model_outputs[-1]
        if self.reference is not None and self.redrawn is not None:
            estimate = torch.where(self.redrawn, estimate, self.reference[0])
        return estimate
