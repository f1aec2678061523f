"""What a lease says: one frame of a story, as JSON, and the plan that follows from it."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from consistent_gen.client.types import StoryIn
from consistent_gen.errors import InputError
from consistent_gen.story.marking import Only
from consistent_gen.story.plan import Model, StoryPlan
from services.plans.planner import validate_story, with_prompt

ORDER_SCHEMA = 1
# Fields of a request that say how to serve it and not what to draw.
_SERVING = {"preview_every", "deadline_s", "bulk"}
_KEPT_PLANS = 64


@dataclass(frozen=True, kw_only=True)
class DrawnPart:
    """A part of a drawing. picture: the drawing, an artifact. One of these says what is marked:
    mask: an artifact that is light there; box: its sides, in shares of the picture; character: its
    number from the left, from 1, and how many there should be, with `only` its face or its body.
    """

    picture: str
    mask: str | None = None
    box: Sequence[float] | None = None
    character: Sequence[int] | None = None
    only: Only | None = None

    @property
    def artifacts(self) -> list[str]:
        """The files that it needs."""
        return [self.picture, *([] if self.mask is None else [self.mask])]


@dataclass(frozen=True, kw_only=True)
class FrameOrder:
    """One frame to draw: what travels as the JSON `order` of a lease.

    story: as the client sent it, with what the library fills in. frame: 0-based index.
    version: 1 is the first drawing. prompt: instead of the frame's own. references: character ->
    ids of pictures. preview_every: steps between previews, 0 for none. part: which part of which
    drawing is drawn again, None for a whole frame. looks: of the references that will not be kept
    (`services.store.looks`), so that what was drawn from a picture can be found when it is gone.
    loras: hashes and weights of the LoRA files that it was planned with.
    request, trace: id of the request that asked for it, and its traceparent; nothing that is drawn
    follows from them.
    """

    story: StoryIn
    frame: int
    version: int
    seed: int
    prompt: str | None = None
    references: Mapping[str, Sequence[str]] = field(default_factory=dict)
    preview_every: int = 0
    part: DrawnPart | None = None
    looks: Sequence[str] = ()
    loras: Sequence[tuple[str, float]] = ()
    request: str = ""
    trace: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "schema": ORDER_SCHEMA,
            "story": self.story.model_dump(mode="json", exclude_none=True),
            "frame": self.frame,
            "version": self.version,
            "seed": self.seed,
            "prompt": self.prompt,
            "references": {name: list(ids) for name, ids in self.references.items()},
            "preview_every": self.preview_every,
            **({} if self.part is None else {"part": vars(self.part)}),
            **({"looks": list(self.looks)} if self.looks else {}),
            **({"loras": [list(lora) for lora in self.loras]} if self.loras else {}),
            **({"request": self.request} if self.request else {}),
            **({"trace": self.trace} if self.trace else {}),
        }

    @classmethod
    def from_json(cls, order: Mapping[str, Any]) -> FrameOrder:
        """Read `to_json`'s value.

        Raises:
            InputError: another schema, a field is missing, or a frame that the story lacks.
        """
        if order.get("schema") != ORDER_SCHEMA:
            raise InputError(
                f"an order has schema {order.get('schema')!r}; this server reads {ORDER_SCHEMA}: "
                "let gateway and workers be of one version"
            )
        try:
            found = cls(
                story=StoryIn.model_validate(order["story"]),
                frame=int(order["frame"]),
                version=int(order["version"]),
                seed=int(order["seed"]),
                prompt=order.get("prompt"),
                references=order.get("references") or {},
                preview_every=int(order.get("preview_every") or 0),
                part=None if order.get("part") is None else DrawnPart(**order["part"]),
                looks=tuple(order.get("looks") or ()),
                loras=tuple((str(a), float(b)) for a, b in order.get("loras") or ()),
                request=str(order.get("request") or ""),
                trace=str(order.get("trace") or ""),
            )
        except ValidationError as error:
            raise InputError(f"an order's story: {error.errors()[0]['msg']}") from None
        except (KeyError, TypeError, ValueError):
            raise InputError("an order lacks a field or has one of the wrong kind") from None
        if not 0 <= found.frame < len(found.story.frames):
            raise InputError(f"the story has {len(found.story.frames)} frames, none {found.frame}")
        return found

    def candidates(self, plan: StoryPlan) -> int:
        """How many drawings of the frame are made, of which the best is kept: those of the plan,
        unless somebody asked for another seed or other words.
        """
        asked = (
            self.part is None and self.prompt is None and self.seed == plan.frames[self.frame].seed
        )
        return plan.best_of if asked else 1

    @property
    def digest(self) -> str:
        """Names all that the story's pictures follow from, for one model."""
        said = self.story.model_dump(mode="json", exclude=_SERVING)
        references = {name: list(ids) for name, ids in self.references.items()}
        text = json.dumps([said, references], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


class PlanBook:
    """Plans of the stories that are being drawn, so that each is made once and not per frame."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._plans: OrderedDict[tuple[str, int, str | None], StoryPlan] = OrderedDict()

    def plans(self, order: FrameOrder, folder: Path | None) -> tuple[StoryPlan, StoryPlan]:
        """(the story as first asked for, the same with the order's own prompt).

        folder: where the files lie that `order.references` names.

        Raises:
            InputError: the model cannot draw it or has other LoRA files than it was planned with,
                or a reference is missing.
        """
        if list(order.loras) != [(lora.sha256, lora.weight) for lora in self._model.loras]:
            has = ", ".join(lora.words for lora in self._model.loras) or "none"
            raise InputError(
                f"this worker draws with the LoRAs {has}, and the frame was planned with others; "
                "give gateway and workers the same engine.loras"
            )
        base = self._plan(order, None, folder)
        return base, base if order.prompt is None else self._plan(order, order.prompt, folder)

    def _plan(self, order: FrameOrder, prompt: str | None, folder: Path | None) -> StoryPlan:
        key = order.digest, order.frame if prompt is not None else -1, prompt
        if key not in self._plans:
            story = order.story if prompt is None else with_prompt(order.story, order.frame, prompt)
            plan = validate_story(story, self._model)
            if order.references:
                plan = validate_story(
                    story, self._model, references=order.references, folder=folder
                )
            self._plans[key] = plan
        self._plans.move_to_end(key)
        while len(self._plans) > _KEPT_PLANS:
            self._plans.popitem(last=False)
        return self._plans[key]
