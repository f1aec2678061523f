"""Requests are refused with their place, exactly where a story file would be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consistent_gen.client.types import StoryIn
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.loras import LoraFile
from consistent_gen.story.plan import plan_story
from consistent_gen.story.script import parse_story
from services.plans import FrameOrder, PlanBook, Planner, validate_story
from services.plans.planner import ModelOutline
from tests.models.lora_toys import diffusers_file, trained
from tests.services.small_model import story


@pytest.fixture
def planner(tiny_folder: Path) -> Planner:
    return Planner(tiny_folder)


def test_an_outline_answers_as_the_loaded_model(tiny: Backbone, tiny_folder: Path) -> None:
    outline = ModelOutline(tiny_folder)
    for name in ("name", "default_size", "size_multiple", "sha256"):
        assert getattr(outline, name) == getattr(tiny, name), name
    assert outline.vocabulary() == tiny.vocabulary()
    assert outline.unknown_words("a fox and a dragon") == tiny.unknown_words("a fox and a dragon")
    assert validate_story(story(), outline) == validate_story(story(), tiny)


def test_a_request_means_the_servers_loras_by_name(tiny_folder: Path, tmp_path: Path) -> None:
    """With the path that a story file has; nothing is looked for there."""
    layers = trained({"unet": load_backbone(tiny_folder, device="cpu").denoiser})
    brush = diffusers_file(tmp_path / "brush.safetensors", layers)
    files = [LoraFile(path=brush, weight=0.5, name=brush.name)]
    outline = ModelOutline(tiny_folder, files)
    assert outline.sha256 == load_backbone(tiny_folder, device="cpu", loras=files).sha256
    assert outline.sha256 != ModelOutline(tiny_folder).sha256
    own = {"file": "else/brush.safetensors", "weight": 0.5}
    assert validate_story(story(loras=[own]), outline) == validate_story(story(), outline)
    for asked, model, said in (
        (["brush.safetensors"], outline, r"the LoRAs brush.safetensors \(weight 0.5\)"),
        ([own, str(tmp_path / "other.safetensors")], outline, "the LoRAs brush"),
        ([own], ModelOutline(tiny_folder), "draws with no LoRA files; leave loras out"),
    ):
        with pytest.raises(InputError, match=said) as told:
            validate_story(story(loras=asked), model)
        assert told.value.source == "loras"
    with pytest.raises(InputError) as told:
        validate_story(story(loras=[{"file": "brush.safetensors", "weight": 11.0}]), outline)
    assert told.value.source == "loras[0].weight"


def test_a_worker_with_other_loras_refuses_a_frame(tiny_folder: Path, tmp_path: Path) -> None:
    """It would draw another picture and call it the story's."""
    layers = trained({"unet": load_backbone(tiny_folder, device="cpu").denoiser})
    brush = diffusers_file(tmp_path / "brush.safetensors", layers)
    plain = ModelOutline(tiny_folder)
    half, whole = (
        ModelOutline(tiny_folder, [LoraFile(path=brush, weight=weight)]) for weight in (0.5, 1.0)
    )
    for gateway, workers in ((plain, (half, whole)), (half, (plain, whole))):
        loras = [(lora.sha256, lora.weight) for lora in gateway.loras]
        sent = FrameOrder(story=story(), frame=0, version=1, seed=3, loras=loras).to_json()
        order = FrameOrder.from_json(json.loads(json.dumps(sent)))
        PlanBook(gateway).plans(order, None)
        for worker in workers:
            with pytest.raises(InputError, match=r"the same engine\.loras"):
                PlanBook(worker).plans(order, None)


def test_a_request_is_planned_as_the_same_story_file(tiny: Backbone) -> None:
    request = story("consistory", seed=7, guidance=3.25, size="192x96", scheduler="dpm")
    text = """\
title: x
method: consistory
scheduler: dpm
seed: 7
steps: 2
guidance: 3.25
size: 192x96
characters: {Mia: a girl with a red hat, Bo: a small bear}
frames:
  - "{Mia} and {Bo}"
  - "{Mia} reading in the forest"
  - "{Bo} walking"
  - a green fox
  - "{Mia} sitting"
"""
    found, expected = validate_story(request, tiny), plan_story(parse_story(text), tiny)
    for ours, theirs in zip(found.frames, expected.frames, strict=True):
        assert (ours.prompt, ours.seed, ours.subjects) == (
            theirs.prompt,
            theirs.seed,
            theirs.subjects,
        )
    assert (found.settings.guidance, found.size) == (3.25, (192, 96))


