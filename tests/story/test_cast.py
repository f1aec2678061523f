"""Stories whose frames share attention: who is cast from what, and what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from consistent_gen.engine import Engine, FrameRequest
from consistent_gen.methods import FOR_EVERY_MODEL
from consistent_gen.methods.tuning import tuned
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.anchors import Anchors, plan_anchors
from consistent_gen.story.cast import Cast
from consistent_gen.story.plan import Overrides, StoryPlan, plan_story
from consistent_gen.story.script import load_story
from tests.every_run import or_slow

STORY = """\
title: x
characters:
  Mia: a girl with a red hat
  Bo: {description: a small bear%s}
frames:
  - "{Mia} and {Bo}"
  - "{Mia} reading in the forest"
  - "{Bo} walking"
  - {prompt: a green fox, negative: old}
  - "{Mia} sitting"
"""


def plan_of(backbone: Backbone, folder: Path, method: str, more: str = "") -> StoryPlan:
    (folder / "s.yaml").write_text(STORY % more)
    overrides = Overrides(method=method, settings={"steps": 2, "size": (64, 64)})
    return plan_story(load_story(folder / "s.yaml"), backbone, overrides, folder)


def submit(plan: StoryPlan, engine: Engine) -> None:
    cast = Cast(plan, engine)
    for frame in plan.frames:
        cast.draw(frame)


def anchors_of(backbone: Backbone, plan: StoryPlan) -> tuple[list[Anchors], dict[str, int]]:
    """Everybody's anchors, and the first frames of several together."""
    found = plan_anchors(plan, tuned(plan.method, backbone))
    own = [anchors for anchors in found if not anchors.together]
    return own, {anchors.key: anchors.frames[0] for anchors in found if anchors.together}


def draw(backbone: Backbone, plan: StoryPlan) -> dict[str, np.ndarray]:
    engine = Engine(backbone)
    submit(plan, engine)
    return {name: event.image for name, event in engine.drain().items()}


@pytest.mark.parametrize("method", or_slow(FOR_EVERY_MODEL))
def test_every_frame_of_the_story_and_no_other_is_shown(
    tiny: Backbone, tmp_path: Path, method: str
) -> None:
    found = draw(tiny, plan_of(tiny, tmp_path, method))
    assert sorted(found) == ["0", "1", "2", "3", "4"]


def test_anchors_are_a_hidden_portrait_and_the_first_frames_alone(
    tiny: Backbone, tmp_path: Path
) -> None:
    engine = Engine(tiny)
    plan = plan_of(tiny, tmp_path, "consistory")
    submit(plan, engine)
    frames = {state.id: state.request for state in engine.frames}
    portrait = frames["portrait 1 of Mia"]
    assert portrait.hidden and portrait.prompt == "a girl with a red hat walking in a meadow"
    assert [s.tokens for s in portrait.subjects] == [(2,)]
    # Frame 1 shows Mia alone and steps with her portrait; frames 0 and 4 read both.
    readers = {id_: set(r.behind) for id_, r in frames.items() if "/" not in id_ and r.behind}
    mia, bo = {"portrait 1 of Mia", "1"}, {"portrait 1 of Bo", "2"}
    assert readers == {"0": mia | bo, "4": mia}
    assert not any(frames["3"].behind)


def test_characters_and_strangers_do_not_disturb_each_other(tiny: Backbone, tmp_path: Path) -> None:
    shared = draw(tiny, plan_of(tiny, tmp_path, "style_aligned"))
    plain = draw(tiny, plan_of(tiny, tmp_path, "vanilla"))
    assert np.array_equal(shared["3"], plain["3"])  # shows nobody
    assert not np.array_equal(shared["4"], plain["4"])


def test_strength_zero_is_vanilla(tiny: Backbone, tmp_path: Path) -> None:
    """With one anchor, a portrait, every frame of Bo's is a reader."""
    shared = draw(tiny, plan_of(tiny, tmp_path, "style_aligned", ", strength: 0"))
    plain = draw(tiny, plan_of(tiny, tmp_path, "vanilla"))
    assert np.array_equal(shared["2"], plain["2"])
    assert not np.array_equal(shared["1"], plain["1"])


def test_a_portrait_from_a_picture_has_the_place_of_the_picture(
    tiny: Backbone, tmp_path: Path
) -> None:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "bo.png")
    engine = Engine(tiny)
    plan = plan_of(tiny, tmp_path, "style_aligned", ", references: bo.png")
    submit(plan, engine)
    prompts = {state.id: state.request.prompt for state in engine.frames}
    assert prompts["portrait 1 of Bo"].endswith("walking")
    assert prompts["portrait 1 of Mia"].endswith("walking in a meadow")


def test_reference_pictures_are_anchors(tiny: Backbone, tmp_path: Path) -> None:
    results = []
    for colour in ("red", "blue"):
        Image.new("RGB", (90, 60), colour).save(tmp_path / "bo.png")
        plan = plan_of(tiny, tmp_path, "style_aligned", ", references: bo.png")
        results.append(draw(tiny, plan))
    assert np.array_equal(results[0]["1"], results[1]["1"])
    assert not np.array_equal(results[0]["2"], results[1]["2"])


