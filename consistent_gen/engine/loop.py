"""The denoising loop: many frames, one denoiser call at a time.

Every frame has its own latent, generator, sampler and step index (`FrameState`), so frames of
different stories, seeds, prompts and step counts share calls, join late and leave early.

Exact mode (the default on a CPU) runs every call with the same number of rows and fills the free
ones with zeros. Matrix kernels are chosen by shape, so a frame's bytes then depend on the frame,
the model, the bucket and the machine, and never on its neighbours, its slot or its company's
cancelling. Frames that others wait for make their first steps in calls of their own rows, where
nobody keeps them company (`FrameRequest.alone_for`). Throughput mode drops the padding and promises
approximate equality only.

An engine belongs to one thread; `cancel` alone may be called from others.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Literal

import numpy as np
import torch

from consistent_gen import runtime
from consistent_gen.attention.identity import IdentityAttention
from consistent_gen.attention.patch import attached
from consistent_gen.attention.rows import Branch, Call, Row
from consistent_gen.diffusion.seam import PICTURES, Conditioning
from consistent_gen.engine.events import Event, FrameDone, FrameError, Started, Step
from consistent_gen.engine.exactness import DEFAULT_BUCKET, MAX_BUCKET, best_bucket
from consistent_gen.engine.graph import (
    Choose,
    FrameGraph,
    Group,
    call_rows,
    check_choice,
    leaders_first,
)
from consistent_gen.engine.metadata import describe
from consistent_gen.engine.polishing import polished
from consistent_gen.engine.preview import Previewer
from consistent_gen.engine.request import FrameRequest
from consistent_gen.engine.state import FrameState
from consistent_gen.errors import Cancelled, ConsistentGenError, InputError
from consistent_gen.models.backbone import Backbone

# Encoded prompts kept for frames to come; a story's frames share their negative prompt.
_CACHED_CONDITIONS = 256


class Engine:
    """Draws frames with one model.

    Args:
        backbone: the model.
        bucket: rows of a denoiser call, 2..`MAX_BUCKET`; a frame with guidance takes two. "auto"
            measures a few sizes on this machine and takes the smallest of nearly the best rate.
            A frame's bytes depend on it, so it stands in the frame's metadata.
        exact: fixed-size calls; None means yes on a CPU and no elsewhere.
        choose: which of the groups that may step go into the next call (see `graph.Choose`).

    Raises:
        InputError: no such bucket size.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        bucket: int | Literal["auto"] = DEFAULT_BUCKET,
        exact: bool | None = None,
        choose: Choose = leaders_first,
    ) -> None:
        self.backbone = backbone
        self.bucket = best_bucket(backbone) if bucket == "auto" else bucket
        if not 2 <= self.bucket <= MAX_BUCKET:
            raise InputError(f"bucket {bucket} is out of range; expected 2 to {MAX_BUCKET} rows")
        self.exact = backbone.device.type == "cpu" if exact is None else exact
        self._choose = choose
        self._graph = FrameGraph()
        self._numbers = itertools.count()
        self._conditions: OrderedDict[tuple[str, tuple[int, int], float, Branch], Conditioning] = (
            OrderedDict()
        )
        self._previewer = Previewer(backbone)

    @property
    def idle(self) -> bool:
        """Whether no frame is left to work on."""
        return len(self._graph) == 0

    @property
    def frames(self) -> tuple[FrameState, ...]:
        """The frames that have not left, in order of submission; for schedulers to look at."""
        return tuple(self._graph)

    def submit(self, request: FrameRequest) -> str:
        """Queue one frame and return its id.

        Raises:
            InputError: the model cannot draw it, its id is taken, or it names unknown frames.
        """
        return self.submit_gang([request])[0]

    def submit_gang(self, requests: Sequence[FrameRequest]) -> list[str]:
        """Queue frames that must be rows of the same calls, and return their ids.

        A gang steps, fails and is cancelled as a whole. One that is larger than the bucket gets
        calls of its own, of as many buckets as it needs.

        Raises:
            InputError: as `submit`, or the frames differ in steps, size, coupling group or steps
                that they make alone.
        """
        frames: list[FrameState] = []
        for request in requests:
            request.check(self.backbone)
            self._graph.check(request)
            frame_id = request.id or self.free_id()
            if frame_id in self._graph or any(frame_id == frame.id for frame in frames):
                raise InputError(f"frame id {frame_id!r} is taken")
            shape = self.backbone.latent_shape(*request.size(self.backbone))
            alone_for = request.alone_for if self.exact else 0
            settled = request.settled(self.backbone)
            frames.append(FrameState(frame_id, settled, shape, alone_for))
        alike = {(f.key, f.request.settings.steps, f.alone_for) for f in frames}
        if len(alike) != 1:
            raise InputError(
                "the frames of a gang must share size, steps, coupling group "
                "and steps that they make alone"
            )
        self._graph.add(frames)
        return [frame.id for frame in frames]

    def cancel(self, frame_id: str) -> bool:
        """Stop a frame and its twin; they take part in no further call. Returns False if it already
        left.

        The next `step` reports it as a `FrameError` with `errors.Cancelled`.
        """
        for frame in self.frames:
            if frame_id in (frame.id, frame.request.twin_of):
                frame.cancelled = True
        return self._graph.get(frame_id) is not None

    def step(self) -> list[Event]:
        """Make one denoiser call for the next frames, and report what happened."""
        events = self._drop_lost()
        ready = self._graph.ready()
        if not ready:
            assert self.idle, "frames wait for each other"
            return events
        chosen = self._choose(ready, self.bucket)
        check_choice(chosen, ready, self.bucket)
        with torch.inference_mode():
            live = [group for group in chosen if self._start(group, events)]
            if live and self._call(live, events):
                for group in live:
                    self._after_call(group, events)
        return events

    def run(self, requests: Iterable[FrameRequest]) -> Iterator[Event]:
        """Submit all requests, then yield events until the engine is idle.

        Leaving the iterator early cancels what is left of these frames.
        """
        ids = [self.submit(request) for request in requests]
        try:
            while not self.idle:
                yield from self.step()
        finally:
            for frame_id in ids:
                self.cancel(frame_id)
            self._drop_lost()

    def drain(self) -> dict[str, FrameDone]:
        """Step until the engine is idle; finished frames by id. The first error is raised."""
        found = {}
        while not self.idle:
            for event in self.step():
                if isinstance(event, FrameError):
                    raise event.error
                if isinstance(event, FrameDone):
                    found[event.id] = event
        return found

    def free_id(self) -> str:
        """An id that no frame has or had."""
        while (frame_id := f"frame-{next(self._numbers)}") in self._graph:
            continue
        return frame_id

    def _drop_lost(self) -> list[Event]:
        events: list[Event] = []
        for group in self._graph.cancelled():
            self._fail(group, Cancelled(), events)
        while orphans := self._graph.orphaned():
            group, missing = orphans[0]
            error = ConsistentGenError(f"it reads frame {missing!r}, which was not drawn")
            self._fail(group, error, events)
        return events

    def _start(self, group: Group, events: list[Event]) -> bool:
        for frame in group.frames:
            if frame.started:
                continue
            try:
                frame.start(self.backbone, self._condition(frame.request))
            except (ConsistentGenError, RuntimeError, ValueError) as error:
                self._fail(group, _ours(error, "starting"), events)
                return False
            if not frame.request.hidden:
                events.append(Started(frame.id))
        return True

    def _condition(self, request: FrameRequest) -> dict[Branch, Conditioning]:
        """What every row of a frame needs, with the pictures that the frame is given."""
        size, guidance = request.size(self.backbone), request.settings.guidance
        prompts: dict[Branch, str] = {"cond": request.prompt}
        if request.settings.guided:
            prompts["uncond"] = request.negative
        found: dict[Branch, Conditioning] = {}
        for branch, prompt in prompts.items():
            key = (prompt, size, guidance, branch)
            if key not in self._conditions:
                self._conditions[key] = self.backbone.condition(
                    prompt, size, guidance=guidance, negative=branch == "uncond"
                )
            self._conditions.move_to_end(key)
            found[branch] = self._conditions[key]
        while len(self._conditions) > _CACHED_CONDITIONS:
            self._conditions.popitem(last=False)
        if not request.given:
            return found
        assert request.coupling is not None
        given = torch.stack([request.coupling.picture(frame) for frame in request.given])  # k c h w
        return {
            branch: Conditioning(condition.tokens, {**condition.added, PICTURES: given})
            for branch, condition in found.items()
        }

    def _call(self, groups: Sequence[Group], events: list[Event]) -> bool:
        """One denoiser call and one sampler step for every frame; False if it failed."""
        frames = [frame for group in groups for frame in group.frames]
        size = call_rows(groups, self.bucket, self.exact)
        rows: list[Row] = []
        for frame in frames:
            rows += frame.layout_rows(first_slot=len(rows))
        call = Call(size, self.backbone.grid(frames[0].latent_shape), tuple(rows))
        try:
            predictions = self._denoise(call, frames)  # b c h w
            for frame in frames:
                slots = [row.slot for row in call.of_frame(frame.id)]
                frame.advance(predictions[slots[0] : slots[-1] + 1])
                frame.bucket = size if self.exact else None
        except (ConsistentGenError, RuntimeError, ValueError) as error:
            for group in groups:
                self._fail(group, _ours(error, "denoising"), events)
            return False
        return True

    def _denoise(self, call: Call, frames: Sequence[FrameState]) -> torch.Tensor:
        """Predictions [b c h w] for the rows of `call`; dead rows are zeros throughout."""
        device = self.backbone.device
        by_id = {frame.id: frame for frame in frames}
        latents = torch.zeros(call.size, *frames[0].latent_shape, device=device)  # b c h w
        timesteps = torch.zeros(call.size, dtype=frames[0].scheduler.timesteps.dtype)
        first = next(iter(frames[0].conditions.values()))
        tokens = first.tokens.new_zeros(call.size, *first.tokens.shape)  # b t c
        added = {k: v.new_zeros(call.size, *v.shape) for k, v in first.added.items()}
        for row in call.rows:
            frame = by_id[row.frame]
            condition = frame.conditions[row.branch]
            assert frame.latent is not None
            latents[row.slot] = frame.latent
            timesteps[row.slot] = frame.timestep
            tokens[row.slot] = condition.tokens
            for name, value in condition.added.items():
                added[name][row.slot] = value
        with ExitStack() as calls:
            couplings = {id(c): c for frame in frames for c in frame.request.couplings}
            for coupling in couplings.values():
                calls.callback(coupling.end_call)
                coupling.begin_call(call)
            if perturbed := [row.slot for row in call.rows if row.perturbed]:
                model = self.backbone.denoiser
                calls.enter_context(attached(model, IdentityAttention(model, perturbed)))
            return self.backbone.denoise(latents, timesteps.to(device), tokens, added)

    def _after_call(self, group: Group, events: list[Event]) -> None:
        """Report the group's step and, after the last one, its pictures."""
        if any(frame.cancelled for frame in group.frames):
            return  # cancelled during the call: the next step reports it
        finished = group.frames[0].finished
        failed = []
        for frame in group.frames:
            for coupling in frame.request.couplings if finished else ():
                assert frame.latent is not None
                coupling.finished(frame.id, frame.latent)
            if frame.request.hidden:
                continue
            events.append(self._step_event(frame))
            if finished and not self._finish(frame, events):
                failed.append(frame.id)
        if finished:
            self._leave(group, failed)

    def _step_event(self, frame: FrameState) -> Step:
        request = frame.request
        wanted = request.preview != "none" and frame.index % request.preview_every == 0
        preview = None
        if wanted and not frame.finished:
            preview = self._previewer.show(frame.clean_estimate, request.preview)
        return Step(frame.id, frame.index, request.settings.steps, preview)

    def _finish(self, frame: FrameState, events: list[Event]) -> bool:
        assert frame.latent is not None
        try:
            if not bool(torch.isfinite(frame.latent).all()):
                raise ConsistentGenError(
                    "the latent overflowed to infinity or NaN; lower the guidance, "
                    "or load the model as float32"
                )
            image = self._picture(frame)
            if frame.request.redrawing is not None:
                image = frame.request.redrawing.laid_over(image)
        except (ConsistentGenError, RuntimeError, ValueError) as error:
            events.append(FrameError(frame.id, _ours(error, "decoding")))
            return False
        metadata = describe(self.backbone, frame.request, image, bucket=frame.bucket)
        events.append(FrameDone(frame.id, image, metadata))
        return True

    def _picture(self, frame: FrameState) -> np.ndarray:
        """The finished picture, uint8 [h w 3]."""
        assert frame.latent is not None
        settings, seed = frame.request.settings, frame.request.seed
        noise = runtime.generator(seed, "refiner")

        def finish(latent: torch.Tensor, timestep: float) -> np.ndarray:
            if settings.refine:
                return self.backbone.refine(latent, timestep, noise)
            picture: np.ndarray = self.backbone.decode(latent[None])[0]
            return picture

        picture = finish(frame.latent, frame.last_timestep)
        if not settings.polish:
            return picture
        prompt, own = frame.conditions["cond"], runtime.generator(seed, "polish")
        return polished(self.backbone, picture, frame.latent, prompt, finish, own)

    def _fail(self, group: Group, error: ConsistentGenError, events: list[Event]) -> None:
        events += [FrameError(f.id, error, f.request.twin_of) for f in group.frames]
        self._leave(group, [frame.id for frame in group.frames])

    def _leave(self, group: Group, failed: Sequence[str]) -> None:
        self._graph.remove(group, failed=failed)
        for frame in group.frames:
            for coupling in frame.request.couplings:
                coupling.release(frame.id)


def _ours(error: Exception, doing: str) -> ConsistentGenError:
    if isinstance(error, ConsistentGenError):
        return error
    wrapped = ConsistentGenError(f"{doing} failed: {str(error).strip() or type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped
