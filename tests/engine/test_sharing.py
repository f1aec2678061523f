"""Stories that share attention, drawn by the engine on the tiny story-world model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consistent_gen.attention.settings import Recipe
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Call, Engine, FrameDone, FrameError, FrameRequest, Step, Subject
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.errors import InputError, LimitError
from consistent_gen.methods import tuning
from consistent_gen.models.backbone import Backbone
from tests.every_run import COUPLING, or_slow

STEPS = 4
SIZE = (64, 64)
FOX, CAT = Subject(name="fox", tokens=(2,)), Subject(name="cat", tokens=(4,))
SETTINGS: dict[str, dict[str, Any]] = {
    "consistory": {"mixing_steps": 0.5, "injection_steps": (0.25, 0.75)},
    "consistyle": {"mixing_steps": 0.5, "structure_steps": (0.25, 0.75)},
    "story_diffusion": {"id_frames": 2},
}


def request(name: str, prompt: str, seed: int, *who: Subject, **more: Any) -> FrameRequest:
    return FrameRequest(
        id=name,
        prompt=prompt,
        seed=seed,
        subjects=who,
        **more,
        settings=DrawSettings(steps=STEPS, size=SIZE),
    )


PLAIN = request("plain", "a green bear", 50)
READING = request("reading", "a fox reading", 3, FOX)
WALKING = request("walking", "a fox walking", 4, FOX)


def recipe_of(method: str) -> Recipe:
    return tuning.recipe_of(method, SETTINGS.get(method, {}))


def portraits(count: int, **more: Any) -> list[FrameRequest]:
    return [request(f"fox{i}", "a fox", 10 + i, FOX, **more) for i in range(count)]


def new_story(engine: Engine, method: str = "consistory", **options: Any) -> SharedStory:
    return SharedStory(engine, recipe_of(method), seed=7, **options)


def drain(engine: Engine) -> dict[str, np.ndarray]:
    return {name: event.image for name, event in engine.drain().items()}


def draw(
    backbone: Backbone,
    method: str,
    batches: Sequence[Iterable[FrameRequest]],
    *,
    bystanders: Iterable[FrameRequest] = (),
) -> dict[str, np.ndarray]:
    """Batches one after the other; the anchors come with the first."""
    engine = Engine(backbone, bucket=8)
    story = new_story(engine, method)
    for other in bystanders:
        engine.submit(other)
    found: dict[str, np.ndarray] = {}
    story.cast("fox", portraits(story.run.recipe.anchors))
    for batch in batches:
        for frame in batch:
            story.submit(frame)
        found |= drain(engine)
    return found


@pytest.mark.parametrize("method", or_slow(COUPLING, ["consistyle"]))
def test_bytes_depend_on_no_company(tiny: Backbone, method: str) -> None:
    """All at once beside a stranger; and one by one, later, in another order: equal bytes."""
    together = draw(tiny, method, [[READING, WALKING]], bystanders=[PLAIN])
    apart = draw(tiny, method, [[], [WALKING], [READING]])
    for name in ("fox0", "reading", "walking"):
        assert np.array_equal(together[name], apart[name]), name
    alone = Engine(tiny, bucket=8).run([PLAIN, READING])
    vanilla = {event.id: event.image for event in alone if isinstance(event, FrameDone)}
    assert np.array_equal(together["plain"], vanilla["plain"])
    assert not np.array_equal(together["reading"], vanilla["reading"])


def test_the_model_is_its_own_again_and_frames_can_be_drawn_again(tiny: Backbone) -> None:
    engine = Engine(tiny, bucket=8)
    processors = dict(tiny.denoiser.attn_processors)
    story = new_story(engine)
    story.cast("fox", portraits(2))
    story.submit(READING)
    first = drain(engine)["reading"]
    assert all(tiny.denoiser.attn_processors[name] is p for name, p in processors.items())
    bank = story.run.bank.bytes
    story.submit(replace(READING, id="again"))
    assert np.array_equal(drain(engine)["again"], first)
    assert story.run.bank.bytes == bank
    story.drop("fox")
    assert story.run.bank.bytes == 0
    story.submit(replace(READING, id="nobody"))
    vanilla = next(e for e in Engine(tiny, bucket=8).run([READING]) if isinstance(e, FrameDone))
    assert np.array_equal(drain(engine)["nobody"], vanilla.image)


def test_first_passes_are_hidden_and_counted(tiny: Backbone) -> None:
    engine = Engine(tiny, bucket=8)
    story = new_story(engine)
    story.cast("fox", portraits(2))
    story.submit(READING)
    events = []
    while not engine.idle:
        events += engine.step()
    assert {event.id for event in events} == {"fox0", "fox1", "reading"}
    assert sum(isinstance(e, Step) and e.id == "reading" for e in events) == STEPS


def test_steps_that_mix_queries_take_every_row_twice(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same latent, same words, same call; the second ones are nobody's result."""
    engine = Engine(tiny, bucket=8)
    story = new_story(engine)
    story.cast("fox", portraits(2))
    story.submit(READING)
    seen: dict[tuple[str, int], list[tuple[bool, str]]] = {}
    begin = story.begin_call

    def noted(call: Call) -> None:
        for row in call.rows:
            seen.setdefault((row.frame, row.step), []).append((row.look, row.branch))
        for frame in {row.frame for row in call.rows}:
            assert [r.branch for r in call.of_frame(frame)] == ["cond", "uncond"]
        begin(call)

    monkeypatch.setattr(story, "begin_call", noted)
    drain(engine)
    once = [(False, "cond"), (False, "uncond")]
    for (_, step), rows in seen.items():
        assert rows == once + [(True, branch) for _, branch in once] * (step == 1)
    calls = sum(len(rows) // 2 for (frame, _), rows in seen.items() if frame.startswith("reading"))
    assert calls == story.run.recipe.calls(STEPS) == 10


def test_two_stories_share_calls_without_meeting(tiny: Backbone) -> None:
    engine = Engine(tiny, bucket=8)
    stories = [new_story(engine, "style_aligned"), new_story(engine, "story_diffusion")]
    for i, story in enumerate(stories):
        count = story.run.recipe.anchors
        story.cast("fox", [replace(p, id=f"{i}-{p.id}") for p in portraits(count)])
        story.submit(replace(READING, id=f"{i}-reading"))
    both = drain(engine)
    for i, method in enumerate(("style_aligned", "story_diffusion")):
        alone = draw(tiny, method, [[READING]])["reading"]
        assert np.array_equal(both[f"{i}-reading"], alone)


def test_two_characters(tiny: Backbone) -> None:
    """A frame of both reads both banks; a frame of one is as if the other did not exist."""
    engine = Engine(tiny, bucket=8)
    story = new_story(engine)
    story.cast("fox", portraits(2))
    small = Subject(name="cat", tokens=(3,))
    story.cast("cat", [request(f"cat{i}", "a small cat", 20 + i, small) for i in range(2)])
    story.submit(READING)
    story.submit(request("both", "fox and a cat walking", 5, Subject(name="fox", tokens=(1,)), CAT))
    found = drain(engine)
    assert np.array_equal(found["reading"], draw(tiny, "consistory", [[READING]])["reading"])
    assert found["both"].shape == found["reading"].shape


def test_a_picture_of_ones_own_stands_in_for_an_anchor(tiny: Backbone) -> None:
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[16:48, 16:48] = (200, 90, 20)
    mask = np.zeros(SIZE, np.float32)
    mask[16:48, 16:48] = 1.0
    results = []
    for shade in (0, 120):
        engine = Engine(tiny, bucket=8)
        story = new_story(engine, "style_aligned")
        own = replace(portraits(1)[0], reference=picture + np.uint8(shade) * (picture == 0))
        story.cast("fox", [own], masks={0: mask})
        story.submit(READING)
        found = drain(engine)
        results.append(found["reading"])
        # After the last step the anchor's latent is the picture's own.
        rebuilt = tiny.decode(tiny.encode(own.reference[None]))[0]
        assert np.abs(found["fox0"].astype(int) - rebuilt).max() <= 1
    assert not np.array_equal(*results)
    with pytest.raises(InputError, match=r"picture is uint8 \(32, 32, 3\); expected uint8"):
        Engine(tiny).submit(replace(READING, reference=picture[:32, :32]))


def test_a_bank_that_is_too_large_is_refused_before_drawing(tiny: Backbone) -> None:
    engine = Engine(tiny, bucket=8)
    story = new_story(engine, "story_diffusion")
    wanted = story.predicted_bytes(portraits(1)[0])
    small = new_story(engine, "story_diffusion", limit_bytes=wanted - 1)
    with pytest.raises(LimitError, match=f"takes {wanted / 1e6:.1f} MB, and"):
        small.cast("fox", portraits(2))
    assert engine.idle
    story.cast("fox", portraits(2))
    drain(engine)
    assert story.run.bank.bytes == wanted  # nothing is masked: exact


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 3}, "steps is 3, and the anchors were drawn with 4"),
        ({"guidance": 2.0}, r"guidance is 2\.0"),
        ({"size": (192, 128)}, r"size is \(192, 128\)"),
        ({"scheduler": "dpm"}, "scheduler is 'dpm'"),
    ],
)
def test_readers_with_other_settings_are_refused(
    tiny: Backbone, change: dict[str, Any], named: str
) -> None:
    engine = Engine(tiny, bucket=8)
    story = new_story(engine)
    story.cast("fox", portraits(2))
    with pytest.raises(InputError, match=named):
        story.submit(READING.with_settings(**change))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_lora_loaded_after_the_anchors_is_refused(tiny_folder: Path) -> None:
    from peft import LoraConfig

    from consistent_gen.models import load_backbone

    backbone = load_backbone(tiny_folder, device="cpu")
    story = new_story(Engine(backbone, bucket=8))
    story.cast("fox", portraits(2))
    backbone.denoiser.add_adapter(LoraConfig(r=2, target_modules=["to_q"]), adapter_name="style")
    with pytest.raises(InputError, match=r"adapters is \['style'\], and the anchors were .* \[\]"):
        story.submit(READING)


