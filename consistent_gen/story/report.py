"""report.json: what was drawn, with what, how long it took, and how well it was scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from consistent_gen.models.loras import Lora
from consistent_gen.runtime import versions
from consistent_gen.story.best_of import ChosenFrame
from consistent_gen.story.mending import Tries
from consistent_gen.story.output import SCHEMA, frame_path
from consistent_gen.story.plan import StoryPlan

DECIMALS = 6


@dataclass(frozen=True)
class StoryScores:
    """One scorer's verdict on the story, on every frame and, where it has one, on every character;
    None where it does not apply. shown: of every frame, on those of its characters that it judges.
    """

    story: float | None
    frames: tuple[float | None, ...]
    characters: Mapping[str, float | None] = field(default_factory=dict)
    shown: tuple[Mapping[str, float], ...] = ()


class Scorer(Protocol):
    """A score by name. Pictures are uint8 [h w 3], one per frame of the plan, in order."""

    def __call__(self, pictures: Sequence[np.ndarray], plan: StoryPlan) -> StoryScores:
        """Score a drawn story."""


@dataclass(frozen=True, kw_only=True)
class DrawnFrame:
    """What came out of the engine for one frame: uint8 [h w 3] and the steps that really ran.

    seed: what it was drawn from, None for that of the plan. choice: of which candidates it is the
    best, where there were several.
    """

    picture: np.ndarray
    steps: int
    seed: int | None = None
    choice: ChosenFrame | None = None


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A finished story, before it is written down. mended: what was seen of first frames that were
    looked at, by index. drawn_again: how many drawings were begun anew for it, readers included.
    """

    plan: StoryPlan
    frames: tuple[DrawnFrame, ...]
    model_name: str
    model_sha256: str
    loras: tuple[Lora, ...] = ()
    seconds_total: float
    scores: Mapping[str, StoryScores] = field(default_factory=dict)
    wording: Mapping[str, Any] | None = None
    references: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mended: Mapping[int, Tries] = field(default_factory=dict)
    drawn_again: int = 0


def score(
    scorers: Mapping[str, Scorer], pictures: Sequence[np.ndarray], plan: StoryPlan
) -> dict[str, StoryScores]:
    """Every scorer's verdict, by name."""
    found = {name: scorer(pictures, plan) for name, scorer in scorers.items()}
    for name, verdict in found.items():
        assert len(verdict.frames) == len(pictures), f"scorer {name!r} left frames out"
    return found


def build_report(drawing: Drawing) -> dict[str, Any]:
    """The value of report.json. Scores that do not apply are left out; seconds are wall time."""
    plan = drawing.plan
    return {
        "schema": SCHEMA,
        "title": plan.title,
        "model": {
            "name": drawing.model_name,
            "sha256": drawing.model_sha256,
            **({"loras": [one.record() for one in drawing.loras]} if drawing.loras else {}),
        },
        "method": plan.method,
        **plan.settings.to_json(),
        "seed": plan.seed,
        **({"best_of": plan.best_of} if plan.best_of > 1 else {}),
        **({"mend": plan.mend, "drawn_again": drawing.drawn_again} if plan.mend else {}),
        "seconds_total": round(drawing.seconds_total, 3),
        "seconds_per_frame": round(drawing.seconds_total / len(drawing.frames), 3),
        "frames": [_frame(drawing, i) for i in range(len(drawing.frames))],
        "characters": {name: _character(drawing, name) for name in _cast(plan)},
        "scores": {
            name: round(verdict.story, DECIMALS)
            for name, verdict in drawing.scores.items()
            if verdict.story is not None
        },
        **({} if drawing.wording is None else {"wording": drawing.wording}),
        "versions": versions(),
    }


def frame_scores(drawing: Drawing, index: int) -> dict[str, float]:
    """The scores of one frame that apply, by name."""
    verdicts = {name: verdict.frames[index] for name, verdict in drawing.scores.items()}
    return {name: round(value, DECIMALS) for name, value in verdicts.items() if value is not None}


def _shown(drawing: Drawing, index: int) -> dict[str, dict[str, dict[str, float]]]:
    """The scores of a frame's characters, where a scorer has such: by character, then by name."""
    found: dict[str, dict[str, float]] = {}
    for kind, verdict in drawing.scores.items():
        for name, value in (verdict.shown[index] if verdict.shown else {}).items():
            found.setdefault(name, {})[kind] = round(value, DECIMALS)
    return {"characters": found} if found else {}


def character_scores(drawing: Drawing, name: str) -> dict[str, float]:
    """The scores of one character that apply, by name."""
    verdicts = {kind: verdict.characters.get(name) for kind, verdict in drawing.scores.items()}
    return {kind: round(value, DECIMALS) for kind, value in verdicts.items() if value is not None}


def _character(drawing: Drawing, name: str) -> dict[str, Any]:
    scores = {"scores": character_scores(drawing, name)}
    given = drawing.references.get(name)
    return scores if given is None else {**scores, "references": dict(given)}


def _cast(plan: StoryPlan) -> list[str]:
    """The characters of a story in the order in which they come up."""
    return list(dict.fromkeys(i.name for frame in plan.frames for i in frame.members))


def _frame(drawing: Drawing, index: int) -> dict[str, Any]:
    plan = drawing.plan.frames[index]
    drawn, tries = drawing.frames[index], drawing.mended.get(index)
    height, width = drawn.picture.shape[:2]
    return {
        "index": index,
        "prompt": plan.prompt,
        "negative": plan.negative,
        "caption": plan.caption,
        "seed": plan.seed,
        "path": frame_path(index),
        "width": int(width),
        "height": int(height),
        "steps": drawn.steps,
        "scores": frame_scores(drawing, index),
        **_shown(drawing, index),
        **({} if drawn.choice is None else {"best_of": drawn.choice.to_json()}),
        **({} if tries is None or not any(tries.seen) else {"mended": tries.to_json()}),
    }
