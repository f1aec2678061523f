"""Characters given by pictures, through an adapter: who is told to the model, in which frames."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from consistent_gen.adapters.codec import save_adapter
from consistent_gen.adapters.story_world import DENOISER, FEATURES, build_arm
from consistent_gen.checkpoints import (
    file_sha256,
    folder_sha256,
    read_json,
    weights_folder,
    write_json,
)
from consistent_gen.cli.chat import StoryDrawer
from consistent_gen.engine import Engine, FrameRequest
from consistent_gen.engine.replaying import replay
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.memory.recall.concepts import RememberedIdentity
from consistent_gen.memory.talk.assistant import DrawJob
from consistent_gen.models.backbone import Backbone
from consistent_gen.story import identity
from consistent_gen.story.draw import draw_story
from consistent_gen.story.identity import StoryAdapter, story_adapter
from consistent_gen.story.plan import Overrides, StoryPlan, plan_story
from consistent_gen.story.types import PLACES, Character, Frame, Story
from consistent_gen.world.dataset import StoryWorld
from tests.attention.toys import state

WORLD = StoryWorld("validation")
Picture = np.ndarray


def picture_of(people: int, skip: int = 0) -> Picture:
    """A true picture that shows so many characters."""
    numbers = (n for n in range(200) if len(WORLD.frame(n).subjects) == people)
    for _ in range(skip):
        next(numbers)
    return WORLD.picture(next(numbers)).rgb


def png(picture: Picture) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained adapter of the tiny model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        arm = build_arm("people", tiny.denoiser, FEATURES)
    place = tmp_path_factory.mktemp("weights") / "adapter"
    save_adapter(place / "adapter.safetensors", arm)
    denoiser, reader = file_sha256(tiny.path / DENOISER), folder_sha256(weights_folder("reader"))
    write_json(place / "config.json", {"arm": "people", "denoiser": denoiser, "reader": reader})
    return place


@pytest.fixture
def adapter(tiny: Backbone, folder: Path) -> StoryAdapter:
    found = story_adapter(tiny, folder)
    assert found is not None
    return found


@pytest.fixture
def shipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model's adapter is the one that lies among the weights."""
    monkeypatch.setattr(identity, "weights_root", lambda: folder.parent)


def request(identities: Any = None, seed: int = 1, **more: Any) -> FrameRequest:
    settings = {"steps": 2, "size": (64, 64)}
    asked = FrameRequest(prompt="a girl", seed=seed, identities=identities, id=f"{seed}", **more)
    return asked.with_settings(**settings)


def drawn(backbone: Backbone, *requests: FrameRequest) -> dict[str, Picture]:
    engine = Engine(backbone)
    for one in requests:
        engine.submit(one)
    return {name: done.image for name, done in engine.drain().items()}


def test_what_the_adapter_is_told_changes_that_frame_and_no_other(
    tiny: Backbone, adapter: StoryAdapter
) -> None:
    mia = adapter.shown([adapter.read("Mia", [picture_of(1)])])
    bo = adapter.shown([adapter.read("Bo", [picture_of(1, 3)])])
    before = state(tiny.denoiser)
    plain = drawn(tiny, request(), request(seed=2))
    alone = drawn(tiny, request(mia))["1"]
    together = drawn(tiny, request(mia), request(seed=2), request(bo, seed=3))
    assert np.array_equal(together["1"], alone) and not np.array_equal(alone, plain["1"])
    assert np.array_equal(together["2"], plain["2"])
    assert not np.array_equal(drawn(tiny, request(bo))["1"], alone)
    assert state(tiny.denoiser) == before, "nothing of the adapter stays in the model"


def test_pictures_without_or_with_several_characters_are_told(adapter: StoryAdapter) -> None:
    nobody = np.full((96, 96, 3), 200, np.uint8)
    read = adapter.read("Mia", [nobody, picture_of(2)])
    assert read.used and len(read.pictures) == 1
    assert "picture 1 shows nobody" in read.notes[0]
    assert "picture 2 shows 2 characters and the largest is taken" in read.notes[1]
    none = adapter.read("Mia", [nobody])
    assert not none.used and adapter.shown([none]) is None


def plan_of(tiny: Backbone, *references: bytes, method: str = "vanilla", **more: Any) -> StoryPlan:
    mia = Character(name="Mia", description="a girl", references=references)
    bo = Character(name="Bo", description="a bear")
    frames = (Frame(prompt="{Mia} walking"), Frame(prompt="{Bo} sitting"))
    settings = {"steps": 2, "size": (64, 64), **more}
    story = Story(title="x", characters={"Mia": mia, "Bo": bo}, frames=frames)
    return plan_story(story, tiny, Overrides(method=method, seed=4, settings=settings))


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("method", ["vanilla", "head_start"])
def test_a_story_uses_the_adapter_for_who_has_pictures(
    tiny: Backbone, tmp_path: Path, method: str
) -> None:
    def pictures(name: str, **more: Any) -> tuple[list[Picture], dict[str, Any]]:
        plan = plan_of(tiny, png(picture_of(1)), method=method, **more)
        drawing = draw_story(plan, tiny, tmp_path / name, scorers={})
        return [frame.picture for frame in drawing.frames], read_json(
            tmp_path / name / "report.json"
        )["characters"]

    (mia, bo), told = pictures("on")
    (mia_off, bo_off), told_off = pictures("off", likeness=0.0)
    assert not np.array_equal(mia, mia_off) and np.array_equal(bo, bo_off)
    by_attention = [] if method == "vanilla" else ["attention"]
    assert told["Mia"]["references"] == {"pictures": 1, "used_by": [*by_attention, "adapter"]}
    assert told_off["Mia"]["references"]["used_by"] == by_attention
    assert "references" not in told["Bo"]


