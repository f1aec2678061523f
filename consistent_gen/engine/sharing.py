"""Stories whose frames share attention, drawn by the engine.

    story = SharedStory(engine, resolve(METHODS, "consistory")().recipe(), seed=7)
    story.cast("Mia", [portrait, first_scene], strength=1.0)
    story.cast("Bruno", [his_portrait, his_first_scene])
    story.cast_together(first_scene_of_both)
    story.cast_all({"Ada": 1.0, "Tom": 1.0}, [first_scene_of_these, their_second])
    story.submit(next_scene)
    while not engine.idle:
        events = engine.step()

The pass graph is small: a frame's twin (the same frame without sharing, if the recipe wants one)
comes before the frame; a character's anchors step together, behind their twins; every reader of a
bank stays a step behind the anchors; the first frame of several characters together is such a
reader, and later frames of the same characters read it as well; at steps that mix queries a frame
takes its rows twice. Otherwise frames are independent: they share calls with anybody's, can
be drawn again alone, and cost the same however long the story is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from consistent_gen.attention.bank import DEFAULT_LIMIT_BYTES
from consistent_gen.attention.calls import Call, Row
from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.patch import attach, detach
from consistent_gen.attention.roles import FrameRole, Subject, beside
from consistent_gen.attention.roles import group_name as group_name
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import Recipe
from consistent_gen.attention.sharing import Sharing
from consistent_gen.engine.coupling import BatchLayout, Coupling
from consistent_gen.engine.loop import Engine
from consistent_gen.engine.request import FrameRequest
from consistent_gen.engine.sharing_record import KEY, AnchorSet, describe_sharing
from consistent_gen.errors import InputError


class SharedStory(Coupling):
    """One story's characters, their anchors, and the frames that read them.

    Args:
        engine: draws the frames; one engine serves any number of stories.
        recipe: the method as data. seed: of the method's own random choices.
        limit_bytes: most memory for the anchors' bank. bank_device: where it is kept; None is
            beside the model.

    Raises:
        InputError: a model family whose attention cannot be shared.
    """

    def __init__(
        self,
        engine: Engine,
        recipe: Recipe,
        *,
        seed: int = 0,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        bank_device: torch.device | None = None,
    ) -> None:
        self.engine = engine
        self.run = SharedRun(recipe, seed=seed, limit_bytes=limit_bytes, bank_device=bank_device)
        self._sites = find_sites(engine.backbone.unet)
        self._policy = Sharing(self.run)
        self._policy.bind(self._sites)
        self._strengths: dict[str, float] = {}
        self._cast: dict[str, AnchorSet] = {}
        self._anchors: dict[str, tuple[str, ...]] = {}  # ids of frames, by character
        self._together: dict[str, FrameRequest] = {}  # by `group_name`
        self._live: set[str] = set()
        self._attached = False

    def cast(
        self,
        name: str,
        anchors: Sequence[FrameRequest],
        *,
        strength: float = 1.0,
        masks: Mapping[int, np.ndarray] | None = None,
    ) -> list[str]:
        """Submit the anchors of a character; returns their frames' ids.

        anchors: as many as the recipe has; each names `name` among its subjects and nobody else,
            and all have equal steps, scheduler, size and guidance.
        strength: weight of the character's shared keys in its frames, 1 as published, 0 is off.
        masks: anchor number -> where the character is, floats 0..1 [h w], instead of what the
            model's attention says.

        Raises:
            InputError: too few or too many anchors, an anchor without the character or with more,
                anchors that differ in settings. LimitError: the bank would be too large.
        """
        return self._cast_group({name: strength}, anchors, masks or {})

    def cast_all(
        self, strengths: Mapping[str, float], anchors: Sequence[FrameRequest]
    ) -> list[str]:
        """Submit anchors that show several characters, for all of them; returns the frames' ids.

        strengths: by character, as in `cast`. anchors: each names all of them and nobody else of
        the story.

        Raises:
            InputError, LimitError: as `cast`.
        """
        return self._cast_group(strengths, anchors, {})

    def _cast_group(
        self,
        strengths: Mapping[str, float],
        anchors: Sequence[FrameRequest],
        masks: Mapping[int, np.ndarray],
    ) -> list[str]:
        names = group_name(strengths)
        wanted = self.run.recipe.anchors
        if len(anchors) != wanted:
            raise InputError(
                f"{names!r} has {len(anchors)} anchors; {self.run.recipe.name} takes {wanted}"
            )
        uses = [Subject(name=name, strength=strength) for name, strength in strengths.items()]
        for use in uses:
            if use.name in self._anchors:
                raise InputError(f"the character {use.name!r} is cast already; drop it first")
        for number, request in enumerate(anchors):
            request.check(self.engine.backbone)
            shown = {s.name for s in request.subjects} & {*strengths, *self._strengths}
            if shown != set(strengths):
                raise InputError(
                    f"anchor {number} of {names!r} must show it and no other character of the "
                    f"story; it shows: {', '.join(sorted(shown)) or 'nobody'}"
                )
        anchors = [request.settled(self.engine.backbone) for request in anchors]
        self.run.check_bytes(len(uses) * self.predicted_bytes(anchors[0]))
        self._strengths |= {use.name: use.strength for use in uses}
        cast = AnchorSet(dict(strengths), tuple(anchors), masked=bool(masks))
        self._cast |= dict.fromkeys(strengths, cast)
        gang = [
            self._anchor(number, request, masks.get(number))
            for number, request in enumerate(anchors)
        ]
        ids = self.engine.submit_gang(gang)
        self._anchors |= dict.fromkeys(strengths, tuple(ids))
        self._live.update(ids)
        return ids

    def cast_together(self, request: FrameRequest) -> str:
        """Submit a frame of several cast characters that later frames of the same characters read
        beside their anchors; returns its id. It reads the anchors like any other frame.

        There they stand beside each other, as large as two are and as the model has seen them, and
        there is no question of whose keys a query may read.

        Raises:
            InputError: it shows fewer than two cast characters, or these have such a frame already.
                As `submit`.
        """
        request = self._checked(request)
        uses = self._uses(request)
        names = [use.name for use in uses]
        group = group_name(names)
        if len(uses) < 2 or group in self._together:
            has = "has one already" if group in self._together else "shows fewer than two"
            raise InputError(
                "one frame is read of each group of two cast characters or more; "
                f"that of {group or 'nobody'} {has}"
            )
        # Of each character as much as one of its anchors leaves.
        per_anchor = self.predicted_bytes(request) // self.run.recipe.anchors
        self.run.check_bytes(len(uses) * per_anchor)
        role = FrameRole(frame=str(request.id), subjects=uses, together=self.run.recipe.anchors)
        self._submit(role, self._read_ahead(request), self._ahead(names), request)
        self._together[group] = request
        return role.frame

    def _anchor(self, number: int, request: FrameRequest, mask: np.ndarray | None) -> FrameRequest:
        """Register an anchor and submit its twin; returns the request that is ready to go."""
        frame_id = request.id or self.engine.free_id()
        role = FrameRole(frame=frame_id, subjects=self._uses(request), anchor=number)
        settings = _settings(request, self.engine)
        request = self._read_ahead(request)
        twin = self._admit(role, request, settings)
        if mask is not None:
            plane = torch.from_numpy(np.asarray(mask, dtype=np.float32))
            self.run.masks.set_external(twin or frame_id, role.subjects[0].name, plane)
        after = request.after if twin is None else (*request.after, twin)
        lead = self.run.recipe.lead(request.settings.made_steps)
        alone_for = min(lead, request.settings.made_steps - 1) if lead > 1 else 0
        ready = replace(request, id=frame_id, after=after, coupling=self, alone_for=alone_for)
        return self._recorded(ready, role)

    def submit(self, request: FrameRequest) -> str:
        """Submit a frame; it reads the anchors of every cast character among its subjects.

        Raises:
            InputError: its steps, scheduler, size or guidance differ from the anchors'; names the
                difference. As `Engine.submit`.
        """
        request = self._checked(request)
        uses = self._uses(request)
        names = [use.name for use in uses]
        first = self._together.get(group_name(names))
        if first is None:
            ahead = self._ahead(names)
        else:
            uses = tuple(replace(use, beside=beside(use.name, names)) for use in uses)
            ahead = (str(first.id),)
        role = FrameRole(frame=str(request.id), subjects=uses)
        self._submit(role, request, ahead, request)
        return role.frame

    def _checked(self, request: FrameRequest) -> FrameRequest:
        """The request with an id and the model's recommendations."""
        request.check(self.engine.backbone)
        settled = request.settled(self.engine.backbone)
        return replace(settled, id=request.id or self.engine.free_id())

    def _ahead(self, names: Sequence[str]) -> tuple[str, ...]:
        """Ids of the frames that are anchors of these characters, each once."""
        return tuple({anchor: None for name in names for anchor in self._anchors[name]})

    def _submit(
        self, role: FrameRole, request: FrameRequest, ahead: tuple[str, ...], like: FrameRequest
    ) -> None:
        """Submit a frame that stays behind others, and its twin; `like` has its settings."""
        twin = self._admit(role, request, _settings(like, self.engine))
        ready = replace(
            request,
            after=request.after if twin is None else (*request.after, twin),
            behind=(*request.behind, *ahead),
            behind_by=self.run.recipe.lead(request.settings.made_steps),
            coupling=self,
        )
        self.engine.submit(self._recorded(ready, role))
        self._live.add(role.frame)

    def _recorded(self, request: FrameRequest, role: FrameRole) -> FrameRequest:
        """The request with what its picture's metadata say of the sharing."""
        cast = {id(found): found for found in (self._cast[use.name] for use in role.subjects)}
        together = None
        if any(use.beside for use in role.subjects):
            together = self._together[group_name(use.name for use in role.subjects)]
        record = describe_sharing(
            self.run.recipe, self.run.seed, request, list(cast.values()), role.anchor, together
        )
        return replace(request, story={**request.story, KEY: record})

    def drop(self, name: str) -> None:
        """Forget a character, who has the same anchors, their first frames with others, and free
        their bank.
        """
        cast = self._cast.get(name)
        for each in () if cast is None else cast.strengths:
            for group, request in list(self._together.items()):
                if any(subject.name == each for subject in request.subjects):
                    self.drop_together(group)
            self.run.drop(each)
            self._anchors.pop(each, None)
            self._strengths.pop(each, None)
            self._cast.pop(each, None)

    def drop_together(self, group: str) -> None:
        """Forget the first frame of a group (`roles.group_name`), and free its bank."""
        request = self._together.pop(group, None)
        if request is not None:
            names = {s.name for s in request.subjects if s.name in self._cast}
            for name in names:
                self.run.drop(beside(name, names))

    def looks(self, frame: str, step: int, steps: int) -> bool:
        """See `Coupling`."""
        return self.run.looks(frame, step, steps)

    def check(self, frame: str, step: int, request: FrameRequest) -> None:
        """See `Coupling`: what a frame leaves must fit, once its masks say how much it is."""
        role = self.run.roles.get(frame)
        if role is None or step != self.run.recipe.settled(request.settings.made_steps):
            return
        names = [name for _, name in role.leaving]
        wanted = sum(self._bank_bytes(request, name) for name in names)
        self.run.check_bytes(wanted - sum(self.run.bank.bytes_of(name) for name in names))

    def begin_call(self, layout: BatchLayout) -> None:
        """See `Coupling`."""
        if not self._attached:
            attach(self.engine.backbone.unet, self._policy)
            self._attached = True
        trained = int(self.engine.backbone.scheduler_config.get("num_train_timesteps", 1000))
        rows = tuple(
            Row(
                r.slot,
                r.frame,
                r.branch,
                r.step,
                r.request.settings.made_steps,
                (r.timestep + 1) / trained,
                r.look,
            )
            for r in layout.of_coupling(self)
        )
        _, height, width = layout.latent_shape
        self._policy.begin(Call(layout.size, (height, width), rows))

    def end_call(self) -> None:
        """See `Coupling`."""
        self._policy.end()

    def release(self, frame: str) -> None:
        """See `Coupling`: forget what only this frame needed, leave the model after the last."""
        self._live.discard(frame)
        self.run.release(frame)
        if self._attached and not self._live:
            detach(self.engine.backbone.unet, self._policy)
            self._attached = False

    def _admit(
        self, role: FrameRole, request: FrameRequest, settings: Mapping[str, Any]
    ) -> str | None:
        """Register a frame and submit its twin; returns the twin's id if there is one."""
        twin = self.run.add_with_twin(role, settings)
        if twin is not None:
            unshared = replace(request, id=twin, hidden=True, preview="none", coupling=self)
            self.engine.submit(unshared)
            self._live.add(twin)
        return twin

    def _read_ahead(self, anchor: FrameRequest) -> FrameRequest:
        """The anchor, guided for as long as rows without the prompt read it some steps ahead."""
        recipe = self.run.recipe
        settings = anchor.settings
        if not settings.guided or "uncond" not in recipe.branches:
            return anchor
        guided = settings.guided_steps + recipe.lead(settings.made_steps) - 1
        return anchor.with_settings(guidance_until=min(guided / settings.steps, 1.0))

    def _uses(self, request: FrameRequest) -> tuple[Subject, ...]:
        """The request's cast subjects; the words of one who is mentioned twice are joined."""
        tokens: dict[str, tuple[int, ...]] = {}
        for subject in request.subjects:
            if subject.name in self._strengths:
                tokens[subject.name] = (*tokens.get(subject.name, ()), *subject.tokens)
        return tuple(
            Subject(name=name, tokens=found, strength=self._strengths[name])
            for name, found in tokens.items()
        )

    def predicted_bytes(self, request: FrameRequest, name: str | None = None) -> int:
        """Bytes that the bank of one character takes, with anchors like `request`.

        Exact for methods that share every token; with masks it takes the subject to cover
        `SharedRun.expected_share` of the picture, or what its masks say if `name` is a cast
        character (or a name of exports). That is exact from the step on at which they are final
        (see `Recipe.settled`), and then checked once more.
        """
        return self._bank_bytes(self._read_ahead(request.settled(self.engine.backbone)), name)

    def _bank_bytes(self, request: FrameRequest, name: str | None) -> int:
        backbone = self.engine.backbone
        _, height, width = backbone.latent_shape(*request.size(backbone))
        sites = self._sites.values()
        grids = {site.grid((height, width)) for site in sites if site.sees_images}
        known = None if name is None else self.run.covered(name, grids, request.settings.made_steps)
        return self.run.predicted_bytes(
            sites,
            (height, width),
            steps=request.settings.made_steps,
            guided=request.settings.guided_steps,
            element_bytes=backbone.dtype.itemsize,
            covered=known or self.run.expected_share,
        )


def _settings(request: FrameRequest, engine: Engine) -> dict[str, Any]:
    """What anchors and readers must have in common."""
    return {
        **vars(request.settings),
        "adapters": sorted(getattr(engine.backbone.unet, "peft_config", None) or {}),
    }
