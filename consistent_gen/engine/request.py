"""What to draw: one frame as data, checked before any work starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from consistent_gen.engine.coupling import Coupling
from consistent_gen.engine.schedulers import SCHEDULERS
from consistent_gen.errors import InputError, LimitError
from consistent_gen.models.backbone import Backbone
from consistent_gen.registry import unknown_name

MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
MAX_SEED = 2**63 - 1

# What a request may leave to the model, with what holds where its folder recommends nothing.
_LEFT_TO_THE_MODEL = {"guidance_rescale": 0.0, "contours": 0.0, "guidance_until": 1.0}

Preview = Literal["none", "linear", "decode"]
PREVIEWS = ("none", "linear", "decode")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Where a prompt speaks of one subject: `tokens` are positions in the encoded prompt.

    Position 0 is the start mark, so the first word of a prompt stands at 1.
    """

    name: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class FrameRequest:
    """One picture to draw.

    Attributes:
        prompt, negative: the words for and against; `negative` acts only with guidance.
        seed: 0..2**63 - 1; all randomness of the frame comes from it.
        steps: denoiser steps, 1..`MAX_STEPS`.
        guidance: classifier-free guidance scale (arXiv 2207.12598, with w + 1); at 1 the second
            row is not computed.
        guidance_rescale: 0..1, phi of arXiv 2305.08891, equation 16; 0 is off.
        contours: scale of perturbed-attention guidance (arXiv 2403.17377), 0..`MAX_GUIDANCE`. In
            every second step the row without the prompt has identity maps for self-attention and
            this scale takes the place of `guidance`, at no further cost; 0 is off, and so it is
            without guidance. None, for it and for `guidance_rescale`, is what the model's folder
            recommends (`Backbone.recommended`), otherwise 0.
        guidance_until: share of the steps, the first ones, that are guided, 0..1. Guidance at low
            noise levels changes little and can harm (arXiv 2404.07724), and later steps compute
            one row instead of two. None is what the model's folder recommends, otherwise 1.
        scheduler: a name of `schedulers.SCHEDULERS`.
        width, height: pixels; None means the model's own size.
        preview, preview_every: what a `Step` event shows and on every how-many-th step; "linear"
            costs almost nothing, "decode" runs the autoencoder.
        id: name in events; None lets the engine choose.
        after: ids of frames that must be finished before this one starts.
        behind: ids of frames that stay at least `behind_by` steps ahead of this one (one, so that
            step k can read what they left at step k), or are finished. They must have the same
            steps and scheduler.
        alone_for: steps, the first ones, that the frame makes in calls of its own where calls have
            a fixed size, less than `steps`: while others wait for it, a whole call for its rows
            would be mostly empty.
        coupling: ties the frame to others inside the model (see `coupling.Coupling`).
        subjects: where the prompt names whom, for attention policies.
        hidden: the frame is a means to others; it is not decoded, and only its failure is an event.
        twin_of: the frame whose first pass this is, which shares nothing; it is hidden too.
        reference: a picture, uint8 [h w 3] of the frame's size, that stands in for the drawing: at
            every step the latent is this picture noised to the step's level, and the model only
            looks at it. So a picture of the user's own can be what other frames read.
        method: name that goes into the metadata; "vanilla" is a frame on its own.
        story: further JSON values for the metadata (title, frame index, version).
    """

    prompt: str
    seed: int
    negative: str = ""
    steps: int = 25
    guidance: float = 5.0
    guidance_rescale: float | None = None
    contours: float | None = None
    guidance_until: float | None = None
    scheduler: str = "ddim"
    width: int | None = None
    height: int | None = None
    preview: Preview = "none"
    preview_every: int = 1
    id: str | None = None
    after: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    behind_by: int = 1
    alone_for: int = 0
    coupling: Coupling | None = None
    subjects: tuple[Subject, ...] = ()
    hidden: bool = False
    twin_of: str | None = None
    reference: np.ndarray | None = field(default=None, compare=False)
    method: str = "vanilla"
    story: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _whole("seed", self.seed, 0, MAX_SEED)
        _whole("steps", self.steps, 1, MAX_STEPS)
        _whole("preview_every", self.preview_every, 1, MAX_STEPS)
        _whole("behind_by", self.behind_by, 1, MAX_STEPS)
        _whole("alone_for", self.alone_for, 0, self.steps - 1)
        _within("guidance", self.guidance, 0.0, MAX_GUIDANCE)
        if self.guidance_rescale is not None:
            _within("guidance_rescale", self.guidance_rescale, 0.0, 1.0)
        if self.contours is not None:
            _within("contours", self.contours, 0.0, MAX_GUIDANCE)
        if self.guidance_until is not None:
            _within("guidance_until", self.guidance_until, 0.0, 1.0)
        if self.scheduler not in SCHEDULERS:
            raise unknown_name("scheduler", self.scheduler, SCHEDULERS)
        if self.preview not in PREVIEWS:
            raise unknown_name("preview", self.preview, PREVIEWS)

    @property
    def guided(self) -> bool:
        """Whether the frame takes two rows of a call, with and without its prompt, at any step."""
        return self.guided_steps > 0

    @property
    def guided_steps(self) -> int:
        """How many steps, the first ones, take two rows."""
        until = 1.0 if self.guidance_until is None else self.guidance_until
        return 0 if self.guidance == 1.0 else math.floor(until * self.steps + 0.5)

    def settled(self, backbone: Backbone) -> FrameRequest:
        """The same request with the model's recommendations where it left the choice to it."""
        left: dict[str, Any] = {
            name: backbone.recommended.get(name, otherwise)
            for name, otherwise in _LEFT_TO_THE_MODEL.items()
            if getattr(self, name) is None
        }
        return replace(self, **left) if left else self

    def size(self, backbone: Backbone) -> tuple[int, int]:
        """(width, height) in pixels on this model."""
        width, height = backbone.default_size
        return (
            width if self.width is None else self.width,
            height if self.height is None else self.height,
        )

    def check(self, backbone: Backbone) -> None:
        """Accept the request for this model or say what is wrong.

        Raises:
            InputError: a size that does not fit, a word the model never saw, too many steps.
            LimitError: larger than is accepted.
        """
        backbone.latent_shape(*self.size(backbone))
        backbone.check_prompt(self.prompt)
        if self.guided:
            backbone.check_prompt(self.negative)
        if self.reference is not None:
            width, height = self.size(backbone)
            given = self.reference.shape, self.reference.dtype.name
            if given != ((height, width, 3), "uint8"):
                raise InputError(
                    f"the reference picture is {given[1]} {given[0]}; "
                    f"expected uint8 {(height, width, 3)}, the frame's size"
                )
        trained = int(backbone.scheduler_config.get("num_train_timesteps", MAX_STEPS))
        _whole("steps", self.steps, 1, trained)


def _whole(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} must be a whole number, got {value!r}")
    if not low <= value <= high:
        raise LimitError(f"{name} {value} is out of range; expected {low} to {high}")


def _within(name: str, value: float, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, got {value!r}")
    if not low <= value <= high:
        raise LimitError(f"{name} {value} is out of range; expected {low:g} to {high:g}")