@pytest.mark.usefixtures("shipped")
def test_who_was_taught_in_a_talk_is_drawn_through_the_adapter(tiny: Backbone) -> None:
    """With `vanilla`, attention looks at no pictures: what they change the adapter did."""
    draw = StoryDrawer(str(tiny.path), method="vanilla", steps=2)
    nobody = png(np.full((96, 96, 3), 200, np.uint8))

    def drawn_like(*pictures: bytes) -> Picture:
        bo = RememberedIdentity(
            concept="k", version=1, name="Bo", words="a small cat", noun="cat", references=pictures,
            avoid=(),
        )  # fmt: skip
        return draw(DrawJob(prompt="a small cat in the forest", identities=(bo,), attempt=0))

    one, two = (drawn_like(png(picture_of(1, skip))) for skip in (0, 3))
    assert not np.array_equal(one, two)
    assert np.array_equal(drawn_like(nobody), drawn_like()), "nobody is in it, so words draw"


@pytest.mark.usefixtures("shipped")
def test_a_picture_says_that_it_stands_on_references(tiny: Backbone, adapter: StoryAdapter) -> None:
    given = picture_of(1)
    engine = Engine(tiny)
    engine.submit(request(adapter.shown([adapter.read("Mia", [given])])))
    (done,) = engine.drain().values()
    record = done.metadata["story"]["identities"]
    assert record["adapter"] == "people" and len(record["characters"]["Mia"]) == 1
    with pytest.raises(InputError, match="reference pictures"):
        replay(done.image, done.metadata, tiny)


def test_an_adapter_of_another_model_or_reader_is_not_used(
    tiny: Backbone, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(**values: str) -> Path:
        place = tmp_path / next(iter(values)) / "adapter"
        place.mkdir(parents=True)
        (place / "adapter.safetensors").write_bytes((folder / "adapter.safetensors").read_bytes())
        write_json(place / "config.json", {**read_json(folder / "config.json"), **values})
        return place

    other = changed(denoiser="0")
    with pytest.raises(CheckpointError, match="another denoiser"):
        story_adapter(tiny, other)
    monkeypatch.setattr(identity, "weights_root", lambda: other.parent)
    assert story_adapter(tiny) is None, "a model without an adapter draws as before"
    monkeypatch.setattr(identity, "weights_root", lambda: tmp_path)
    assert story_adapter(tiny) is None
    with pytest.raises(CheckpointError, match="another reader"):
        story_adapter(tiny, changed(reader="0"))


def test_the_strength_goes_from_nothing_to_more(tiny: Backbone, folder: Path) -> None:
    def at(scale: float) -> Picture:
        found = story_adapter(tiny, folder, scale=scale)
        assert found is not None
        return drawn(tiny, request(found.shown([found.read("Mia", [picture_of(1)])])))["1"]

    plain = drawn(tiny, request())["1"]
    off, half, whole = (np.abs(at(s).astype(int) - plain).mean() for s in (0.0, 0.5, 1.0))
    assert off == 0.0 < half < whole


def test_an_adapter_and_pictures_are_read_once(
    tiny: Backbone, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = story_adapter(tiny, folder), story_adapter(tiny, folder, scale=0.5)
    assert first is not None and second is not None
    assert first.adapter is second.adapter and first.reader is second.reader
    assert first.plan != second.plan
    known = first.read("Mia", [picture_of(1)])
    looks = 0

    def count(*_: Any) -> None:
        nonlocal looks
        looks += 1

    hook = first.reader.register_forward_hook(count)
    try:
        again = second.read("Bo", [picture_of(1)])
        assert looks == 0
        second.read("Bo", [picture_of(1, skip=1)[::-1]])  # that nobody has shown it before
        assert looks == 1
        monkeypatch.setattr(identity, "MOST_PICTURES", 1)
        second.read("Bo", [picture_of(1, skip=2)[::-1]])
        second.read("Bo", [picture_of(1)])  # forgotten for the one before
        assert looks == 3
    finally:
        hook.remove()
    assert (known.name, again.name) == ("Mia", "Bo")
    assert known.character is not None and again.character is not None
    for name, feature in known.character.features.items():
        assert torch.equal(feature.value, again.character.features[name].value)
    assert known.pictures == again.pictures


def test_a_box_holds_a_characters_tokens(tiny: Backbone, adapter: StoryAdapter) -> None:
    mia = adapter.read("Mia", [picture_of(1)])
    bo = adapter.read("Bo", [picture_of(1, skip=1)])
    free, held = adapter.shown([mia, bo]), adapter.shown([mia, bo], {"Bo": PLACES["left"]})
    assert free is not None and held is not None
    assert not free.tokens.masks and "boxes" not in free.record
    assert held.tokens.masks.keys() == {1}
    mask = held.tokens.masks[1]
    assert float(mask.mean()) == 0.5 and bool(mask[:, :32].all())
    assert held.record["boxes"] == {"Bo": [0.0, 0.0, 0.5, 1.0]}
    # What is moved to its box is drawn where it comes from first.
    moved = adapter.shown([mia], {"Mia": PLACES["left"]}, moved=-0.25)
    assert moved is not None
    assert float(moved.tokens.masks[0].mean()) == 0.75
    pictures = []
    for one in (free, held):
        engine = Engine(tiny)
        engine.submit(request(one))
        pictures += [done.image for done in engine.drain().values()]
    assert not np.array_equal(pictures[0], pictures[1])