def test_a_cast_is_checked(tiny: Backbone) -> None:
    story = new_story(Engine(tiny, bucket=8))
    with pytest.raises(InputError, match="'fox' has 1 anchors; consistory takes 2"):
        story.cast("fox", portraits(1))
    both = [replace(p, subjects=(FOX, CAT)) for p in portraits(2)]
    with pytest.raises(InputError, match="no other character of the story; it shows: nobody"):
        story.cast("bear", both)


def test_a_failed_first_pass_fails_its_frame(tiny: Backbone) -> None:
    engine = Engine(tiny, bucket=8)
    story = new_story(engine)
    story.cast("fox", portraits(2))
    story.submit(READING)
    assert engine.cancel("reading/twin")
    errors = {}
    while not engine.idle:
        errors |= {e.id: str(e.error) for e in engine.step() if isinstance(e, FrameError)}
    assert "reads frame 'reading/twin', which was not drawn" in errors["reading"]
    assert "fox0" not in errors


def test_non_square_pictures(tiny: Backbone) -> None:
    engine = Engine(tiny, bucket=8)
    story = new_story(engine)
    story.cast("fox", [portrait.with_settings(size=(160, 96)) for portrait in portraits(2)])
    story.submit(READING.with_settings(size=(160, 96)))
    assert drain(engine)["reading"].shape == (96, 160, 3)
