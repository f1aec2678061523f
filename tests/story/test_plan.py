"""Planning: who wins among settings, which seeds frames get, and what a model refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from consistent_gen.draw_settings import DrawSettings
from consistent_gen.errors import InputError
from consistent_gen.models.backbone import Backbone
from consistent_gen.runtime import frame_seed
from consistent_gen.story.plan import Overrides, StoryPlan, plan_story
from consistent_gen.story.script import load_story, parse_story

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))


def plan(text: str, model: Backbone, overrides: Overrides | None = None) -> StoryPlan:
    return plan_story(parse_story(text, source="f.yaml"), model, overrides)


def refusal(text: str, model: Backbone, overrides: Overrides | None = None) -> str:
    with pytest.raises(InputError) as caught:
        plan(text, model, overrides)
    return str(caught.value)


def test_the_command_line_beats_the_file_beats_the_defaults(tiny: Backbone) -> None:
    nothing = plan("title: x\nframes: [a fox]", tiny)
    assert vars(nothing.settings) == vars(DrawSettings(size=(128, 128)))
    settings = nothing.settings
    assert (settings.steps, settings.guidance, settings.scheduler) == (25, 5.0, "ddim")
    assert (nothing.size, nothing.seed) == ((128, 128), 0)
    said = "title: x\nsteps: 3\nguidance: 0\nseed: 9\nsize: 64x96\nframes: [a fox]"
    file = plan(said, tiny)
    assert (file.settings.steps, file.settings.guidance, file.seed) == (3, 0.0, 9)
    assert file.size == (64, 96)
    both = plan(
        said, tiny, Overrides(seed=0, settings={"steps": 5, "scheduler": "dpm", "size": (32, 32)})
    )
    assert (both.settings.steps, both.settings.scheduler) == (5, "dpm")
    assert (both.seed, both.size) == (0, (32, 32))


def test_a_frame_keeps_its_seed_when_others_change(tiny: Backbone) -> None:
    before = plan("title: x\nseed: 4\nframes: [a fox, a cat, a bear]", tiny)
    after = plan("title: x\nseed: 4\nframes: [a girl, a cat, {prompt: a bear, seed: 12}]", tiny)
    assert [f.seed for f in before.frames] == [frame_seed(4, i) for i in range(3)]
    assert [f.seed for f in after.frames] == [*(f.seed for f in before.frames[:2]), 12]
    assert len({f.seed for f in before.frames}) == 3


CAST = "title: x\ncharacters:\n  Mia: a girl with a red hat\n"


@pytest.mark.parametrize(
    ("text", "start", "words"),
    [
        ("title: x\nframes:\n  - a fox\n  - a foxx", "f.yaml:4:", ("'foxx'", "'fox'")),
        ("title: x\nframes:\n  - a zyzzyva", "f.yaml:3:", ("'zyzzyva'", "models --words")),
        (CAST + "frames: [Mia reading]", "f.yaml:4:", ("'Mia'", "write {Mia}")),
        (CAST + 'frames: ["{blu Mia}"]', "f.yaml:4:", ("'blu'", "'blue'")),
        ("title: x\ncharacters:\n  Mia: a gril\nframes: [a fox]", "f.yaml:3:", ("'girl'",)),
        ("title: x\nframes: [{prompt: a fox,\n negative: a hut}]", "f.yaml:3:", ("'hat'",)),
        ("title: x\nstyle: pencils\nframes: [a fox]", "f.yaml:2:", ("style", "'pencil'")),
        (
            "title: x\nframes:\n  - prompt: a fox\n    style: flatt",
            "f.yaml:4:",
            ("style", "'flat'"),
        ),
        ("title: x\nstyle: neon\nframes: [a fox]", "f.yaml:2:", ("'neon'",)),
        ("title: x\nmethod: vanila\nframes: [a fox]", "f.yaml:2:", ("method", "'vanilla'")),
        ("title: x\nscheduler: dim\nframes: [a fox]", "f.yaml:2:", ("scheduler", "'ddim'")),
        ("title: x\nsize: 72x64\nframes: [a fox]", "f.yaml:2:", ("width", "multiple of 32", "64")),
        (f"title: x\nframes:\n  - a fox\n  - {'a fox ' * 12}", "f.yaml:4:", ("24 tokens", "22")),
        (
            f"title: x\nframes:\n  - prompt: a fox\n    negative: {'a fox ' * 12}",
            "f.yaml:4:",
            ("24 tokens",),
        ),
    ],
)
def test_a_model_refuses(text: str, start: str, words: tuple[str, ...], tiny: Backbone) -> None:
    message = refusal(text, tiny)
    assert message.startswith(start), message
    for word in words:
        assert word in message


def test_options_are_named_as_options(tiny: Backbone) -> None:
    text = "title: x\nframes: [a fox]"
    assert refusal(text, tiny, Overrides(method="vanila")).startswith("--method: unknown method")
    assert refusal(text, tiny, Overrides(settings={"steps": 0})).startswith("--steps: ")
    assert refusal(text, tiny, Overrides(settings={"guidance": float("nan")})).startswith(
        "--guidance: "
    )
    assert refusal(text, tiny, Overrides(seed=-1)).startswith("--seed: ")
    assert refusal(text, tiny, Overrides(settings={"size": (33, 32)})).startswith("--size: ")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_use_only_words_of_the_story_world(path: Path, worldly: Backbone) -> None:
    for frame in plan_story(load_story(path), worldly).frames:
        assert worldly.unknown_words(frame.prompt) == []
