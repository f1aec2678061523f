"""What a pipeline's denoiser calls say: which row is whose, at which step and noise level.

Everything is read from the call itself and from the scheduler that made it, never from a counter of
ours: a pipeline that starts in the middle of its schedule (img2img), or calls twice per step, says
so in the timesteps that it passes. How a family says all that is its `diffusion.seam.Seam`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from consistent_gen.attention.budget import Sampling
from consistent_gen.attention.layers import Site
from consistent_gen.attention.roles import Source
from consistent_gen.attention.rows import Branch, Call, Row
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.sharing import Sharing
from consistent_gen.diffusion.seam import Seam
from consistent_gen.errors import InputError


@dataclass
class Pass:
    """One run of the pipeline: the frames in its batch, and what happened in its calls.

    options: of this run of the pipeline. references: number in the batch -> clean latent and noise
    of a user's own picture, each in the form of a call's row. anchors_of: the character whose
    anchors these are, if they are drawn again later. steps: where the last call of each guidance
    branch stood. last: branches and timestep of the last call.
    """

    frames: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    references: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    anchors_of: str | None = None
    steps: dict[tuple[Branch, ...], int] = field(default_factory=dict)
    last: tuple[tuple[Branch, ...], float] | None = None
    calls: int = 0


@dataclass(frozen=True)
class _Made:
    """A denoiser call that can be made again."""

    call: Call
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Calls:
    """Hooks around what denoises in one pipeline; they tell the policy about each call before it is
    made.

    seam: how the pipeline's family calls. plan: is told by the first call of a pass what the story
    takes, and its arguments; nothing is drawn yet.
    """

    def __init__(
        self,
        pipe: Any,
        seam: Seam,
        run: SharedRun,
        policy: Sharing,
        sites: Mapping[str, Site],
        plan: Callable[[Sampling, Mapping[str, Any]], None],
    ) -> None:
        self.pipe, self.seam, self.run, self.policy = pipe, seam, run, policy
        self._plan = plan
        self.sites = tuple(sites.values())
        self.now: Pass | None = None
        self._inside = False  # a call of ours within the pipeline's
        # character -> (first pass or drawn, step, branches) -> the anchors' call
        self._made: dict[str, dict[tuple[bool, int, tuple[Branch, ...]], _Made]] = {}

    @contextmanager
    def during(self, one: Pass) -> Iterator[None]:
        """One run of the pipeline."""
        self.now = one
        try:
            yield
        finally:
            self.now = None
            self.run.bank.end_step()

    def before(self, model: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook: announce the rows, put noised references in, make calls of our own."""
        now = self.now
        if now is None or self._inside:
            return None
        args, kwargs = tuple(args), dict(kwargs)
        sample = self.seam.sample(args, kwargs)
        call = self._read(now, sample, args, kwargs)
        if now.references:
            noised = self._with_references(now, sample, call)
            args, kwargs = self.seam.replaced(args, kwargs, noised)
        if now.calls == 0:
            branches = 1 + self.seam.guided(self.pipe, now.options)
            size = sample[0].numel() * sample.element_size()
            steps = call.rows[0].steps
            self._plan(Sampling(call.latent, steps, branches, sample.element_size(), size), kwargs)
        now.calls += 1
        if now.anchors_of is not None:
            twins = self.run.roles[now.frames[0]].twin_of is not None
            made = _Made(call, args, _kept(kwargs))
            key = twins, call.rows[0].step, _branches(call)
            self._made.setdefault(now.anchors_of, {})[key] = made
        for name in self._drawn_again(now):
            self._draw_again(model, name, call)
        self._look(model, call, args, kwargs)
        self.policy.begin(call)
        return args, _kept(kwargs)

    def after(self, _model: Any, _args: Any, output: Any) -> None:
        """Forward hook."""
        if self._inside:
            return
        self.policy.end()
        self.run.bank.end_step()
        now = self.now
        noise = output[0] if isinstance(output, tuple) else getattr(output, "sample", None)
        if now is None or noise is None or noise.device.type == "meta":
            return
        if not bool(torch.isfinite(noise).all()):
            raise InputError(
                f"the {self.seam.noun}'s result is not finite at step {max(now.steps.values()) + 1}"
                f" of {', '.join(now.frames)}; draw in bfloat16 or float32"
            )

    def forget(self, name: str) -> None:
        """Drop what is kept of a character's anchors to draw them again."""
        self._made.pop(name, None)

    def _read(self, now: Pass, sample: Tensor, args: Any, kwargs: Mapping[str, Any]) -> Call:
        """Whose the rows of a call are."""
        seam, scheduler = self.seam, self.pipe.scheduler
        moment = seam.moment(args, kwargs)
        branches = self._branches_of(now, moment)
        last = now.steps.get(branches, -1)
        step = _position(seam.moments(scheduler, sample), moment, last)
        if branches == ("uncond",) and step != now.steps["cond",]:
            raise InputError(
                f"the pipeline calls its {seam.noun} without the prompt at step {step + 1} before "
                "it did so with the prompt"
            )
        now.steps[branches], now.last = step, (branches, moment)
        count, steps = len(now.frames), len(scheduler.timesteps)
        if len(sample) != count * len(branches):
            raise InputError(
                f"the pipeline calls its {seam.noun} with {len(sample)} rows for {count} pictures; "
                f"expected {len(branches)} per picture, as its guidance says"
            )
        level = seam.noise_level(scheduler, step)
        rows = tuple(
            Row(slot * count + i, frame, branch, step, steps, level)
            for slot, branch in enumerate(branches)
            for i, frame in enumerate(now.frames)
        )
        return Call(len(sample), seam.grid(sample, kwargs), rows)

    def _branches_of(self, now: Pass, moment: float) -> tuple[Branch, ...]:
        """Which guidance branches stand in a call, in their order."""
        guided = self.seam.guided(self.pipe, now.options)
        if self.seam.together:
            return ("uncond", "cond") if guided else ("cond",)
        # A step is a call with the prompt and, at the same timestep, one without it.
        return ("uncond",) if guided and now.last == (("cond",), moment) else ("cond",)

    def _look(self, model: Any, call: Call, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Call the network on the latents without sharing if a frame's queries are mixed now."""
        rows = tuple(
            replace(row, look=True)
            for row in call.rows
            if self.run.looks(row.frame, row.step, row.steps)
        )
        if rows:
            self._call(model, replace(call, rows=rows), args, kwargs)

    def _drawn_again(self, now: Pass) -> list[str]:
        """Characters who are read now and of whose anchors nothing is kept."""
        roles = [self.run.roles[frame] for frame in now.frames]
        shares = self.run.recipe.twins_share
        names = {use.name: None for role in roles
                 if role.anchor is None and (shares or role.twin_of is None)
                 for use in role.reading}  # fmt: skip
        bank = self.run.bank
        return [name for name in names if bank.keeping_of(Source(name)).what == "replay"]

    def _draw_again(self, model: Any, name: str, call: Call) -> None:
        """Make the calls of a character's anchors whose exports this step reads."""
        first, branches = call.rows[0], _branches(call)
        made = self._made[name]
        twins = self.run.roles[first.frame].twin_of is not None
        for step in self.run.read_steps(self.sites, first.step, first.steps, branches):
            with self.policy.drawing_again():
                drawn = made[twins, step, branches]
                if self.run.copies(self.sites, step, first.steps, branches):
                    again = made[True, step, branches]
                    self._call(model, again.call, again.args, again.kwargs)
                self._look(model, drawn.call, drawn.args, drawn.kwargs)
                self._call(model, drawn.call, drawn.args, drawn.kwargs)

    def _call(self, model: nn.Module, call: Call, args: Any, kwargs: Mapping[str, Any]) -> None:
        """A call within the pipeline's; its result is thrown away."""
        self._inside = True
        self.policy.begin(call)
        try:
            model(*args, **_kept(kwargs))
        finally:
            self.policy.end()
            self._inside = False

    def _with_references(self, now: Pass, sample: Tensor, call: Call) -> Tensor:
        """The latents with pictures of the user's own, noised to this step's level."""
        sample = sample.clone()
        count = len(now.frames)
        for number, (clean, noise) in now.references.items():
            noised = self.seam.noised(self.pipe.scheduler, call.rows[0].step, clean, noise)
            for first in range(0, len(sample), count):
                # Further channels (of inpainting UNets) or tokens (of edit models) stay.
                row = sample[first + number, : len(noised)]
                if row.shape != noised.shape:
                    raise InputError(
                        f"a picture that stands in for a drawing has latents of {_size(noised)}, "
                        f"and the drawing has {_size(row)}; give share() the height and width"
                    )
                row.copy_(noised)
        return sample


def _size(row: Tensor) -> str:
    return " x ".join(str(side) for side in row.shape)


def _branches(call: Call) -> tuple[Branch, ...]:
    """The guidance branches of a call, in its order."""
    return tuple(dict.fromkeys(row.branch for row in call.rows))


def _position(moments: Sequence[float], moment: float, last: int) -> int:
    """Where a call stands in the schedule: the first place after `last` with its timestep.

    Schedulers of second order pass a timestep twice, and pipelines may call twice in a step.

    Raises:
        InputError: the scheduler has no such timestep.
    """
    near = 1e-6 * max(map(abs, moments), default=1.0)
    places = [i for i, value in enumerate(moments) if abs(value - moment) <= near]
    if not places:
        raise InputError(
            f"the pipeline denoises at timestep {moment:g}, which its scheduler has not set"
        )
    return next((place for place in places if place > last), places[-1])


def _kept(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for one call: models take residuals out of the lists that they are given."""
    return {
        name: value.copy() if type(value) in (dict, list) else value
        for name, value in kwargs.items()
    }


def residuals(kwargs: Mapping[str, Any]) -> Sequence[str]:
    """Names of the arguments that another network computed for this step."""
    return [
        name
        for name, value in kwargs.items()
        if ("residual" in name or "controlnet" in name) and value is not None
    ]
