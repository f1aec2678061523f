"""Frames whose last steps go without guidance (arXiv 2404.07724), alone and in shared stories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from consistent_gen.attention.settings import Recipe
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Call, Coupling, Engine, FrameDone, FrameRequest, Subject, replay
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.errors import InputError, LimitError
from consistent_gen.methods import FOR_EVERY_MODEL, tuning
from consistent_gen.models.backbone import Backbone
from tests.every_run import or_slow

FOX = FrameRequest(
    prompt="a red fox",
    seed=5,
    settings=DrawSettings(steps=4, guidance=3.0, contours=2.0, size=(64, 64)),
)
WHO = Subject(name="fox", tokens=(3,))
READING = replace(FOX, id="reading", prompt="a red fox reading", seed=6, subjects=(WHO,))
HALF = FOX.with_settings(guidance_until=0.5)
# Settings that tell a four-step run's parts apart; "ahead" reads rows without the prompt of anchors
# that are two steps further.
SETTINGS: dict[str, dict[str, Any]] = {
    "consistory": {"mixing_steps": 0.5, "injection_steps": (0.25, 0.75)},
    "consistyle": {"mixing_steps": 0.5, "structure_steps": (0.25, 0.75)},
    "story_diffusion": {"id_frames": 2},
    "consistory ahead": {"lead": 0.5, "injection_steps": (0.25, 0.75)},
}
SHARING = [name for name in (*FOR_EVERY_MODEL, "consistory ahead") if name != "vanilla"]


class Watch(Coupling):
    """Notes the rows of every call."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[int, str, bool]]] = []

    def begin_call(self, call: Call) -> None:
        self.calls.append([(row.step, row.branch, row.perturbed) for row in call.rows])


def recipe_of(method: str) -> Recipe:
    name = method.partition(" ")[0]
    return tuning.recipe_of(name, SETTINGS.get(method, {}))


def picture(backbone: Backbone, request: FrameRequest) -> FrameDone:
    return next(e for e in Engine(backbone).run([request]) if isinstance(e, FrameDone))


def test_later_steps_compute_one_row(tiny: Backbone) -> None:
    watch = Watch()
    picture(tiny, replace(HALF, coupling=watch))
    both = [[(i, "cond", False), (i, "uncond", i == 1)] for i in range(2)]
    assert watch.calls == [*both, [(2, "cond", False)], [(3, "cond", False)]]


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
def test_its_ends_are_full_guidance_and_none(tiny: Backbone, scheduler: str) -> None:
    fox = FOX.with_settings(scheduler=scheduler)
    full = picture(tiny, fox).image
    none = picture(tiny, fox.with_settings(guidance=1.0)).image
    half = picture(tiny, fox.with_settings(guidance_until=0.5)).image
    assert np.array_equal(picture(tiny, fox.with_settings(guidance_until=1.0)).image, full)
    assert np.array_equal(picture(tiny, fox.with_settings(guidance_until=0.0)).image, none)
    assert not np.array_equal(half, full) and not np.array_equal(half, none)


def test_the_picture_says_so_and_older_ones_were_guided_throughout(tiny: Backbone) -> None:
    drawn = picture(tiny, HALF)
    assert drawn.metadata["guidance_until"] == 0.5
    assert replay(drawn.image, drawn.metadata, tiny).verdict == "identical"
    whole = picture(tiny, FOX)
    old = {name: value for name, value in whole.metadata.items() if name != "guidance_until"}
    assert replay(whole.image, old, tiny).verdict == "identical"


@pytest.mark.parametrize(
    ("value", "error"), [(1.5, LimitError), (-0.1, LimitError), ("half", InputError)]
)
def test_what_is_no_share_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="guidance_until"):
        FrameRequest(prompt="a fox", seed=1, settings=DrawSettings(guidance_until=value))


def shared(
    backbone: Backbone, method: str, until: float, batches: Sequence[Sequence[FrameRequest]]
) -> tuple[dict[str, np.ndarray], SharedStory]:
    """Anchors with the first batch, each batch when the one before is drawn."""
    engine = Engine(backbone, bucket=8)
    story = SharedStory(engine, recipe_of(method), seed=7)
    portraits = [
        replace(FOX.with_settings(guidance_until=until), id=f"fox{i}", seed=20 + i, subjects=(WHO,))
        for i in range(story.run.recipe.anchors)
    ]
    story.cast("fox", portraits)
    found: dict[str, np.ndarray] = {}
    for batch in batches:
        for frame in batch:
            story.submit(frame.with_settings(guidance_until=until))
        found |= {name: event.image for name, event in engine.drain().items()}
    return found, story


@pytest.mark.parametrize("method", or_slow(SHARING, ["head_start"]))
def test_shared_frames_are_the_same_in_any_company(tiny: Backbone, method: str) -> None:
    """Also where rows without the prompt read anchors that are past their own guided steps."""
    other = replace(READING, id="other", seed=8)
    together, story = shared(tiny, method, 0.5, [[READING, other]])
    later, _ = shared(tiny, method, 0.5, [[], [other], [READING]])
    whole, _ = shared(tiny, method, 1.0, [[READING]])
    assert np.array_equal(together["reading"], later["reading"])
    assert np.array_equal(together["other"], later["other"])
    assert not np.array_equal(together["reading"], whole["reading"])
    predicted = story.predicted_bytes(READING.with_settings(guidance_until=0.5))
    masked = story.run.recipe.masks is not None
    assert predicted >= story.run.bank.bytes if masked else predicted == story.run.bank.bytes


def test_readers_are_guided_as_long_as_their_anchors(tiny: Backbone) -> None:
    _, story = shared(tiny, "consistory", 0.5, [])
    with pytest.raises(InputError, match=r"guidance_until is 0\.75"):
        story.submit(READING.with_settings(guidance_until=0.75))