def test_a_request_is_read_without_yaml(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the request was written or read as YAML")

    for name in ("SafeLoader", "safe_dump", "dump"):
        monkeypatch.setattr(f"yaml.{name}", refuse)
    order = FrameOrder(story=story("consistory"), frame=0, version=1, seed=3)
    told = json.loads(json.dumps(order.to_json()))
    plans = PlanBook(tiny).plans(FrameOrder.from_json(told), None)
    assert plans == (validate_story(story("consistory"), tiny),) * 2


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"method": "vanila"}, "method", "did you mean 'vanilla'"),
        ({"scheduler": "euler"}, "scheduler", "ddim, dpm"),
        ({"style": "penciil"}, "style", "did you mean 'pencil'"),
        ({"size": "100x100"}, "size", "not a multiple"),
        ({"frames": [{"prompt": "a fox"}, {"prompt": "a dragon"}]}, "frames[1].prompt", "dragon"),
        ({"frames": [{"prompt": "{Mai}"}]}, "frames[0].prompt", "did you mean 'Mia'"),
        ({"frames": [{"prompt": "{Mia"}]}, "frames[0].prompt", "without its partner"),
        ({"frames": [{"prompt": "a fox", "negative": "qq"}]}, "frames[0].negative", "never saw"),
        ({"frames": [{"prompt": "a fox " * 20}]}, "frames[0].prompt", "shorten"),
        ({"frames": [{"prompt": "  "}]}, "frames[0].prompt", "empty"),
        ({"frames": [{"prompt": "a fox\x07"}]}, "frames[0].prompt", "not allowed"),
        ({"characters": {"9x": {"description": "a girl"}}}, "characters.9x", "cannot be a name"),
        (
            {"characters": {"Mia": {"description": "with"}, "Bo": {"description": "a bear"}}},
            "characters.Mia.description",
            "no noun",
        ),
    ],
)
def test_what_is_wrong_is_named_by_place(
    planner: Planner, fields: dict[str, Any], place: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        planner.plan(story(**fields))
    assert str(caught.value).startswith(f"{place}: ")
    assert words in str(caught.value)


def test_a_bad_prompt_of_a_reroll_is_called_prompt(planner: Planner) -> None:
    with pytest.raises(InputError, match=r"^prompt: "):
        planner.plan_reroll(story(), 1, "a dragon")
    with pytest.raises(InputError, match="5 frames"):
        planner.plan_reroll(story(), 5, None)


@given(
    title=st.text(min_size=1, max_size=120),
    prompt=st.text(min_size=1, max_size=80),
    name=st.text(min_size=1, max_size=40),
    guidance=st.floats(0.0, 100.0),
    strength=st.floats(0.0, 1.0),
)
@settings(max_examples=150)
def test_no_text_breaks_planning(
    tiny: Backbone, title: str, prompt: str, name: str, guidance: float, strength: float
) -> None:
    """Anything a client may send is planned or refused in words; texts stay what they are."""
    try:
        request = StoryIn.model_validate(
            {
                "title": title,
                "characters": {name: {"description": "a girl", "strength": strength}},
                "frames": [{"prompt": prompt}],
                "guidance": guidance,
            }
        )
    except ValueError:
        return
    try:
        plan = validate_story(request, tiny)
    except InputError as error:
        assert str(error)
        return
    assert plan.settings.guidance == pytest.approx(guidance, abs=1e-17)
    assert plan.title.split() == request.title.split() or not title.isprintable()


def test_orders_travel_as_json(tiny: Backbone) -> None:
    order = FrameOrder(
        story=story("consistory"), frame=2, version=3, seed=2**62, prompt="a fox",
        references={"Bo": ["art_1"]}, preview_every=4,
    )  # fmt: skip
    again = FrameOrder.from_json(order.to_json())
    assert again == order and again.digest == order.digest
    served = FrameOrder(story=story("consistory", bulk=True), frame=2, version=3, seed=1)
    plain = FrameOrder(story=story("consistory"), frame=0, version=1, seed=2)
    assert served.digest == plain.digest != order.digest


def test_a_missing_model_folder_is_said_when_it_is_needed(tmp_path: Path) -> None:
    planner = Planner(tmp_path / "none")
    with pytest.raises(CheckpointError, match="no model folder"):
        planner.plan(story())


def test_planning_does_not_load_weights(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    from consistent_gen.models import pretrained

    def refuse(*_: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(pretrained, "_network", refuse)
    info = planner.model_info(["grid"])
    assert info.width == 128 and "consistory" in info.methods and info.layouts == ["grid"]
    assert info.words is not None and "fox" in info.words
    assert sys.modules["services.plans.planner"]