def submitted(backbone: Backbone, plan: StoryPlan) -> dict[str, FrameRequest]:
    engine = Engine(backbone)
    submit(plan, engine)
    return {state.id: state.request for state in engine.frames}


def test_a_frame_of_two_is_the_anchor_of_both(tiny: Backbone, tmp_path: Path) -> None:
    plan = plan_of(tiny, tmp_path, "head_start")
    frames = submitted(tiny, plan)
    assert sorted(frames) == ["0", "1", "2", "3", "4"], "no portraits"
    behind = {name: request.behind for name, request in frames.items()}
    assert behind == {"0": (), "1": ("0",), "2": ("0",), "3": (), "4": ("0",)}


def test_references_are_anchors_before_frames_and_the_first_of_both_is_read_beside_them(
    tiny: Backbone, tmp_path: Path
) -> None:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "bo.png")
    plan = plan_of(tiny, tmp_path, "head_start", ", references: bo.png")
    own, together = anchors_of(tiny, plan)
    assert {a.names: a.frames for a in own} == {("Mia",): (1,), ("Bo",): ()}
    assert together == {}, "nobody would read it"
    text = (tmp_path / "s.yaml").read_text() + '  - "{Bo} and {Mia} walking"\n'
    (tmp_path / "s.yaml").write_text(text)
    overrides = Overrides(method="head_start", settings={"steps": 2, "size": (64, 64)})
    plan = plan_story(load_story(tmp_path / "s.yaml"), tiny, overrides, tmp_path)
    assert anchors_of(tiny, plan)[1] == {"Bo & Mia": 0}
    frames = submitted(tiny, plan)
    assert set(frames["0"].behind) == {"1", "portrait 1 of Bo"}
    assert frames["5"].behind == ("0",)
    assert frames["2"].behind == ("portrait 1 of Bo",)
    assert sorted(draw(tiny, plan)) == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("shown", "anchors"),
    [
        (["Mia", "Mia"], {"Mia": [0]}),
        (["Mia", "Bo", "Mia Bo", "Bo Mia"], {"Bo Mia": [2]}),
        (["Mia Bo Ada", "Mia Bo", "Ada"], {"Bo Mia": [1], "Ada": [2]}),
        (["Mia Bo", "Ada Bo", "Bo Ada", "Mia"], {"Ada Bo": [1], "Mia": [3]}),
        (["Mia Bo", "Ada Bo", "Mia Bo"], {"Bo Mia": [0], "Ada": []}),
        (["Mia Bo Ada", "", "Ada Mia Bo"], {"Ada Bo Mia": [0]}),
    ],
)
def test_which_frames_are_anchors(
    tiny: Backbone, tmp_path: Path, shown: list[str], anchors: dict[str, list[int]]
) -> None:
    frames = [" and ".join(f"{{{name}}}" for name in f.split()) or "a red hat" for f in shown]
    text = "title: x\ncharacters: {Mia: a girl, Bo: a bear, Ada: a fox}\nframes:\n"
    (tmp_path / "s.yaml").write_text(text + "".join(f'  - "{frame}"\n' for frame in frames))
    plan = plan_story(
        load_story(tmp_path / "s.yaml"),
        tiny,
        Overrides(settings={"steps": 2, "size": (64, 64)}),
        tmp_path,
    )
    assert {" ".join(a.names): list(a.frames) for a in anchors_of(tiny, plan)[0]} == anchors
    assert sorted(draw(tiny, plan)) == [str(i) for i in range(len(shown))]


@pytest.mark.parametrize("method", or_slow(FOR_EVERY_MODEL, ["consistyle"]))
def test_a_frame_alone_is_the_frame_of_its_story(
    tiny: Backbone, tmp_path: Path, method: str
) -> None:
    """With portraits, reference pictures and first frames together, and drawn twice over."""
    Image.new("RGB", (90, 60), "red").save(tmp_path / "bo.png")
    (tmp_path / "s.yaml").write_text(
        STORY % ", references: bo.png" + '  - "{Bo} and {Mia} walking"\n'
    )
    overrides = Overrides(method=method, settings={"steps": 2, "size": (64, 64)})
    plan = plan_story(load_story(tmp_path / "s.yaml"), tiny, overrides, tmp_path)
    whole = draw(tiny, plan)
    for frame in reversed(plan.frames):
        engine = Engine(tiny)
        cast = Cast(plan, engine, prefix="s1/")
        name = cast.draw(frame)
        pictures = engine.drain()
        assert np.array_equal(pictures[str(name)].image, whole[str(frame.index)]), frame.index
        for done in pictures.values():
            cast.drawn(done)
        cast.settle()
        again = cast.draw(frame)
        if isinstance(again, str):
            again = engine.drain()[again]
        assert np.array_equal(again.image, whole[str(frame.index)])
