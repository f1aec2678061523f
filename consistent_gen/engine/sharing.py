"""Stories whose frames share attention, drawn by the engine.

    story = SharedStory(engine, recipe_of("consistory"), seed=7)
    story.cast("Mia", [portrait, first_scene], strength=1.0)
    story.cast("Bruno", [his_portrait, his_first_scene])
    story.cast_together(first_scene_of_both)
    story.cast_all({"Ada": 1.0, "Tom": 1.0}, [first_scene_of_these, their_second])
    story.submit(next_scene)
    while not engine.idle:
        events = engine.step()

The pass graph is small: a frame's twin (the same frame in a first pass, if the recipe wants one)
comes before the frame; a character's anchors step together, behind their twins; every reader of a
bank stays a step behind the anchors, and where first passes share, its twin behind their twins; the
first frame of several characters together is such a reader, and later frames of the same characters
read it as well; at steps that mix queries a frame takes its rows twice. Otherwise frames are
independent: they share calls with anybody's, can be drawn again alone, and cost the same however
long the story is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from consistent_gen.attention.bank import DEFAULT_LIMIT_BYTES
from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.patch import attach, detach
from consistent_gen.attention.roles import FrameRole, Source, Subject, twin_id
from consistent_gen.attention.roles import group_name as group_name
from consistent_gen.attention.rows import Call
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import Recipe
from consistent_gen.attention.sharing import Sharing
from consistent_gen.diffusion.seam import PICTURES, SHARING
from consistent_gen.engine.coupling import Coupling
from consistent_gen.engine.loop import Engine
from consistent_gen.engine.request import FrameRequest, unable_words
from consistent_gen.engine.sharing_record import KEY, AnchorSet, describe_sharing
from consistent_gen.errors import InputError


class SharedStory(Coupling):
    """One story's characters, their anchors, and the frames that read them.

    Args:
        engine: draws the frames; one engine serves any number of stories.
        recipe: the method as data. seed: of the method's own random choices.
        limit_bytes: most memory for the anchors' bank.

    Raises:
        InputError: a model family whose attention cannot be shared, or a method that gives pictures
            to a model that takes none.
    """

    def __init__(
        self,
        engine: Engine,
        recipe: Recipe,
        *,
        seed: int = 0,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
    ) -> None:
        self.engine = engine
        backbone = engine.backbone
        for needs, lacking in ((recipe.pictures, PICTURES), (recipe.shares, SHARING)):
            if needs and (reason := backbone.unable.get(lacking)):
                raise InputError(unable_words(f"method {recipe.name!r}", backbone.name, reason))
        if backbone.seam.flow:
            recipe = recipe.at_few_steps()  # there are transformers of four steps and of one
        self.run = SharedRun(recipe, seed=seed, limit_bytes=limit_bytes)
        self._sites = find_sites(engine.backbone.denoiser)
        self._policy = Sharing(self.run)
        self._policy.bind(self._sites)
        self._cast: dict[str, AnchorSet] = {}
        self._together: dict[frozenset[str], FrameRequest] = {}
        self._pictures: dict[str, Tensor] = {}  # id of what frames are given -> its latent c h w
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
                anchors that differ in settings. LimitError: the bank might become too large;
                nothing is drawn then.
        """
        return self.cast_all({name: strength}, anchors, masks=masks)

    def cast_all(
        self,
        strengths: Mapping[str, float],
        anchors: Sequence[FrameRequest],
        *,
        masks: Mapping[int, np.ndarray] | None = None,
    ) -> list[str]:
        """Submit anchors that show several characters, for all of them; returns the frames' ids.

        strengths: by character, as in `cast`. anchors: each names all of them and nobody else of
        the story. masks: of the first of them.

        Raises:
            InputError, LimitError: as `cast`.
        """
        self._check_cast(strengths, anchors)
        anchors = [request.settled(self.engine.backbone) for request in anchors]
        each = self.predicted_bytes(anchors[0])
        self.run.bank.promise((Source(name) for name in strengths), each)
        ids = [request.id or self.engine.free_id() for request in anchors]
        cast = AnchorSet(dict(strengths), tuple(anchors), tuple(ids), masked=bool(masks))
        self._cast |= dict.fromkeys(strengths, cast)
        try:
            admitted = [
                self._anchor(number, replace(request, id=frame), (masks or {}).get(number))
                for number, (request, frame) in enumerate(zip(anchors, ids, strict=True))
            ]
            twins = [twin for _, twin in admitted if twin is not None]
            # First passes that read each other go together.
            gangs = [twins] if self.run.recipe.twins_share else [[twin] for twin in twins]
            for gang in filter(None, gangs):
                self.engine.submit_gang(gang)
            self.engine.submit_gang([request for request, _ in admitted])
        except BaseException:
            self.drop(next(iter(strengths)))
            raise
        self._live.update(ids)
        return ids

    def _check_cast(self, strengths: Mapping[str, float], anchors: Sequence[FrameRequest]) -> None:
        names, wanted = group_name(strengths), self.run.recipe.anchors
        if len(anchors) != wanted:
            raise InputError(
                f"{names!r} has {len(anchors)} anchors; {self.run.recipe.name} takes {wanted}"
            )
        for name, strength in strengths.items():
            Subject(name=name, strength=strength)  # refuses a strength out of range
            if name in self._cast:
                raise InputError(f"the character {name!r} is cast already; drop it first")
        for number, request in enumerate(anchors):
            request.check(self.engine.backbone)
            shown = {s.name for s in request.subjects} & {*strengths, *self._cast}
            if shown != set(strengths):
                raise InputError(
                    f"anchor {number} of {names!r} must show it and no other character of the "
                    f"story; it shows: {', '.join(sorted(shown)) or 'nobody'}"
                )

    def _anchor(
        self, number: int, request: FrameRequest, mask: np.ndarray | None
    ) -> tuple[FrameRequest, FrameRequest | None]:
        """Register an anchor and its twin; returns their requests, ready to go.

        mask: where the caller says that the character is, [h w] in [0, 1], or None.
        """
        role = FrameRole(frame=str(request.id), subjects=self._uses(request), anchor=number)
        steps = request.settings.steps
        lead = self.run.recipe.lead(steps)
        alone_for = min(lead, steps - 1) if lead > 1 else 0
        ahead = replace(self._read_ahead(request), alone_for=alone_for)
        admitted = self._admit(role, ahead, like=request)
        if mask is not None:
            plane = torch.from_numpy(np.asarray(mask, dtype=np.float32))
            self.run.set_mask(role.frame, role.subjects[0].name, plane)
        return admitted

    def cast_together(self, request: FrameRequest) -> str:
        """Submit a frame of several cast characters that later frames of the same characters read
        beside their anchors; returns its id. It reads the anchors like any other frame.

        There they stand beside each other, as large as two are and as the model has seen them, and
        there is no question of whose keys a query may read.

        Raises:
            InputError: it shows fewer than two cast characters, or these have such a frame already.
                As `submit`. LimitError: as `cast`.
        """
        request = self._checked(request)
        uses, recipe = self._uses(request), self.run.recipe
        group = frozenset(use.name for use in uses)
        if len(uses) < 2 or group in self._together:
            has = "has one already" if group in self._together else "shows fewer than two"
            raise InputError(
                "one frame is read of each group of two cast characters or more; "
                f"that of {group_name(group) or 'nobody'} {has}"
            )
        role = FrameRole(frame=str(request.id), subjects=uses, together=recipe.anchors)
        each = self.predicted_bytes(request) // recipe.anchors  # as much as one anchor leaves
        self.run.bank.promise((source for _, source in role.leaving), each)
        self._together[group] = request
        try:
            self._submit(role, self._read_ahead(request), self._anchors_of(uses), like=request)
        except BaseException:
            self.drop_together(group_name(group))
            raise
        return role.frame

    def submit(self, request: FrameRequest) -> str:
        """Submit a frame; it reads the anchors of every cast character among its subjects.

        Raises:
            InputError: its steps, scheduler, size or guidance differ from the anchors'; names the
                difference. As `Engine.submit`.
        """
        request = self._checked(request)
        uses = self._uses(request)
        group = frozenset(use.name for use in uses)
        first = self._together.get(group)
        ahead = self._anchors_of(uses)
        if first is not None:  # it stays behind the anchors itself
            uses = tuple(replace(use, beside=group) for use in uses)
            ahead = (str(first.id),)
        role = FrameRole(frame=str(request.id), subjects=uses)
        self._submit(role, request, ahead, like=request)
        return role.frame

    def _checked(self, request: FrameRequest) -> FrameRequest:
        """The request with an id and the model's recommendations."""
        request.check(self.engine.backbone)
        settled = request.settled(self.engine.backbone)
        return replace(settled, id=request.id or self.engine.free_id())

    def _anchors_of(self, uses: Iterable[Subject]) -> tuple[str, ...]:
        """Ids of the frames that are anchors of these characters, each once."""
        return tuple({frame: None for use in uses for frame in self._cast[use.name].ids})

    def _submit(
        self, role: FrameRole, request: FrameRequest, ahead: tuple[str, ...], *, like: FrameRequest
    ) -> None:
        """Submit a frame that stays behind others, and its twin; `like` has its settings."""
        recipe = self.run.recipe
        if recipe.pictures:
            request = replace(request, after=(*request.after, *ahead), given=ahead)
        else:
            behind_by = recipe.lead(request.settings.steps)
            request = replace(request, behind=(*request.behind, *ahead), behind_by=behind_by)
        ready, twin = self._admit(role, request, like=like)
        if twin is not None:
            ahead = tuple(twin_id(id) for id in ahead) if recipe.twins_share else ()
            self.engine.submit(replace(twin, behind=(*twin.behind, *ahead)))
        self.engine.submit(ready)
        self._live.add(role.frame)

    def _admit(
        self, role: FrameRole, request: FrameRequest, *, like: FrameRequest
    ) -> tuple[FrameRequest, FrameRequest | None]:
        """Register a frame and its twin, if it has one; returns the frame's request, with what its
        picture will say of the sharing, and the twin's, both ready to go.
        """
        twin = self.run.add_with_twin(role, _settings(like, self.engine))
        first = None
        if twin is not None:
            first = replace(
                request, id=twin, twin_of=role.frame, hidden=True, preview="none", coupling=self,
                behind=like.behind, behind_by=like.behind_by, alone_for=like.alone_for,
            )  # fmt: skip
            self._live.add(twin)
        casts = {id(cast): cast for cast in (self._cast[use.name] for use in role.subjects)}
        beside = next((use.beside for use in role.subjects if use.beside), None)
        record = describe_sharing(
            self.run.recipe, self.run.seed, request, list(casts.values()), role.anchor,
            None if beside is None else self._together[beside],
        )  # fmt: skip
        after = request.after if twin is None else (*request.after, twin)
        story = {**request.story, KEY: record}
        return replace(request, after=after, coupling=self, story=story), first

    def drop(self, name: str) -> None:
        """Forget a character, who has the same anchors, their first frames with others, and free
        their bank.
        """
        cast = self._cast.get(name)
        for each in () if cast is None else cast.strengths:
            for group in [group for group in self._together if each in group]:
                self.drop_together(group_name(group))
            self.run.drop(each)
            self._cast.pop(each, None)
        for frame in () if cast is None else cast.ids:
            self._pictures.pop(frame, None)

    def drop_together(self, group: str) -> None:
        """Forget the first frame of a group (`group_name`), and free its bank."""
        for names in [names for names in self._together if group_name(names) == group]:
            self._pictures.pop(str(self._together.pop(names).id), None)
            for name in names:
                self.run.drop(name, names)

    def looks(self, frame: str, step: int, steps: int) -> bool:
        """See `Coupling`."""
        return self.run.looks(frame, step, steps)

    def begin_call(self, call: Call) -> None:
        """See `Coupling`."""
        if not self._attached:
            attach(self.engine.backbone.denoiser, self._policy)
            self._attached = True
        self._policy.begin(replace(call, rows=self.rows_in(call)))

    def end_call(self) -> None:
        """See `Coupling`."""
        self._policy.end()

    def moved(self, frame: str, share: float) -> None:
        """See `Coupling`: its subjects stand elsewhere now."""
        self.run.move(frame, share)

    def finished(self, frame: str, latent: Tensor) -> None:
        """See `Coupling`: keep what later frames may be given."""
        givers = {id for cast in self._cast.values() for id in cast.ids}
        givers |= {str(first.id) for first in self._together.values()}
        if self.run.recipe.pictures and frame in givers:
            self._pictures[frame] = latent.clone()

    def picture(self, frame: str) -> Tensor:
        """See `Coupling`."""
        return self._pictures[frame]

    def release(self, frame: str) -> None:
        """See `Coupling`: forget what only this frame needed, leave the model after the last."""
        self._live.discard(frame)
        self.run.release(frame)
        if self._attached and not self._live:
            detach(self.engine.backbone.denoiser, self._policy)
            self._attached = False

    def _read_ahead(self, anchor: FrameRequest) -> FrameRequest:
        """The anchor, guided for as long as rows without the prompt read it some steps ahead."""
        recipe = self.run.recipe
        settings = anchor.settings
        if not settings.guided or "uncond" not in recipe.branches:
            return anchor
        guided = settings.guided_steps + recipe.lead(settings.steps) - 1
        return anchor.with_settings(guidance_until=min(guided / settings.steps, 1.0))

    def _uses(self, request: FrameRequest) -> tuple[Subject, ...]:
        """The request's cast subjects; the words of one who is mentioned twice are joined."""
        tokens: dict[str, tuple[int, ...]] = {}
        for subject in request.subjects:
            if subject.name in self._cast:
                tokens[subject.name] = (*tokens.get(subject.name, ()), *subject.tokens)
        return tuple(
            Subject(name=name, tokens=found, strength=self._cast[name].strengths[name])
            for name, found in tokens.items()
        )

    def predicted_bytes(self, request: FrameRequest) -> int:
        """Bytes that the bank of one character takes at most, with anchors like `request`.

        Exact for methods that share every token; with masks it is as if the character filled the
        picture.
        """
        backbone = self.engine.backbone
        request = self._read_ahead(request.settled(backbone))
        latent = backbone.grid(backbone.latent_shape(*request.size(backbone)))
        return self.run.most_bytes(
            self._sites.values(),
            latent,
            steps=request.settings.steps,
            guided=request.settings.guided_steps,
            element_bytes=backbone.dtype.itemsize,
        )


def _settings(request: FrameRequest, engine: Engine) -> dict[str, Any]:
    """What anchors and readers must have in common."""
    return {
        **vars(request.settings),
        "adapters": sorted(getattr(engine.backbone.denoiser, "peft_config", None) or {}),
    }
