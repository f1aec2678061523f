"""What a frame of a shared story says of its anchors, so that it can be drawn again alone.

The record goes into the picture's metadata: the recipe by name and hash, the story's seed, and for
each character of the frame its strength and how its anchors were drawn. No tensor is kept; drawing
again draws the anchors first. Reading treats the record as hostile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from consistent_gen.attention.roles import group_name
from consistent_gen.attention.settings import Recipe
from consistent_gen.engine.request import FrameRequest, Subject
from consistent_gen.errors import InputError

if TYPE_CHECKING:
    from consistent_gen.engine.loop import Engine

KEY = "sharing"
MAX_CHARACTERS, MAX_ANCHORS, MAX_TOKENS = 20, 8, 512

RecipeOf = Callable[[str], Recipe]


@dataclass(frozen=True)
class AnchorSet:
    """Characters of a shared story that have the same anchors, these as they were asked for.

    strengths: by character. ids: of the frames that draw the anchors. masked: whether they are
    where the caller said.
    """

    strengths: Mapping[str, float]
    anchors: tuple[FrameRequest, ...]
    ids: tuple[str, ...]
    masked: bool = False


def recipe_hash(recipe: Recipe) -> str:
    """Equal for equal settings of a method."""
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]


def describe_sharing(
    recipe: Recipe,
    seed: int,
    request: FrameRequest,
    cast: Sequence[AnchorSet],
    anchor: int | None = None,
    together: FrameRequest | None = None,
) -> dict[str, Any]:
    """The record of a frame that shows some of `cast`; `anchor` is its number if it is an anchor
    of these itself, and `together` the first frame of several, if it reads that.
    """
    return {
        "recipe": recipe.name,
        "recipe_hash": recipe_hash(recipe),
        "seed": seed,
        "subjects": _subjects(request),
        "anchor": anchor,
        "together": None if together is None else _drawing(together),
        "cast": [
            {
                "strengths": dict(member.strengths),
                "masked": member.masked,
                "anchors": [_drawing(a) for a in member.anchors],
            }
            for member in cast
        ],
    }


def submit_again(engine: Engine, request: FrameRequest, recipe_of: RecipeOf) -> str:
    """Submit the frame of a shared story whose record is in `request.story`; returns its id.

    Its anchors are submitted too, hidden.

    Raises:
        InputError: the record is missing or damaged, the method's settings are not the default
            ones, or a character stands on a picture or a mask that metadata do not hold.
    """
    from consistent_gen.engine.sharing import SharedStory

    record = request.story.get(KEY)
    if not isinstance(record, dict):
        raise InputError(
            f"the picture was drawn with method {request.method!r}, but does not say from which "
            "anchors; draw the story file again instead"
        )
    now = recipe_of(_field(record, "recipe", str))
    told = record.get("recipe_hash")
    alike = (r for r in (now, now.before_twins_shared()) if told == recipe_hash(r))
    recipe = next(alike, None)
    if recipe is None:
        raise InputError(
            f"the picture was drawn with other settings of {now.name} than it has here; "
            "draw the story file again with those settings"
        )
    story = SharedStory(engine, recipe, seed=_field(record, "seed", int))
    frame = replace(request, subjects=_read_subjects(record), id="frame")
    own = record.get("anchor")
    if own is not None and (not isinstance(own, int) or isinstance(own, bool)):
        raise _damaged("anchor")
    cast = _field(record, "cast", list)[: MAX_CHARACTERS + 1]
    if len(cast) > MAX_CHARACTERS:
        raise _damaged("cast")
    for member in cast:
        strengths = _strengths(member)
        anchors = _anchors(member, group_name(strengths), frame)
        if own is not None:
            if len(cast) > 1 or not 0 <= own < len(anchors):
                raise _damaged("anchor")
            anchors[own] = frame
        story.cast_all(strengths, anchors)
    if record.get("together") is not None:
        story.cast_together(_drawn_again(record["together"], "everybody", frame, "first"))
    if own is None:
        story.submit(frame)
    return "frame"


def _strengths(member: Any) -> dict[str, float]:
    found = _field(member, "strengths", dict)
    if not 1 <= len(found) <= MAX_CHARACTERS:
        raise _damaged("strengths")
    return {name: float(_field(found, name, (int, float))) for name in found}


def _anchors(member: Any, name: str, like: FrameRequest) -> list[FrameRequest]:
    if member.get("masked") is not False:
        raise InputError(f"{name!r} stands on a mask of its own, which pictures do not hold")
    found = []
    for number, entry in enumerate(_field(member, "anchors", list)[:MAX_ANCHORS]):
        found.append(_drawn_again(entry, name, like, f"anchor {number} of {name}"))
    return found


def _drawn_again(entry: Any, name: str, like: FrameRequest, frame_id: str) -> FrameRequest:
    if _field(entry, "reference", bool):
        raise InputError(
            f"{name!r} stands on a reference picture, which other pictures do not hold; "
            "draw the story file again instead"
        )
    return replace(
        like,
        prompt=_field(entry, "prompt", str),
        negative=_field(entry, "negative", str),
        seed=_field(entry, "seed", int),
        subjects=_read_subjects(entry),
        id=frame_id,
        hidden=True,
        redrawing=None,
        identities=None,
        moved=float(_field(entry, "moved", (int, float))) if "moved" in entry else 0.0,
    )


def _drawing(request: FrameRequest) -> dict[str, Any]:
    """What a hidden frame's drawing needs beside the settings that it has in common."""
    return {
        "prompt": request.prompt,
        "negative": request.negative,
        "seed": request.seed,
        "subjects": _subjects(request),
        "reference": request.reference is not None,
        **({"moved": request.moved} if request.moved else {}),
    }


def _subjects(request: FrameRequest) -> list[list[Any]]:
    return [[subject.name, list(subject.tokens)] for subject in request.subjects]


def _read_subjects(entry: Mapping[str, Any]) -> tuple[Subject, ...]:
    found = []
    for pair in _field(entry, "subjects", list)[: 4 * MAX_CHARACTERS]:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise _damaged("subjects")
        tokens = pair[1]
        good = isinstance(tokens, list) and all(
            isinstance(t, int) and not isinstance(t, bool) and 0 <= t < MAX_TOKENS for t in tokens
        )
        if not good:
            raise _damaged("subjects")
        found.append(Subject(name=pair[0], tokens=tuple(tokens)))
    return tuple(found)


def _field(entry: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _damaged(name)
    return value


def _damaged(name: str) -> InputError:
    return InputError(f"the picture's record of its anchors has a missing or wrong {name!r}")
