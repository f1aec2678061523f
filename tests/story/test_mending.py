"""First frames with faults: which drawing is kept, and that a story is drawn from its seed."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consistent_gen.cli.replay import recipe_named
from consistent_gen.engine import Engine, read_png, replay
from consistent_gen.errors import InputError
from consistent_gen.models.backbone import Backbone
from consistent_gen.rewards.sight import Sight
from consistent_gen.story import mending
from consistent_gen.story.best_of import candidate_seed
from consistent_gen.story.cast import Cast
from consistent_gen.story.changes import drawn_from
from consistent_gen.story.draw import draw_story
from consistent_gen.story.mending import SeesFaults, Tries, faults
from consistent_gen.story.plan import FramePlan, Overrides, StoryPlan, plan_story, usual_mend
from consistent_gen.story.script import dump_story, parse_story

STORY = """\
title: x
characters:
  Mia: a girl with a red hat
  Bo: a small bear
frames:
  - "{Mia} reading in the forest"
  - "{Bo} walking"
  - "{Mia} sitting"
  - "a green fox"
"""


def plan_of(backbone: Backbone, method: str = "head_start", mend: int | None = 0) -> StoryPlan:
    settings = {"steps": 3, "size": (64, 64)}
    overrides = Overrides(method=method, settings=settings, mend=mend)
    return plan_story(parse_story(STORY), backbone, overrides)


def drawn(plan: StoryPlan, backbone: Backbone) -> list[np.ndarray]:
    """The pictures of a plan in which nothing is mended."""
    engine = Engine(backbone)
    cast = Cast(replace(plan, mend=0), engine)
    ids = [str(cast.draw(frame)) for frame in plan.frames]
    done = engine.drain()
    return [done[one].image for one in ids]


def with_drawing(plan: StoryPlan, index: int, number: int) -> StoryPlan:
    """The plan with the seed of drawing `number` of one frame."""
    frames = list(plan.frames)
    frames[index] = replace(frames[index], seed=candidate_seed(frames[index].seed, number))
    return replace(plan, frames=tuple(frames))


def sees(*pictures: np.ndarray) -> SeesFaults:
    """Somebody to whom these pictures show a crown."""
    bad = {picture.tobytes() for picture in pictures}

    def look(picture: np.ndarray, frame: FramePlan) -> tuple[str, ...]:
        return ("crown",) if picture.tobytes() in bad else ()

    return look


@pytest.mark.parametrize(("bad", "kept"), [((0,), 1), ((0, 1), 2), ((0, 1, 2), 0)])
def test_the_story_is_that_of_the_drawing_which_is_kept(
    tiny: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bad: tuple[int, ...],
    kept: int,
) -> None:
    plain = plan_of(tiny)
    stories = [drawn(with_drawing(plain, 0, number), tiny) for number in range(3)]
    look = sees(*(stories[number][0] for number in bad))
    monkeypatch.setattr(mending, "shipped", lambda: look)
    drawing = draw_story(plan_of(tiny, mend=2), tiny, tmp_path / "out", scorers={})
    for frame, expected in zip(drawing.frames, stories[kept], strict=True):
        assert np.array_equal(frame.picture, expected)
    own = plain.frames[0].seed
    for index in (0, 2):  # Mia's, of which the second reads the first
        image, metadata = read_png(tmp_path / f"out/frames/0{index}.png")
        found = replay(image, metadata, tiny, partial(recipe_named, tiny))
        assert found.verdict == "identical"
    record = read_png(tmp_path / "out/frames/00.png")[1]["story"].get("mended")
    assert record == ({"drawing": kept + 1, "seed": own} if kept else None)
    report = json.loads((tmp_path / "out/report.json").read_text())
    seen = [["crown"] if number in bad else [] for number in range(min(len(bad), 2) + 1)]
    assert report["frames"][0]["mended"] == {"kept": kept + 1, "seen": seen}
    assert report["frames"][0]["seed"] == candidate_seed(own, kept)
    assert report["drawn_again"] == 2 * (len(bad) if kept else 3)
    assert "mended" not in report["frames"][2]


@pytest.mark.parametrize("method", ["vanilla", "head_start", "consistory"])
def test_where_nothing_is_seen_the_story_is_as_it_was(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(mending, "shipped", sees)
    for name, most in (("plain", 0), ("mended", 2)):
        draw_story(plan_of(tiny, method, most), tiny, tmp_path / name, scorers={})
    for index in range(4):
        files = [tmp_path / name / f"frames/0{index}.png" for name in ("plain", "mended")]
        assert files[0].read_bytes() == files[1].read_bytes()


def sight(worn: str, face: str, *, present: bool = True) -> Sight:
    classes: dict[str, Any] = {"accessory": {worn: 0.9}, "expression": {face: 0.9}}
    return Sight(present=present, subject=classes, hues={}, scalars={}, scene={})


def test_faults_are_what_no_word_names(tiny: Backbone) -> None:
    mia, bo, _, fox = plan_of(tiny).frames
    assert faults([sight("crown", "happy")], bo) == ("crown",)
    assert faults([sight("scarf", "angry")], fox) == ("angry face",)
    assert faults([sight("hat", "sad")], mia) == ("sad face",)
    grumpy = replace(bo, prompt="a grumpy bear walking")
    assert faults([sight("none", "angry")], grumpy) == ()
    assert faults([sight("crown", "sad", present=False)], bo) == ()


def test_the_fewest_faults_are_kept_and_tries_end() -> None:
    tries = Tries()
    assert tries.drawn(("crown", "sad face"), 2) and tries.number == 1
    assert tries.drawn(("hat",), 2) and tries.number == 2
    assert tries.drawn(("hat",), 2) and (tries.number, tries.settled) == (1, True)


def test_what_is_said_of_mending(tiny: Backbone) -> None:
    story = parse_story(STORY.replace("title: x", "title: x\nmend: 1"))
    assert parse_story(dump_story(story)).mend == 1
    assert plan_story(story, tiny).mend == 1
    assert plan_story(story, tiny, Overrides(mend=0)).mend == 0
    assert plan_of(tiny, mend=None).mend == 0 and usual_mend(tiny) == 2
    assert plan_story(story, tiny, Overrides(best_of=2)).mend == 0
    with pytest.raises(InputError, match="mend is 9; expected a number from 0 to 4"):
        plan_story(story, tiny, Overrides(mend=9))
    recipe = Cast(plan_of(tiny), Engine(tiny))._recipe
    ways = [drawn_from(plan_of(tiny, mend=most), recipe)[0] for most in (0, 2)]
    assert ways[0] != ways[1]
