"""What a pipeline's denoiser calls say: which row is whose, at which step and noise level.

Everything is read from the call itself and from the scheduler that made it, never from a counter of
ours: a pipeline that starts in the middle of its schedule (img2img), or calls twice per step, says
so in the timesteps that it passes.
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
from consistent_gen.errors import InputError


@dataclass
class Pass:
    """One run of the pipeline: the frames in its batch, and what happened in its calls.

    references: number in the batch -> clean latent [c h w] and noise of a user's own picture.
    anchors_of: the character whose anchors these are, if they are drawn again later.
    """

    frames: tuple[str, ...]
    references: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    anchors_of: str | None = None
    step: int = -1
    calls: int = 0


@dataclass(frozen=True)
class _Made:
    """A denoiser call that can be made again."""

    call: Call
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Calls:
    """Hooks around one pipeline's UNet; they tell the policy about each call before it is made.

    plan: is told by the first call of a pass what the story takes, and its arguments; nothing is
    drawn yet.
    """

    def __init__(
        self,
        pipe: Any,
        run: SharedRun,
        policy: Sharing,
        sites: Mapping[str, Site],
        plan: Callable[[Sampling, Mapping[str, Any]], None],
    ) -> None:
        self.pipe, self.run, self.policy = pipe, run, policy
        self._plan = plan
        self.sites = tuple(sites.values())
        self.now: Pass | None = None
        self._inside = False  # a call of ours within the pipeline's
        # character -> (first pass or drawn, step) -> the anchors' call
        self._made: dict[str, dict[tuple[bool, int], _Made]] = {}

    @contextmanager
    def during(self, one: Pass) -> Iterator[None]:
        """One run of the pipeline."""
        self.now = one
        try:
            yield
        finally:
            self.now = None
            self.run.bank.end_step()

    def before(self, unet: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook: announce the rows, put noised references in, make calls of our own."""
        now = self.now
        if now is None or self._inside:
            return None
        args, kwargs = tuple(args), dict(kwargs)
        sample = args[0] if args else kwargs["sample"]
        call = self._read(now, sample, args[1] if len(args) > 1 else kwargs["timestep"])
        if now.references:
            sample = self._with_references(now, sample)
            if args:
                args = (sample, *args[1:])
            else:
                kwargs["sample"] = sample
        if now.calls == 0:
            branches = len(sample) // len(now.frames)
            size = sample[0].numel() * sample.element_size()
            steps = call.rows[0].steps
            self._plan(Sampling(call.latent, steps, branches, sample.element_size(), size), kwargs)
        now.calls += 1
        if now.anchors_of is not None:
            twins = self.run.roles[now.frames[0]].twin_of is not None
            made = _Made(call, args, _kept(kwargs))
            self._made.setdefault(now.anchors_of, {})[twins, call.rows[0].step] = made
        for name in self._drawn_again(now):
            self._draw_again(unet, name, call)
        self._look(unet, call, args, kwargs)
        self.policy.begin(call)
        return args, _kept(kwargs)

    def after(self, _unet: Any, _args: Any, output: Any) -> None:
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
                f"the UNet's result is not finite at step {now.step + 1} of "
                f"{', '.join(now.frames)}; draw in bfloat16 or float32"
            )

    def forget(self, name: str) -> None:
        """Drop what is kept of a character's anchors to draw them again."""
        self._made.pop(name, None)

    def _read(self, now: Pass, sample: Tensor, timestep: Any) -> Call:
        """Whose the rows of a call are. Unconditional rows come first, as in all pipelines that
        `contract` lists.
        """
        scheduler = self.pipe.scheduler
        time = float(timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep)
        now.step = _position(scheduler.timesteps, time, now.step)
        guided = bool(getattr(self.pipe, "do_classifier_free_guidance", False))
        branches: tuple[Branch, ...] = ("uncond", "cond") if guided else ("cond",)
        count, steps = len(now.frames), len(scheduler.timesteps)
        if len(sample) != count * len(branches):
            raise InputError(
                f"the pipeline calls its UNet with {len(sample)} rows for {count} pictures; "
                f"expected {len(branches)} per picture, as its guidance says"
            )
        share = (time + 1) / int(scheduler.config.num_train_timesteps)
        rows = tuple(
            Row(slot * count + i, frame, branch, now.step, steps, share)
            for slot, branch in enumerate(branches)
            for i, frame in enumerate(now.frames)
        )
        return Call(len(sample), (sample.shape[-2], sample.shape[-1]), rows)

    def _look(self, unet: Any, call: Call, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Call the UNet on the same latents without sharing if a frame's queries are mixed now."""
        rows = tuple(
            replace(row, look=True)
            for row in call.rows
            if self.run.looks(row.frame, row.step, row.steps)
        )
        if rows:
            self._call(unet, replace(call, rows=rows), args, kwargs)

    def _drawn_again(self, now: Pass) -> list[str]:
        """Characters who are read now and of whose anchors nothing is kept."""
        roles = [self.run.roles[frame] for frame in now.frames]
        names = {use.name: None for role in roles if role.anchor is None and role.twin_of is None
                 for use in role.reading}  # fmt: skip
        bank = self.run.bank
        return [name for name in names if bank.keeping_of(Source(name)).what == "replay"]

    def _draw_again(self, unet: Any, name: str, call: Call) -> None:
        """Make the calls of a character's anchors whose exports this step reads."""
        first = call.rows[0]
        branches = 1 if all(row.branch == "cond" for row in call.rows) else 2
        made = self._made[name]
        for step in self.run.read_steps(self.sites, first.step, first.steps, branches):
            with self.policy.drawing_again():
                drawn = made[False, step]
                if self.run.copies(self.sites, step, first.steps, branches):
                    again = made[True, step]
                    self._call(unet, again.call, again.args, again.kwargs)
                self._look(unet, drawn.call, drawn.args, drawn.kwargs)
                self._call(unet, drawn.call, drawn.args, drawn.kwargs)

    def _call(self, unet: nn.Module, call: Call, args: Any, kwargs: Mapping[str, Any]) -> None:
        """A call within the pipeline's; its result is thrown away."""
        self._inside = True
        self.policy.begin(call)
        try:
            unet(*args, **_kept(kwargs))
        finally:
            self.policy.end()
            self._inside = False

    def _with_references(self, now: Pass, sample: Tensor) -> Tensor:
        """The latents [b c h w] with pictures of the user's own, noised to this step's level."""
        sample = sample.clone()
        scheduler = self.pipe.scheduler
        moment = scheduler.timesteps[now.step]
        count = len(now.frames)
        for number, (clean, noise) in now.references.items():
            noised = scheduler.add_noise(clean[None], noise[None], moment[None].cpu())
            noised = scheduler.scale_model_input(noised, moment)[0]
            for first in range(0, len(sample), count):
                # An inpainting UNet's further channels are the mask and what it leaves.
                sample[first + number, : len(noised)] = noised.to(sample)
        return sample


def _position(timesteps: Tensor, time: float, last: int) -> int:
    """Where a call stands in the schedule: the first place after `last` with its timestep.

    Schedulers of second order pass a timestep twice, and pipelines may call twice in a step.

    Raises:
        InputError: the scheduler has no such timestep.
    """
    places = [i for i, value in enumerate(timesteps.tolist()) if abs(value - time) < 1e-3]
    if not places:
        raise InputError(
            f"the pipeline denoises at timestep {time:g}, which its scheduler has not set"
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
    return [name for name in kwargs if "residual" in name and kwargs[name] is not None]
